"""Labelled sets: where they come from, how they are split, what is said when they are damaged."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn.data.digits import Labelled, data_dir, load_mnist
from bnn.data.imageset import ImageSet
from bnn.errors import InputError

FILES = [
    f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 10


def idx(array: NDArray[np.generic], kind: int = 8) -> bytes:
    """`array` in the format of MNIST's files."""
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape)
    return header + array.tobytes()


def write_mnist(root: Path, images: bytes, labels: bytes) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return root


def numbered(count: int) -> ImageSet:
    """Images that can be told apart by their labels and sources."""
    return ImageSet(
        "numbered",
        torch.zeros(count, 1, 1, 1),
        np.full(count, ""),
        torch.arange(count),
        list(map(str, range(count))),
    )


def load_digits(name: str, root: Path | None = None, *, train: bool) -> ImageSet:
    return ImageSet.from_name(name, root, part="train" if train else "test")


def test_mnist_files_come_through_bit_for_bit(tmp_path: Path) -> None:
    digits = load_mnist(write_mnist(tmp_path, idx(IMAGES), idx(LABELS)), train=True)
    assert digits.images.dtype == torch.float32
    assert digits.labels.dtype == torch.int64
    assert np.array_equal(digits.images.numpy()[:, 0], IMAGES.astype(np.float32) / 255)
    assert np.array_equal(digits.labels.numpy(), LABELS)


def test_mnist_has_its_known_sizes(mnist_root: Path, mnist_test: Labelled) -> None:
    assert mnist_test.images.shape == (10_000, 1, 28, 28)
    assert mnist_test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    train, held_out = load_digits("mnist", mnist_root, train=True).split_calibration(seed=0)
    assert (len(train), len(held_out)) == (55_000, 5_000)


@given(st.integers(12, 60_000), st.integers(0, 2**32))
def test_the_split_is_disjoint_complete_and_one_twelfth(count: int, seed: int) -> None:
    train, held_out = numbered(count).split_calibration(seed)
    assert len(held_out) == round(count / 12)
    assert torch.cat([train.truth(), held_out.truth()]).sort().values.equal(torch.arange(count))
    for part in (train, held_out):
        assert [int(source) for source in part.sources] == part.truth().tolist()


def test_the_split_is_the_seeds() -> None:
    held_out = [numbered(600).split_calibration(seed)[1].truth() for seed in (3, 3, 4)]
    assert held_out[0].equal(held_out[1])
    assert not held_out[0].equal(held_out[2])


@given(st.integers(0, 2), st.integers(0, 27), st.integers(0, 27))
def test_one_pixel_or_one_label_changes_the_fingerprint(image: int, row: int, column: int) -> None:
    digits = ImageSet.from_arrays(IMAGES[:3], torch.arange(3))
    pixels, labels = digits.images.clone(), digits.truth().clone()
    assert ImageSet.from_arrays(pixels, labels, name="other").fingerprint() == digits.fingerprint()
    pixels[image, 0, row, column] = 1 - pixels[image, 0, row, column].round()
    labels[image] = (labels[image] + 1) % 10
    assert ImageSet.from_arrays(pixels, digits.labels).fingerprint() != digits.fingerprint()
    assert ImageSet.from_arrays(digits.images, labels).fingerprint() != digits.fingerprint()


def test_images_without_labels_have_no_fingerprint_and_no_truth() -> None:
    images = ImageSet.from_arrays(IMAGES)
    for ask in (images.fingerprint, images.truth):
        with pytest.raises(InputError, match=r"^the images of arrays have no labels: give labelled ones\.$"):
            ask()


def test_the_bundled_digits_are_in_mnists_layout_and_split_for_good() -> None:
    train, test = (load_digits("digits", train=train) for train in (True, False))
    assert (len(train), len(test)) == (1438, 359)
    for part in (train, test):
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.images.dtype == torch.float32
        assert part.images.min() == 0
        assert part.images.max() == 1
        assert part.truth().unique().tolist() == list(range(10))
        for image in part.images[:, 0]:
            for axis in (0, 1):
                profile = image.sum(1 - axis)
                inked = profile.nonzero()
                assert inked.max() - inked.min() < 20  # the ink fits the box of 20
                centre = (profile * torch.arange(28)).sum() / profile.sum()
                assert abs(centre - 14) <= 0.5 + 1e-5  # and its centre of mass is in the middle
    in_training = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in in_training for image in test.images)


def test_missing_mnist_says_which_files_and_the_way_without(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MNIST is not in") as caught:
        load_digits("mnist", tmp_path, train=True)
    for part in (*FILES, str(tmp_path), "data_dir (--data-dir)", "BNN_DATA_DIR", "download=True", "'digits'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_one_missing_file_is_missing_mnist(tmp_path: Path, file: str) -> None:
    write_mnist(tmp_path, idx(IMAGES), idx(LABELS))
    (tmp_path / "MNIST" / "raw" / file).unlink()
    with pytest.raises(InputError, match="MNIST is not in"):
        load_digits("mnist", tmp_path, train=file.startswith("train"))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 8, 15, 16, 17, 800, len(idx(IMAGES)) - 1])
def test_images_cut_short_are_damaged(tmp_path: Path, size: int) -> None:
    write_mnist(tmp_path, idx(IMAGES)[:size], idx(LABELS))
    with pytest.raises(InputError, match="damaged or cut short"):
        load_mnist(tmp_path, train=True)


@pytest.mark.parametrize("size", [0, 3, 4, 7, 8, 9, len(idx(LABELS)) - 1])
def test_labels_cut_short_are_damaged(tmp_path: Path, size: int) -> None:
    write_mnist(tmp_path, idx(IMAGES), idx(LABELS)[:size])
    with pytest.raises(InputError, match="damaged or cut short"):
        load_mnist(tmp_path, train=False)


@pytest.mark.parametrize(
    "images",
    [
        b"\x1f\x8b\x08\x00" + idx(IMAGES)[4:],  # gzip's magic number
        b"\x00\x00\x63\x03" + idx(IMAGES)[4:],
        b"\xff\xff\xff\xff" + idx(IMAGES)[4:],
        idx(IMAGES) + b"more",
        idx(IMAGES.astype(">f4"), kind=0x0D),
        idx(IMAGES[:0]),
        b"\x00\x00\x08\x03" + struct.pack(">3i", 2**31 - 1, 28, 28) + b"few",
        idx(LABELS),
        b"no data at all, but text",
    ],
)
def test_foreign_files_are_damaged(tmp_path: Path, images: bytes) -> None:
    write_mnist(tmp_path, images, idx(LABELS))
    with pytest.raises(InputError, match="damaged or cut short"):
        load_mnist(tmp_path, train=True)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:20], "do not fit together"),
        (np.ascontiguousarray(IMAGES[:, :14, :14]), LABELS, "do not fit together"),
        (IMAGES, LABELS + 1, "go up to 10"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8], message: str
) -> None:
    write_mnist(tmp_path, idx(images), idx(labels))
    with pytest.raises(InputError, match=message):
        load_mnist(tmp_path, train=True)


def test_an_unknown_data_set_names_those_there_are() -> None:
    known = "mnist, digits, .*, drawn, .*, capitals, .*, noise, .*, FashionMNIST, .*"
    with pytest.raises(InputError, match=rf"^there is no set of images 'svhn': choose one of {known}\.$"):
        ImageSet.from_name("svhn")


def test_a_set_that_is_named_in_any_case_is_the_same_one() -> None:
    digits = ImageSet.from_name("Digits", limit=20)
    assert digits.name == "digits"
    assert digits.images.equal(ImageSet.from_name("digits", limit=20).images)
    assert ImageSet.from_spec("DIGITS", labelled=True, limit=20).images.equal(digits.images)
    assert ImageSet.from_name("NOISE", limit=20).name == "noise"


def test_an_unknown_part_names_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no part of a data set 'half': choose one of train, test, all\."):
        ImageSet.from_name("digits", part="half")


def test_the_folder_given_goes_before_the_variable_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BNN_DATA_DIR", "/from/variable")
    assert data_dir("/given") == Path("/given")
    assert data_dir() == Path("/from/variable")
    monkeypatch.setenv("BNN_DATA_DIR", "")
    assert data_dir() == Path("data")
    monkeypatch.delenv("BNN_DATA_DIR")
    assert data_dir() == Path("data")
