"""As many draws as a decision needs: the same decisions, each image by itself."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn import Classifier, ConfidenceRule, ImageSet, MedianRule
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
    assert set(adaptive.draws_used.tolist()) <= {*range(6, 50, 6), 50}
    assert adaptive.draws_used.mean() < 25


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
        np.testing.assert_allclose(adaptive.probs[i], votes[:used, i].mean(0), atol=1e-6)


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
    assert set(adaptive.draws_used.tolist()) <= {6, draws}
    if draws <= 6:
        assert np.array_equal(adaptive.ood_score, few.predict(images[:12]).ood_score)


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
