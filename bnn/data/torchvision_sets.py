"""Sets of images that torchvision knows by name, taken without their labels.

A new set is one name in `TORCHVISION`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bnn.data.digits import FETCH, PLACE
from bnn.data.digits import data_dir as data_root
from bnn.errors import InputError

TORCHVISION: Mapping[str, Mapping[str, Any]] = {  # class in torchvision.datasets → which part of the set
    "FashionMNIST": {"train": False},
    "KMNIST": {"train": False},
    "EMNIST": {"split": "letters", "train": False},
    "QMNIST": {"what": "test10k"},
}


def torchvision_images(name: str, root: str | Path | None, download: bool) -> Tensor:
    """The images (N, 1, 28, 28) float32 in [0, 1] of the torchvision set `name`.

    Raises:
        InputError: its files are not there (and may not or cannot be downloaded), or are damaged.
    """
    from torchvision import datasets

    raw = data_root(root) / name / "raw"
    try:
        images = getattr(datasets, name)(str(data_root(root)), download=download, **TORCHVISION[name]).data
    except Exception as error:  # each set, and each kind of damage, has its own
        what = "is damaged or incomplete" if raw.is_dir() and any(raw.iterdir()) else "is not"
        raise InputError(
            f"{name} {what} in {raw}: put its uncompressed files there, name another place with {PLACE}, or "
            f"delete what is there and let it be fetched {FETCH}."
        ) from error
    upright = images.transpose(1, 2) if name == "EMNIST" else images  # EMNIST's files hold columns as rows
    return upright.unsqueeze(1).float() / 255
