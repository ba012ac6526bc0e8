"""Named tensors that anyone may have made: grouped by what stands before the slash, and checked."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bnn.errors import InputError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # by name


def under(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` under the names `group/NAME`."""
    return {f"{group}/{name}": tensor for name, tensor in tensors.items()}


def grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """`tensors` by the group before their names' first slash, as `under` put them there."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups


def require(tensors: Mapping[str, Tensor], shapes: Shapes, dtype: torch.dtype, what: str) -> None:
    """Checks that `tensors` are of these `shapes` and of `dtype`, and hold no NaN and nothing infinite.

    Raises:
        InputError: they are not; `what` says what they should be.
    """
    sound = {name: tuple(value.shape) for name, value in tensors.items()} == dict(shapes) and all(
        value.dtype == dtype and bool(value.isfinite().all()) for value in tensors.values()
    )
    if not sound:
        raise InputError(f"{what} are missing, damaged, or do not fit the rest.")
