"""Sets of images that torchvision knows by name: of digits none, but of clothes, letters and so on.

A new set to measure on is one name in `TORCHVISION`, and a new one to learn one name in `LEARNABLE`.
"""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.core.task import Task
from bnn.data.digits import Labelled
from bnn.data.digits import data_dir as data_root
from bnn.data.layout import laid_out
from bnn.data.preprocess import AS_IS, INK
from bnn.data.torchvision_files import PLACE, Stored, stored
from bnn.errors import InputError

TORCHVISION: Mapping[str, Mapping[str, Any]] = {  # class in torchvision.datasets → which part of the set
    "FashionMNIST": {"train": False},
    "KMNIST": {"train": False},
    "EMNIST": {"split": "letters", "train": False},
}


class Learnable(NamedTuple):
    """A labelled set: torchvision's class, its options, the task, and the number of the first class."""

    kind: str
    options: Mapping[str, Any]
    task: Task
    first: int = 0


_CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
_SYLLABLES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")  # of hiragana
_BALANCED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")  # the others look as their capitals do

LEARNABLE: Mapping[str, Learnable] = {
    "FashionMNIST": Learnable("FashionMNIST", {}, Task(_CLOTHES, AS_IS, "moved")),
    "KMNIST": Learnable("KMNIST", {}, Task(_SYLLABLES, AS_IS, "moved")),
    "EMNIST-letters": Learnable("EMNIST", {"split": "letters"}, Task((*string.ascii_lowercase,)), first=1),
    "EMNIST-balanced": Learnable("EMNIST", {"split": "balanced"}, Task(_BALANCED)),
}


def torchvision_images(name: str, root: str | Path | None, download: bool) -> Tensor:
    """The images (N, 1, 28, 28) float32 in [0, 1] of the torchvision set `name`.

    Raises:
        InputError: its files are not there (and may not or cannot be downloaded), or are damaged.
    """
    return _bytes(stored(name, data_root(root), download, **TORCHVISION[name]))


def learnable_images(name: str, root: str | Path | None, download: bool, *, train: bool) -> Labelled:
    """The training or test images of the set `name` in `LEARNABLE`, in its task's layout, with their labels.

    Raises:
        InputError: as `torchvision_images`, or its labels are not those of its classes.
    """
    kind, options, task, first = LEARNABLE[name]
    found = stored(kind, data_root(root), download, train=train, **options)
    labels = found.labels - first
    if len(labels) != len(found.images) or not ((labels >= 0) & (labels < task.classes)).all():
        raise InputError(
            f"the labels of {name} are not those of its {task.classes} classes: put its own files in the "
            f"place of {PLACE}."
        )
    images = _bytes(found)
    if task.layout == INK:
        images = torch.from_numpy(np.stack([laid_out(image) for image in images[:, 0].numpy()]))[:, None]
    return Labelled(images, labels)


def _bytes(found: Stored) -> Tensor:
    if found.images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(f"its images are {tuple(found.images.shape[1:])}, and not 28×28: fetch them again.")
    return found.images.unsqueeze(1).float() / 255
