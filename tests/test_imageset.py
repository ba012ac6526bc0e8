"""Sets of images: arrays, folders with bad files, generated sets, data sets that are absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnn.core.task import Task
from bnn.data import preprocess
from bnn.data.generated import GENERATED
from bnn.data.imageset import ImageSet, image_files
from bnn.data.preprocess import is_blank, prepare
from bnn.data.torchvision_sets import TORCHVISION
from bnn.errors import InputError
from bnn.files import printable


def draw(path: Path, column: int = 12) -> Path:
    """A PNG of a vertical stroke, black on white."""
    pixels = np.full((32, 32), 255, np.uint8)
    pixels[6:26, column : column + 4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def spoil(folder: Path) -> set[str]:
    """Puts three files into `folder` that are no images; their names."""
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("these are words, not pixels")
    whole = draw(folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return {"empty.png", "text.png", "cut.png"}


def test_bad_files_are_listed_and_the_rest_are_read(tmp_path: Path) -> None:
    bad = spoil(tmp_path)
    good = [draw(tmp_path / "b.png"), draw(tmp_path / "a.jpg")]
    source = ImageSet.from_folder(tmp_path)
    assert source.sources == ["a.jpg", "b.png"]
    assert torch.equal(source.images, prepare(sorted(good)))
    assert source.name == tmp_path.name
    assert source.labels is None
    assert {file for file, _ in source.unreadable} == bad
    assert ("empty.png", "the file is empty.") in source.unreadable
    assert all(str(tmp_path) not in why for _, why in source.unreadable)


def test_class_folders_are_searched_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("B/2.png", "A/deep/1.png", "A/0.png", ".hidden/3.png", "A/.4.png"):
        draw(tmp_path / name)
    assert ImageSet.from_folder(tmp_path).sources == ["A/0.png", "A/deep/1.png", "B/2.png"]
    assert [path.name for path in image_files(tmp_path)] == ["0.png", "1.png", "2.png"]


def test_folder_with_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(InputError, match="holds no images"):
        image_files(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match="no readable image among 3 files"):
        ImageSet.from_folder(tmp_path)


def test_limit_chooses_by_seed(tmp_path: Path) -> None:
    for index in range(9):
        draw(tmp_path / f"{index}.png", column=index)
    chosen = ImageSet.from_folder(tmp_path, seed=1, limit=4).sources
    assert chosen == ImageSet.from_folder(tmp_path, seed=1, limit=4).sources == sorted(chosen)
    assert len(set(chosen)) == 4
    assert any(chosen != ImageSet.from_folder(tmp_path, seed=s, limit=4).sources for s in range(2, 6))
    assert len(ImageSet.from_folder(tmp_path, seed=1, limit=99)) == 9
    with pytest.raises(InputError, match="at least 1"):
        ImageSet.from_folder(tmp_path, seed=1, limit=0)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_sets_follow_from_the_seed(name: str) -> None:
    first, again, other = (ImageSet.from_name(name, seed=seed) for seed in (3, 3, 4))
    assert first.images.shape == (1000, 1, 28, 28)
    assert first.images.dtype == torch.float32
    assert first.images.min() >= 0
    assert first.images.max() <= 1
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert len(torch.unique(first.images, dim=0)) == 1000
    assert first.sources[17] == f"{name}[17]"


def test_generated_sets_are_what_their_names_say() -> None:
    images = {name: ImageSet.from_name(name, seed=0).images for name in GENERATED}
    assert images["noise"].mean() == pytest.approx(0.5, abs=0.01)
    assert images["noise"].std() == pytest.approx(12**-0.5, abs=0.01)
    assert images["gaussian-noise"].std() == pytest.approx(0.24, abs=0.01)  # less than 0.25: clipped
    for name in ("salt-and-pepper", "stripes"):
        assert set(images[name].unique().tolist()) == {0, 1}
    assert images["salt-and-pepper"].mean() == pytest.approx(0.275, abs=0.02)
    assert images["stripes"].mean() == pytest.approx(0.5, abs=0.02)
    assert images["blankish"].flatten(1).std(1).max() < 0.03
    assert not is_blank(images["noise"]).any()


def test_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0"):
        ImageSet.from_name("noise", seed=-1)


def test_limited_noise_is_part_of_the_whole() -> None:
    whole, part = (ImageSet.from_name("noise", seed=0, limit=limit) for limit in (None, 5))
    index = [whole.sources.index(source) for source in part.sources]
    assert torch.equal(part.images, whole.images[index])


@pytest.mark.parametrize("name", TORCHVISION)
def test_absent_torchvision_set_says_what_to_do(name: str, tmp_path: Path) -> None:
    way_out = r"name another place with data_dir \(--data-dir\).*fetched by download=True \(--download\)\.$"
    for ask in (ImageSet.from_torchvision, ImageSet.from_name):
        with pytest.raises(InputError, match=rf"^{name} is not in [^\n]*raw: [^\n]*{way_out}"):
            ask(name.lower(), tmp_path)


def test_no_torchvision_set_is_guessed() -> None:
    with pytest.raises(InputError, match=r"no torchvision set 'MNIST': choose one of FashionMNIST, "):
        ImageSet.from_torchvision("MNIST")


def write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """`values` in MNIST's IDX format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(values.shape, ">i4").tobytes()
    path.write_bytes(bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes())


def write_fashion(raw: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(6, dtype=np.uint8))
    return images


def test_torchvision_images_are_taken_as_they_are(tmp_path: Path) -> None:
    images = write_fashion(tmp_path / "FashionMNIST" / "raw")
    source = ImageSet.from_torchvision("FashionMNIST", tmp_path)
    assert torch.equal(source.images, prepare(images))
    assert source.labels is None
    assert source.name == "FashionMNIST"


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for split in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist"):
        for part in ("train", "test"):
            write_idx(raw / f"emnist-{split}-{part}-images-idx3-ubyte", images)
            write_idx(raw / f"emnist-{split}-{part}-labels-idx1-ubyte", np.arange(6, dtype=np.uint8))
    source = ImageSet.from_torchvision("EMNIST", tmp_path)
    assert torch.equal(source.images, prepare(images.transpose(0, 2, 1).copy()))


def test_damaged_torchvision_set_says_so(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    write_fashion(raw)
    file = raw / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged or incomplete in"):
        ImageSet.from_torchvision("FashionMNIST", tmp_path)


@pytest.mark.parametrize("labelled", [True, False])
def test_unknown_name(labelled: bool, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere: name a folder") as caught:
        ImageSet.from_spec(str(tmp_path / "nowhere"), tmp_path, labelled=labelled)
    assert ("noise" in str(caught.value)) != labelled  # which cannot have labels
    with pytest.raises(InputError, match="there is no folder"):
        ImageSet.from_folder(tmp_path / "nowhere", labelled=labelled)


def test_what_must_be_labelled_is_no_generated_set() -> None:
    with pytest.raises(
        InputError, match=r"no folder noise: name a folder of images, a file \(.*\) or one of mnist, digits"
    ):
        ImageSet.from_spec("noise", labelled=True)


def test_a_folder_of_a_sets_name_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "noise" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert ImageSet.from_spec("./noise", labelled=False).sources == ["a.png"]
    assert len(ImageSet.from_spec("Noise", labelled=False)) == 1000


def test_labelled_digits_of_scikit_learn() -> None:
    source = ImageSet.from_spec("digits", labelled=True, limit=30)
    assert len(source) == len(source.truth()) == len(source.sources) == 30
    assert set(source.truth().tolist()) <= set(range(10))
    again = ImageSet.from_spec("digits", labelled=False, limit=30)  # the labels come along
    assert again.truth().equal(source.truth())


def test_all_parts_of_a_set_are_the_training_part_and_then_the_test_part() -> None:
    train, test, whole = (ImageSet.from_name("digits", part=part) for part in ("train", "test", "all"))
    assert len(whole) == len(whole.truth()) == len(set(whole.sources)) == 1797
    assert whole.images.equal(torch.cat([train.images, test.images]))
    assert whole.truth().equal(torch.cat([train.truth(), test.truth()]))
    limited = ImageSet.from_name("digits", part="all", limit=7)
    index = [whole.sources.index(source) for source in limited.sources]
    assert torch.equal(limited.images, whole.images[index])
    assert torch.equal(limited.truth(), whole.truth()[index])


def test_digits_of_ones_own_may_be_a_folder(tmp_path: Path) -> None:
    draw(tmp_path / "3" / "a.png")
    source = ImageSet.from_spec(str(tmp_path), labelled=True)
    assert (source.sources, source.truth().tolist()) == (["3/a.png"], [3])


def test_part_keeps_images_labels_and_sources_together(tmp_path: Path) -> None:
    whole = ImageSet.from_name("digits")
    part = whole.part(9, seed=1)
    index = [whole.sources.index(source) for source in part.sources]
    assert len(set(index)) == 9
    assert torch.equal(part.images, whole.images[index])
    assert part.truth().tolist() == whole.truth()[index].tolist()
    assert part.sources != whole.part(9, seed=2).sources
    assert whole.part(10**6, seed=1).sources == whole.sources
    with pytest.raises(InputError, match="at least 1"):
        whole.part(0, seed=1)
    (tmp_path / "bad.png").touch()
    draw(tmp_path / "good.png")
    assert ImageSet.from_folder(tmp_path).part(1, seed=0).unreadable == ()  # told once


def test_labelled_folder_has_its_labels_from_its_folders(tmp_path: Path) -> None:
    for name in ("7/a.png", "1/c.png", "1/sub/b.png", "x/d.png", "e.png"):
        draw(tmp_path / name)
    draw(tmp_path / "3")  # a file, though it is called as a class
    (tmp_path / "7" / "bad.png").touch()
    source = ImageSet.from_folder(tmp_path, labelled=True)
    assert dict(zip(source.sources, source.truth().tolist(), strict=True)) == {
        "1/c.png": 1,
        "1/sub/b.png": 1,
        "7/a.png": 7,
    }
    assert [file for file, _ in source.unreadable] == ["7/bad.png", "3", "e.png", "x/d.png"]
    assert source.unreadable[1][1] == "it is in no sub-folder named 0 to 9."


def test_labelled_folder_without_the_classes(tmp_path: Path) -> None:
    draw(tmp_path / "A" / "a.png")
    with pytest.raises(InputError, match="sub-folders named 0 to 9"):
        ImageSet.from_folder(tmp_path, labelled=True)


def test_a_folder_has_the_classes_and_the_layout_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.full((28, 28), 0.25, np.float32)
    monkeypatch.setitem(preprocess.LAYOUTS, "grey", lambda _: preprocess.Laid(grey))
    task = Task(("cat", "dog"), layout="grey")
    draw(tmp_path / "dog" / "a.png")
    draw(tmp_path / "1" / "b.png")
    source = ImageSet.from_folder(tmp_path, labelled=True, task=task)
    assert source.truth().tolist() == [1]
    assert [file for file, _ in source.unreadable] == ["1/b.png"]
    unlabelled = ImageSet.from_spec(str(tmp_path), labelled=False, task=task)
    picture = np.full((32, 32), 255, np.uint8)
    for images in (source, unlabelled, ImageSet.from_arrays(picture, [1], task=task)):
        assert images.images.unique().tolist() == [0.25]


# Arrays, and what can be done with a set


def test_arrays_become_a_set_of_their_name() -> None:
    pixels = np.random.default_rng(0).random((3, 28, 28), np.float32)
    images = ImageSet.from_arrays(pixels, np.array([1, 2, 3], np.uint8), name="mine")
    assert torch.equal(images.images, prepare(pixels))
    assert images.truth().tolist() == [1, 2, 3]
    assert images.truth().dtype == torch.int64
    assert images.sources == ["mine[0]", "mine[1]", "mine[2]"]
    assert ImageSet.from_arrays(pixels).labels is None


@pytest.mark.parametrize("labels", [[1, 2, 3], (1, 2, 3), torch.tensor([1, 2, 3]), np.array([1, 2, 3], "u2")])
def test_labels_may_be_of_any_kind_of_whole_numbers(labels: Any) -> None:
    assert ImageSet.from_arrays(np.zeros((3, 28, 28)), labels).truth().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"3 images need as many labels, [^\n]*, not int64 \(2,\)"),
        ([[1], [2], [3]], r"3 images need as many labels, [^\n]*, not int64 \(3, 1\)"),
        ([1.0, 2.0, 3.0], "whole numbers, one each, not float64"),
        (torch.tensor([1.0, 2.5, 3.0]), "whole numbers, one each, not float32"),
        ([True, False, True], "whole numbers, one each, not bool"),
        (["1", "2", "3"], "whole numbers, one each, not <U1"),
        ([1, None, 3], "whole numbers, one each, not object"),
        ([[1], [2, 3], []], "3 images need as many labels"),
        ([1, 2, 10], "from 0 to 9, one of this task's 10 classes, and 10 is not"),
        ([-1, 2, 3], "from 0 to 9, one of this task's 10 classes, and -1 is not"),
        (np.array([0, 1, 2**64 - 1], np.uint64), f"and {2**64 - 1} is not"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*\.$"):
        ImageSet.from_arrays(np.zeros((3, 28, 28)), labels)


def test_labels_are_those_of_the_task() -> None:
    images, task = np.zeros((2, 28, 28)), Task(("cat", "dog"))
    assert ImageSet.from_arrays(images, [0, 1], task=task).truth().tolist() == [0, 1]
    with pytest.raises(InputError, match="from 0 to 1, one of this task's 2 classes, and 2 is not"):
        ImageSet.from_arrays(images, [0, 2], task=task)


def test_no_images_are_no_set() -> None:
    with pytest.raises(InputError, match=r"^the set arrays has no images: give at least one\.$"):
        ImageSet.from_arrays([], [])


CHOICES: list[tuple[Any, list[int]]] = [
    (2, [2]),
    (-1, [4]),
    (slice(1, 3), [1, 2]),
    (slice(None, None, -2), [4, 2, 0]),
    ([3, 0, 3], [3, 0, 3]),
    ([], []),
    (np.array([True, False, False, True, False]), [0, 3]),
    (torch.tensor([True, False, False, True, False]), [0, 3]),
    (torch.tensor([4, 1]), [4, 1]),
]


@pytest.mark.parametrize(("index", "rows"), CHOICES)
def test_choosing_keeps_images_labels_and_sources_together(index: Any, rows: list[int]) -> None:
    images = ImageSet.from_arrays(np.random.default_rng(0).random((5, 28, 28)), [5, 6, 7, 8, 9])
    chosen = images[index]
    assert chosen.images.equal(images.images[rows])
    assert chosen.truth().tolist() == [row + 5 for row in rows]
    assert chosen.sources == [f"arrays[{row}]" for row in rows]
    assert ImageSet.from_arrays(images.images)[index].labels is None


@pytest.mark.parametrize("index", [5, [0, 9], [[0, 1], [2, 3]], None, [True, False], "a"])
def test_what_chooses_no_images_is_refused(index: Any) -> None:
    with pytest.raises(IndexError):
        ImageSet.from_arrays(np.zeros((5, 28, 28)))[index]


def test_a_set_is_shown_in_a_line_and_goes_through_one_by_one(tmp_path: Path) -> None:
    images = ImageSet.from_arrays(np.zeros((3, 28, 28)), [1, 2, 3])
    assert repr(images) == "ImageSet 'arrays': 3 images, labelled"
    assert [one.truth().item() for one in images] == [1, 2, 3]
    assert repr(images[0]) == "ImageSet 'arrays': 1 image, labelled"
    draw(tmp_path / "a.png")
    spoil(tmp_path)
    assert repr(ImageSet.from_folder(tmp_path)).endswith("': 1 image, not labelled, 3 unreadable")
    assert np.array_equal(np.asarray(images), images.images.numpy())


@pytest.mark.parametrize(
    ("name", "escaped"), [("ä 9.png", "ä 9.png"), ("a\nb\x1b", r"a\nb\x1b"), ("\udcff", r"\udcff")]
)
def test_names_are_made_printable(name: str, escaped: str) -> None:
    assert printable(name) == escaped
