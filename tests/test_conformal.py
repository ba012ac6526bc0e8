"""Conformal thresholds: what they promise, by brute force over which score is the fresh one."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnn.core.evidence import Evidence
from bnn.errors import InputError
from bnn.rules.conformal import candidate_threshold, conformal_rank, conformal_threshold

RandomEvidence = Callable[[int, int], Evidence]

scores_and_share = st.tuples(
    st.lists(st.integers(0, 30).map(float), min_size=2, max_size=60), st.floats(0.001, 0.999)
)


@given(scores_and_share)
def test_of_exchangeable_scores_at_most_the_share_exceed_their_threshold(
    given_values: tuple[list[float], float],
) -> None:
    scores, share = given_values
    if math.floor(share * len(scores) + 1e-9) < 1:
        return
    # Each score in turn is the fresh one, the others being the calibration set.
    exceed = sum(
        score > conformal_threshold(torch.tensor(scores[:i] + scores[i + 1 :]), share)
        for i, score in enumerate(scores)
    )
    assert exceed <= share * len(scores) + 1e-9


@given(scores_and_share)
def test_the_threshold_is_the_lowest_score_that_keeps_the_promise(
    given_values: tuple[list[float], float],
) -> None:
    scores, share = given_values
    n = len(scores)
    allowed = share * (n + 1) + 1e-9  # of n + 1 scores, the fresh one among them
    fitting = [t for t in sorted(scores) if sum(score > t for score in scores) + 1 <= allowed]
    if not fitting:
        with pytest.raises(InputError, match="cannot promise"):
            conformal_threshold(torch.tensor(scores), share)
        return
    assert conformal_threshold(torch.tensor(scores), share) == fitting[0]


@given(st.integers(1, 3000), st.integers(2, 3000))
def test_an_impossible_share_says_how_many_digits_would_do(n: int, denominator: int) -> None:
    share, scores = 1 / denominator, torch.zeros(n)
    if n >= denominator - 1:
        assert conformal_threshold(scores, share) == 0
        return
    with pytest.raises(InputError, match=f"{n} calibration images cannot promise") as caught:
        conformal_threshold(scores, share)
    found = re.search(r"(\d+) could, and", str(caught.value))
    assert found
    needed = int(found[1])
    assert needed == denominator - 1
    assert conformal_threshold(torch.zeros(needed), share) == 0
    with pytest.raises(InputError):
        conformal_threshold(torch.zeros(needed - 1), share)


@given(st.integers(0, 400), st.floats(0.0001, 0.0024))
def test_an_impossible_share_says_which_is_possible(n: int, share: float) -> None:
    with pytest.raises(InputError, match="cannot promise") as caught:
        conformal_rank(n, share)
    found = re.search(r"can promise (\S+)\.$", str(caught.value))
    assert found
    possible = float(found[1])
    assert possible <= 1.1 / (n + 1)  # and not needlessly much
    if possible < 1:
        assert conformal_rank(n, possible) <= n


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_threshold(torch.rand(100), share)


@given(st.integers(1, 300), st.integers(0, 999), st.sampled_from((0.001, 0.02, 0.3)))
def test_candidate_sets_miss_at_most_the_share_on_the_calibration_set(
    random_evidence: RandomEvidence, n: int, seed: int, miss: float
) -> None:
    calibration = random_evidence(n, seed)
    labels = torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))
    threshold = candidate_threshold(calibration.mean, labels, miss)
    missed = calibration.mean[torch.arange(n), labels] < threshold
    assert missed.sum().item() <= max(miss * (n + 1) - 1, 0) + 1e-9
    of_truth = calibration.mean[torch.arange(n), labels]
    assert threshold in of_truth.tolist()  # and it is no lower than it must be
    assert (of_truth <= threshold).sum().item() > max(miss * (n + 1) - 1, 0) - 1e-9
