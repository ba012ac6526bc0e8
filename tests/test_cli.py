"""The command line, the scripts, the README's commands, and the installed package."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import json
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from programs import printed

from bnn.cli.command import APART, FAULT, GROUPS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TRAIN = ["train", "--data=digits", "--network=mlp", "--network-options", '{"hidden": 8}', "--epochs=1"]
FAST = [*TRAIN, "--risk=0.05", "--alpha=0.02", "--draws=3", "--trainer.enable_progress_bar=false"]


@pytest.fixture
def digit(tmp_path):
    """A drawn 1, dark on bright, as a file."""
    image = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(image).line((105, 40, 95, 160), fill=0, width=18)
    image.save(tmp_path / "one.png")
    return tmp_path / "one.png"


def failing(arguments, capsys):
    """The one sentence that `bnn` prints when it exits with status 2."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    "command",
    [
        *("train", "merge", "compare", "evaluate", "calibrate", "adapt"),
        *("predict", "read", "score", "monitor", "export", "serve"),
    ],
)
def test_help_explains_each_command_with_examples_and_defaults(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"  bnn {command}" in text
    assert "default" in text


def test_every_training_option_is_on_the_command_line(capsys):
    from dataclasses import fields

    from bnn.training.config import TrainConfig

    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in text


def test_help_of_the_light_commands_needs_no_heavy_library():
    code = (
        "import sys; from bnn.cli.command import main\n"
        "try: main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pyro', 'pytorch_lightning', 'gradio', 'matplotlib'} & set(sys.modules)))"
    )
    assert printed(sys.executable, "-c", code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_deciding_needs_neither_pyro_nor_lightning(digit):
    code = (
        "import sys; from bnn import Classifier\n"
        f"Classifier.load(draws=2).predict({str(digit)!r})\n"
        "print(sorted({'pyro', 'pytorch_lightning', 'gradio'} & set(sys.modules)))"
    )
    assert printed(sys.executable, "-c", code).splitlines()[-1] == "[]"


@pytest.mark.slow
def test_train_then_predict_then_evaluate(tmp_path, digit, capsys):
    out = tmp_path / "mine.safetensors"
    assert main([*FAST, "--out", str(out), "--runs", str(tmp_path / "runs")]) == 0
    assert str(out) in capsys.readouterr().out.replace("\n", "")
    assert main(["predict", "--checkpoint", str(out), "--json", str(digit)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert len(line["probs"]) == 10
    report = tmp_path / "report"
    arguments = [
        "evaluate",
        "--checkpoint",
        str(out),
        "--in-distribution=digits",
        "--limit=20",
        "--robustness=0",
        "--out",
        str(report),
    ]
    assert main([*arguments, "--out-of-distribution=noise"]) == 0
    assert json.loads((report / "report.json").read_text())["in_distribution"]["n"] == 20


def test_a_bad_image_among_good_ones_is_told_and_the_rest_done(tmp_path, digit, capsys):
    (tmp_path / "bad.png").write_text("no image")
    assert main(["predict", "--draws=2", "--json", str(digit), str(tmp_path / "bad.png")]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "bad.png is not an image" in captured.err


def test_adaptive_draws_decide_alike_and_say_how_many_there_were(digit, capsys):
    star = str(ROOT / "docs" / "star.png")

    def lines(*options):
        assert main(["predict", "--json", str(digit), star, *options]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    full, adaptive = lines(), lines("--draws", "adaptive")
    assert [one["file"] for one in adaptive] == [str(digit), star]
    for name in ("label", "reason", "quality"):
        assert [one[name] for one in adaptive] == [one[name] for one in full]
    assert all(one["draws_used"] < 50 for one in adaptive)
    with pytest.raises(SystemExit):
        main(["predict", "--draws=few", str(digit)])
    assert "give a number, or adaptive, not 'few'" in capsys.readouterr().err


def test_another_rule_is_fitted_from_the_checkpoints_own_evidence(digit, capsys):
    def score(*options):
        assert main(["predict", "--draws=4", "--json", str(digit), *options]) == 0
        return json.loads(capsys.readouterr().out)["refusal_score"]

    line = score("--rule=entropy")
    assert line == score("--rule=entropy", "--refuse=0.5")
    assert score("--rule=confidence") != line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["predict", "--checkpoint", "none.safetensors", "x.png"],
            "no checkpoint at none.safetensors",
        ),
        (["predict", "--draws=0", "x.png"], "the number of draws must be at least 1"),
        (["predict", "--rule=oracle", "x.png"], "there is no abstention rule 'oracle'"),
        (["predict", "--refuse=2", "x.png"], "refuse must lie between 0 and 1"),
        (["predict", "--rule=entropy", "--refuse=0.00001", "x.png"], "99999 could"),
        (["predict", "--alpha=0.00001", "x.png"], "99999 could"),
        (["predict", "--risk=0.00001", "x.png"], "cannot show a risk of at most 1e-05"),
        (["train", "--preset=huge"], "there is no preset 'huge'"),
        (["train", "--epochs=-1"], "epochs must be above 0"),
        ([*FAST, "--network-options", '{"depth": 3}'], "cannot be built"),
        ([*FAST, "--trainer.max_epoch=3"], "did you mean max_epochs"),
        (["train", "--data=digits", "--trainer.devices"], "--trainer.NAME VALUE"),
        (["train", "--data=digits"], "199 could"),  # 120 cannot promise the default alpha
        (["train", "--data=digits", "--alpha=0.02"], "cannot show a risk of at most 0.002"),
        (["train", "--risk=nan"], "risk must lie between 0 and 1"),
        (["train", "--data-dir=nowhere"], "MNIST is not in nowhere/MNIST/raw"),
        (["train", "--data=digits", "--out=/proc/x.safetensors"], "cannot be written"),
        (["evaluate", "--in-distribution=digits", "--out-of-distribution=nowhere", "--out=r"], "nowhere"),
        (["evaluate", "--in-distribution=digits", "--limit=0", "--out=r"], "limit"),
        (["serve", "--port=99999999"], "99999999"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in failing(arguments, capsys)


@pytest.mark.parametrize("arguments", [["paint"], [], ["serve", "--colour=red"], ["train", "--epochs=many"]])
def test_unknown_words_are_refused_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: bnn" in capsys.readouterr().err


def readme_commands():
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in readme_commands() if "--preset notebook" in c])
def test_the_notebook_is_reproduced_beside_its_own_results(command, mnist_root, tmp_path):
    """As the README has it, but with few digits and steps."""
    few_digits(mnist_root, tmp_path / "data")
    words = shlex.split(command)[2:]
    brakes = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--draws=2", "--data-dir=data"]
    shown = printed(sys.executable, str(ROOT / "train.py"), *words, *brakes, cwd=tmp_path)
    assert (tmp_path / "notebook.safetensors").exists()
    assert "87.5 % / 96 %" in shown.replace("\N{NO-BREAK SPACE}", " ")


def few_digits(root, folder):
    """MNIST under `folder`, with the first 3,000 of the training digits and the first 500 of the others."""
    (raw := folder / "MNIST" / "raw").mkdir(parents=True)
    for part, count in (("train", 3000), ("t10k", 500)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte"
            whole = (root / "MNIST" / "raw" / name).read_bytes()
            shortened = whole[:4] + count.to_bytes(4, "big") + whole[8 : header + count * size]
            (raw / name).write_bytes(shortened)


def test_the_makefile_lists_its_targets():
    shown = re.findall(r"^make (\w+)", printed("make", "help", cwd=ROOT), re.MULTILINE)
    assert {"help", "demo", "install", "test", "check", "lint", "train", "evaluate", "examples"} <= set(shown)
    for command in readme_commands():
        if command.startswith("make "):
            assert command.split()[1] in shown


@pytest.mark.parametrize("module", GROUPS)
def test_a_missing_group_of_packages_is_named_with_how_to_install_it(module, digit, monkeypatch, capsys):
    def missing(_):
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr("bnn.cli.command._predict", missing)
    error = failing(["predict", str(digit)], capsys)
    assert ("make install" in error) == (GROUPS[module] not in APART)
    (group,) = re.findall(r"run .*pip install --constraint constraints.txt --editable '\.\[(\w+)\]'", error)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][group]
    names = {re.split("[>=<]", requirement)[0] for requirement in wanted}
    assert names & {
        module,
        module.replace("_", "-"),
        f"{module}-ppl",
        module.replace("sklearn", "scikit-learn"),
    }


def test_a_module_that_no_group_brings_is_a_fault_of_ours(digit, monkeypatch, capsys):
    def missing(_):
        raise ModuleNotFoundError(name="bnn.nowhere")

    monkeypatch.setattr("bnn.cli.command._predict", missing)
    assert main(["predict", str(digit)]) == FAULT
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "bnn.nowhere" in said


def test_what_every_room_imports_at_once_is_always_installed_or_in_its_group():
    """What decides needs no group at all; every other room needs only its own."""
    always = {
        "cv2",
        "numpy",
        "PIL",
        "pillow_heif",
        "rich",
        "safetensors",
        "scipy",
        "torch",
        "bnn",
        *sys.stdlib_module_names,
    }
    with_gradio = {"anyio", "fastapi", "h11", "pandas", "pydantic", "starlette", "uvicorn"}
    allowed = {
        "app": {"gradio", "prometheus_client"} | with_gradio,
        "training": {"pyro", "pytorch_lightning", "lightning_fabric", "sklearn"},
        "scoring": {"pyarrow"},
        "review": {"sqlalchemy"},
        "evaluation": {name for name, group in GROUPS.items() if group == "evaluate"},
    }
    for path in (ROOT / "bnn").rglob("*.py"):
        imported = set(re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
        assert imported <= always | allowed.get(path.parent.name, set()), path


@pytest.mark.slow
def test_an_installed_wheel_finds_the_checkpoint_that_ships(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    printed(*build, "-w", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("bnn-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import bnn; print(bnn.__file__, bnn.Classifier.load(draws=2).predict([]).labels.shape)"
    site = tmp_path / "site"
    shown = printed(sys.executable, "-c", code, cwd=site, env={"PYTHONPATH": str(site), "PATH": ""})
    assert shown.strip() == f"{site / 'bnn' / '__init__.py'} (0,)"


def test_no_data_set_is_in_the_repository():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert not [name for name in tracked.splitlines() if re.search(r"ubyte|notMNIST|\.npz$|uv\.lock", name)]
