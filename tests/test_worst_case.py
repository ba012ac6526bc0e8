"""The worst case: the attack keeps its rules, reaches what can be worked out, and follows true gradients."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import NETWORKS
from bnn.core.task import Task
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.evaluation.worst_case import worst_cases
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import ConfidenceRule, MedianRule

RADII = (0.0, 0.02, 0.1, 0.4)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Digits, which have black and white pixels at the ends of the range, and noise."""
    sets = ImageSet.from_name("digits", limit=4), ImageSet.from_name("noise", limit=3)
    return torch.cat([one.images for one in sets])


@pytest.fixture(scope="module")
def small(untrained: Callable[..., Classifier]) -> Classifier:
    """A small classifier under a rule that refuses most images, some of them for either reason."""
    return untrained("mlp", {"hidden": 16}).with_rule(CalibratedRule(80.0, 1.5, 0.05, 0.05, 0.05))


@pytest.mark.parametrize("labels", [None, torch.arange(7)])
def test_it_stays_in_the_ball_and_a_larger_ball_is_never_better(
    small: Classifier, images: Tensor, labels: Tensor | None
) -> None:
    before, found = images.clone(), worst_cases(small, images, labels, radii=RADII, steps=5)
    assert torch.equal(images, before)
    for worst, radius in zip(found, RADII, strict=True):
        assert worst.radius == radius
        assert (worst.images - images).abs().max() <= radius + 1e-6
        assert worst.images.min() >= 0
        assert worst.images.max() <= 1
        assert torch.equal(worst.reached, worst.objective <= 0)
    for smaller, larger in pairwise(found):
        assert (larger.objective <= smaller.objective).all()
    assert (found[-1].objective < found[0].objective).any()


def test_without_a_ball_it_is_the_decision_on_the_image_itself(small: Classifier, images: Tensor) -> None:
    (worst,) = worst_cases(small, images, radii=(0.0,))
    assert torch.equal(worst.images, images)
    assert torch.equal(worst.reached, ~small.rule.refuses(small.evidence(images)))
    answers = small.rule.labels(small.evidence(images))
    (right,) = worst_cases(small, images, answers, radii=(0.0,))
    assert not right.reached.any()  # of what is answered with its true class nothing is wrong


def test_more_steps_never_find_less(small: Classifier, images: Tensor) -> None:
    found = [worst_cases(small, images, radii=(0.1,), steps=steps)[0] for steps in (0, 1, 3, 8)]
    for fewer, more in pairwise(found):
        assert (more.objective <= fewer.objective).all()
    assert (found[-1].objective < found[0].objective).all()


class _Linear(nn.Sequential):
    def __init__(self, *, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, classes))


def test_of_a_linear_network_it_finds_the_very_worst(
    untrained: Callable[..., Classifier], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pixel goes as far as it may, towards the sign of its weight."""
    monkeypatch.setitem(NETWORKS, "linear", _Linear)
    answering = ConfidenceRule(threshold=0.5, refuse=0.1)  # two classes, one of which has a half in any case
    clf = untrained("linear", {}, Task(("no", "yes"))).with_rule(answering)
    weights = {name: value[:1] / 10 for name, value in clf.posterior.sample(1, seed=0).items()}
    clf.ensemble = PredictiveEnsemble(clf.network, weights)
    labels = clf.rule.labels(clf.evidence(images))
    towards = weights["1.weight"][0, 1 - labels] - weights["1.weight"][0, labels]
    for worst in worst_cases(clf, images, labels, radii=(0.05, 0.2), steps=8):
        expected = (images + worst.radius * towards.sign().view_as(images)).clamp(0, 1)
        torch.testing.assert_close(worst.images, expected)
        assert torch.equal(worst.reached, clf.rule.labels(clf.evidence(expected)) != labels)


@pytest.mark.parametrize("measure", ["total", "ood"])
def test_the_gradient_is_that_of_what_is_decided_by(measure: str, classifier: Classifier) -> None:
    """Of noise, whose scores are beyond those of all training images, against differences."""
    noise = ImageSet.from_name("noise", limit=4).images * 0.5
    asked = noise.clone().requires_grad_()
    value = getattr(classifier.evidence(asked), measure)
    torch.testing.assert_close(
        value.detach(), getattr(classifier.evidence(noise), measure), rtol=1e-3, atol=1e-4
    )
    (gradient,) = torch.autograd.grad(value.sum(), asked)
    way = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    ahead, behind = (getattr(classifier.evidence(noise + step * way), measure) for step in (2e-2, -2e-2))
    slope = (gradient * way).sum((1, 2, 3))
    assert (slope > 0).all()
    torch.testing.assert_close((ahead - behind) / 4e-2, slope, rtol=0.15, atol=1e-3)


def test_what_asks_for_no_gradient_gets_none(classifier: Classifier, images: Tensor) -> None:
    evidence = classifier.evidence(images)
    assert not evidence.ood.requires_grad
    assert not evidence.mean.requires_grad


@pytest.mark.parametrize("radii", [(0.2, 0.1), (-0.1,)])
def test_radii_that_do_not_rise_are_refused(radii: Any, small: Classifier, images: Tensor) -> None:
    with pytest.raises(InputError, match="radii must rise"):
        worst_cases(small, images, radii=radii)


def test_a_rule_without_thresholds_is_refused(small: Classifier, images: Tensor) -> None:
    with pytest.raises(InputError, match="compares nothing with thresholds"):
        worst_cases(small.with_rule(MedianRule()), images, radii=(0.1,))
