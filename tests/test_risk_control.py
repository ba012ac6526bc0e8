"""Selective classification: the bound by direct sums, the search by a slow one, the promise by simulation."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnn.errors import InputError
from bnn.rules.risk_control import (
    binomial_p_value,
    errorless_count,
    feasible_risk,
    require_enough,
    risk_threshold,
)

SIMULATED = 2000
RISKS, DELTAS = st.floats(0.01, 0.6), st.floats(0.01, 0.6)


def binomial_tail(errors: int, answered: int, risk: float) -> float:
    return math.fsum(
        math.comb(answered, k) * risk**k * (1 - risk) ** (answered - k) for k in range(errors + 1)
    )


@given(st.integers(0, 80), st.integers(0, 80), st.floats(0.001, 0.999))
def test_the_p_value_is_the_binomials_lower_tail(errors: int, more: int, risk: float) -> None:
    answered = errors + more
    found = binomial_p_value(torch.tensor([errors]), torch.tensor([answered]), risk).item()
    assert found == pytest.approx(binomial_tail(errors, answered, risk), abs=1e-9)


@given(st.floats(0.0005, 0.9), st.floats(0.0005, 0.9))
def test_so_many_answers_without_an_error_show_the_risk_and_one_less_does_not(
    risk: float, delta: float
) -> None:
    count = errorless_count(risk, delta)
    none = torch.zeros(2, dtype=torch.int64)
    enough, one_less = binomial_p_value(none, torch.tensor([count, count - 1]), risk).tolist()
    assert enough <= delta * (1 + 1e-9)
    assert one_less > delta * (1 - 1e-9)


def slowly(
    scores: list[float], wrong: list[bool], grid: list[float], risk: float, delta: float
) -> float | None:
    """`risk_threshold`, one threshold after another."""
    needed = 1
    while (1 - risk) ** needed > delta:
        needed += 1
    share = (needed + 3 * math.sqrt(needed)) / len(scores)
    found = None
    for threshold in grid[min(int(share * len(grid)), len(grid) - 1) :]:
        errors = [bad for score, bad in zip(scores, wrong, strict=True) if score <= threshold]
        if binomial_tail(sum(errors), len(errors), risk) > delta:
            return found
        found = threshold
    return found


@settings(max_examples=150)
@given(st.integers(0, 9999), st.integers(1, 90), st.integers(1, 40), st.floats(0, 0.15), RISKS, DELTAS)
def test_the_threshold_is_that_of_a_slow_search(
    seed: int, n: int, size: int, share_wrong: float, risk: float, delta: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(20, (n,), generator=generator).double()  # so few that many are equal
    grid = torch.randint(-1, 21, (size,), generator=generator).double().sort().values
    wrong = torch.rand(n, generator=generator) < share_wrong
    found = risk_threshold(scores, wrong, grid, risk, delta)
    assert found == slowly(scores.tolist(), wrong.tolist(), grid.tolist(), risk, delta)


def test_without_errors_everything_is_answered_and_with_nothing_else_nothing() -> None:
    scores = torch.linspace(0, 1, 400)
    right = torch.zeros(400, dtype=torch.bool)
    assert risk_threshold(scores, right, scores, 0.05, 0.05) == 1.0
    assert risk_threshold(scores, ~right, scores, 0.05, 0.05) is None
    assert feasible_risk(scores, ~right, scores, 0.01, 0.05) is None


def simulated(error: Tensor, n: int, grid_size: int, risk: float, delta: float) -> tuple[int, int]:
    """Of `SIMULATED` calibration sets, how many gave a threshold, and how many one that breaks its promise.

    Scores are uniform among 0, 1, …, 999, and `error` (1000,) says with what probability each is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    true_risk = error.double().cumsum(0) / torch.arange(1, len(error) + 1)  # of answering up to each score
    thresholds = []
    for _ in range(SIMULATED):
        scores = torch.randint(len(error), (n,), generator=generator)
        wrong = torch.rand(n, generator=generator) < error[scores]
        grid = torch.randint(len(error), (grid_size,), generator=generator).sort().values
        thresholds.append(risk_threshold(scores.double(), wrong, grid.double(), risk, delta))
    found = [int(threshold) for threshold in thresholds if threshold is not None]
    return len(found), sum(true_risk[threshold].item() > risk for threshold in found)


@pytest.mark.slow
@pytest.mark.parametrize("delta", [0.05, 0.2])
@pytest.mark.parametrize(
    "error",
    [
        torch.linspace(0, 1, 1000) ** 3 * 0.4,
        torch.full((1000,), 0.0501),  # just too wrong everywhere: each threshold found is a broken promise
        (torch.arange(1000) >= 500).float() * 0.11,
        (torch.arange(1000) < 300).float() * 0.4,  # the surest are the worst
    ],
    ids=["rising", "flat", "step", "falling"],
)
def test_the_true_risk_is_above_the_promised_one_at_most_so_often(error: Tensor, delta: float) -> None:
    _, broken = simulated(error, n=400, grid_size=200, risk=0.05, delta=delta)
    assert broken / SIMULATED <= delta + 4 * math.sqrt(delta * (1 - delta) / SIMULATED)


def test_the_promise_is_not_kept_by_answering_next_to_nothing() -> None:
    error = torch.linspace(0, 1, 1000) ** 3 * 0.4  # may answer 79 % at a risk of 0.05
    found, broken = simulated(error, n=400, grid_size=200, risk=0.05, delta=0.2)
    assert found > 0.7 * SIMULATED
    assert broken > 0  # the bound is exact, not merely safe


@pytest.mark.slow
@given(st.integers(0, 999), st.floats(0, 0.3), st.floats(0.0001, 0.2), st.floats(0.02, 0.4))
def test_the_risk_that_is_called_feasible_is_and_none_between_is(
    seed: int, share_wrong: float, risk: float, delta: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, grid = torch.rand(300, generator=generator), torch.rand(100, generator=generator).sort().values
    wrong = torch.rand(300, generator=generator) < share_wrong
    typed = [round(digits / 10**places, places) for places in range(6, 1, -1) for digits in range(10, 100)]
    fitting = [
        higher
        for higher in typed
        if higher > risk and risk_threshold(scores, wrong, grid, higher, delta) is not None
    ]
    feasible = feasible_risk(scores, wrong, grid, risk, delta)
    assert feasible == min(fitting, default=None)
    assert feasible is None or float(f"{feasible:g}") == feasible  # what is printed is what was tried


@given(st.integers(1, 5000), st.floats(0.0001, 0.3), st.floats(0.001, 0.5))
def test_too_few_digits_say_how_many_would_do_and_what_they_can_show(
    n: int, risk: float, delta: float
) -> None:
    needed = errorless_count(risk, delta)
    if n >= needed:
        require_enough(n, risk, delta)
        return
    with pytest.raises(InputError, match=rf"{n} calibration images cannot show .*: {needed} could") as caught:
        require_enough(n, risk, delta)
    require_enough(needed, risk, delta)
    lowest = re.search(r"could show (\S+) at best\.$", str(caught.value))
    assert lowest
    if float(lowest[1]) < 1:
        require_enough(n, float(lowest[1]), delta)
