"""Sets of images, labelled or not: from folders, arrays, torchvision, or known by name."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.core.rows import chosen_rows
from bnn.core.task import DIGITS, Task, are_digits, checked_labels
from bnn.data.digits import LABELLED, Labelled
from bnn.data.digits import data_dir as data_root
from bnn.data.drawn import DRAWN, DRAWN_DIGITS, OF_A_KIND, drawings
from bnn.data.generated import GENERATED
from bnn.data.mnist_c import EACH, KINDS, corrupted
from bnn.data.pixels import TABLES, Table, is_table, read_table
from bnn.data.preprocess import Images, Prepared, read_images
from bnn.data.torchvision_sets import LEARNABLE, TORCHVISION, learnable_images, torchvision_images
from bnn.errors import InputError, choose, shown
from bnn.files import printable
from bnn.progress import tracked

MNIST_C = "mnist-c"
CALIBRATION_SHARE = 1 / 12  # 5,000 of MNIST's 60,000


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """A set of images, as the networks see them.

    It has a length, can be indexed and sliced as an array, and is taken wherever images are.

    Attributes:
        name: of the set.
        images: (N, 1, 28, 28) float32 in [0, 1], N ≥ 1.
        quality: (N,) str, what is wrong with each, a word of `bnn.data.quality.QUALITIES`, or "".
        labels: (N,) int64 classes, or None where the images need not show any.
        sources: where each image is from: a file's path relative to its folder, "name[17]", or of a drawing
            what is drawn and its number, "heart/3".
        unreadable: (file, why) of each file that could not be used.

    Example:
        >>> from bnn import ImageSet
        >>> digits = ImageSet.from_name("digits", limit=100)
        >>> digits
        ImageSet 'digits': 100 images, labelled
        >>> digits[:2].images.shape
        torch.Size([2, 1, 28, 28])
    """

    name: str
    images: Tensor
    quality: NDArray[np.str_]
    labels: Tensor | None
    sources: Sequence[str]
    unreadable: Sequence[tuple[str, str]] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        labelled = "not labelled" if self.labels is None else "labelled"
        unreadable = f", {len(self.unreadable):,} unreadable" if self.unreadable else ""
        return f"ImageSet {self.name!r}: {len(self):,} image{'s' * (len(self) != 1)}, {labelled}{unreadable}"

    def prepared(self) -> Prepared:
        """Its images, with what is wrong with each."""
        return Prepared(self.images, self.quality)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.images.numpy(), dtype, copy=copy)

    @classmethod
    def from_arrays(
        cls, images: Images, labels: Any = None, *, name: str = "arrays", task: Task = DIGITS
    ) -> Self:
        """A set of images at hand.

        Args:
            images: of any of the kinds that `bnn.data.preprocess.prepare` takes.
            labels: their classes, (N,), where they have any.
            name: of the set.
            task: whose classes the labels are, and whose layout the images get.

        Raises:
            InputError: an image or a label cannot be used, or there are no images.

        Example:
            >>> import numpy as np
            >>> from bnn import ImageSet
            >>> len(ImageSet.from_arrays(np.zeros((3, 28, 28)), [1, 2, 3]))
            3
        """
        prepared = read_images(images, task.layout)
        count = len(prepared.images)
        if count == 0:
            raise InputError(f"the set {name} has no images: give at least one.")
        truth = None if labels is None else checked_labels(labels, count, task.classes)
        return cls(name, prepared.images, prepared.quality, truth, _numbered(name, range(count)))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        labelled: bool = False,
        task: Task = DIGITS,
        seed: int = 0,
        limit: int | None = None,
    ) -> Self:
        """The images in a folder and all its sub-folders, hidden files left out.

        Args:
            folder: its path.
            labelled: whether they lie in sub-folders named as the task's classes; what lies outside them is
                then listed as unreadable.
            task: whose classes these are, and whose layout the images get.
            seed: chooses the images where there are more than `limit`.
            limit: how many images at most.

        Raises:
            InputError: there is no such folder, or none of its images can be used.

        Example:
            >>> from bnn import ImageSet
            >>> "four.png" in ImageSet.from_folder("docs").sources
            True
        """
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"there is no folder {path}: name a folder of images.")
        read = _labelled_folder if labelled else _folder
        return cls(**read(path, task, limit, seed))

    @classmethod
    def from_table(
        cls,
        table: str | Path | Table,
        *,
        task: Task = DIGITS,
        name: str = "table",
        seed: int = 0,
        limit: int | None = None,
    ) -> Self:
        """The labelled images in a CSV of pixels or an .npz; `bnn.data.pixels.read_table` says how they look.

        Args:
            table: the file's path, or what was read from it.
            task: whose classes they are of, by name, and whose layout images of another size get.
            name: of the set, where it has no path; else that of the file.
            seed, limit: see `from_folder`.

        Raises:
            InputError: there is no such file, or an image or a label in it cannot be used.

        Example:
            >>> from bnn import ImageSet
            >>> ImageSet.from_table("nowhere.csv")
            Traceback (most recent call last):
            bnn.errors.InputError: there is no file nowhere.csv: name one that is there.
        """
        if not isinstance(table, Table):
            name, table = printable(Path(table).name), read_table(Path(table))
        return cls(**_of_table(name, table, task, limit, seed))

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        data_dir: str | Path | None = None,
        *,
        part: str | None = None,
        download: bool = False,
        seed: int = 0,
        limit: int | None = None,
    ) -> Self:
        """A set of `TORCHVISION`, without its labels, as it is; or a part of one in `LEARNABLE`, with them.

        Args:
            name: of its class in torchvision, in any case.
            data_dir: see `bnn.data.digits.data_dir`.
            part: of a set in `LEARNABLE` "train", "test", or "all"; where None, the test images of one in
                `TORCHVISION`, without labels.
            download: whether it may be fetched from the network.
            seed, limit: see `from_folder`.

        Raises:
            InputError: there is no such set, or its files cannot be had.

        Example:
            >>> from bnn import ImageSet
            >>> ImageSet.from_torchvision("KMNIST", "nowhere")
            Traceback (most recent call last):
            bnn.errors.InputError: KMNIST is not in nowhere/KMNIST/raw: put its uncompressed files there, ...
        """
        if part is not None:
            spelt = _spelt(name, LEARNABLE, "labelled torchvision set")
            images, labels = _joined(
                learnable_images(spelt, data_dir, download, train=train) for train in _trains(part)
            )
            return cls(**_chosen_arrays(spelt, images, labels, limit, seed))
        spelt = _spelt(name, TORCHVISION, "torchvision set")
        return cls(**_chosen_arrays(spelt, torchvision_images(spelt, data_dir, download), None, limit, seed))

    @classmethod
    def from_name(
        cls,
        name: str,
        data_dir: str | Path | None = None,
        *,
        part: str = "test",
        download: bool = False,
        seed: int = 0,
        limit: int | None = None,
    ) -> Self:
        """A set that is known by name.

        Those in `LABELLED` and `DRAWN_DIGITS`, and mnist-c, have labels; those in `DRAWN`, `GENERATED` and
        `TORCHVISION` have none.

        Args:
            name: of the set, in any case.
            data_dir, download: see `from_torchvision`.
            part: of a set in `LABELLED` "train", "test", or "all", the training part first.
            seed: of a drawn, corrupted or generated set, and of the choice where there are more images than
                `limit`.
            limit: how many images at most.

        Raises:
            InputError: there is no such set, or its files cannot be had.

        Example:
            >>> from bnn import ImageSet
            >>> ImageSet.from_name("noise", limit=5).sources[0]
            'noise[37]'
        """
        spelt = _spelt(name, known_names(), "set of images")
        if spelt in TORCHVISION:
            return cls.from_torchvision(spelt, data_dir, download=download, seed=seed, limit=limit)
        if spelt in LABELLED:
            images, labels = _labelled(spelt, data_dir, part, download)
            return cls(**_chosen_arrays(spelt, images, labels, limit, seed))
        if seed < 0:
            raise InputError(f"the seed of generated images must be at least 0, and {seed} is not.")
        if spelt in DRAWN or spelt in DRAWN_DIGITS:
            return cls(**_drawn(spelt, limit, seed))
        if spelt == MNIST_C:
            return cls(**_mnist_c(data_dir, download, limit, seed))
        images = torch.from_numpy(GENERATED[spelt](np.random.default_rng(seed))).unsqueeze(1)
        return cls(**_chosen_arrays(spelt, images, None, limit, seed))

    @classmethod
    def from_spec(
        cls,
        spec: str,
        data_dir: str | Path | None = None,
        *,
        labelled: bool,
        part: str = "test",
        task: Task = DIGITS,
        download: bool = False,
        seed: int = 0,
        limit: int | None = None,
    ) -> Self:
        """What a person names on the command line: a known set, or else a folder, a CSV or an .npz.

        Args:
            spec: the set's name in any case, or the path (of a folder of such a name "./" and that).
            data_dir, part, download, seed, limit: see `from_name`.
            labelled: whether it must have labels; if not, a set that has them is taken with them.
            task: whose classes a labelled folder's sub-folders are.

        Raises:
            InputError: there is no such set or folder, its files cannot be had, or none can be used.
        """
        names = labelled_names(task) if labelled else known_names()
        if spec.lower() in (name.lower() for name in names):
            options: dict[str, Any] = {"download": download, "seed": seed, "limit": limit}
            if labelled and not are_digits(task.names):
                return cls.from_torchvision(spec, data_dir, part=part, **options)
            found = cls.from_name(spec, data_dir, part=part, **options)
            return found if are_digits(task.names) else replace(found, labels=None)
        if labelled and is_table(spec):
            return cls.from_table(spec, task=task, seed=seed, limit=limit)
        if not Path(spec).is_dir():
            files = f", a file ({', '.join(TABLES)})" if labelled else ""
            raise InputError(
                f"there is no folder {spec}: name a folder of images{files}"
                f"{' or one of ' * bool(names)}{', '.join(names)}."
            )
        return cls.from_folder(spec, labelled=labelled, task=task, seed=seed, limit=limit)

    @property
    def kinds(self) -> list[str]:
        """What each image shows: the name of its sub-folder, or what is drawn; "" where neither is known."""
        return [str(source).rpartition("/")[0] for source in self.sources]

    def part(self, limit: int, seed: int) -> Self:
        """`limit` of the images chosen by `seed`, or all where there are no more; without unreadable files.

        Raises:
            InputError: `limit` is below 1.
        """
        return self[_chosen(len(self), limit, seed)]

    def __getitem__(self, index: Any) -> Self:
        chosen = chosen_rows(len(self), index)
        labels = None if self.labels is None else self.labels[chosen]
        sources = [self.sources[i] for i in chosen.tolist()]
        images, quality = self.images[chosen], self.quality[chosen]
        return replace(self, images=images, quality=quality, labels=labels, sources=sources, unreadable=())

    def split_calibration(self, seed: int, share: float = CALIBRATION_SHARE) -> tuple[Self, Self]:
        """(to train on, held out for calibration): of the images so large a `share`, chosen by `seed`."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        held_out = round(len(self) * share)
        return self[order[held_out:]], self[order[:held_out]]

    def split_by_class(self, seed: int, share: float) -> tuple[Self, Self]:
        """(the rest, a part): the part has that `share` of each class, by `seed`.

        Of each it has one image at least, but never the last.
        """
        labels = self.truth()
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        of_class = F.one_hot(labels[order])
        rank = of_class.cumsum(0).gather(1, labels[order, None])[:, 0]  # within its class, from 1
        counts = labels.bincount()
        wanted = (share * counts.double()).round().clamp_min(1).minimum(counts - 1)
        taken = rank <= wanted[labels[order]]
        return self[order[~taken]], self[order[taken]]

    def truth(self) -> Tensor:
        """The labels, (N,) int64.

        Raises:
            InputError: the images have none.
        """
        if self.labels is None:
            raise InputError(f"the images of {self.name} have no labels: give labelled ones.")
        return self.labels

    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels: which data these are, whatever file they came from."""
        digest = hashlib.sha256()
        digest.update(self.images.mul(255).round().to(torch.uint8).numpy().tobytes())
        digest.update(self.truth().to(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def known_names() -> list[str]:
    """The names of all sets that `ImageSet.from_name` knows."""
    return [*LABELLED, *DRAWN_DIGITS, MNIST_C, *DRAWN, *GENERATED, *TORCHVISION]


def labelled_names(task: Task) -> list[str]:
    """The names of all known sets that have the labels of `task`."""
    if are_digits(task.names):
        return [*LABELLED, *DRAWN_DIGITS, MNIST_C]
    return [name for name, one in LEARNABLE.items() if one.task.names == task.names]


def image_files(folder: Path) -> list[Path]:
    """The files in `folder` and its sub-folders in order of their paths, hidden ones left out.

    Raises:
        InputError: there are none.
    """
    if files := _files(folder):
        return files
    raise InputError(f"the folder {folder} holds no images: put some there or name another.")


def _spelt(name: str, names: Iterable[str], what: str) -> str:
    """The one of `names` that is `name` in another case."""
    spellings = {known.lower(): known for known in names}
    return choose({known: known for known in spellings.values()}, spellings.get(name.lower(), name), what)


def _labelled(name: str, data_dir: str | Path | None, part: str, download: bool) -> Labelled:
    load, root = LABELLED[name], data_root(data_dir)
    return _joined(load(root, train=train, download=download) for train in _trains(part))


def _trains(part: str) -> tuple[bool, ...]:
    """Whether each half of a `part` is the training half."""
    return choose({"train": (True,), "test": (False,), "all": (True, False)}, part, "part of a data set")


def _joined(parts: Iterable[Labelled]) -> Labelled:
    return Labelled(*(torch.cat(of) for of in zip(*parts, strict=True)))


def _drawn(name: str, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of drawings of that name, or of the `limit` of them that `seed` chooses."""
    every = drawings((DRAWN_DIGITS | DRAWN)[name], seed)
    chosen = _chosen(len(every), limit, seed)
    pictures = (every[index].picture() for index in chosen)
    labels = [int(every[index].kind[0]) for index in chosen] if name in DRAWN_DIGITS else None
    prepared = read_images(tracked(pictures, f"drawing {name}", len(chosen)))
    return _fields(name, prepared) | {
        "labels": None if labels is None else torch.tensor(labels),
        "sources": [f"{every[index].kind}/{index % OF_A_KIND}" for index in chosen],
    }


def _mnist_c(data_dir: str | Path | None, download: bool, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of `EACH` of MNIST's test digits in each of `KINDS`, or of `limit` of these."""
    images, labels = _labelled("mnist", data_dir, "test", download)
    digits = _chosen(len(images), EACH, seed)
    every = [(kind, index) for kind in KINDS for index in digits]
    chosen = [every[place] for place in _chosen(len(every), limit, seed)]
    made = [
        corrupted(images[index, 0].numpy(), kind, index, seed)
        for kind, index in tracked(chosen, f"corrupting {MNIST_C}", len(chosen))
    ]
    return _fields(MNIST_C, Prepared.as_given(torch.from_numpy(np.stack(made))[:, None])) | {
        "labels": labels[[index for _, index in chosen]],
        "sources": [f"{kind}/{index}" for kind, index in chosen],
    }


def _chosen_arrays(
    name: str, images: Tensor, labels: Tensor | None, limit: int | None, seed: int
) -> dict[str, Any]:
    """The fields of a set of the `limit` images that `seed` chooses."""
    chosen = _chosen(len(images), limit, seed)
    rows = slice(None) if len(chosen) == len(images) else chosen  # all of them are not copied
    prepared = Prepared.as_given(images[rows])
    picked = None if labels is None else labels[rows]
    return _fields(name, prepared) | {"labels": picked, "sources": _numbered(name, chosen)}


def _fields(name: str, prepared: Prepared) -> dict[str, Any]:
    return {"name": name, "images": prepared.images, "quality": prepared.quality}


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


def sub_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, hidden ones left out."""
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    """The files in `folder` and its sub-folders, linked ones too, hidden ones left out."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        around = {(folder / outer).resolve() for outer in here.relative_to(folder).parents}
        if here.resolve() in around:  # a link in a circle
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        files.extend(here / name for name in names if not name.startswith("."))
    return sorted(path for path in files if path.is_file())


def _labelled_folder(folder: Path, task: Task, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of images in sub-folders of `folder` named as the task's classes."""
    files = _files(folder)
    classes = {path: task.names.index(name) for path in files if (name := _top(path, folder)) in task.names}
    names = f"{task.names[0]} to {task.names[-1]}"
    if not classes:
        raise InputError(
            f"the folder {folder} has no images in sub-folders named {names}: sort them into such."
        )
    fields = _read(folder, list(classes), task, limit, seed)
    by_source = {printable(path.relative_to(folder)): label for path, label in classes.items()}
    others = [printable(path.relative_to(folder)) for path in files if path not in classes]
    outside = [(file, f"it is in no sub-folder named {names}.") for file in others]
    return fields | {
        "labels": torch.tensor([by_source[source] for source in fields["sources"]]),
        "unreadable": [*fields["unreadable"], *outside],
    }


def _of_table(name: str, table: Table, task: Task, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of images in a `table`, or of the `limit` of them that `seed` chooses."""
    of_name = {one: label for label, one in enumerate(task.names)}
    for place, label in zip(table.places, table.labels, strict=True):
        if label not in of_name:
            raise InputError(
                f"{place} of {name} is of the class {shown(label)}, none of this task's {task.classes}, "
                f"{shown(task.names[0])} to {shown(task.names[-1])}: correct it or leave it out."
            )
    chosen = _chosen(len(table.images), limit, seed)
    images = table.images[chosen]
    # Each by itself, but for those of the network's size: three or four may be taken for an image's colours.
    prepared = read_images(images if _is_stack(images) else list(images), task.layout)
    return _fields(name, prepared) | {
        "labels": torch.tensor([of_name[table.labels[index]] for index in chosen]),
        "sources": _numbered(name, chosen),
    }


def _is_stack(images: NDArray[Any]) -> bool:
    return images.shape[1:] == (IMAGE_SIZE, IMAGE_SIZE)


def _top(path: Path, folder: Path) -> str:
    """The sub-folder of `folder` in which `path` lies; nothing where it lies in none."""
    return next(iter(path.relative_to(folder).parent.parts), "")


def _folder(folder: Path, task: Task, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of all images in `folder`."""
    return _read(folder, _files(folder), task, limit, seed)


def _read(folder: Path, files: Sequence[Path], task: Task, limit: int | None, seed: int) -> dict[str, Any]:
    """The fields of the set of images among `files`, each by itself; what cannot be read is listed."""
    name = printable(folder.resolve().name)
    read, sources, unreadable = [], [], []
    chosen = [files[index] for index in _chosen(len(files), limit, seed)]
    for path in tracked(chosen, f"reading {name}", len(chosen)):
        file = printable(path.relative_to(folder))
        try:
            read.append(read_images(path, task.layout))
            sources.append(file)
        except InputError as error:
            unreadable.append((file, str(error).replace(str(path), "the file")))
    if not read:
        raise InputError(_none_usable(folder, len(unreadable)))
    return _fields(name, Prepared.joined(read)) | {
        "labels": None,
        "sources": sources,
        "unreadable": unreadable,
    }


def _none_usable(folder: Path, unreadable: int) -> str:
    what = f"no readable image among {unreadable} files" if unreadable else "no images"
    return f"the folder {folder} holds {what}: put some there or name another."
