"""Images that are there more than once, of which a promise would take each copy for an image like another."""

import base64
import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.errors import InputError

SEEN = "seen"  # in a checkpoint's record, the `marks_of` images of one's own that it was made on
_MARK = 6  # bytes


def image_hashes(images: Tensor) -> list[bytes]:
    """Of each of `images` (N, 1, 28, 28) float32 in [0, 1], as bytes of 0 to 255, a SHA-256."""
    pixels = images.mul(255).round().to(torch.uint8).numpy()
    return [hashlib.sha256(np.ascontiguousarray(one).data).digest() for one in pixels]


def marks_of(images: Tensor, before: Any = "") -> str:
    """By what `marked` knows each of `images` (N, 1, 28, 28) again: the starts of their hashes in base64.

    Args:
        images: to be known again.
        before: marks of others, which are in the result, too.

    Raises:
        InputError: these are none.
    """
    starts = {one[:_MARK] for one in image_hashes(images)} | _starts(before)
    return base64.b64encode(b"".join(sorted(starts))).decode()


def marked(images: Tensor, marks: Any) -> NDArray[np.bool_]:
    """Which of `images` (N, 1, 28, 28) are among those whose `marks` these are, which anyone may have made.

    An image that is not is taken for one of n others with a probability of n / 2^48.

    Raises:
        InputError: the marks are none.
    """
    starts = _starts(marks)
    return np.array([one[:_MARK] in starts for one in image_hashes(images)], np.bool_)


def _starts(marks: Any) -> set[bytes]:
    try:
        known = base64.b64decode(marks, validate=True)
    except (TypeError, ValueError) as error:
        raise InputError(
            "what the checkpoint says of the images it has seen is damaged: train anew."
        ) from error
    return {known[place : place + _MARK] for place in range(0, len(known), _MARK)}


def require_distinct(images: Tensor) -> None:
    """Checks that no two of `images` (N, 1, 28, 28) are the same.

    Raises:
        InputError: some are; it says how many.
    """
    n = len(images)
    if copies := n - len(set(image_hashes(images))):
        raise InputError(
            f"{copies} of these {n} images are copies of others among them, and a promise takes each for an "
            "image of its own: leave the copies out."
        )


def require_unknown(images: Tensor, learnt: Tensor) -> None:
    """Checks that none of `images` (N, 1, 28, 28) is among those that were `learnt`, (M, 1, 28, 28).

    Raises:
        InputError: some are; it says how many.
    """
    known = set(image_hashes(learnt))
    if seen := sum(one in known for one in image_hashes(images)):
        raise InputError(
            f"{seen} of these {len(images)} images are among those it learnt, of which it is surer than of "
            "fresh ones: give others."
        )
