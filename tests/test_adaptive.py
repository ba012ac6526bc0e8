"""As many draws as a decision needs: the same decisions, each image by itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn import Classifier, ConfidenceRule, ImageSet, MedianRule, Observed, OODScore
from bnn.adaptive import settled_after
from bnn.core.ensemble import summary
from bnn.core.uncertainty import Predictive
from bnn.errors import InputError


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Easy and hard ones: small digits enlarged, noise, and things put together wrongly."""
    sets = [ImageSet.from_name(name, limit=14) for name in ("digits", "noise", "strokes", "chimeras")]
    return torch.cat([one.images for one in sets])


def test_decisions_are_those_of_all_draws_and_rest_on_few(classifier: Classifier, images: Tensor) -> None:
    adaptive, full = classifier.predict(images, draws="adaptive"), classifier.predict(images)
    assert adaptive.labels.tolist() == full.labels.tolist()
    assert adaptive.reasons.tolist() == full.reasons.tolist()
    assert adaptive.votes is None
    assert adaptive.draws_used is not None
    assert full.draws_used is not None
    assert set(full.draws_used.tolist()) == {50}
    assert set(adaptive.draws_used.tolist()) <= {*range(0, 50, 6), 50}
    assert adaptive.draws_used.mean() < 25


def test_what_is_refused_whatever_networks_say_is_refused_before_they_are_asked(
    classifier: Classifier, images: Tensor
) -> None:
    adaptive, full = classifier.predict(images, draws="adaptive"), classifier.predict(images)
    assert adaptive.draws_used is not None
    unasked = adaptive.draws_used == 0
    assert unasked[14:28].all()  # noise
    assert not unasked[full.labels >= 0].any()
    assert set(full.reasons[unasked]) == {"unfamiliar"}
    assert set(full.quality[unasked]) == {""}
    np.testing.assert_allclose(adaptive.probs[unasked], 0.1)
    np.testing.assert_allclose(adaptive.epistemic[unasked], math.log(10), rtol=1e-6)
    assert all(sorted(adaptive.candidates[i]) == [*range(10)] for i in np.flatnonzero(unasked).tolist())


@pytest.mark.parametrize("turn", [lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT])
def test_what_is_wrong_with_a_picture_is_said_as_with_all_draws(
    classifier: Classifier, turn: Callable[[Tensor], Tensor]
) -> None:
    turned = turn(ImageSet.from_name("digits", limit=100).images)
    adaptive, full = classifier.predict(turned, draws="adaptive"), classifier.predict(turned)
    assert adaptive.labels.tolist() == full.labels.tolist()
    assert (full.quality != "").sum() >= 5
    assert (adaptive.quality == full.quality).sum() >= 95  # of few draws, it is all but sure


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_nothing_that_may_be_said_makes_an_image_less_strange_than_the_bound(
    classifier: Classifier, images: Tensor, seed: int, log_concentration: float
) -> None:
    torch.manual_seed(seed)
    concentration = torch.full((10,), 10**log_concentration)
    probs = torch.distributions.Dirichlet(concentration).sample(torch.Size((3, len(images))))
    said = classifier.detector.evidence(images, Predictive.of(probs))
    before = Observed(
        images, Predictive.of_no_draws(len(images), probs.shape[-1]), classifier.detector.features
    )
    least = classifier.detector.least(before)
    assert least is not None
    for name in ("ood", "novelty"):
        of_each = getattr(least, name).view(-1, len(images))
        assert (of_each == of_each[0]).all()
        assert (getattr(said, name) >= of_each[0] - 1e-2).all()


def test_a_score_without_bounds_has_networks_asked_of_every_image(
    classifier: Classifier, images: Tensor
) -> None:
    class Ink(OODScore):
        name = "ink"

        def score(self, observed: Observed) -> Tensor:
            return observed.images.mean((1, 2, 3))

    digits = ImageSet.from_name("digits", limit=200)
    of_ink = classifier.with_scores(Ink(), reference=digits).calibrate(
        digits, digits.labels, risk=0.1, alpha=0.05
    )
    adaptive = of_ink.predict(images[14:28], draws="adaptive")
    assert set(adaptive.reasons) == {"unfamiliar"}
    assert adaptive.draws_used is not None
    assert adaptive.draws_used.min() > 0


def test_votes_that_are_there_settle_a_decision_where_it_would_have_been(
    classifier: Classifier, images: Tensor
) -> None:
    adaptive, chosen = classifier.predict(images, draws="adaptive"), range(0, len(images), 5)
    assert adaptive.draws_used is not None
    assert len(set(adaptive.draws_used[[*chosen]].tolist())) > 2
    for i in chosen:
        image, detector = images[i : i + 1], classifier.detector
        probs = classifier.ensemble.probs(image)
        observed = Observed(image, summary(probs), detector.features)
        settled = settled_after(detector, classifier.rule, observed, probs, classifier.at_once)
        assert settled == adaptive.draws_used[i]
    assert settled_after(detector, MedianRule(0.2), observed, probs, classifier.at_once) is None


def test_an_image_has_the_same_bits_and_draws_alone_and_in_a_batch(
    classifier: Classifier, images: Tensor
) -> None:
    together = classifier.predict(images, draws="adaptive")
    assert together.draws_used is not None
    chosen = [0, 20, 33, 47, int(together.draws_used.argmax())]
    for i in chosen:
        alone = classifier.predict(images[i : i + 1], draws="adaptive")
        for name in ("labels", "reasons", "probs", "total", "epistemic", "ood_score", "draws_used"):
            assert np.array_equal(getattr(alone, name), getattr(together[i : i + 1], name)), (i, name)


def test_what_rests_on_few_draws_is_what_these_say(classifier: Classifier, images: Tensor) -> None:
    adaptive = classifier.predict(images[:40], draws="adaptive")
    assert adaptive.draws_used is not None
    votes = classifier.votes(images[:40])
    for i, used in enumerate(adaptive.draws_used):
        says = votes[:used, i].mean(0) if used else np.full(10, 0.1)
        np.testing.assert_allclose(adaptive.probs[i], says, atol=1e-6)


def test_a_rule_that_looks_at_more_than_the_mean_has_all_draws(
    classifier: Classifier, images: Tensor
) -> None:
    median = classifier.with_rule(MedianRule(0.2))
    adaptive, full = median.predict(images[:9], draws="adaptive"), median.predict(images[:9])
    assert adaptive.draws_used is not None
    assert set(adaptive.draws_used.tolist()) == {50}
    assert np.array_equal(adaptive.total, full.total)
    assert np.array_equal(adaptive.labels, full.labels)


@pytest.mark.parametrize("draws", [1, 5, 6, 7])
def test_a_small_ensemble_is_used_up(classifier: Classifier, images: Tensor, draws: int) -> None:
    few = classifier.with_draws(draws)
    adaptive = few.predict(images[:12], draws="adaptive")
    assert adaptive.draws_used is not None
    assert set(adaptive.draws_used.tolist()) <= {0, 6, draws}
    if draws <= 6:
        asked = adaptive.draws_used > 0
        assert asked.any()
        assert np.array_equal(adaptive.ood_score[asked], few.predict(images[:12]).ood_score[asked])


def test_a_threshold_in_the_midst_of_what_draws_say_takes_more_of_them(
    classifier: Classifier, images: Tensor
) -> None:
    doubts = 1 - classifier.predict(images).probs.max(1)
    doubtful = int(np.abs(doubts - 0.4).argmin())
    strict = classifier.with_rule(ConfidenceRule(float(doubts[doubtful]), 0.1))
    used = strict.predict(images[doubtful : doubtful + 1], draws="adaptive").draws_used
    assert used is not None
    assert used.tolist() == [50]


def test_rows_of_a_prediction_take_their_draws_with_them(classifier: Classifier, images: Tensor) -> None:
    prediction = classifier.predict(images[:8], draws="adaptive")
    assert prediction.draws_used is not None
    assert prediction[[5, 2]].draws_used.tolist() == prediction.draws_used[[5, 2]].tolist()  # type: ignore[union-attr]
    assert len(classifier.predict(images[:0], draws="adaptive")) == 0


def test_other_draws_are_refused_in_one_sentence(classifier: Classifier, images: Tensor) -> None:
    with pytest.raises(InputError, match=r"^draws are 'all' or 'adaptive', not .*\.$"):
        classifier.predict(images[:1], draws="some")
