"""Tasks: which classes there are, what they are called, and how an image shows one.

A task is kept in the checkpoint, and whatever decides asks it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from bnn.errors import InputError, shown

MOST_CLASSES = 100
MOST_NAME = 100  # characters


@dataclass(frozen=True)
class Task:
    """What is to be classified.

    Attributes:
        names: of the classes in the order of their labels 0 … C − 1, at least two, all different.
        layout: how images are brought to what the network sees; a name in `bnn.data.preprocess.LAYOUTS`.
        augmentation: how training images are varied; a name in `bnn.training.augmentation.AUGMENTATIONS`.

    Raises:
        InputError: the names are too few, too many, empty, too long, not printable, or clash after trimming.

    Example:
        >>> from bnn import Task
        >>> Task(("circle", "cross")).classes
        2
    """

    names: tuple[str, ...]
    layout: str = "mnist"
    augmentation: str = "handwriting"

    def __post_init__(self) -> None:
        names = tuple(str(name).strip() for name in self.names)
        object.__setattr__(self, "names", names)
        if not 2 <= len(names) <= MOST_CLASSES:
            raise InputError(f"a task has 2 to {MOST_CLASSES} classes, and {len(names)} were given.")
        if not all(0 < len(name) <= MOST_NAME and name.isprintable() for name in names):
            raise InputError(
                f"a class's name has 1 to {MOST_NAME} printable characters: rename the empty, long or "
                "strange one."
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(
                f"two classes are called {twice!r} (spaces at the ends do not count): rename one."
            )

    @property
    def classes(self) -> int:
        """How many there are, C."""
        return len(self.names)

    def require_labels(self, labels: Sequence[int]) -> None:
        """Checks that all of `labels` are classes of this task.

        Raises:
            InputError: one is not.
        """
        _require_classes(labels, self.classes)

    def require_every_class(self, labels: Tensor, to_be: str) -> None:
        """Checks that each class is among `labels` (n,), of images that are `to_be` used, such as "learnt".

        Raises:
            InputError: one is not.
        """
        if missing := sorted(set(range(self.classes)) - set(labels.unique().tolist())):
            raise InputError(
                f"of {len(missing)} of the {self.classes} classes there is no image, the first being "
                f"{shown(self.names[missing[0]])}, so it cannot be {to_be}: give some of each."
            )

    def to_dict(self) -> dict[str, Any]:
        """The task as plain values for `from_dict`."""
        return asdict(self) | {"names": list(self.names)}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The task that `values`, the result of `to_dict`, stand for.

        Raises:
            InputError: they stand for none.
        """
        fields = {"names": list, "layout": str, "augmentation": str}
        if not (
            isinstance(values, Mapping)
            and values.keys() == fields.keys()
            and all(isinstance(values[name], kind) for name, kind in fields.items())
            and all(isinstance(name, str) for name in values["names"])
        ):
            raise InputError(f"{shown(values)} stands for no task.")
        return cls(tuple(values["names"]), values["layout"], values["augmentation"])


DIGITS = Task(tuple("0123456789"))


def are_digits(names: Sequence[str]) -> bool:
    """Whether classes of these `names` are the ten digits."""
    return tuple(names) == DIGITS.names


def worded(names: Sequence[str], text: str) -> str:
    """`text` on digits as it is, but of classes of other `names`, on images and their classes."""
    if are_digits(names):
        return text
    for digit, other in _OTHER_WORDS.items():
        text = re.sub(rf"\b{digit}", other, text)
    return text


_OTHER_WORDS = {
    "likeliest digit": "likeliest class",
    "a digit": "an image",
    "A digit": "An image",
    "digit": "image",
    "Digit": "Image",
}


def checked_labels(labels: Any, n: int, classes: int) -> Tensor:
    """`labels`, an array, a tensor or a sequence, as (n,) int64.

    Raises:
        InputError: n is 0, or they are not one of so many `classes` for each of n images.
    """
    if n == 0:
        raise InputError("there are no images: give some, each with its label.")
    try:
        given = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    except ValueError as error:  # of several lengths
        raise InputError(f"{n} images need as many labels, one each, in one array.") from error
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise InputError(
            f"{n} images need as many labels, whole numbers, one each, not {given.dtype} {given.shape}."
        )
    _require_classes(given.tolist(), classes)
    return torch.from_numpy(given.astype(np.int64))


def _require_classes(labels: Iterable[int], classes: int) -> None:
    strange = next((label for label in labels if not 0 <= label < classes), None)
    if strange is not None:
        raise InputError(
            f"a label must be from 0 to {classes - 1}, one of this task's {classes} classes, and {strange} "
            "is not."
        )
