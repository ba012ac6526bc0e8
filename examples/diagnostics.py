"""Whether chains can be believed: R-hat and effective sample sizes."""

from dataclasses import dataclass
from typing import Any

import arviz
from digits import Array

MOST_RHAT = 1.01  # Vehtari et al. 2021, "Rank-normalization, folding, and localization", sec. 4
LEAST_ESS = 400  # the same


@dataclass(frozen=True)
class Diagnostics:
    """Whether chains can be believed, of one kind of number.

    Attributes:
        what: the kind of number.
        rhat: the largest R-hat, split and rank-normalised: 1 where the chains agree.
        ess: the least effective sample size (bulk).
    """

    what: str
    rhat: float
    ess: float

    @property
    def passed(self) -> bool:
        """Whether the chains agree, and are worth enough independent draws."""
        return self.rhat < MOST_RHAT and self.ess > LEAST_ESS


def diagnose(what: str, values: Array) -> Diagnostics:
    """The worst R-hat and effective sample size of `values` (chains, draws, …)."""
    data: Any = arviz.convert_to_dataset({"values": values})
    return Diagnostics(what, float(arviz.rhat(data)["values"].max()), float(arviz.ess(data)["values"].min()))
