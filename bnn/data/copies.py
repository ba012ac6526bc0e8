"""Images that are there more than once, of which a promise would take each copy for an image like another."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from bnn.errors import InputError


def image_hashes(images: Tensor) -> list[bytes]:
    """Of each of `images` (N, 1, 28, 28) float32 in [0, 1], as bytes of 0 to 255, a SHA-256."""
    pixels = images.mul(255).round().to(torch.uint8).numpy()
    return [hashlib.sha256(np.ascontiguousarray(one).data).digest() for one in pixels]


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
