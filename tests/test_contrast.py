"""The contrast: a density ratio by hand, alike in any batch, fitted end to end, and kept in a checkpoint."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.features import Features
from bnn.core.networks import MLP
from bnn.core.posterior import MeanField
from bnn.core.task import DIGITS, Task
from bnn.core.uncertainty import Predictive
from bnn.data.background import background, turned
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.ood.contrast import DRAWS, LEAST, SEED, Contrast, contrast_network
from bnn.ood.score import Observed
from bnn.training.calibration import REFERENCE, fit_scores, reference_size
from bnn.training.config import TrainConfig
from bnn.training.contrast import fit_contrast
from bnn.training.train import train, train_command

IMAGES = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
QUICK = {"network": "mlp", "network_options": {"hidden": 16}, "epochs": 1, "draws": 3, "rule": "entropy"}
QUIET = {"enable_progress_bar": False}


def posterior(classes: int = 10, size: float = 1.0, spread: float = 0.1) -> MeanField:
    generator = torch.Generator().manual_seed(1)
    loc = {
        name: size * torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
        for name, value in contrast_network(classes, {}).named_parameters()
    }
    return MeanField(loc, {name: spread * value.abs() for name, value in loc.items()})


def observed(images: Tensor, probs: Tensor | None = None) -> Observed:
    network = MLP(4, classes=10)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    said = torch.full((1, len(images), 10), 0.1) if probs is None else probs[None]
    return Observed(images, Predictive.of(said), Features(network, MeanField(weights, weights)))


def test_the_score_is_the_log_ratio_of_the_background_to_the_classes_of_the_ensemble() -> None:
    given = posterior()
    weights = given.sample(DRAWS, SEED)
    network, drawn = contrast_network(10, {}), []
    for s in range(DRAWS):
        network.load_state_dict({name: value[s] for name, value in weights.items()})
        with torch.no_grad():
            drawn.append(network(IMAGES).double().softmax(-1))
    mean = torch.stack(drawn).mean(0)
    probs = torch.randn(7, 10, generator=torch.Generator().manual_seed(2)).softmax(-1)
    expected = mean[:, 10].log() - (mean[:, :10] * probs.double().clamp_min(LEAST)).sum(1).log()
    score = Contrast(given, 10).score(observed(IMAGES, probs))
    torch.testing.assert_close(score.double(), expected, atol=1e-4, rtol=1e-4)


def test_an_image_of_another_class_than_the_ensembles_is_stranger() -> None:
    given = Contrast(posterior(), 10)
    everywhere = [
        given.score(observed(IMAGES, torch.eye(10)[[c]].expand(len(IMAGES), -1))) for c in range(10)
    ]
    shared = given.score(observed(IMAGES))
    assert (torch.stack(everywhere).amin(0) <= shared).all()
    assert (torch.stack(everywhere).amax(0) >= shared).all()


def test_very_sure_networks_neither_saturate_nor_overflow() -> None:
    scores = Contrast(posterior(size=5, spread=0), 10).score(observed(IMAGES))
    assert scores.isfinite().all()
    assert scores.abs().max() > 100  # where a probability would long be 0 or 1
    assert len(scores.unique()) == len(scores)


def test_an_image_has_the_same_bits_alone_and_in_any_batch() -> None:
    contrast = Contrast(posterior(), 10)
    together = contrast.score(observed(IMAGES))
    for n, image in enumerate(IMAGES.split(1)):
        assert contrast.score(observed(image)).equal(together[n : n + 1])
    assert contrast.score(observed(IMAGES[3:])).equal(together[3:])


def test_what_is_no_number_has_no_score() -> None:
    spoilt = IMAGES.clone()
    spoilt[2, 0, 5, 5] = math.nan
    assert Contrast(posterior(), 10).score(observed(spoilt)).isnan().tolist() == [n == 2 for n in range(7)]


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_it_is_stored_in_half_precision_and_comes_back_the_same(classes: int) -> None:
    task = Task(tuple(map(str, range(classes))))
    contrast = Contrast(posterior(classes), classes)
    stored = contrast.tensors()
    assert {tensor.dtype for name, tensor in stored.items() if name != "draws"} == {torch.float16}
    features = observed(IMAGES).extractor
    again = Contrast.from_tensors(stored, task, features)
    said = observed(IMAGES, torch.full((len(IMAGES), classes), 1 / classes))
    assert again.score(said).equal(contrast.score(said))
    with pytest.raises(InputError, match="do not fit the rest"):
        Contrast.from_tensors(stored, Task(("one", "two", "three")), features)


DAMAGED = {
    "no draws": torch.tensor(0),
    "many draws": torch.tensor(2**40),
    "half draws": torch.tensor(1.5),
    "several draws": torch.tensor([2, 2]),
}


def test_a_checkpoint_that_does_not_say_how_many_draws_has_as_many_as_it_was_calibrated_with() -> None:
    given = posterior()
    before = Contrast.from_tensors(given.tensors(), DIGITS, observed(IMAGES).extractor)
    assert before.score(observed(IMAGES)).equal(Contrast(given, 10, draws=5).score(observed(IMAGES)))
    assert not before.score(observed(IMAGES)).equal(Contrast(given, 10, draws=2).score(observed(IMAGES)))


@pytest.mark.parametrize("spoil", ["missing", "strange", "negative", "infinite", "precise", "none", *DAMAGED])
def test_damaged_tensors_are_refused(spoil: str) -> None:
    stored = Contrast(posterior(), 10).tensors()
    name = "scale/out.bias"
    match spoil:
        case "missing":
            del stored[name]
        case "strange":
            stored["scale/more"] = stored[name]
        case "negative":
            stored[name] = -stored[name] - 1
        case "infinite":
            stored[name] = torch.full_like(stored[name], math.inf)
        case "precise":
            stored[name] = stored[name].float()
        case "none":
            stored = {}
        case _:
            stored["draws"] = DAMAGED[spoil]
    with pytest.raises(InputError):
        Contrast.from_tensors(stored, DIGITS, observed(IMAGES).extractor)


def test_it_says_where_it_is_fitted() -> None:
    with pytest.raises(InputError, match=r"bnn\.training\.contrast"):
        Contrast.fit(IMAGES, torch.zeros(7, dtype=torch.int64), observed(IMAGES).extractor, 0)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train("digits", trainer_options=QUIET, **QUICK)  # type: ignore[arg-type]


def test_training_fits_it_by_default_and_it_tells_drawings_from_digits(trained: Classifier) -> None:
    assert trained.parts.scores == ("contrast", "turned", "pixels", "entropy")
    assert trained.parts.combination == "bonferroni"
    digits = ImageSet.from_name("digits", limit=100).images
    drawings = background(digits[:, 0], 100, np.random.default_rng(9)).unsqueeze(1)
    of_digits, of_drawings = (trained.evidence(images).surprises["contrast"] for images in (digits, drawings))
    higher = (of_drawings[:, None] > of_digits).float().mean()
    assert higher > 0.75


def test_what_is_turned_is_stranger_than_what_is_upright(trained: Classifier) -> None:
    digits = ImageSet.from_name("digits", limit=200).images
    seen = turned(digits[:, 0], 200, np.random.default_rng(9)).unsqueeze(1)
    of_digits, of_turned = (trained.evidence(images).surprises["turned"] for images in (digits, seen))
    higher = (of_turned[:, None] > of_digits).float().mean()
    assert higher > 0.7  # 0, 1 and 8 are themselves from several sides, 6 and 9 each other


def test_a_checkpoint_keeps_it(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "kept.safetensors")
    again = Classifier.load(tmp_path / "kept.safetensors")
    images = ImageSet.from_name("digits", limit=20).images
    for name, values in trained.evidence(images).tensors().items():
        assert again.evidence(images).tensors()[name].equal(values), name


def test_the_same_seed_fits_the_same_and_another_another() -> None:
    digits = ImageSet.from_name("digits", part="train", limit=200)
    first, again, other = (
        fit_contrast(TrainConfig(contrast_epochs=1, seed=seed), digits, 10).tensors() for seed in (0, 0, 1)
    )
    assert all(first[name].equal(again[name]) for name in first)
    assert not all(first[name].equal(other[name]) for name in first)


@pytest.mark.parametrize("options", [{"channels": [4, 6]}, {"channels": [0, 1, 2]}, {"width": 4}])
def test_options_that_build_no_network_are_refused_before_anything_is_trained(
    options: dict[str, object],
) -> None:
    digits = ImageSet.from_name("digits", part="train")
    with pytest.raises(InputError, match="the contrast's network cannot be built from"):
        train(digits, rule="entropy", contrast_options=options)


def test_its_network_is_as_wide_as_asked_and_comes_back_as_wide() -> None:
    digits = ImageSet.from_name("digits", part="train", limit=100)
    options = {"channels": [2, 3, 4], "hidden": 5}
    fitted = fit_contrast(TrainConfig(contrast_epochs=1, contrast_options=options), digits, 10)
    again = Contrast.from_tensors(fitted.tensors(), DIGITS, observed(IMAGES).extractor)
    assert again.score(observed(IMAGES)).equal(fitted.score(observed(IMAGES)))
    assert fitted.tensors()["loc/hidden.bias"].shape == (5,)


def test_it_learns_nothing_of_the_reference_images(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = ImageSet.from_name("digits", part="train", limit=100)
    spoilt = replace(digits, images=digits.images.clone())
    spoilt.images[: reference_size(100)] = 1
    config = TrainConfig(epochs=1, scores=("contrast",))
    extractor = observed(IMAGES).extractor
    one, other = (fit_scores(config, extractor, images, 10)[0].tensors() for images in (digits, spoilt))
    assert all(one[name].equal(other[name]) for name in one)
    assert reference_size(100) == 25
    assert reference_size(10**6) == REFERENCE


def test_a_checkpoint_is_fitted_anew_with_the_posterior_it_has(tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    config = TrainConfig(data="digits", scores=("entropy",), combination="fisher", **QUICK)  # type: ignore[arg-type]
    train_command(config, old, runs=tmp_path / "runs", trainer_options=QUIET)
    newer = replace(config, scores=("contrast", "entropy"), combination="weighted")
    refitted = train_command(newer, new, refit=old)
    again, before = Classifier.load(new), Classifier.load(old)
    assert refitted is not None
    assert again.parts.scores == ("contrast", "entropy")
    assert again.record["config"] == newer.plain()
    assert again.record["training"] == before.record["training"]
    for name, values in before.posterior.tensors().items():
        assert again.posterior.tensors()[name].equal(values), name
    for other, message in (
        (replace(newer, epochs=2), "was trained with --epochs 1"),
        (replace(newer, seed=1), "was trained with --seed 0"),
    ):
        with pytest.raises(InputError, match=message):
            train_command(other, tmp_path / "no.safetensors", refit=old)
    with pytest.raises(InputError, match="not both"):
        train_command(newer, tmp_path / "no.safetensors", refit=old, resume=True)
    assert not (tmp_path / "no.safetensors").exists()
