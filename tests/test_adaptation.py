"""Adapting a checkpoint to images of one's own: the update, what it gains, and the command `bnn adapt`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import nll_loss

import bnn
from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.core.networks import MLP
from bnn.core.posterior import LEAST_SCALE, MeanField, Mixture
from bnn.core.task import Task
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.rules.abstention import RefuseAll
from bnn.training.adaptation import adapt
from bnn.training.config import configured
from bnn.training.module import SVIModule
from bnn.training.runs import is_from
from bnn.training.update import UPDATE

EASY: Mapping[str, Any] = {"rule": "entropy", "refuse": 0.3}
MakeCheckpoint = Callable[..., Checkpoint]


def normals(seed: int) -> MeanField:
    """A posterior over a small network that no prior of ours is."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in MLP(4, classes=10).named_parameters()}
    loc = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    scale = {name: 0.1 + torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return MeanField(loc, scale)


def kl(of: MeanField, to: MeanField) -> float:
    """KL(of ‖ to) in nats: log(t/s) + (s² + d²) / 2t² − 1/2 a weight, of scales s and t and distance d."""
    total = 0.0
    for name in of.loc:
        d = of.loc[name].double() - to.loc[name].double()
        s, t = of.scale[name].double(), to.scale[name].double()
        total += ((t / s).log() + (s**2 + d**2) / (2 * t**2) - 0.5).sum().item()
    return total


def kl_of(module: SVIModule) -> Tensor:
    """The KL term of the module's objective."""
    return module.elbo.terms(module.model, module.guide, torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))[1]


@pytest.fixture
def own() -> ImageSet:
    """A few of scikit-learn's digits."""
    return ImageSet.from_name("digits", part="train", limit=240)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested with these does not depend on how far the posterior has moved."""
    monkeypatch.setattr("bnn.training.adaptation.STEPS", 10)


@pytest.fixture
def small(make_checkpoint: MakeCheckpoint) -> Classifier:
    """An untrained classifier of few weights."""
    return Classifier(make_checkpoint())


# The update


def test_it_starts_at_its_prior_where_the_kl_is_zero() -> None:
    module = SVIModule(UPDATE, MLP(4, classes=10), 100, prior=normals(0))
    assert kl_of(module).item() == pytest.approx(0, abs=1e-3)  # of 3,190 weights, by rounding
    fitted = module.guide.posterior()
    assert isinstance(fitted, MeanField)
    assert kl(fitted, normals(0)) == pytest.approx(0, abs=1e-2)


def test_elsewhere_the_kl_is_that_between_two_normals() -> None:
    module = SVIModule(UPDATE, MLP(4, classes=10), 100, prior=normals(0))
    module.guide.start_at(normals(1))
    assert kl_of(module).item() == pytest.approx(kl(normals(1), normals(0)), rel=1e-4)


def test_a_weight_that_is_said_to_be_certain_can_be_updated_all_the_same() -> None:
    certain = MeanField(normals(0).loc, {name: torch.zeros_like(v) for name, v in normals(0).loc.items()})
    module = SVIModule(UPDATE, MLP(4, classes=10), 100, prior=certain)
    assert kl_of(module).isfinite()
    assert min(scale.min() for _, scale in certain.floats().values()) == pytest.approx(LEAST_SCALE)


def moved(adapted: Classifier, before: Classifier) -> float:
    """How far all components are from those they started at: the sum of their KL terms, in nats."""
    pairs = zip(adapted.posterior.components, before.posterior.components, strict=True)
    normals = [(after, prior) for after, prior in pairs if isinstance(after, MeanField)]
    return sum(kl(after, prior) for after, prior in normals if isinstance(prior, MeanField))


def test_the_more_the_prior_weighs_the_less_it_moves_and_in_the_end_not_at_all(
    small: Classifier, own: ImageSet
) -> None:
    loose, tight, fixed = (
        moved(adapt(small, own, own.labels, beta=beta, **EASY), small) for beta in (0.01, 1.0, 1e4)
    )
    assert loose > 2 * tight > 2 * fixed
    weights = sum(value.numel() for value in small.posterior.mean().values())
    assert fixed / weights < 0.01  # nats a weight and component: a distance of a seventh of its scale


@pytest.mark.usefixtures("few_steps")
def test_it_is_the_same_from_the_same_seed_and_another_from_another(small: Classifier, own: ImageSet) -> None:
    first, again, other = (adapt(small, own, own.labels, seed=seed, **EASY) for seed in (0, 0, 1))
    for name, value in first.posterior.tensors().items():
        assert torch.equal(value, again.posterior.tensors()[name])
    assert first.rule == again.rule
    assert first.record == again.record
    assert first.record["adaptation"]["before"] != other.record["adaptation"]["before"]  # on other images


@pytest.mark.usefixtures("few_steps")
def test_what_it_starts_from_stays_as_it_was(small: Classifier, own: ImageSet) -> None:
    before = small.checkpoint()
    adapt(small, own, own.labels, **EASY)
    after = small.checkpoint()
    assert all(torch.equal(value, after.posterior[name]) for name, value in before.posterior.items())
    assert (before.rule, before.record) == (after.rule, after.record)


@pytest.mark.usefixtures("few_steps")
def test_the_checkpoint_says_where_it_is_from_and_no_run_takes_it_for_its_own(
    small: Classifier, own: ImageSet, tmp_path: Path
) -> None:
    small.record = {"config": configured("fast", {}).plain(), "data": {"name": "mnist"}}
    adapted = adapt(small, own, own.labels, **EASY)
    adapted.save(tmp_path / "mine.safetensors")
    record = Classifier.load(tmp_path / "mine.safetensors").record
    assert record["adapted_from"]["data"]["name"] == "mnist"
    assert record["data"]["trained_on"] == 160
    assert not is_from(tmp_path / "mine.safetensors", configured("fast", {}))


# What it gains, of the checkpoint that ships


@pytest.fixture(scope="module")
def shipped_in_part() -> Classifier:
    """One component of the checkpoint that ships, under its rule."""
    whole = checkpoint_file.load()
    posterior = Mixture(Classifier(whole, draws=1).posterior.components[:1])
    return Classifier(replace(whole, posterior=posterior.tensors(), draws=10))


@pytest.fixture(scope="module")
def gained(shipped_in_part: Classifier) -> tuple[Classifier, Classifier, ImageSet]:
    """As it was but calibrated, and adapted, on one half of scikit-learn's digits; and the other half."""
    digits = ImageSet.from_name("digits", part="all")
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(1))
    mine, fresh = digits[order[:900]], digits[order[900:]]
    adapted = adapt(shipped_in_part, mine, mine.labels, risk=0.05, alpha=0.02)
    held_out = mine.split_calibration(0, 1 / 3)[1]
    calibrated = shipped_in_part.calibrate(held_out, held_out.labels, risk=0.05, alpha=0.02)
    return calibrated, adapted, fresh


def numbers(classifier: Classifier, images: ImageSet) -> dict[str, float]:
    prediction = classifier.predict(images)
    probs = torch.from_numpy(prediction.probs)
    answered = torch.from_numpy(prediction.labels) >= 0
    wrong = probs.argmax(1) != images.truth()
    return {
        "right": (~wrong).double().mean().item(),
        "answered": answered.double().mean().item(),
        "wrong among answered": (wrong & answered).sum().item() / max(1, answered.sum().item()),
        "nll": nll_loss(probs.clamp_min(1e-30).log(), images.truth()).item(),
    }


@pytest.mark.slow
def test_more_of_ones_own_digits_are_right_on_those_that_it_has_never_seen(
    gained: tuple[Classifier, Classifier, ImageSet], shipped_in_part: Classifier
) -> None:
    calibrated, adapted, fresh = gained
    as_it_was, anew, after = (numbers(one, fresh) for one in (shipped_in_part, calibrated, adapted))
    print("as it was", as_it_was, "calibrated anew", anew, "adapted", after, sep="\n")
    assert after["nll"] < 0.6 * as_it_was["nll"]
    assert after["right"] > as_it_was["right"] + 0.005
    assert after["answered"] > as_it_was["answered"] + 0.05
    assert after["wrong among answered"] <= adapted.promise.risk
    assert adapted.rule.promise is not None
    told = adapted.record["adaptation"]
    assert told["after"]["images"] == 300
    assert told["after"]["nll"] < told["before"]["nll"] == told["calibrated"]["nll"]


@pytest.mark.slow
def test_what_it_learnt_before_is_kept(
    gained: tuple[Classifier, Classifier, ImageSet], shipped_in_part: Classifier, mnist_root: Path
) -> None:
    training = ImageSet.from_name("mnist", mnist_root, part="train")
    calibration = training.split_calibration(shipped_in_part.seed)[1][:1000]
    before, after = (numbers(one, calibration) for one in (shipped_in_part, gained[1]))
    print("MNIST's calibration digits", before, after, sep="\n")
    assert after["right"] > before["right"] - 0.005


# The command


def folder_of(images: ImageSet, folder: Path) -> Path:
    """The images as files in sub-folders 0 to 9."""
    for index, (image, label) in enumerate(zip(images.images, images.truth().tolist(), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = (image[0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / str(label) / f"{index}.png")
    return folder


@pytest.fixture
def path(tmp_path: Path, small: Classifier) -> Path:
    small.save(tmp_path / "sound.safetensors")
    return tmp_path / "sound.safetensors"


@pytest.mark.usefixtures("few_steps")
def test_the_command_writes_an_adapted_checkpoint_and_tells_what_it_gained(
    path: Path, own: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out, before = folder_of(own, tmp_path / "mine"), tmp_path / "mine.safetensors", path.read_bytes()
    (mine / "0" / "bad.png").touch()
    command = ["adapt", str(path), "--digits", str(mine), "--out", str(out), "--refuse=0.3"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "bad.png" in printed.err
    assert "On 80 images held out, 160 others being learnt from" in printed.out
    assert f"Wrote {out}." in printed.out.replace("\n", "")
    assert path.read_bytes() == before
    told = Classifier.load(out).record["adaptation"]
    assert told["before"]["images"] == told["after"]["images"] == 80
    for column in told.values():
        assert f"{column['nll']:.4f}" in printed.out
    assert Classifier.load(out).predict(own).labels.shape == (240,)


@pytest.mark.usefixtures("few_steps")
def test_where_the_promise_cannot_be_kept_it_refuses_and_can_be_asked_for_less(
    path: Path, own: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, out = folder_of(own, tmp_path / "mine"), tmp_path / "mine.safetensors"
    asked = ["--rule=calibrated", "--risk=0.06", "--alpha=0.05"]  # of a network that knows next to nothing
    assert main(["adapt", str(path), "--digits", str(mine), "--out", str(out), *asked]) == 0
    assert "could not be fitted" in capsys.readouterr().out
    assert isinstance(Classifier.load(out).rule, RefuseAll)
    assert main(["calibrate", str(out), "--rule=entropy", "--refuse=0.2", "--overwrite"]) == 0
    assert "adaptation" not in Classifier.load(out).record  # which was that of another rule
    assert Classifier.load(out).promise.refuse == 0.2


def of_one_class(own: ImageSet) -> ImageSet:
    return own[own.truth() == 3]


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        (
            of_one_class,
            [],
            "of 9 of the 10 classes there is no image, the first being '0', so it cannot be learnt",
        ),
        (
            lambda own: own,
            ["--rule=calibrated"],
            "64 calibration images cannot promise a share of",
        ),
        (lambda own: own, ["--rule=calibrated", "--alpha=0.05"], "cannot show a risk of at most 0.002"),
        (lambda own: own, ["--held-out=0"], "held_out must lie between 0 and 1"),
        (lambda own: own, ["--beta=-1"], "beta must be 0 or more"),
        (lambda own: own, ["--seed=-1"], "seed must be between"),
        (lambda own: own, ["--rule=oracle"], "no abstention rule 'oracle'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence_before_any_learning(
    path: Path,
    own: ImageSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    chosen: Callable[[ImageSet], ImageSet],
    options: list[str],
    message: str,
) -> None:
    mine, out = folder_of(chosen(own), tmp_path / "mine"), tmp_path / "new.safetensors"
    assert message in failing(
        ["adapt", str(path), "--digits", str(mine), "--out", str(out), *options], capsys
    )
    assert not out.exists()


def test_folders_and_places_that_cannot_be_used_are_told(
    path: Path,
    own: ImageSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make_checkpoint: MakeCheckpoint,
) -> None:
    out, empty = tmp_path / "new.safetensors", tmp_path / "empty"
    empty.mkdir()

    def told(checkpoint: Path, digits: Path, out: Path = out) -> str:
        return failing(["adapt", str(checkpoint), "--digits", str(digits), "--out", str(out)], capsys)

    assert "no folder" in told(path, tmp_path / "nowhere")
    assert "no images in sub-folders named 0 to 9" in told(path, empty)
    mine = folder_of(own, tmp_path / "mine")
    assert "is there already" in told(path, mine, path)
    letters = make_checkpoint(task=Task(tuple("abcdefghij")))
    checkpoint_file.save(letters, tmp_path / "letters.safetensors")
    assert "no images in sub-folders named a to j" in told(tmp_path / "letters.safetensors", mine)
    assert not out.exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [(np.zeros((3, 28, 28)), [0, 1], "labels"), (np.zeros((2, 28, 28)), [0, 10], "label")],
)
def test_labels_that_do_not_fit_are_told(small: Classifier, images: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bnn.adapt(small, images, labels)
