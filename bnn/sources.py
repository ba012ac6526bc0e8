"""Images to be judged: labelled digits, and images that need not be digits.

A new torchvision set is one name in `TORCHVISION`.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.data import DIGITS, Digits, load_digits
from bnn.data import data_dir as data_root
from bnn.errors import InputError
from bnn.generated import GENERATED
from bnn.networks import NUM_CLASSES
from bnn.preprocess import prepare
from bnn.progress import tracked

DIGIT_FOLDERS = tuple(str(digit) for digit in range(NUM_CLASSES))


@dataclass(frozen=True)
class Source:
    """A set of images to be judged.

    Attributes:
        name: of the set.
        images: (N, 1, 28, 28) float32 in [0, 1], N ≥ 1.
        sources: where each image is from: a file's path relative to its folder, or "name[17]".
        labels: (N,) int64 digits, or None where the images need not be digits.
        unreadable: (file, why) of each file that could not be used.
    """

    name: str
    images: Tensor
    sources: list[str]
    labels: NDArray[np.int64] | None
    unreadable: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, limit: int, seed: int) -> "Source":
        """`limit` of the images chosen by `seed`, or all where there are no more; without unreadable files.

        Raises:
            InputError: `limit` is below 1.
        """
        chosen = _chosen(len(self), limit, seed)
        labels = None if self.labels is None else self.labels[chosen]
        return Source(self.name, self.images[chosen], [self.sources[index] for index in chosen], labels, [])


def familiar_source(
    spec: str, data_dir: str | Path | None, *, seed: int, download: bool = False, limit: int | None = None
) -> Source:
    """Labelled digits: the test part of a data set in `bnn.data.DIGITS`, or a folder of folders 0 to 9.

    Args:
        spec: the data set's name, or the folder's path.
        data_dir, download: see `bnn.data.load_digits`.
        seed: chooses the images where there are more than `limit`.
        limit: how many images at most.

    Raises:
        InputError: there is no such set or folder, its files cannot be had, or none can be used.
    """
    if spec in DIGITS:
        return _digit_source(spec, load_digits(spec, data_dir, train=False, download=download), limit, seed)
    return _labelled_folder(_folder(spec, DIGITS), limit, seed)


def elsewhere_source(
    spec: str,
    data_dir: str | Path | None,
    *,
    trained_on: str | None,
    seed: int,
    download: bool = False,
    limit: int | None = None,
) -> Source:
    """Labelled digits from another source than those that were learnt; as `familiar_source`, but for this.

    Of a data set in `bnn.data.DIGITS` both parts are taken, the training part first, unless it is the one
    called `trained_on`.

    Raises:
        InputError: as `familiar_source`.
    """
    if spec not in DIGITS or spec == trained_on:
        return familiar_source(spec, data_dir, seed=seed, download=download, limit=limit)
    parts = [load_digits(spec, data_dir, train=train, download=download) for train in (True, False)]
    images, labels = (torch.cat([getattr(part, of) for part in parts]) for of in ("images", "labels"))
    return _digit_source(spec, Digits(images, labels), limit, seed)


def unfamiliar_source(
    spec: str, data_dir: str | Path | None, *, seed: int, download: bool = False, limit: int | None = None
) -> Source:
    """Images that need not be digits: a name in `GENERATED` or `TORCHVISION`, or a folder.

    A folder is searched through all its sub-folders; hidden files are left out. Its images pass through
    `bnn.preprocess.prepare`; those of a torchvision set are taken as they are.

    Args:
        spec: the set's name, or the folder's path.
        data_dir, download: see `bnn.data.load_digits`.
        seed: of a generated set, and of the choice where there are more images than `limit`.
        limit: how many images at most.

    Raises:
        InputError: there is no such set or folder, its files cannot be had, or none can be used.
    """
    if spec in GENERATED:
        if seed < 0:
            raise InputError(f"the seed of generated images must be at least 0, and {seed} is not.")
        images = torch.from_numpy(GENERATED[spec](np.random.default_rng(seed)))
        return _array_source(spec, images, limit, seed)
    names = {name.lower(): name for name in TORCHVISION}
    if spec.lower() in names:
        name = names[spec.lower()]
        return _array_source(name, _torchvision_images(name, data_dir, download), limit, seed)
    folder = _folder(spec, (*GENERATED, *TORCHVISION))
    return _read_folder(folder, _files(folder), limit, seed)


def image_files(folder: Path) -> list[Path]:
    """The files in `folder` and its sub-folders in order of their paths, hidden ones left out.

    Raises:
        InputError: there are none.
    """
    if files := _files(folder):
        return files
    raise InputError(f"the folder {folder} holds no images: put some there or name another.")


def printable(text: str | os.PathLike[str]) -> str:
    """`text`, such as a file's name, with control characters and undecodable bytes written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(text))


TORCHVISION: Mapping[str, Mapping[str, Any]] = {  # class in torchvision.datasets → which part of the set
    "FashionMNIST": {"train": False},
    "KMNIST": {"train": False},
    "EMNIST": {"split": "letters", "train": False},
    "QMNIST": {"what": "test10k"},
}


_TORCHVISION_ERRORS = (  # for a set that is absent, cannot be fetched, or is damaged: each set has its own
    *(RuntimeError, OSError, ValueError, TypeError, AssertionError, IndexError, EOFError),
    zipfile.BadZipFile,
)


def _torchvision_images(name: str, root: str | Path | None, download: bool) -> Tensor:
    """The images (N, 28, 28) float32 in [0, 1] of the torchvision set `name`."""
    from torchvision import datasets

    raw = data_root(root) / name / "raw"
    try:
        images = getattr(datasets, name)(str(data_root(root)), download=download, **TORCHVISION[name]).data
    except _TORCHVISION_ERRORS as error:
        what = "is damaged or incomplete" if raw.is_dir() and any(raw.iterdir()) else "is not"
        raise InputError(
            f"{name} {what} in {raw}: put its uncompressed files there, name another place with --data-dir "
            "or BNN_DATA_DIR, or delete what is there and let it be fetched with --download."
        ) from error
    upright = images.transpose(1, 2) if name == "EMNIST" else images  # EMNIST's files hold columns as rows
    return upright.float() / 255


def _digit_source(name: str, digits: Digits, limit: int | None, seed: int) -> Source:
    chosen = _chosen(len(digits), limit, seed)
    return Source(name, digits.images[chosen], _numbered(name, chosen), digits.labels[chosen].numpy(), [])


def _array_source(name: str, images: Tensor, limit: int | None, seed: int) -> Source:
    chosen = _chosen(len(images), limit, seed)
    return Source(name, images[chosen].unsqueeze(1), _numbered(name, chosen), None, [])


def _numbered(name: str, chosen: Iterable[int]) -> list[str]:
    return [f"{name}[{index}]" for index in chosen]


def _chosen(size: int, limit: int | None, seed: int) -> list[int]:
    """All of `size` indices, or `limit` of them chosen by `seed`, in order."""
    if limit is None or limit >= size:
        return list(range(size))
    if limit < 1:
        raise InputError(f"the limit of images must be at least 1, and {limit} is not.")
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:limit].tolist())


def _folder(spec: str, names: Iterable[str]) -> Path:
    if Path(spec).is_dir():
        return Path(spec)
    raise InputError(f"there is no folder {spec}: name a folder of images or one of {', '.join(names)}.")


def _files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not _hidden(path.relative_to(folder)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _in_digit_folder(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).parts[0] in DIGIT_FOLDERS


def _labelled_folder(folder: Path, limit: int | None, seed: int) -> Source:
    """The digits in the sub-folders 0 to 9 of `folder`; what lies elsewhere is listed as unusable."""
    files = _files(folder)
    labelled = [path for path in files if _in_digit_folder(path, folder)]
    if not labelled:
        raise InputError(
            f"the folder {folder} has no digits in sub-folders named 0 to 9: sort them into such."
        )
    others = [printable(path.relative_to(folder)) for path in files if not _in_digit_folder(path, folder)]
    source = _read_folder(folder, labelled, limit, seed)
    return replace(
        source,
        labels=np.array([int(Path(file).parts[0]) for file in source.sources], np.int64),
        unreadable=[*source.unreadable, *((file, "it is in no sub-folder named 0 to 9.") for file in others)],
    )


def _read_folder(folder: Path, files: Sequence[Path], limit: int | None, seed: int) -> Source:
    """The images among `files`, each prepared by itself; what cannot be read is listed."""
    name = printable(folder.resolve().name)
    images, sources, unreadable = [], [], []
    chosen = [files[index] for index in _chosen(len(files), limit, seed)]
    for path in tracked(chosen, f"reading {name}", len(chosen)):
        file = printable(path.relative_to(folder))
        try:
            images.append(prepare(path))
            sources.append(file)
        except InputError as error:
            unreadable.append((file, str(error).replace(str(path), "the file")))
    if not images:
        raise InputError(_none_usable(folder, len(unreadable)))
    return Source(name, torch.cat(images), sources, None, unreadable)


def _none_usable(folder: Path, unreadable: int) -> str:
    what = f"no readable image among {unreadable} files" if unreadable else "no images"
    return f"the folder {folder} holds {what}: put some there or name another."
