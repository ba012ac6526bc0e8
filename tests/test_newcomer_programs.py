"""The ten programs of `docs/newcomer-programs.md`: how short they are, and that they do what they say."""

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from matplotlib.image import imread
from PIL import Image, ImageDraw

import bnn

DOCS = Path(__file__).parents[1] / "docs"
MOST_STATEMENTS = 4
PROGRAMS = dict(
    re.findall(
        r"^## (.+?)$.*?^```python\n(.*?)^```$",
        (DOCS / "newcomer-programs.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the programs ask for; whatever they write comes here."""
    for name in ("four.png", "star.png"):
        shutil.copy(DOCS / name, tmp_path)
    digits = bnn.ImageSet.from_name("digits", limit=6)
    for index, (image, label) in enumerate(zip(digits.images, digits.truth().tolist(), strict=True)):
        save(tmp_path / "digits" / str(label) / f"{index}.png", 255 * image[0].numpy())
    for index in range(3):
        letter = Image.new("L", (60, 60))
        ImageDraw.Draw(letter).line([(10, 50), (30 + index, 5), (50, 50), (15, 30), (45, 30)], 255, 5)
        save(tmp_path / "letters" / f"A{index}.png", np.asarray(letter))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def votes_of_an_image(names: dict[str, Any], printed: str, here: Path) -> None:
    votes = names["votes"]
    assert votes.shape == (50, 1, 10)
    assert printed.startswith("(50, 1, 10)\n")
    assert (votes[:, 0].argmax(1) == 4).mean() > 0.9


def another_promise(names: dict[str, Any], printed: str, here: Path) -> None:
    assert (names["strict"].promise.risk, names["strict"].promise.alpha) == (0.001, 0.01)
    assert names["strict"].describe() in printed
    assert "[0] 4 (answered, " in printed
    assert "[1] refused (unfamiliar, " in printed


def evaluate_a_folder(names: dict[str, Any], printed: str, here: Path) -> None:
    right, refused = (float(number) for number in printed.split())
    assert right > 0.8
    assert refused > 0.6
    assert names["report"].numbers["in_distribution"]["n"] == 6
    assert names["report"].numbers["out_of_distribution"][0]["n"] == 3


def own_arrays(names: dict[str, Any], printed: str, here: Path) -> None:
    _, blank, one = printed.splitlines()
    assert "refused" in blank
    assert "unfamiliar" in blank
    assert one.split()[1] == "1"


def samples_of_the_posterior(names: dict[str, Any], printed: str, here: Path) -> None:
    assert names["logits"].shape == (20, 1, 10)
    assert (names["logits"].std(0) > 0).all()
    assert printed.startswith("tensor(")


def a_plot_of_the_votes(names: dict[str, Any], printed: str, here: Path) -> None:
    pixels = imread(here / "votes.png")
    assert pixels.std() > 0.05  # not blank
    assert not printed


def a_service(names: dict[str, Any], printed: str, here: Path) -> None:
    with TestClient(names["app"]) as client:
        for name, label in (("four.png", 4), ("star.png", None)):
            answer = client.post("/decide", files={"image": (here / name).read_bytes()})
            assert answer.status_code == 200
            (decision,) = answer.json()
            assert decision["label"] == label


def a_score_of_ones_own(names: dict[str, Any], printed: str, here: Path) -> None:
    assert [score.name for score in names["scored"].detector.scores] == ["ink"]
    assert (names["scored"].predict(names["own"][:40]).labels == -1).all()
    assert "[0] 4 (answered, " in printed


def a_rule_for_another_library(names: dict[str, Any], printed: str, here: Path) -> None:
    labels, truth = names["rule"].decide(names["probs"][800:]).labels, names["labels"][1600:]
    answered = labels >= 0
    assert 0.5 < answered.mean() < 1
    assert (labels == truth)[answered].mean() > 0.95
    assert (names["probs"][800:].argmax(1) == truth).mean() < (labels == truth)[answered].mean()
    assert printed.startswith("Of images like those it learnt, it promises to answer at most 2")


def train_and_save(names: dict[str, Any], printed: str, here: Path) -> None:
    again = bnn.Classifier.load("mine.safetensors")
    assert again.describe() in printed
    assert again.predict("four.png").plain() == names["classifier"].predict("four.png").plain()
    assert (names["classifier"].predict(bnn.ImageSet.from_name("digits", limit=50)).labels >= 0).mean() > 0.2


Check = Callable[[dict[str, Any], str, Path], None]
# What each must have done, and the files that it may have written.
CHECKS: dict[str, tuple[Check, set[str]]] = {
    "The votes of an image": (votes_of_an_image, set()),
    "Another promise": (another_promise, set()),
    "Evaluate a folder": (evaluate_a_folder, set()),
    "Arrays of one's own": (own_arrays, set()),
    "Samples of the posterior as modules": (samples_of_the_posterior, set()),
    "A plot of the votes": (a_plot_of_the_votes, {"votes.png"}),
    "A service that takes files": (a_service, set()),
    "An out-of-distribution score of one's own": (a_score_of_ones_own, set()),
    "A rule for another library's probabilities": (a_rule_for_another_library, set()),
    "Train and save": (train_and_save, {"mine.safetensors"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("title", CHECKS)
def test_a_newcomers_program_does_what_it_says(
    title: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check, written = CHECKS[title]
    before = set(here.rglob("*"))
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(PROGRAMS[title], title, "exec"), names)
    check(names, capsys.readouterr().out, here)
    assert {path.name for path in set(here.rglob("*")) - before} == written


def test_there_are_ten_and_none_goes_unchecked() -> None:
    assert list(PROGRAMS) == list(CHECKS)
    assert len(CHECKS) == 10


@pytest.mark.parametrize("title", CHECKS)
def test_a_newcomers_program_is_short(title: str) -> None:
    statements = ast.parse(PROGRAMS[title]).body
    imports = [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]
    assert len(statements) - len(imports) <= MOST_STATEMENTS
    assert statements[: len(imports)] == imports
    ours = [ast.unparse(one) for one in imports if "bnn" in ast.unparse(one)]
    assert ours == ["import bnn"]
