"""Whether what comes one by one is still like a calibration set: a test that may be read after every image.

Each new score gets a conformal p-value, and a martingale bets that the p-values are not uniform. Where all
scores are exchangeable, its wealth is 1 on average at every time, and ever reaches 1 / a with probability at
most a (Ville 1939). Several such martingales have no joint past in which their mean is one too (Choe & Ramdas
2024, "Combining evidence across filtrations"): of T, each gets its share a / T of the false alarms instead.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp, xlog1py, xlogy

Array = NDArray[np.float64]

POWERS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # of the bets; the smaller, the more on rare and strange images
WAKING = 10.0  # images: the larger, the more of the capital waits for later ones
BISECTIONS = 60  # of a limit: more than a double holds


class OnlineRanks:
    """Smoothed conformal p-values: each score is ranked among the reference and all that came before it.

    Where all scores are exchangeable, the p-values are independent and uniform on (0, 1], exactly (Vovk,
    Gammerman & Shafer 2022, "Algorithmic learning in a random world", 2nd ed., part III).

    Args:
        seen: scores of the reference, and of what came before, in any order; higher is stranger.
    """

    def __init__(self, seen: Iterable[float]) -> None:
        self._sorted = array("f", sorted(seen))  # four bytes each, for there may be millions

    def p_value(self, score: float, uniform: float) -> float:
        """(higher ones + u (equal ones + 1)) / (n + 1) of a new score, which is one of the n from then on.

        Args:
            score: finite, float32.
            uniform: u, drawn uniformly from (0, 1], by which ties are broken.
        """
        n = len(self._sorted)
        first, last = bisect_left(self._sorted, score), bisect_right(self._sorted, score)
        self._sorted.insert(last, score)
        return (n - last + uniform * (last - first + 1)) / (n + 1)


def bet(p: Array, power: Array) -> Array:
    """log κ p^(κ − 1), what a power bet multiplies wealth by (Vovk et al. 2003): its integral over p is 1."""
    log_factor: Array = np.log(power) + (power - 1) * np.log(p)
    return log_factor


def unspent(images: int) -> float:
    """The share of its capital that waits after so many images: log c / log(c + t), with c = `WAKING`.

    It falls so slowly that what begins at image t can be bet on with a share of about 1 / (t log² t): a late
    drift costs but log t nats more than an early one.
    """
    return float(np.log(WAKING) / np.log(WAKING + images))


def first_capital(tests: int) -> Array:
    """The log capital of so many tests before any image, (tests, 1 + K): all of it waits."""
    capital = np.full((tests, 1 + len(POWERS)), -np.inf)
    capital[:, 0] = 0
    return capital


def after_bet(capital: Array, p: Array, images: int) -> Array:
    """The log capital after one more image.

    A part of what waits is shared out among the K bets, and stays with them: so every image may be the first
    of a drift.

    Args:
        capital: log capital (…, 1 + K), of what waits and of each bet, after `images` images.
        p: the p-values (…,) of the next image, one a test, in (0, 1].
        images: how many were seen before.
    """
    still = unspent(images + 1) / unspent(images)
    waiting, betting = capital[..., :1], capital[..., 1:]
    share = np.log1p(-still) - np.log(len(POWERS))
    betting = np.logaddexp(betting, waiting + share) + bet(p[..., None], POWERS)
    return np.concatenate([waiting + np.log(still), betting], axis=-1)


def log_wealth(capital: Array) -> Array:
    """The log of each test's whole capital, (…, 1 + K) to (…,): a martingale that starts at 0."""
    wealth: Array = logsumexp(capital, axis=-1)
    return wealth


def alarm_at(false_alarms: float, tests: int) -> float:
    """The log wealth that any of `tests` martingales ever reaches with probability at most `false_alarms`."""
    return float(np.log(tests / false_alarms))


def rate_limits(events: int, trials: int, level: float) -> tuple[float, float]:
    """A confidence sequence of a share: at `level` it holds the true one after every trial at once.

    Those shares q at which the likelihood ratio of a uniform mixture to q, B(e + 1, n − e + 1) / (q^e
    (1 − q)^(n − e)), a martingale if q is true, is below 1 / (1 − level) (Robbins 1970, "Statistical methods
    related to the law of the iterated logarithm"; Ville).
    """
    if trials == 0:
        return 0.0, 1.0
    mixture, share = betaln(events + 1, trials - events + 1), events / trials

    def is_in(q: float) -> bool:
        likelihood = xlogy(events, q) + xlog1py(trials - events, -q)
        return bool(mixture - likelihood < -np.log1p(-level))

    low = 0.0 if events == 0 else _edge(share, 0.0, is_in)
    high = 1.0 if events == trials else _edge(share, 1.0, is_in)
    return low, high


def _edge(inside: float, outside: float, is_in: Callable[[float], bool]) -> float:
    """Where between the two `is_in` ceases to hold, on the outer side."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_in(middle) else (inside, middle)
    return outside
