"""Selective classification with a guaranteed risk: how far answers may go before the error does."""

import math

import torch
from scipy.special import bdtr, betaincinv
from torch import Tensor

from bnn.errors import InputError
from bnn.rules.promise import rounded_up


def binomial_p_value(errors: Tensor, answered: Tensor, risk: float) -> Tensor:
    """P(as few `errors` (G,) among as many `answered` (G,)), were each wrong with probability `risk`: (G,).

    The exact binomial tail. Below delta, that the true risk is above `risk` is rejected at level delta.
    """
    return torch.from_numpy(bdtr(errors.numpy(), answered.numpy(), risk))


def exact_interval(events: int, trials: int, level: float) -> tuple[float, float]:
    """The exact interval of a binomial share, of positive `trials` (Clopper & Pearson 1934), at `level`.

    By the quantiles of the Beta distribution; `scipy.stats` has it too, and takes two seconds to import.
    """
    tail, rest = (1 - level) / 2, trials - events
    low = betaincinv(events, rest + 1, tail) if events else 0.0
    high = betaincinv(events + 1, rest, 1 - tail) if rest else 1.0
    return float(low), float(high)


def errorless_count(risk: float, delta: float) -> int:
    """How many answers without any error show, at level `delta`, that the risk is at most `risk`."""
    return math.ceil(math.log(delta) / math.log1p(-risk))


def risk_threshold(scores: Tensor, wrong: Tensor, grid: Tensor, risk: float, delta: float) -> float | None:
    """The highest threshold under which the error among the answered is at most `risk`, or None.

    With probability at least 1 − `delta` over calibration sets, a fresh image whose score is at most the
    threshold is answered wrongly with probability at most `risk`. The thresholds of `grid` are tested one
    after another from the strictest that could pass, each at level `delta`, until one fails: fixed-sequence
    testing pays nothing for the search (Angelopoulos et al. 2021, "Learn then test", sec. 2; selective
    guaranteed risk, Geifman & El-Yaniv 2017). It needs a grid and a start that the calibration images have
    not chosen; given how many scores a threshold answers, the errors among them are binomial.

    Args:
        scores: of n calibration images, (n,).
        wrong: whether each would be answered wrongly, (n,) bool.
        grid: thresholds in ascending order, (G,), of scores of other images of the same kind.
        risk, delta: between 0 and 1.
    """
    needed = errorless_count(risk, delta)
    aimed = needed + 3 * math.sqrt(needed)  # for as many are answered only on average
    grid = grid[min(int(aimed / max(len(scores), 1) * len(grid)), len(grid) - 1) :]
    order = scores.argsort()
    answered = torch.searchsorted(scores[order], grid, right=True)
    errors = torch.cat([wrong.new_zeros(1, dtype=torch.int64), wrong[order].cumsum(0)])[answered]
    passed = int((binomial_p_value(errors, answered, risk) <= delta).long().cumprod(0).sum())
    return grid[passed - 1].item() if passed else None


def feasible_risk(scores: Tensor, wrong: Tensor, grid: Tensor, risk: float, delta: float) -> float | None:
    """The lowest risk of two digits above `risk` for which `risk_threshold` finds a threshold, or None."""
    # Made from text, each is the very number that a person asks for who types it.
    risks = (float(f"{digits}e{exponent}") for exponent in range(-6, -1) for digits in range(10, 100))
    # One after another: a lower risk may be feasible where a higher one is not, its search starting later.
    return next(
        (
            higher
            for higher in risks
            if higher > risk and risk_threshold(scores, wrong, grid, higher, delta) is not None
        ),
        None,
    )


def require_enough(n: int, risk: float, delta: float) -> None:
    """Checks that n calibration images could show `risk` at level `delta`, if none were wrong.

    Raises:
        InputError: they are too few; it says how many would do, and what risk these could show.
    """
    needed = errorless_count(risk, delta)
    if needed > n:
        raise InputError(
            f"{n} calibration images cannot show a risk of at most {risk:g} with confidence {1 - delta:g}, "
            f"even without an error: {needed} could, and these could show {_lowest_risk(n, delta):g} at best."
        )


def _lowest_risk(n: int, delta: float) -> float:
    """What n answers without any error show at level `delta`, rounded up to two digits."""
    return rounded_up(-math.expm1(math.log(delta) / max(n, 1)))
