"""Online p-values, the martingale that bets on them, and the confidence sequence of a share."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.stats import binom

from bnn.rules.martingale import (
    POWERS,
    OnlineRanks,
    after_bet,
    alarm_at,
    bet,
    first_capital,
    log_wealth,
    rate_limits,
    unspent,
)

Array = NDArray[np.float64]


def ends(ranks: OnlineRanks, score: float, n: int) -> range:
    """The interval over which a p-value is uniform, as cells of width 1 / (n + 1)."""
    before = OnlineRanks(ranks._sorted)
    first, last = before.p_value(score, 0) * (n + 1), ranks.p_value(score, 1) * (n + 1)
    assert (first, last) == pytest.approx((round(first), round(last)))
    return range(round(first), round(last))


@settings(max_examples=20)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.0]), min_size=3, max_size=5))
def test_p_values_are_independent_and_uniform_whatever_the_scores_and_ties(scores: Sequence[float]) -> None:
    """Over all orders of the scores, and the numbers that break ties, exactly."""
    n = len(scores)
    density = {cell: Fraction() for cell in product(range(n - 1), range(n))}  # of the last two p-values
    for order in permutations(scores):
        ranks = OnlineRanks(order[: n - 2])
        boxes = [ends(ranks, score, n - 2 + k) for k, score in enumerate(order[n - 2 :])]
        for cell in product(boxes[0], boxes[1]):
            density[cell] += Fraction(1, math.factorial(n) * len(boxes[0]) * len(boxes[1]))
    assert set(density.values()) == {Fraction(1, n * (n - 1))}


def test_a_p_value_counts_what_is_higher_and_its_share_of_what_is_equal() -> None:
    ranks = OnlineRanks([3.0, 1.0, 2.0, 2.0])
    assert ranks.p_value(2.0, 0.5) == (1 + 0.5 * 3) / 5
    assert ranks.p_value(9.0, 0.25) == 0.25 / 6  # five are there now, none of them higher
    assert ranks.p_value(0.0, 1.0) == 1


def integral_over_p(log_of: Callable[[Array], Array]) -> float:
    """∫ exp f(p) dp over (0, 1], with p = e^(−x)."""
    x = np.linspace(0, 300, 15_001)
    return float(simpson(np.exp(log_of(np.exp(-x)) - x), x=x))


@pytest.mark.parametrize("power", [*POWERS, 2.0])
def test_a_bet_is_fair(power: float) -> None:
    assert integral_over_p(lambda p: bet(p, np.array(power))) == pytest.approx(1, abs=1e-6)


@settings(max_examples=15)
@given(
    st.lists(st.floats(-20, 20), min_size=len(POWERS) + 1, max_size=len(POWERS) + 1), st.integers(0, 10**7)
)
def test_wealth_stays_the_same_on_average_from_any_capital(logs: list[float], images: int) -> None:
    capital = np.array(logs)

    def gained(p: Array) -> Array:
        return log_wealth(
            after_bet(np.broadcast_to(capital, (len(p), len(capital))), p, images)
        ) - log_wealth(capital)

    found = integral_over_p(gained)
    assert found == pytest.approx(1, abs=1e-6)


def test_the_waiting_capital_is_spent_slower_and_slower() -> None:
    left = np.array([unspent(t) for t in (0, 10, 10**3, 10**6, 10**9)])
    assert left[0] == 1
    assert (np.diff(left) < 0).all()
    assert left[-1] > 0.1
    capital = first_capital(1)
    for t in range(50):
        capital = after_bet(capital, np.array([0.5]), t)
    assert capital[0, 0] == pytest.approx(math.log(unspent(50)))


def test_one_strange_image_counts_and_a_late_change_is_noticed() -> None:
    first = after_bet(first_capital(1), np.array([1 / 5000]), 0)
    assert log_wealth(first) > math.log(2)
    p = 1 - np.random.default_rng(0).random(5_000)
    capital = first_capital(1)
    for t, one in enumerate(p):
        capital = after_bet(capital, np.array([one]), t)
    assert log_wealth(capital) < math.log(10)
    for t in range(len(p), len(p) + 6):
        capital = after_bet(capital, np.array([1e-3]), t)
    assert log_wealth(capital) > alarm_at(0.01, 2)


def test_tests_side_by_side_are_those_alone() -> None:
    p = 1 - np.random.default_rng(1).random((30, 7, 2))
    together = np.broadcast_to(first_capital(2), (7, 2, 1 + len(POWERS)))
    for t, now in enumerate(p):
        together = after_bet(together, now, t)
    alone = first_capital(1)
    for t, now in enumerate(p):
        alone = after_bet(alone, now[3, 1:], t)
    assert np.array_equal(together[3, 1], alone[0])


def test_false_alarms_are_at_most_as_stated_of_either_of_two_tests() -> None:
    rng, streams, rate = np.random.default_rng(2), 1000, 0.1
    capital, alarmed = first_capital(2)[None], np.zeros(streams, bool)
    for t in range(200):
        capital = after_bet(
            np.broadcast_to(capital, (streams, *capital.shape[1:])), 1 - rng.random((streams, 2)), t
        )
        alarmed |= (log_wealth(capital) >= alarm_at(rate, 2)).any(-1)
    assert 0 < alarmed.sum() <= binom.ppf(0.999, streams, rate)


@given(st.integers(1, 300), st.floats(0.5, 0.999))
def test_the_limits_of_a_share_without_events_have_a_closed_form(trials: int, level: float) -> None:
    low, high = rate_limits(0, trials, level)
    assert low == 0
    assert high == pytest.approx(1 - ((1 - level) / (trials + 1)) ** (1 / trials), abs=1e-9)
    assert rate_limits(trials, trials, level) == pytest.approx((1 - high, 1), abs=1e-9)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_limits_hold_the_share_seen_and_are_mirrored(counts: tuple[int, int]) -> None:
    events, trials = counts
    low, high = rate_limits(events, trials, 0.95)
    assert low <= events / trials <= high
    assert rate_limits(trials - events, trials, 0.95) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert rate_limits(0, 0, 0.95) == (0, 1)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_limits_hold_at_all_times_at_once(share: float) -> None:
    """By the exact probability of every path of 40 trials that never leaves them."""
    level, held = 0.8, {0: 1.0}
    for n in range(1, 41):
        after: dict[int, float] = {}
        for events, chance in held.items():
            for more, probability in ((0, 1 - share), (1, share)):
                after[events + more] = after.get(events + more, 0) + chance * probability
        limits = {events: rate_limits(events, n, level) for events in after}
        held = {
            events: chance
            for events, chance in after.items()
            if limits[events][0] <= share <= limits[events][1]
        }
    assert level <= sum(held.values()) < 1
