"""Labelled digits: the data sets, and the seeded calibration split.

A new data set is one function here and one name in `DIGITS`.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.errors import InputError, choose
from bnn.networks import IMAGE_SIZE, NUM_CLASSES
from bnn.preprocess import to_mnist

CALIBRATION_SHARE = 1 / 12  # 5,000 of MNIST's 60,000


@dataclass(frozen=True)
class Digits:
    """Labelled digits: `images` (N, 1, 28, 28) float32 in [0, 1], `labels` (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> "Digits":
        return Digits(self.images[index], self.labels[index])

    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels: which data these are, whatever file they came from."""
        digest = hashlib.sha256()
        digest.update(self.images.mul(255).round().to(torch.uint8).numpy().tobytes())
        digest.update(self.labels.to(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def data_dir(given: str | Path | None = None) -> Path:
    """Where data sets lie: `given`, else the variable BNN_DATA_DIR, else ./data."""
    return Path(given or os.environ.get("BNN_DATA_DIR") or "data")


def load_mnist(root: Path, *, train: bool, download: bool = False) -> Digits:
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
    return _checked(Digits(images, dataset.targets.long()), f"{root / 'MNIST' / 'raw'}")


def load_sklearn_digits(root: Path, *, train: bool, download: bool = False) -> Digits:
    """scikit-learn's 1,797 bundled digits (8×8, UCI optdigits), enlarged and brought to MNIST's layout.

    Every fifth is a test digit. They need no file and no network; `root` and `download` are not used.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16).unsqueeze(1)
    images = F.interpolate(images, size=20, mode="bicubic", antialias=True).clamp_(0, 1)
    framed = F.pad(images.squeeze(1), (4, 4, 4, 4)).numpy()
    laid_out = torch.from_numpy(np.stack([to_mnist(image) for image in framed])).unsqueeze(1)
    test = torch.arange(len(images)) % 5 == 4
    digits = Digits(laid_out, torch.from_numpy(bunch.target).long())
    return digits[~test if train else test]


DIGITS: Mapping[str, Callable[..., Digits]] = {"mnist": load_mnist, "digits": load_sklearn_digits}


def load_digits(name: str, root: str | Path | None = None, *, train: bool, download: bool = False) -> Digits:
    """The digits called `name`, training part or test part.

    Raises:
        InputError: no data set has that name, or its files cannot be had.
    """
    return choose(DIGITS, name, "digit data set")(data_dir(root), train=train, download=download)


def split_calibration(digits: Digits, seed: int) -> tuple[Digits, Digits]:
    """(to train on, held out for calibration): one twelfth is held out, chosen by `seed`."""
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
    held_out = round(len(digits) * CALIBRATION_SHARE)
    return digits[order[held_out:]], digits[order[:held_out]]


def _no_mnist(folder: Path, download: bool) -> str:
    files = [
        f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    if all((folder / file).is_file() for file in files):
        return (
            f"the MNIST files in {folder} are damaged or cut short: delete them and fetch them again "
            "(`--download`)."
        )
    missing = "cannot be fetched, nor is it" if download else "is not"
    fetch = "" if download else "let it be fetched with --download, "
    return (
        f"MNIST {missing} in {folder}: put {', '.join(files)} there (uncompressed), name another place "
        f"with --data-dir or BNN_DATA_DIR, {fetch}or use `--data digits`, which needs no file."
    )


def _checked(digits: Digits, where: str) -> Digits:
    if len(digits.images) != len(digits.labels) or digits.images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"the digits in {where} do not fit together: images {tuple(digits.images.shape)}, "
            f"labels {tuple(digits.labels.shape)}; fetch them again (`--download`)."
        )
    if digits.labels.max() >= NUM_CLASSES:
        raise InputError(
            f"the labels in {where} go up to {digits.labels.max()}, which is no digit: fetch them again "
            "(`--download`)."
        )
    return digits
