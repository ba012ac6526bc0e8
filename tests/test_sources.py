"""Images to be judged: folders with bad files, generated sets, data sets that are absent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnn.errors import InputError
from bnn.generated import GENERATED
from bnn.preprocess import is_blank, prepare
from bnn.sources import (
    TORCHVISION,
    elsewhere_source,
    familiar_source,
    image_files,
    printable,
    unfamiliar_source,
)


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
    source = unfamiliar_source(str(tmp_path), None, seed=0)
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
    assert unfamiliar_source(str(tmp_path), None, seed=0).sources == ["A/0.png", "A/deep/1.png", "B/2.png"]
    assert [path.name for path in image_files(tmp_path)] == ["0.png", "1.png", "2.png"]


def test_folder_with_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        unfamiliar_source(str(tmp_path), None, seed=0)
    with pytest.raises(InputError, match="holds no images"):
        image_files(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match="no readable image among 3 files"):
        unfamiliar_source(str(tmp_path), None, seed=0)


def test_limit_chooses_by_seed(tmp_path: Path) -> None:
    for index in range(9):
        draw(tmp_path / f"{index}.png", column=index)
    chosen = unfamiliar_source(str(tmp_path), None, seed=1, limit=4).sources
    assert chosen == unfamiliar_source(str(tmp_path), None, seed=1, limit=4).sources == sorted(chosen)
    assert len(set(chosen)) == 4
    assert any(chosen != unfamiliar_source(str(tmp_path), None, seed=s, limit=4).sources for s in range(2, 6))
    assert len(unfamiliar_source(str(tmp_path), None, seed=1, limit=99)) == 9
    with pytest.raises(InputError, match="at least 1"):
        unfamiliar_source(str(tmp_path), None, seed=1, limit=0)


@pytest.mark.parametrize("name", GENERATED)
def test_generated_sets_follow_from_the_seed(name: str) -> None:
    first, again, other = (unfamiliar_source(name, None, seed=seed) for seed in (3, 3, 4))
    assert first.images.shape == (1000, 1, 28, 28)
    assert first.images.dtype == torch.float32
    assert first.images.min() >= 0
    assert first.images.max() <= 1
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert len(torch.unique(first.images, dim=0)) == 1000
    assert first.sources[17] == f"{name}[17]"


def test_generated_sets_are_what_their_names_say() -> None:
    images = {name: unfamiliar_source(name, None, seed=0).images for name in GENERATED}
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
        unfamiliar_source("noise", None, seed=-1)


def test_limited_noise_is_part_of_the_whole() -> None:
    whole, part = (unfamiliar_source("noise", None, seed=0, limit=limit) for limit in (None, 5))
    index = [whole.sources.index(source) for source in part.sources]
    assert torch.equal(part.images, whole.images[index])


@pytest.mark.parametrize("name", TORCHVISION)
def test_absent_torchvision_set_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{name} is not in .*raw.*--data-dir.*--download"):
        unfamiliar_source(name.lower(), tmp_path, seed=0)


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
    source = unfamiliar_source("FashionMNIST", tmp_path, seed=0)
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
    source = unfamiliar_source("EMNIST", tmp_path, seed=0)
    assert torch.equal(source.images, prepare(images.transpose(0, 2, 1).copy()))


def test_damaged_torchvision_set_says_so(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    write_fashion(raw)
    file = raw / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged or incomplete in"):
        unfamiliar_source("FashionMNIST", tmp_path, seed=0)


@pytest.mark.parametrize("load", [familiar_source, unfamiliar_source])
def test_unknown_name(load: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere: name a folder"):
        load(str(tmp_path / "nowhere"), tmp_path, seed=0)


def test_familiar_digits_of_scikit_learn() -> None:
    source = familiar_source("digits", None, seed=0, limit=30)
    assert source.labels is not None
    assert len(source) == len(source.labels) == len(source.sources) == 30
    assert set(source.labels.tolist()) <= set(range(10))


@pytest.mark.slow
def test_digits_from_elsewhere_are_all_of_them_unless_learnt() -> None:
    test_part = familiar_source("digits", None, seed=0)
    whole = elsewhere_source("digits", None, trained_on="mnist", seed=0)
    assert whole.labels is not None
    assert test_part.labels is not None
    assert len(whole) == len(whole.labels) == len(set(whole.sources)) == 1797
    assert torch.equal(whole.images[-len(test_part) :], test_part.images)
    assert whole.labels[-len(test_part) :].tolist() == test_part.labels.tolist()
    learnt = elsewhere_source("digits", None, trained_on="digits", seed=0)
    assert torch.equal(learnt.images, test_part.images)
    limited = elsewhere_source("digits", None, trained_on=None, seed=0, limit=7)
    index = [whole.sources.index(source) for source in limited.sources]
    assert torch.equal(limited.images, whole.images[index])


def test_digits_from_elsewhere_may_be_a_folder(tmp_path: Path) -> None:
    draw(tmp_path / "3" / "a.png")
    source = elsewhere_source(str(tmp_path), None, trained_on="mnist", seed=0)
    assert source.labels is not None
    assert (source.sources, source.labels.tolist()) == (["3/a.png"], [3])


def test_part_keeps_images_labels_and_sources_together(tmp_path: Path) -> None:
    whole = familiar_source("digits", None, seed=0)
    part = whole.part(9, seed=1)
    assert whole.labels is not None
    assert part.labels is not None
    index = [whole.sources.index(source) for source in part.sources]
    assert len(set(index)) == 9
    assert torch.equal(part.images, whole.images[index])
    assert part.labels.tolist() == whole.labels[index].tolist()
    assert part.sources != whole.part(9, seed=2).sources
    assert whole.part(10**6, seed=1).sources == whole.sources
    with pytest.raises(InputError, match="at least 1"):
        whole.part(0, seed=1)
    (tmp_path / "bad.png").touch()
    draw(tmp_path / "good.png")
    assert unfamiliar_source(str(tmp_path), None, seed=0).part(1, seed=0).unreadable == []  # told once


def test_familiar_folder_has_its_labels_from_its_folders(tmp_path: Path) -> None:
    for name in ("7/a.png", "1/c.png", "1/sub/b.png", "x/d.png", "e.png"):
        draw(tmp_path / name)
    (tmp_path / "7" / "bad.png").touch()
    source = familiar_source(str(tmp_path), None, seed=0)
    assert source.labels is not None
    assert dict(zip(source.sources, source.labels.tolist(), strict=True)) == {
        "1/c.png": 1,
        "1/sub/b.png": 1,
        "7/a.png": 7,
    }
    assert [file for file, _ in source.unreadable] == ["7/bad.png", "e.png", "x/d.png"]


def test_familiar_folder_without_digits(tmp_path: Path) -> None:
    draw(tmp_path / "A" / "a.png")
    with pytest.raises(InputError, match="sub-folders named 0 to 9"):
        familiar_source(str(tmp_path), None, seed=0)


@pytest.mark.parametrize(
    ("name", "escaped"), [("ä 9.png", "ä 9.png"), ("a\nb\x1b", r"a\nb\x1b"), ("\udcff", r"\udcff")]
)
def test_names_are_made_printable(name: str, escaped: str) -> None:
    assert printable(name) == escaped
