"""Choosing among things that have a row an image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def chosen_rows(count: int, index: Any) -> NDArray[np.int64]:
    """Which of `count` rows `index` chooses, (K,).

    Args:
        count: of all rows.
        index: as a one-dimensional array takes it: a number, a slice, numbers or a mask.

    Raises:
        IndexError: it is none of these, or names a row that is not there.
    """
    chosen = np.atleast_1d(np.arange(count)[index]).copy()  # torch takes no view that runs backwards
    if chosen.ndim > 1:
        raise IndexError(
            "images are chosen by a number, a slice, a list of numbers or a mask, in one dimension"
        )
    return chosen
