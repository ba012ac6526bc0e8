"""Named tensors that anyone may have made: grouped by what stands before the slash, and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.errors import InputError, cause_in, shown

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


def in_groups(tensors: Mapping[str, Tensor], names: Sequence[str], what: str) -> list[dict[str, Tensor]]:
    """The tensors of each of the groups called `names`, as `grouped` gives them; none of a missing one.

    Raises:
        InputError: some belong to another group; `what` says what they all should be.
    """
    groups = grouped(tensors)
    if strange := groups.keys() - set(names):
        raise InputError(f"{what} hold {shown(min(strange))}, which does not belong there.")
    return [groups.get(name, {}) for name in names]


def joined(tensors: Mapping[str, Tensor]) -> Tensor:
    """All numbers of `tensors`, in their order, as one vector (P,)."""
    return torch.cat([value.flatten() for value in tensors.values()])


def cut(rows: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`rows` (..., P) of numbers that `joined` put in a row, as tensors (..., *shape) by `like`'s names."""
    parts = rows.split([value.numel() for value in like.values()], -1)
    return {
        name: part.reshape(*rows.shape[:-1], *value.shape)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


def floats(values: Any, what: str) -> Tensor:
    """`values`, an array, a tensor or nested sequences of numbers, as a float32 tensor of its own.

    Raises:
        InputError: they are not numbers; `what` says what they should be.
    """
    if isinstance(values, Tensor) and not values.is_complex():
        return values.detach().to("cpu", torch.float32, copy=True)
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"not {given.dtype}")
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite
            return torch.from_numpy(np.array(given, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be an array of numbers ({cause_in(error)}).") from error


def require_finite(values: NDArray[Any], what: str) -> None:
    """Checks that `values` hold no NaN and nothing infinite, which comparisons and sorting let through.

    Raises:
        InputError: they do; `what` says what they are.
    """
    if strange := int((~np.isfinite(values)).sum()):
        raise InputError(f"{what} must be finite numbers, and {strange} of {values.size} are not.")


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
