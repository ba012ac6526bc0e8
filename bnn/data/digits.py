"""Labelled data sets that are known by name.

A new data set is one function here and one name in `LABELLED`.
"""

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.core.task import DIGITS
from bnn.data.layout import laid_out
from bnn.data.torchvision_files import FETCH, PLACE, stored
from bnn.errors import InputError


class Labelled(NamedTuple):
    """`images` (N, 1, 28, 28) float32 in [0, 1], and the class of each, `labels` (N,) int64."""

    images: Tensor
    labels: Tensor


def data_dir(given: str | Path | None = None) -> Path:
    """Where data sets lie: `given`, else the variable BNN_DATA_DIR, else ./data."""
    return Path(given or os.environ.get("BNN_DATA_DIR") or "data")


def load_mnist(root: Path, *, train: bool, download: bool = False) -> Labelled:
    """MNIST's 60,000 training or 10,000 test digits, in torchvision's layout under `root`.

    Raises:
        InputError: the files are not there (and may not or cannot be downloaded), or are damaged.
    """
    from torchvision.datasets import MNIST

    try:
        dataset = MNIST(str(root), train=train, download=download)
    except Exception as error:  # torchvision raises exceptions of many kinds on damaged files
        raise InputError(_no_mnist(root / "MNIST" / "raw", download)) from error
    images = dataset.data.unsqueeze(1).float().div_(255)
    return _checked(Labelled(images, dataset.targets.long()), f"{root / 'MNIST' / 'raw'}")


def load_sklearn_digits(root: Path, *, train: bool, download: bool = False) -> Labelled:
    """scikit-learn's 1,797 bundled digits (8×8, UCI optdigits), enlarged and brought to MNIST's layout.

    Every fifth is a test digit. They need no file and no network; `root` and `download` are not used.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    seen = _enlarged(torch.from_numpy(bunch.images.astype(np.float32) / 16))
    test = torch.arange(len(seen)) % 5 == 4
    part = ~test if train else test
    return Labelled(seen[part], torch.from_numpy(bunch.target).long()[part])


def load_qmnist(root: Path, *, train: bool, download: bool = False) -> Labelled:
    """QMNIST's 60,000 training digits, or the 10,000 test digits that match MNIST's, as MNIST's are.

    Raises:
        InputError: as `load_mnist`.
    """
    found = stored("QMNIST", root, download, what="train" if train else "test10k")
    images = found.images.unsqueeze(1).float() / 255
    return _checked(Labelled(images, found.labels), f"{root / 'QMNIST' / 'raw'}")


def load_emnist_digits(root: Path, *, train: bool, download: bool = False) -> Labelled:
    """EMNIST's 240,000 training or 40,000 test digits, brought to MNIST's layout.

    Raises:
        InputError: as `load_mnist`.
    """
    found = stored("EMNIST", root, download, split="digits", train=train)
    images = found.images.unsqueeze(1).float() / 255
    digits = _checked(Labelled(images, found.labels), f"{root / 'EMNIST' / 'raw'}")
    return Labelled(_laid_out(digits.images[:, 0]), digits.labels)


def load_usps(root: Path, *, train: bool, download: bool = False) -> Labelled:
    """The US Postal Service's 7,291 training or 2,007 test digits (16×16), brought to MNIST's layout.

    Raises:
        InputError: as `load_mnist`.
    """
    found = stored("USPS", root, download, train=train)
    return _checked(Labelled(_enlarged(found.images.float() / 255), found.labels), f"{root}")


LABELLED: MutableMapping[str, Callable[..., Labelled]] = {
    "mnist": load_mnist,
    "digits": load_sklearn_digits,
    "QMNIST": load_qmnist,
    "EMNIST-digits": load_emnist_digits,
    "USPS": load_usps,
}


def _enlarged(images: Tensor) -> Tensor:
    """Small `images` (N, H, W) in [0, 1] as (N, 1, 28, 28) in MNIST's layout."""
    large = F.interpolate(images.unsqueeze(1), size=20, mode="bicubic", antialias=True).clamp_(0, 1)
    framed = F.pad(large.squeeze(1), (4, 4, 4, 4))
    return _laid_out(framed / framed.amax((1, 2), keepdim=True))


def _laid_out(images: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([laid_out(image) for image in images.numpy()])).unsqueeze(1)


def _no_mnist(folder: Path, download: bool) -> str:
    files = [
        f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    if all((folder / file).is_file() for file in files):
        return (
            f"the MNIST files in {folder} are damaged or cut short: delete them and fetch them again {FETCH}."
        )
    missing = "cannot be fetched, nor is it" if download else "is not"
    fetch = "" if download else f"let it be fetched {FETCH}, "
    return (
        f"MNIST {missing} in {folder}: put {', '.join(files)} there (uncompressed), name another place with "
        f"{PLACE}, {fetch}or use the set 'digits', which needs no file."
    )


def _checked(digits: Labelled, where: str) -> Labelled:
    if (
        not len(digits.labels)
        or len(digits.images) != len(digits.labels)
        or digits.images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE)
    ):
        raise InputError(
            f"the digits in {where} do not fit together: images {tuple(digits.images.shape)}, "
            f"labels {tuple(digits.labels.shape)}; fetch them again {FETCH}."
        )
    low, high = digits.labels.min(), digits.labels.max()
    if not (low >= 0 and high < DIGITS.classes):
        goes = f"down to {low}" if low < 0 else f"up to {high}"
        raise InputError(f"the labels in {where} go {goes}, which is no digit: fetch them again {FETCH}.")
    if not digits.images.isfinite().all() or digits.images.min() < 0 or digits.images.max() > 1:
        raise InputError(f"the digits in {where} are no bytes, which pixels are: fetch them again {FETCH}.")
    return digits
