"""Sets that torchvision knows, from generated files in its layout: digits, clothes, letters."""

import bz2
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bnn.core.task import Task, are_digits
from bnn.data.digits import LABELLED
from bnn.data.imageset import ImageSet, labelled_names
from bnn.data.torchvision_sets import LEARNABLE, TORCHVISION
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.train import lesson_of

PARTS = ("train", "test")
Bytes = NDArray[np.uint8]


def idx(path: Path, values: NDArray[np.generic], kind: int = 8) -> None:
    """`values` in the IDX format, of bytes (`kind` 8) or of whole numbers of 32 bits (12)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(values.shape, ">i4").tobytes()
    path.write_bytes(bytes((0, 0, kind, values.ndim)) + sizes + values.tobytes())


def drawn(n: int, side: int = 28) -> Bytes:
    """`n` images of bytes (n, side, side) with something in the middle, no two alike."""
    images = np.zeros((n, side, side), np.uint8)
    edge = side // 4
    inner = np.random.default_rng(n).integers(100, 256, (n, side - 2 * edge, side - 2 * edge - 1), np.uint8)
    images[:, edge:-edge, edge : -edge - 1] = inner
    return images


def as_mnist(root: Path, name: str, images: dict[str, Bytes], labels: dict[str, Bytes]) -> None:
    for part, stem in zip(PARTS, ("train", "t10k"), strict=True):
        idx(root / name / "raw" / f"{stem}-images-idx3-ubyte", images[part])
        idx(root / name / "raw" / f"{stem}-labels-idx1-ubyte", labels[part])


def as_emnist(root: Path, split: str, images: dict[str, Bytes], labels: dict[str, Bytes]) -> None:
    for part in PARTS:
        columns = np.ascontiguousarray(images[part].transpose(0, 2, 1))
        idx(root / "EMNIST" / "raw" / f"emnist-{split}-{part}-images-idx3-ubyte", columns)
        idx(root / "EMNIST" / "raw" / f"emnist-{split}-{part}-labels-idx1-ubyte", labels[part])


def as_qmnist(root: Path, images: dict[str, Bytes], labels: dict[str, Bytes]) -> None:
    for part in PARTS:
        told = np.zeros((len(labels[part]), 8), ">i4")
        told[:, 0], told[:, 1:] = labels[part], 99  # of the writer, and so on
        idx(root / "QMNIST" / "raw" / f"qmnist-{part}-images-idx3-ubyte", images[part])
        idx(root / "QMNIST" / "raw" / f"qmnist-{part}-labels-idx2-int", told, 12)


def as_usps(root: Path, images: dict[str, Bytes], labels: dict[str, Bytes]) -> None:
    for part, file in zip(PARTS, ("usps.bz2", "usps.t.bz2"), strict=True):
        values = images[part].reshape(len(images[part]), -1) / 255 * 2 - 1
        lines = [
            " ".join([str(label + 1), *(f"{place}:{value:.6f}" for place, value in enumerate(row, 1))])
            for label, row in zip(labels[part].tolist(), values, strict=True)
        ]
        root.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(bz2.compress("\n".join(lines).encode()))


SETS: dict[str, tuple[int, Callable[[Path, dict[str, Bytes], dict[str, Bytes]], None]]] = {
    "QMNIST": (10, as_qmnist),
    "USPS": (10, as_usps),
    "EMNIST-digits": (10, lambda *given: as_emnist(given[0], "digits", *given[1:])),
    "EMNIST-letters": (26, lambda *given: as_emnist(given[0], "letters", *given[1:])),
    "EMNIST-balanced": (47, lambda *given: as_emnist(given[0], "balanced", *given[1:])),
    "FashionMNIST": (10, lambda *given: as_mnist(given[0], "FashionMNIST", *given[1:])),
    "KMNIST": (10, lambda *given: as_mnist(given[0], "KMNIST", *given[1:])),
}


def written(name: str, root: Path) -> dict[str, Bytes]:
    """Writes the set of that name: two training images of each class, and one to test; gives the images."""
    classes, write = SETS[name]
    side = 16 if name == "USPS" else 28
    images = {"train": drawn(2 * classes, side), "test": drawn(classes, side)}
    first = 1 if name == "EMNIST-letters" else 0
    each = np.arange(classes, dtype=np.uint8) + first
    write(root, images, {"train": np.concatenate([each, each]), "test": each})
    return images


def test_all_that_can_be_learnt_are_tried() -> None:
    assert SETS.keys() == {*LABELLED, *LEARNABLE} - {"mnist", "digits"}
    assert "QMNIST" not in TORCHVISION  # it is digits


@pytest.mark.parametrize("name", SETS)
def test_what_is_learnt_are_the_training_images_with_their_classes(name: str, tmp_path: Path) -> None:
    classes, _ = SETS[name]
    written(name, tmp_path)
    found = lesson_of(name, TrainConfig(), tmp_path)
    assert found.task.classes == classes
    assert found.images.truth().tolist() == [*range(classes)] * 2
    assert found.images.name == name
    assert found.images.images.shape == (2 * classes, 1, 28, 28)
    assert not found.is_own


@pytest.mark.parametrize("name", SETS)
def test_the_test_images_are_known_by_the_set_s_name_and_the_task(name: str, tmp_path: Path) -> None:
    images = written(name, tmp_path)["test"]
    task = lesson_of(name, TrainConfig(), tmp_path).task
    assert name in labelled_names(task)
    found = ImageSet.from_spec(name.lower(), tmp_path, labelled=True, task=task)
    assert found.truth().tolist() == [*range(task.classes)]
    if name in ("QMNIST", "FashionMNIST", "KMNIST"):
        assert torch.equal(found.images[:, 0], torch.from_numpy(images).float() / 255)
    else:  # brought to MNIST's layout, upright: the darker right column of the middle stays to the right
        assert (found.images.sum((1, 2)).argmax(1) < 27).all()
        rows, columns = found.images[:, 0].gt(0).any(2).sum(1), found.images[:, 0].gt(0).any(1).sum(1)
        assert (rows > columns).all()


def test_names_of_classes_are_those_of_the_sets() -> None:
    assert LEARNABLE["EMNIST-letters"].task.names == tuple(string.ascii_lowercase)
    assert LEARNABLE["EMNIST-balanced"].task.names[36:] == tuple("abdefghnqrt")
    assert LEARNABLE["FashionMNIST"].task.names[8] == "bag"
    assert not any(are_digits(one.task.names) for one in LEARNABLE.values())


def test_labels_of_digits_are_not_taken_for_another_task_s() -> None:
    task = Task(("cat", "dog"))
    with pytest.raises(
        InputError, match=r"there is no folder mnist: name a folder of images, a file \(.*\)\.$"
    ):
        ImageSet.from_spec("mnist", labelled=True, task=task)
    assert ImageSet.from_spec("digits", labelled=False, task=task, limit=3).labels is None


@pytest.mark.parametrize("name", SETS)
def test_absent_files_are_said_to_be_so_and_nothing_is_fetched(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r" is not in [^\n]*: put [^\n]*, name another place [^\n]*--download\)\.$"
    ):
        lesson_of(name, TrainConfig(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_files_are_said_to_be_so(tmp_path: Path) -> None:
    written("USPS", tmp_path)
    (tmp_path / "usps.bz2").write_bytes(b"damaged")
    with pytest.raises(
        InputError, match=r"USPS is damaged or incomplete in .*: put usps\.bz2 and usps\.t\.bz2 there"
    ):
        lesson_of("USPS", TrainConfig(), tmp_path)
    images, labels = drawn(4), np.array([0, 27, 1, 2], np.uint8)
    as_emnist(tmp_path, "letters", dict.fromkeys(PARTS, images), dict.fromkeys(PARTS, labels))
    with pytest.raises(InputError, match="the labels of EMNIST-letters are not those of its 26 classes"):
        lesson_of("EMNIST-letters", TrainConfig(), tmp_path)
