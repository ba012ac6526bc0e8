"""The files of torchvision's data sets, with their labels."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bnn.errors import InputError

# How errors name what is an argument in Python and an option of the command.
PLACE = "data_dir (--data-dir) or BNN_DATA_DIR"
FETCH = "by download=True (--download)"


class Stored(NamedTuple):
    """What torchvision reads: `images` (N, H, W) uint8, upright, and the number of each one's class, (N,)."""

    images: Tensor
    labels: Tensor


def stored(name: str, root: Path, download: bool, **options: Any) -> Stored:
    """The data set of torchvision's class `name`, made with these `options`, in its layout under `root`.

    Raises:
        InputError: its files are not there (and may not or cannot be downloaded), or are damaged.
    """
    from torchvision import datasets

    raw = root if name == "USPS" else root / name / "raw"  # it lies in no folder of its own
    try:
        found = getattr(datasets, name)(str(root), download=download, **options)
        images, labels = torch.as_tensor(found.data), torch.as_tensor(found.targets).long()
    except Exception as error:  # each set, and each kind of damage, has its own
        own = [raw / "usps.bz2", raw / "usps.t.bz2"] if name == "USPS" else [raw]
        there = any(one.is_file() or (one.is_dir() and any(one.iterdir())) for one in own)
        files = "usps.bz2 and usps.t.bz2" if name == "USPS" else "its uncompressed files"
        raise InputError(
            f"{name} {'is damaged or incomplete' if there else 'is not'} in {raw}: put {files} there, name "
            f"another place with {PLACE}, or delete what is there and let it be fetched {FETCH}."
        ) from error
    if name == "EMNIST":  # whose files hold columns as rows
        images = images.transpose(1, 2)
    return Stored(images, labels[:, 0] if labels.ndim == 2 else labels)  # QMNIST's tell of the writers, too
