"""OOD scores: of images by hand, alike in any batch, and one of one's own from fit to checkpoint."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.features import Features
from bnn.core.networks import MLP, ResNet, feature_layer
from bnn.core.posterior import MeanField, Mixture
from bnn.core.task import DIGITS, Task
from bnn.core.tensors import require
from bnn.core.uncertainty import Predictive
from bnn.data.digits import Labelled
from bnn.errors import InputError
from bnn.ood.combination import Fisher, Survival
from bnn.ood.density import ClassDensity
from bnn.ood.detector import Detector, detector_from, fit_detector, raw_scores, require_names
from bnn.ood.score import Observed, OODScore
from bnn.ood.scores import SCORES, EntropyScore, FeatureDensity, PixelDensity, blurred

IMAGES = torch.rand(11, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_the_blur_keeps_ink_away_from_the_edges_and_spreads_it_as_it_should() -> None:
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 12, 15] = 1
    spread = blurred(image)[0, 0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-6)
    assert spread.argmax().item() == 12 * 28 + 15
    torch.testing.assert_close(spread[12, 14], spread[12, 16])
    torch.testing.assert_close(spread[12, 16], spread[13, 15])
    torch.testing.assert_close(spread[13, 16] * spread[12, 15], spread[12, 16] * spread[13, 15])
    ratio = (spread[12, 16] / spread[12, 15]).item()
    assert ratio == pytest.approx(math.exp(-0.5 / 0.7**2), rel=1e-5)


@given(st.integers(0, 999))
def test_the_blur_is_linear_keeps_ink_inside_and_loses_it_only_over_the_edge(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(2, 1, 28, 28)
    images[:, :, 3:-3, 3:-3] = torch.rand(2, 1, 22, 22, generator=generator)
    soft = blurred(images)
    assert soft.shape == images.shape
    torch.testing.assert_close(soft.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(blurred(images[:1] + images[1:]), soft[:1] + soft[1:], rtol=1e-5, atol=1e-6)
    full = blurred(torch.ones(1, 1, 28, 28))
    torch.testing.assert_close(full[..., 3:-3, 3:-3], torch.ones(1, 1, 22, 22))
    assert (full[..., 0, :] < 0.9).all()


def density_of(size: int, seed: int) -> ClassDensity:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(10, 2, size, 3, generator=generator)).Q
    return ClassDensity(
        torch.randn(10, 2, generator=generator).log_softmax(-1),
        torch.rand(10, 2, size, generator=generator),
        directions.mT.contiguous(),
        2 + torch.rand(10, 2, 3, generator=generator),
        1 + torch.rand(10, 2, generator=generator),
    )


def mixture_over(network: torch.nn.Module, components: int = 2) -> Mixture:
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(components):
        loc = {
            name: 0.1 * torch.randn(value.shape, generator=generator)
            for name, value in network.named_parameters()
        }
        parts.append(MeanField(loc, loc))
    return Mixture(parts)


def observed(features: Features, n: int = 4) -> Observed:
    generator = torch.Generator().manual_seed(3)
    predictive = Predictive.of(torch.randn(5, n, 10, generator=generator).softmax(-1))
    return Observed(IMAGES[:n], predictive, features)


def test_scores_are_surprises_expected_over_classes_and_averaged_over_networks() -> None:
    network = MLP(16, classes=10)
    posterior = mixture_over(network)
    seen = observed(Features(network, posterior))
    pixels, features = density_of(784, 0), [density_of(16, 1), density_of(16, 2)]

    def expected(log_prob: Tensor) -> Tensor:
        return -(seen.predictive.mean * log_prob).sum(-1)

    assert EntropyScore().score(seen).equal(seen.predictive.total)
    found = PixelDensity(pixels).score(seen)
    torch.testing.assert_close(found, expected(pixels.log_prob(blurred(seen.images).flatten(1))))
    described: list[Tensor] = []
    layer = network.get_submodule(feature_layer(network))
    handle = layer.register_forward_pre_hook(lambda _, given: described.append(given[0]))
    for component in posterior.components:
        functional_call(network, component.mean(), (seen.images,))
    handle.remove()
    each = [expected(density.log_prob(x)) for density, x in zip(features, described, strict=True)]
    torch.testing.assert_close(FeatureDensity(features).score(seen), (each[0] + each[1]) / 2)


@pytest.mark.parametrize("network", [MLP(16, classes=10), MLP(33, classes=10), ResNet((3, 5), classes=10)])
def test_an_images_evidence_has_the_same_bits_alone_and_anywhere_in_a_batch(network: torch.nn.Module) -> None:
    posterior = mixture_over(network)
    features = Features(network, posterior)
    ensemble = PredictiveEnsemble(network, posterior.sample(4, 0))
    scores = [
        PixelDensity(density_of(784, 0)),
        FeatureDensity([density_of(features.size, m) for m in range(2)]),
        EntropyScore(),
    ]
    detector = fit_detector(scores, features, ensemble, torch.rand(50, 1, 28, 28))
    together = detector.evidence(IMAGES, ensemble.predictive(IMAGES))
    backwards = detector.evidence(IMAGES.flip(0), ensemble.predictive(IMAGES.flip(0)))
    for name, value in together.tensors().items():
        assert backwards.tensors()[name].flip(0).equal(value), name
    for i, image in enumerate(IMAGES.split(1)):
        alone = detector.evidence(image, ensemble.predictive(image)).tensors()
        assert all(value[0].equal(together.tensors()[name][i]) for name, value in alone.items())


def learnt(scores: list[OODScore], draws: int = 4) -> tuple[Detector, Predictive]:
    """A detector of `scores`, and what its ensemble says of `IMAGES`."""
    network = MLP(16, classes=10)
    posterior = mixture_over(network)
    ensemble = PredictiveEnsemble(network, posterior.sample(draws, 0))
    reference = torch.rand(70, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    detector = fit_detector(scores, Features(network, posterior), ensemble, reference)
    return detector, ensemble.predictive(IMAGES)


class Ink(OODScore):
    """How far the share of ink is from that of training images."""

    name = "ink"

    def __init__(self, usual: Tensor) -> None:
        self._usual = usual

    def score(self, observed: Observed) -> Tensor:
        return (observed.images.mean((1, 2, 3)) - self._usual).abs()

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, features: Features, seed: int) -> Self:
        return cls(images.mean())

    def tensors(self) -> dict[str, Tensor]:
        return {"usual": self._usual}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], task: Task, features: Features) -> Self:
        require(tensors, {"usual": ()}, torch.float32, "the usual share of ink")
        return cls(tensors["usual"])


class Disagreement(OODScore):
    name = "disagreement"
    sees_image = False

    def score(self, observed: Observed) -> Tensor:
        return observed.predictive.epistemic


def test_the_evidence_is_the_scores_surprises_and_how_they_are_joined() -> None:
    ink = Ink(torch.tensor(0.4))
    detector, predictive = learnt([ink, EntropyScore(), Disagreement()])
    evidence = detector.evidence(IMAGES, predictive)
    reference = detector.combination.tensors()
    raw = {
        "ink": ink.score(Observed(IMAGES, predictive, detector.features)),
        "entropy": predictive.total,
        "disagreement": predictive.epistemic,
    }
    assert list(evidence.surprises) == list(raw)
    for name, score in raw.items():
        assert evidence.surprises[name].equal(Survival(reference[name]).surprise(score))
    by_image = evidence.surprises["ink"]
    by_prediction = evidence.surprises["entropy"] + evidence.surprises["disagreement"]
    torch.testing.assert_close(evidence.ood, 2 * (by_image + by_prediction))
    torch.testing.assert_close(evidence.novelty, by_image - by_prediction)
    for name, value in predictive.tensors().items():
        assert evidence.predictive.tensors()[name].equal(value)


@pytest.mark.parametrize(("score", "sign"), [(EntropyScore(), -1), (Ink(torch.tensor(0.4)), 1)])
def test_novelty_is_above_0_by_what_the_image_shows_and_below_by_what_is_said_of_it(
    score: OODScore, sign: int
) -> None:
    detector, predictive = learnt([score])
    evidence = detector.evidence(IMAGES, predictive)
    assert evidence.novelty.equal(sign * evidence.surprises[score.name])


def test_the_reference_is_the_scores_of_the_training_images() -> None:
    detector, _ = learnt([Ink(torch.tensor(0.4))])
    reference = torch.rand(70, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    expected = (reference.mean((1, 2, 3)) - 0.4).abs()
    torch.testing.assert_close(detector.combination.tensors()["ink"], expected)


def test_a_score_added_in_one_place_is_fitted_joined_saved_and_loaded(
    untrained: Callable[..., Classifier], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(SCORES, "ink", Ink)
    monkeypatch.setitem(SCORES, "disagreement", Disagreement)
    classifier = untrained("mlp", {"hidden": 16})
    rng = np.random.default_rng(0)
    learning = rng.random((60, 28, 28), np.float32)
    labels = torch.arange(60) % 10
    prepared = torch.from_numpy(learning)[:, None]
    fitted = [
        SCORES[name].fit(prepared, labels, classifier.detector.features, 0)
        for name in ("ink", "disagreement")
    ]
    other = classifier.with_scores(*fitted, reference=learning)
    assert set(other.predict(learning[:3]).labels.tolist()) == {-1}  # until it is calibrated
    calibrated = other.calibrate(rng.random((200, 28, 28), np.float32), np.arange(200) % 10, rule="entropy")
    images = np.concatenate([rng.random((6, 28, 28), np.float32), np.ones((1, 28, 28), np.float32) * 0.9])
    calibrated.save(tmp_path / "own.safetensors")
    again = Classifier.load(tmp_path / "own.safetensors")
    assert [score.name for score in again.detector.scores] == ["ink", "disagreement"]
    assert again.predict(images).plain() == calibrated.predict(images).plain()
    evidence = again.evidence(torch.from_numpy(images)[:, None])
    assert list(evidence.surprises) == ["ink", "disagreement"]
    assert evidence.surprises["ink"].argmax() == 6  # whose ink is the most unusual
    monkeypatch.delitem(SCORES, "ink")
    with pytest.raises(InputError, match=r"^there is no OOD score 'ink': choose one of [^\n]*\.$"):
        Classifier.load(tmp_path / "own.safetensors")


class Broken(OODScore):
    """Not a number where the first pixel is dark."""

    name = "broken"

    def score(self, observed: Observed) -> Tensor:
        return torch.where(observed.images[:, 0, 0, 0] > 0.5, 1.0, math.nan)


def test_a_score_that_is_not_a_number_refuses_its_image() -> None:
    bright = torch.rand(60, 1, 28, 28)
    bright[:, :, 0, 0] = 1
    network = MLP(16, classes=10)
    posterior = mixture_over(network)
    features, ensemble = Features(network, posterior), PredictiveEnsemble(network, posterior.sample(4, 0))
    detector = fit_detector([EntropyScore(), Broken()], features, ensemble, bright)
    evidence = detector.evidence(IMAGES, ensemble.predictive(IMAGES))
    dark = IMAGES[:, 0, 0, 0] <= 0.5
    assert 0 < dark.sum() < len(IMAGES)
    assert evidence.sound.equal(~dark)
    assert evidence.ood.isnan().equal(dark)
    with pytest.raises(
        InputError, match=r"^the OOD score 'broken' is not finite for \d+ of 11 training images"
    ):
        fit_detector([EntropyScore(), Broken()], features, ensemble, IMAGES)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda images: images.mean(),
        lambda images: images.mean((2, 3)),
        lambda images: images.mean((1, 2, 3))[:-1],
        lambda images: images.mean((1, 2, 3)).numpy(),
        lambda images: 0.5,
        lambda images: None,
    ],
)
def test_a_score_that_is_no_number_an_image_is_named(wrong: Callable[[Tensor], Tensor]) -> None:
    class Odd(OODScore):
        name = "odd"

        def score(self, observed: Observed) -> Tensor:
            return wrong(observed.images)

    detector, predictive = learnt([EntropyScore()])
    with pytest.raises(InputError, match=r"^the OOD score 'odd' must give one number an image, \(N,\)\.$"):
        raw_scores([Odd()], Observed(IMAGES, predictive, detector.features))


def test_scores_are_named_each_once_and_there_is_one() -> None:
    require_names(list(SCORES))
    for names in ([], ["entropy", "entropy"], ["entropy", "pixels", "entropy"]):
        with pytest.raises(InputError, match=r"^name at least one OOD score, each once, not [^\n]*\.$"):
            require_names(names)
    with pytest.raises(
        InputError, match=r"^there is no OOD score 'oracle': choose one of pixels, features, entropy"
    ):
        require_names(["entropy", "oracle"])
    with pytest.raises(InputError, match=r"^name at least one OOD score"):
        learnt([])
    with pytest.raises(InputError, match=r"^name at least one OOD score"):
        learnt([EntropyScore(), EntropyScore()])


def test_a_detector_comes_back_from_its_tensors() -> None:
    network = MLP(16, classes=10)
    features = Features(network, mixture_over(network))
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(80, 1, 28, 28, generator=generator), torch.arange(80) % 10
    names = ["features", "entropy", "pixels"]
    scores = [SCORES[name].fit(images, labels, features, 0) for name in names]
    reference = {name: torch.randn(30, generator=generator) for name in names}
    detector = Detector(features, scores, Fisher.fit(reference))
    again = detector_from(names, "fisher", detector.tensors(), DIGITS, features)
    predictive = observed(features, 11).predictive
    before, after = (one.evidence(IMAGES, predictive).tensors() for one in (detector, again))
    assert before.keys() == after.keys()
    assert all(value.equal(after[name]) for name, value in before.items())
    assert [score.name for score in again.scores] == names


def test_a_fitted_score_finds_its_training_images_likelier_than_noise(mnist_test: Labelled) -> None:
    digits, labels = mnist_test.images[:600], mnist_test.labels[:600]
    network = MLP(64, classes=10)
    features = Features(network, mixture_over(network))
    predictive = Predictive.of(torch.full((1, 50, 10), 0.1))
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for kind in (PixelDensity, FeatureDensity):
        score = kind.fit(digits, labels, features, 0)
        of_digits, of_noise = (
            score.score(Observed(images, predictive, features)) for images in (digits[500:550], noise)
        )
        assert of_digits.max() < of_noise.min()


def test_evidence_is_cut_and_joined_by_images() -> None:
    detector, predictive = learnt([Ink(torch.tensor(0.4)), EntropyScore()])
    whole = detector.evidence(IMAGES, predictive)
    again = Evidence.joined([whole[:3], whole[3:3], whole[torch.arange(11) >= 3]])
    assert len(again) == 11
    assert again.tensors().keys() == whole.tensors().keys()
    assert all(value.equal(again.tensors()[name]) for name, value in whole.tensors().items())
