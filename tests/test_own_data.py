"""Data of one's own: folders, CSV and .npz in, and a checkpoint that calls its classes by their names."""

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from bnn.app.card import results_html
from bnn.app.draw import look
from bnn.app.page import build_page
from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.core.task import DIGITS, Task, worded
from bnn.data.copies import SEEN, marked, marks_of
from bnn.data.imageset import ImageSet
from bnn.data.own import LEAST, own_data
from bnn.data.pixels import Table, read_table
from bnn.data.preprocess import prepare
from bnn.errors import InputError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAGE = (Path(__file__).parents[1] / "docs" / "own-data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ bnn (.*)$", PAGE, re.MULTILINE)
COUNT, APART = 600, 120  # digits, and those of them that are kept apart
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def bundled() -> tuple[Bytes, list[str]]:
    """Those of scikit-learn's digits that `docs/own-data.md` takes, as bytes (N, 8, 8), and their names."""
    bunch = load_digits()
    images, labels = bunch.images[:COUNT], bunch.target[:COUNT]
    return (images * 255 / 16).astype(np.uint8), [WORDS[label] for label in labels]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's Python makes; then a file that is no image, and one that is there twice."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    place = tmp_path_factory.mktemp("own")
    with chdir(place):
        exec(compile(program, "own-data.md", "exec"), {})
    root = place / "words"
    (root / "one" / "broken.png").write_bytes(b"no image")
    (root / "zero" / "twice.png").write_bytes((root / "zero" / "0000.png").read_bytes())
    return root


def done(command: str, folder: Path) -> int:
    """Runs the page's line that begins with `command` as written, beside the folder; its exit status."""
    (line,) = [line for line in COMMANDS if line.startswith(command)]
    with chdir(folder.parent):
        return main(shlex.split(line))


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The checkpoint that the page's `bnn train` makes."""
    assert done("train", folder) == 1  # of the two files that were left out
    return folder.parent / "words.safetensors"


# What is read.


def written(path: Path, images: Bytes, labels: Sequence[str], *, heads: str = "", at: int = 0) -> Path:
    """A CSV of `images` with their `labels` in the column `at`."""
    rows = [image.ravel().astype(str).tolist() for image in images]
    lines = [",".join([*row[:at], label, *row[at:]]) for row, label in zip(rows, labels, strict=True)]
    path.write_text("\n".join([heads, *lines] if heads else lines) + "\n")
    return path


def test_folder_csv_and_npz_are_the_same_images(
    bundled: tuple[Bytes, list[str]], folder: Path, tmp_path: Path
) -> None:
    images, names = bundled
    csv_file = written(tmp_path / "own.csv", images, names)
    np.savez(tmp_path / "own.npz", images=images, labels=np.array(names))
    by_hash = []
    for spec in (folder, csv_file, tmp_path / "own.npz"):
        own, task = own_data(str(spec), "as-is")
        assert task == Task(tuple(sorted(WORDS)), "as-is", "moved")
        keys = [
            (image.numpy().tobytes(), int(label))
            for image, label in zip(own.images, own.truth(), strict=True)
        ]
        by_hash.append(sorted(keys))
    assert by_hash[0] == by_hash[1] == by_hash[2]
    assert len(by_hash[0]) == COUNT


@given(
    n=st.integers(1, 6),
    side=st.integers(1, 7),
    headed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    at=st.integers(0, 3),
)
def test_a_csv_comes_back_as_it_was_written(
    n: int, side: int, headed: bool, seed: int, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, side, side), np.uint8)
    images[0, 0, 0] = 255
    labels = rng.choice(["cat", "dog", "7"], n).tolist()
    at = min(at, side * side) if headed else 0
    pixels = [f"p{index}" for index in range(side * side)]
    heads = ",".join([*pixels[:at], " Label", *pixels[at:]]) if headed else ""
    table = read_table(written(tmp_path_factory.mktemp("csv") / "x.csv", images, labels, heads=heads, at=at))
    np.testing.assert_array_equal(table.images, images)
    assert table.images.dtype == np.uint8
    assert list(table.labels) == labels
    assert table.places[0] == f"line {1 + headed}"


def test_numbers_come_in_the_order_of_their_size_and_fractions_are_kept(tmp_path: Path) -> None:
    images = np.linspace(0, 1, 3 * 784, dtype=np.float64).reshape(3, 784)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([10, 9, 0]))
    table = read_table(tmp_path / "x.npz")
    assert table.names == ["0", "9", "10"]
    np.testing.assert_allclose(table.images, images.reshape(3, 28, 28), atol=1e-7)


def test_an_npz_may_name_its_classes(tmp_path: Path) -> None:
    colour = np.full((3, 5, 4, 3), 200, np.int64)
    np.savez(tmp_path / "x.npz", images=colour, labels=np.array([1, 1, 0]), names=np.array(["b", "a"]))
    table = read_table(tmp_path / "x.npz")
    assert (list(table.names), list(table.labels)) == (["b", "a"], ["a", "a", "b"])
    assert table.images.dtype == np.uint8
    assert ImageSet.from_table(table, task=Task(("a", "b", "c"), "as-is")).truth().tolist() == [0, 0, 1]


def arrays(**given: Any) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        np.savez(root / "x.npz", **given)
        return root / "x.npz"

    return write


def text(content: str | bytes) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "x.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return root / "x.csv"

    return write


IMAGES, LABELS = np.zeros((4, 28, 28)), np.array([0, 1, 0, 1])
NAN = IMAGES.copy()
NAN[2, 3, 4] = np.nan


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (arrays(labels=LABELS), "has no array 'images': name its arrays images and labels"),
        (
            arrays(images=IMAGES, labels=LABELS[:3]),
            r"has 4 images and labels of shape \(3,\): give one label",
        ),
        (arrays(images=NAN, labels=LABELS), "^image 2 of .*has a pixel that is NaN or not from 0 to 255"),
        (arrays(images=IMAGES - 1, labels=LABELS), "^image 0 of .*has a pixel that is NaN or not from 0"),
        (arrays(images=IMAGES + 1.5, labels=LABELS), "has pixels above 1 that are not whole"),
        (
            arrays(images=np.zeros((4, 783)), labels=LABELS),
            "have 783 pixels, and none are square with so many",
        ),
        (arrays(images=np.zeros((0, 28, 28)), labels=LABELS), r"are float64 \(0, 28, 28\): give numbers"),
        (arrays(images=IMAGES, labels=LABELS / 2), "labels in .* are float64: give names, or whole numbers"),
        (
            arrays(images=IMAGES, labels=LABELS * 2, names=np.array(["a", "b"])),
            "^image 1 in .*has the label 2, and its names go from 0 to 1",
        ),
        (
            arrays(images=IMAGES, labels=np.array([None, 1, 2, 3])),
            "cannot be read as an .npz of plain arrays",
        ),
        (text(""), "is empty: give a line an image"),
        (text("label,p0\n"), "holds no images"),
        (
            text("a,1,2,3,4\nb,1,2,3\n"),
            "line 2 of .*has 3 pixels, and the first image has 4: give all images one",
        ),
        (text("a,1,2,3,4\nb,1,2,x,4\n"), "line 2 of .*has 'x' for a pixel: give numbers"),
        (text("a,1,2,3,4\nb,1,nan,3,4\n"), "^line 2 of .*has a pixel that is NaN"),
        (text("a,1,2,3,4\n,1,2,3,4\n"), "^line 2 of .* has no label: name its class"),
        (text("kind,p0,p1\na,1,2\n"), "has heads, none of which is 'label'"),
        (text(b"a,1,2,3,\xff\xfe\n"), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_what_to_do(
    make: Callable[[Path], Path], why: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=why) as error:
        read_table(make(tmp_path))
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


def test_a_file_that_is_no_archive_says_so(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 cut short", b"no archive at all"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npz cannot be read[^\n]*\.$"):
            read_table(tmp_path / "x.npz")


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (6, 99)], ids=["encrypted", "of a newer program"])
def test_an_npz_that_cannot_be_unpacked_says_so(tmp_path: Path, offset: int, value: int) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(b"PK\1\2") + offset] = value
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz cannot be read[^\n]*\.$"):
        read_table(tmp_path / "x.npz")


def test_a_label_that_is_no_class_of_the_task_is_named() -> None:
    table = Table(np.zeros((2, 28, 28)), ["cat", "cow"], ["cat", "cow"], ["line 1", "line 2"])
    with pytest.raises(
        InputError, match=r"^line 2 of table is of the class 'cow', none of this task's 2, 'cat'"
    ):
        ImageSet.from_table(table, task=Task(("cat", "dog")))


# What is learnt of it.


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """So many pictures, all different, in `folder`."""
    folder.mkdir(parents=True)
    for index, image in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 9, 7), np.uint8)):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (
            {},
            "has 0 sub-folders, which are the classes, and 2 to 100 can be learnt: sort its images into more",
        ),
        ({"cat": 20}, "has 1 sub-folders, which are the classes, and 2 to 100 can be learnt"),
        ({str(name): 1 for name in range(101)}, "has 101 sub-folders, .*: leave some out"),
        (
            {"cat": 20, "dog": LEAST - 1},
            "the class 'dog' in .* has 9 usable images, and each needs 10: add some",
        ),
        (
            {"cat": 20, "cow": 20, "dog": 0},
            "the class 'dog' in .* has 0 usable images, .*, or leave the class out",
        ),
        ({"train": 20, "test": 20}, "are test and train, which are no classes: name one of these, such as"),
        ({"cat": 0, "dog": 0}, "has no images in sub-folders named cat to dog"),
    ],
)
def test_a_folder_that_cannot_be_learnt_says_why(counts: dict[str, int], why: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for seed, (name, count) in enumerate(counts.items()):
        pictures(tmp_path / "own" / name, count, seed)
    with pytest.raises(InputError, match=why) as error:
        own_data(str(tmp_path / "own"), "as-is")
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


def test_copies_are_left_out_and_those_of_two_classes_altogether(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        pictures(tmp_path / name, 12, seed)
    (tmp_path / "cat" / "again.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes())
    (tmp_path / "dog" / "cat.png").write_bytes((tmp_path / "cat" / "1.png").read_bytes())
    Image.new("L", (9, 7), 80).save(tmp_path / "cat" / "nothing.png")
    own, _ = own_data(str(tmp_path), "as-is")
    assert dict(own.unreadable) == {
        "cat/again.png": "it is a copy of cat/0.png.",
        "cat/1.png": "it is a copy of dog/cat.png, of another class.",
        "dog/cat.png": "it is a copy of cat/1.png, of another class.",
        "cat/nothing.png": "nothing is drawn there.",
    }
    assert len(own) == 23
    assert "cat/0.png" in own.sources


def test_a_picture_as_it_is_keeps_its_shape_amid_its_ground() -> None:
    picture = np.full((56, 28), 0.25, np.float32)
    picture[20:30] = 0.75
    (seen,) = prepare(picture, "as-is")
    np.testing.assert_allclose(seen[0, :, :7], 0.25, atol=1e-6)
    np.testing.assert_allclose(seen[0, 10:15, 7:21], 0.75, atol=1e-6)
    exact = np.random.default_rng(0).random((28, 28), np.float32)
    as_file = Image.fromarray((exact * 255).astype(np.uint8))
    np.testing.assert_array_equal(prepare(as_file, "as-is")[0, 0] * 255, np.asarray(as_file, np.float32))


@given(st.lists(st.integers(LEAST, 40), min_size=2, max_size=5), st.floats(0.1, 0.5), st.integers(0, 2**31))
def test_the_split_has_its_share_of_each_class(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(labels), dtype=np.float32)[:, None] * np.ones((1, 784), np.float32) / 255
    images = ImageSet.from_arrays(numbers, labels, task=Task(tuple("abcde"[: len(counts)])))
    rest, part = images.split_by_class(seed, share)
    assert part.truth().bincount().tolist() == [round(share * count) for count in counts]
    assert sorted([*rest.sources, *part.sources]) == sorted(images.sources)
    again = images.split_by_class(seed, share)[1]
    assert again.sources == part.sources
    if len(rest) >= 40:  # the first of them stand for all
        assert rest.truth().tolist() != rest.truth().sort().values.tolist()


def test_marks_know_images_again_and_hostile_ones_are_refused() -> None:
    images = torch.rand(6, 1, 28, 28)
    marks = marks_of(images[2:4], marks_of(images[:1]))
    assert marked(images, marks).tolist() == [True, False, True, True, False, False]
    hostile: Any
    for hostile in (None, 7, [], "not base64!", {"a": 1}):
        with pytest.raises(InputError, match="damaged: train anew"):
            marked(images, hostile)


# From the folder to the report.


@pytest.mark.slow
def test_the_checkpoint_knows_its_classes_and_what_it_has_seen(trained: Path, folder: Path) -> None:
    classifier = Classifier.load(trained)
    assert classifier.task == Task(tuple(sorted(WORDS)), "as-is", "moved")
    data, config = classifier.record["data"], classifier.record["config"]
    assert data["name"] == config["data"] == "words"  # and not where they lay
    assert (data["left_out"], data["kept_apart"]) == (2, APART)
    assert data["trained_on"] + data["calibrated_on"] + data["kept_apart"] == COUNT
    own, _ = own_data(str(folder), "as-is")
    seen = marked(own.images, classifier.record[SEEN])
    rest, test = own.split_by_class(0, 0.2)
    assert {source for source, one in zip(own.sources, seen, strict=True) if one} == set(rest.sources)
    assert len(test) == APART


@pytest.mark.slow
def test_predict_says_the_class_s_name(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done("predict", folder) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^three +answered", said, re.MULTILINE)) > 10


@pytest.mark.slow
def test_evaluate_takes_only_what_it_has_not_seen(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "report"
    assert done("evaluate", folder) == 1
    said = capsys.readouterr()
    assert (
        f"{COUNT - APART} of {COUNT + 1} images of words were learnt or calibrated on, and are left out"
        in said.err
    )
    report = json.loads((out / "report.json").read_text())
    numbers = report["in_distribution"]
    assert numbers["n"] == APART
    assert numbers["accuracy"] > 0.8
    assert report["out_of_distribution"][0]["refused"] > 0.9
    assert SEEN not in json.dumps(report["settings"])
    assert report["classes"] == sorted(WORDS)
    assert {one["kind"] for one in numbers["by_class"]} == set(WORDS)
    assert sum(one["n"] for one in numbers["by_class"]) == APART
    page = re.sub(r"<style.*?</style>|<[^>]*>", " ", (out / "report.html").read_text(), flags=re.DOTALL)
    assert "zero" in page
    assert not re.search(r"\bdigits?\b", page.split("Settings")[0], re.IGNORECASE)
    assert [one["file"] for one in report["unreadable"]] == ["one/broken.png", "zero/twice.png"]


@pytest.mark.slow
def test_evaluate_asks_what_to_judge_on(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", f"--checkpoint={trained}", f"--out={tmp_path}"]) == 2
    assert "it has learnt data of one's own ('words'): name with --in-distribution" in capsys.readouterr().err


@pytest.mark.slow
def test_calibrating_on_the_rest_leaves_nothing_to_measure(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibrated.safetensors"
    assert done("calibrate", folder) == 0
    assert Classifier.load(folder.parent / "stricter.safetensors").promise.risk == 0.15
    options = [f"--digits={folder}", "--risk=0.3", f"--out={out}"]
    assert main(["calibrate", str(trained), *options]) == 1
    assert f"{COUNT - APART} of {COUNT + 1} images" in capsys.readouterr().err
    judged = ["evaluate", f"--checkpoint={out}", f"--in-distribution={folder}", f"--out={tmp_path}"]
    assert main(judged) == 2
    assert "all images of words were learnt or calibrated on: give others" in capsys.readouterr().err


# The page and the report.


@pytest.mark.slow
def test_the_page_says_the_classes_names_and_nowhere_digit(
    trained: Path, bundled: tuple[Bytes, list[str]]
) -> None:
    classifier = Classifier.load(trained)

    async def built() -> Any:
        return build_page(classifier).get_config_file()

    config = asyncio.run(built())
    assert config["title"] == "eight, five, four, nine …, or “I don't know”"
    shown = json.dumps([one["props"] for one in config["components"]])
    assert "Its 10 classes: eight, five, four" in shown
    assert "Easy" not in shown  # the examples are digits
    texts = [str(one["props"].get("value")) for one in config["components"] if one["type"] == "html"]
    visible = re.sub(r"<[^>]*>", " ", " ".join(texts))
    assert not re.findall(r".{40}\bdigits?\b.{40}", visible, re.IGNORECASE)


@pytest.mark.slow
def test_what_is_drawn_is_seen_on_the_ground_that_was_learnt(
    trained: Path, bundled: tuple[Bytes, list[str]]
) -> None:
    classifier = Classifier.load(trained)
    images, names = bundled
    drawn = Image.fromarray(255 - images[3]).resize((280, 280), Image.Resampling.BICUBIC)
    panels = look(classifier, drawn)
    assert f'<p class="headline">{names[3]}</p>' in panels.verdict
    assert f"networks say {names[3]}" in panels.verdict
    assert panels.steps.count("<img") == 2  # nothing is cut out
    assert "Draw one of its 10 classes" in look(classifier, None).verdict


@pytest.mark.slow
def test_the_card_names_the_hardest_class(trained: Path) -> None:
    by_class = [{"kind": "nine", "answered": 9, "errors": 2, "coverage": 0.9, "n": 10}]
    row = by_class[0] | {"intervals": {"coverage": [0.5, 1.0]}}
    numbers: dict[str, Any] = {
        **{"name": "words", "n": 10, "coverage": 0.9, "answered": 9, "errors": 2, "selective_risk": 2 / 9},
        **{"accuracy": 0.8, "nll": 0.1, "ece": 0.1, "aurc": 0.1, "by_class": [row]},
        "intervals": {name: [0.0, 1.0] for name in ("coverage", "selective_risk", "accuracy", "ece")},
    }
    evaluation = {"in_distribution": numbers, "out_of_distribution": [], "shifted": []}
    told = results_html({"evaluation": evaluation}, ("nine", "one"))
    assert "hardest class: nine, answered" in told
    assert "10 test images (words)" in told
    assert "hardest class" not in results_html({"evaluation": evaluation})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "A digit, the likeliest digit's share of 3 digits",
            "An image, the likeliest class's share of 3 images",
        ),
        ("Digits of the figure", "Images of the figure"),
        ("a digit of its digits", "an image of its images"),
    ],
)
def test_words_on_digits_become_words_on_images(text: str, said: str) -> None:
    assert worded(DIGITS.names, text) == text
    assert worded(("cat", "dog"), text) == said
