"""Data of one's own to learn: a folder of classes, a CSV of pixels or an .npz, and what of it is usable."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.core.task import MOST_CLASSES, Task
from bnn.data.copies import image_hashes
from bnn.data.imageset import ImageSet, sub_folders
from bnn.data.pixels import TABLES, in_order, is_table, read_table
from bnn.data.preprocess import AS_IS, INK, LAYOUTS
from bnn.data.quality import QUALITIES
from bnn.errors import InputError, choose, shown

LEAST = 10  # usable images of a class
TEST_SHARE = 0.2  # of each class, that is neither learnt nor calibrated on
HELD_OUT = 0.2  # of each class of the others, that is calibrated on
DIGIT = "digit"
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}  # folders that are no classes
# How training images are varied, by their layout.
_AUGMENTATIONS: Mapping[str, str] = {INK: "handwriting"}
BRIGHT, DARK = "bright", "dark"  # grounds


def own_task(names: list[str], layout: str) -> Task:
    """The task of the classes of these `names`, whose images get that `layout`; see `layout_of`."""
    kind = layout_of(layout)
    return Task(tuple(names), kind, _AUGMENTATIONS.get(kind, "moved"))


def layout_of(name: str) -> str:
    """The name in `LAYOUTS` of what a person calls "digit" (cut out and centred), "as-is", or so.

    Raises:
        InputError: there is no such layout.
    """
    known = {DIGIT: INK, AS_IS: AS_IS} | {own: own for own in LAYOUTS}
    return choose(known, name, "layout")


def is_own(spec: str) -> bool:
    """Whether `spec` names a folder or a file of pixels, and no set that is known."""
    return is_table(spec) or Path(spec).is_dir()


def own_data(spec: str, layout: str) -> tuple[ImageSet, Task]:
    """The labelled images that `spec` names, and the task that their classes make.

    Args:
        spec: a folder, whose sub-folders are the classes, or a file of `TABLES`.
        layout: see `layout_of`.

    Returns:
        The usable images: those that are blank or cannot be judged are listed as unreadable, and so are
        copies of others; and the task.

    Raises:
        InputError: it cannot be read, or has fewer than 2 or more than `MOST_CLASSES` classes, or one with
            fewer than `LEAST` usable images.
    """
    path = Path(spec)
    if is_table(path):
        table = read_table(path)
        task = own_task(_classes(path, list(table.names)), layout)
        images = ImageSet.from_table(table, task=task, name=path.name)
    else:
        task = own_task(_classes(path, _named_folders(path)), layout)
        images = ImageSet.from_folder(path, labelled=True, task=task)
    usable = without_copies(_judgeable(images))
    _require_enough(path, usable, task)
    return usable, task


def ground_of(images: Tensor) -> str:
    """Whether the borders of most of `images` (N, 1, 28, 28) are bright or dark: `BRIGHT` or `DARK`."""
    edges = torch.cat([images[:, 0, 0], images[:, 0, -1], images[:, 0, :, 0], images[:, 0, :, -1]], 1)
    return BRIGHT if edges.median(1).values.median() > 0.5 else DARK


def _named_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name one, or a file of {', '.join(TABLES)}.")
    names = sub_folders(folder)
    if names and {name.lower() for name in names} <= _PARTS:
        raise InputError(
            f"the sub-folders of {folder} are {' and '.join(sorted(names))}, which are no classes: name one "
            f"of these, such as {folder / names[0]}."
        )
    return in_order(names)


def _classes(path: Path, names: list[str]) -> list[str]:
    if not 2 <= len(names) <= MOST_CLASSES:
        are = "sub-folders, which are the classes" if path.is_dir() else "classes"
        raise InputError(
            f"{path} has {len(names)} {are}, and 2 to {MOST_CLASSES} can be learnt: "
            f"{'sort its images into more' if len(names) < 2 else 'leave some out'}."
        )
    return names


def _judgeable(images: ImageSet) -> ImageSet:
    """`images` without those of which it can be seen that they show nothing to learn, which are listed."""
    bad = [
        (images.sources[index], f"{QUALITIES[str(images.quality[index])]}.")
        for index in (images.quality != "").nonzero()[0].tolist()
    ]
    return _left_out(images, images.quality == "", bad)


def without_copies(images: ImageSet) -> ImageSet:
    """`images` without copies of others, which would be learnt and tested on.

    The first of them stays, unless they are of several classes: then none does.
    """
    labels = images.truth().tolist()
    groups: dict[bytes, list[int]] = {}
    for index, digest in enumerate(image_hashes(images.images)):
        groups.setdefault(digest, []).append(index)
    keep, bad = np.ones(len(images), np.bool_), []
    for first, *others in (group for group in groups.values() if len(group) > 1):
        disagree = any(labels[other] != labels[first] for other in others)
        for index in [first, *others] if disagree else others:
            keep[index] = False
            of = images.sources[first if index != first else others[0]]
            bad.append((images.sources[index], f"it is a copy of {of}{', of another class' * disagree}."))
    return _left_out(images, keep, bad)


def _left_out(images: ImageSet, keep: NDArray[np.bool_], bad: list[tuple[str, str]]) -> ImageSet:
    return replace(images[keep], unreadable=[*images.unreadable, *bad])


def _require_enough(path: Path, images: ImageSet, task: Task) -> None:
    counts = images.truth().bincount(minlength=task.classes)
    if (counts < LEAST).any():
        fewest = int(counts.argmin())
        raise InputError(
            f"the class {shown(task.names[fewest])} in {path} has {int(counts[fewest])} usable images, and "
            f"each needs {LEAST}: {'add some' if task.classes == 2 else 'add some, or leave the class out'}."
        )
