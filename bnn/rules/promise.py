"""What a person may ask of an abstention rule."""

import math
from dataclasses import asdict, dataclass, fields
from decimal import ROUND_CEILING, Context

from bnn.errors import InputError


@dataclass(frozen=True)
class Promise:
    """Shares between 0 and 1 that a rule is fitted for; each kind of rule heeds those that concern it.

    Attributes:
        risk: share of the answers that may be wrong (calibrated rule).
        delta: chance that the calibration images mislead about that share (calibrated rule).
        alpha: share of in-distribution images that may be refused as unfamiliar (calibrated rule).
        refuse: share of in-distribution images that may be refused at all (entropy and confidence rules).

    Raises:
        InputError: one of them is not between 0 and 1.

    Example:
        >>> from bnn import Promise
        >>> Promise(risk=0.01).alpha
        0.005
    """

    risk: float = 0.002
    delta: float = 0.05
    alpha: float = 0.005
    refuse: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1, and {value:g} does not.")


def usable_threshold(value: object) -> bool:
    """Whether `value`, which anyone may have made, is a finite number that a measure can be held against."""
    if isinstance(value, int):
        return abs(value) < 2**63  # what a tensor can be compared with
    return isinstance(value, float) and math.isfinite(value)


PROMISES = tuple(field.name for field in fields(Promise))


def rounded_up(share: float) -> float:
    """The lowest number of two digits that is at least `share`, for messages that say what may be asked."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(repr(share)))
