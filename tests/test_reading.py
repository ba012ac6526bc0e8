"""Reading numbers, lines, pages and forms: made of real digits, from seeds."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont
from torch import Tensor

import bnn
import bnn.reading as reading_
from bnn.classifier import Classifier
from bnn.core.task import Task
from bnn.data.digits import Labelled
from bnn.data.imageset import ImageSet
from bnn.data.segmentation import Piece, Row, Segmentation
from bnn.errors import InputError
from bnn.reading import Mark, Reading, promised, read

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # its scripts import one another as scripts do

from read_numbers import found_digits  # noqa: E402
from written_numbers import KINDS, written_numbers  # noqa: E402

Grey = NDArray[np.uint8]
DIGIT = 56  # pixels of a digit's side on the pages here


@pytest.fixture(scope="session")
def digits(mnist_root: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Digits that were held out of training, for numbers to be put together from."""
    _, held_out = ImageSet.from_name("mnist", mnist_root, part="train").split_calibration(0)
    return held_out.images[:, 0].numpy(), held_out.truth().numpy()


@pytest.fixture(scope="session")
def surely(classifier: Classifier, mnist_test: Labelled) -> Callable[[int], Grey]:
    """Of each digit one picture that is answered rightly, dark on white."""
    images = mnist_test.images[:300]
    prediction = classifier.predict(images)
    right = prediction.labels == mnist_test.labels[:300].numpy()
    sure = np.where(right & (prediction.total < 0.01) & (prediction.ood_score < 10))[0]
    chosen = {int(prediction.labels[index]): images[index, 0].numpy() for index in reversed(sure)}

    def digit(label: int) -> Grey:
        image = Image.fromarray((255 - 255 * chosen[label]).astype(np.uint8))
        return np.asarray(image.resize((DIGIT, DIGIT), Image.Resampling.BICUBIC))

    return digit


@pytest.fixture(scope="session")
def page(surely: Callable[[int], Grey]) -> Callable[..., Image.Image]:
    """Makes a page of rows of digits, a cell each; what is no digit is left blank."""

    def made(*rows: str, apart: int = 0) -> Image.Image:
        cell = DIGIT + apart
        paper = np.full((cell * len(rows), cell * max(map(len, rows))), 255, np.uint8)
        for top, row in enumerate(rows):
            for left, character in enumerate(row):
                if character.isdecimal():
                    place = slice(top * cell, top * cell + DIGIT), slice(left * cell, left * cell + DIGIT)
                    paper[place] = surely(int(character))
        return Image.fromarray(paper)

    return made


def test_a_number_is_read_with_its_leading_zeros(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    reading = read(page("007"), classifier)
    assert reading.number == "007"
    assert reading.text == "0 0 7"
    assert reading.reason == "answered"
    assert reading.numbers == ("007",)


@pytest.mark.parametrize("label", range(10))
def test_a_picture_of_one_digit_gives_one_with_the_answer_that_it_has_by_itself(
    label: int, page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    picture = page(str(label))
    (mark,) = read(picture, classifier).marks
    assert mark.answer == classifier.predict(picture).decision(0) == str(label)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_found_where_they_are_and_hardly_ever_answered_wrongly(
    kind: str, digits: tuple[NDArray[np.float32], NDArray[np.int64]], classifier: Classifier
) -> None:
    count, found_at_least, answered_at_least, wrong_at_most = (
        (40, 0.8, 0.3, 0.05) if kind == "touching" else (12, 0.95, 0.6, 0)
    )
    numbers = written_numbers(*digits, kind, count=count, seed=3)
    readings = [read(Image.fromarray(number.picture), classifier) for number in numbers]
    found = np.concatenate(
        [found_digits(number, reading) for number, reading in zip(numbers, readings, strict=True)]
    )
    assert found.mean() > found_at_least
    answered = [
        (number.text, reading.number)
        for number, reading in zip(numbers, readings, strict=True)
        if reading.number is not None
    ]
    assert len(answered) >= answered_at_least * count
    assert sum(text != read_as for text, read_as in answered) <= wrong_at_most * count


def test_a_page_is_read_row_by_row_and_has_a_number_in_each(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    reading = read(page("123", "45", "06"), classifier)
    assert reading.text == "1 2 3\n4 5\n0 6"
    assert reading.numbers == ("123", "45", "06")
    assert reading.number is None
    assert reading.reason == "There are 3 rows, each with a number of its own."


def test_bright_ink_on_a_dark_ground_is_read_alike(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    dark = Image.fromarray(255 - np.asarray(page("472")))
    assert read(dark, classifier).number == "472"


def test_boxes_are_in_pixels_of_the_picture_however_large_it_is(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    picture = page("472", apart=8)
    small = np.array([mark.box for mark in read(picture, classifier).marks])
    large = picture.resize((16 * picture.width, 16 * picture.height), Image.Resampling.BICUBIC)
    assert max(large.size) > 3000  # which is more than the front end works on
    reading = read(large, classifier)
    assert reading.number == "472"
    np.testing.assert_allclose([mark.box for mark in reading.marks], 16 * small, atol=2 * 16)
    lefts = small[:, 0] // (DIGIT + 8)
    assert lefts.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_so_they_are_where_it_is_shrunk_or_turned_as_it_is_read(
    page: Callable[..., Image.Image], classifier: Classifier, tmp_path: Path, kind: str, orientation: int
) -> None:
    picture = page("4727", apart=8)
    small = np.array([mark.box for mark in read(picture, classifier).marks])
    scale = -(-4200 // picture.width)
    large = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lying = large if orientation == 1 else large.transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "large", kind, exif=exif)
    reading = read(tmp_path / "large", classifier)
    assert reading.number == "4727"
    boxes = np.array([mark.box for mark in reading.marks])
    np.testing.assert_allclose(boxes, scale * small, atol=2 * scale)
    assert (boxes >= 0).all()
    assert (boxes[:, [2, 3]] <= large.size).all()
    left, top, right, bottom = boxes[1].tolist()
    cell = (left - 4 * scale, top - 4 * scale, right + 4 * scale, bottom + 4 * scale)
    (marked,) = read(tmp_path / "large", classifier, boxes=[cell]).marks
    assert marked.answer == "7"
    np.testing.assert_allclose(marked.box, boxes[1], atol=2 * scale)


@pytest.mark.parametrize("mark", ["letter", "dash", "point"])
def test_what_is_no_digit_is_refused_and_so_is_the_number(
    mark: str, page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    picture = page("3 5")
    pen = ImageDraw.Draw(picture)
    if mark == "letter":
        pen.text((DIGIT + 8, 2), "W", font=ImageFont.load_default(40), fill=0)
    elif mark == "dash":
        pen.line((DIGIT + 14, 28, DIGIT + 44, 28), fill=0, width=6)
    else:
        pen.ellipse((DIGIT + 24, 38, DIGIT + 31, 45), fill=0)
    reading = read(picture, classifier)
    assert reading.text == "3 ? 5"
    assert reading.number is None
    refused = reading.marks[1]
    assert refused.answer is None
    assert (refused.reason == "too small") == (mark == "point")
    assert reading.reason == f"Of 3 digits 1 cannot be told (1 {refused.reason})."


def test_a_grid_has_a_digit_or_nothing_in_each_cell(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    picture = page("12345", "6 890")
    reading = read(picture, classifier, grid=(2, 5))
    assert reading.text == "1 2 3 4 5\n6 ? 8 9 0"
    assert reading.numbers == ("12345", None)
    empty = reading.rows[1][1]
    assert (empty.reason, empty.box) == ("blank", (DIGIT, DIGIT, 2 * DIGIT, 2 * DIGIT))
    cells = [(mark.box[0] // DIGIT, mark.box[1] // DIGIT) for mark in reading.marks]
    assert cells == [(column, row) for row in range(2) for column in range(5)]


def test_a_form_of_ruled_cells_is_read_without_its_lines(
    page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    picture = page("30472")
    pen = ImageDraw.Draw(picture)
    for column in range(6):
        pen.line((column * DIGIT, 0, column * DIGIT, DIGIT), fill=90, width=2)
    for top in (0, DIGIT - 1):
        pen.line((0, top, picture.width, top), fill=90, width=2)
    assert read(picture, classifier, grid=(1, 5)).number == "30472"


def test_places_of_cells_may_be_given(page: Callable[..., Image.Image], classifier: Classifier) -> None:
    picture = page("12345")
    boxes = [(left * DIGIT, 0, (left + 1) * DIGIT, DIGIT) for left in (3, 0)]
    assert read(picture, classifier, boxes=boxes).number == "41"
    half = [(0, 0, DIGIT, DIGIT // 2)]
    (cut,) = read(page("1"), classifier, boxes=half).marks
    assert (cut.answer, cut.reason) == (None, "cut off")
    two = [(0, 0, 2 * DIGIT, DIGIT)]
    (several,) = read(picture, classifier, boxes=two).marks
    assert (several.answer, several.reason, several.box) == (None, "several marks", two[0])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grid": (100, 3)}, "a grid of 100x3 does not fit a picture of 112x56 pixels"),
        ({"grid": (0, 3)}, "at least one row and one column"),
        ({"boxes": [(0, 0, 56, 56), (100, 0, 120, 56)]}, "the box 100,0,120,56 does not lie within"),
        ({"boxes": [(9, 0, 9, 56)]}, "does not lie within"),
        ({"grid": (1, 2), "boxes": []}, "not both"),
    ],
)
def test_cells_that_do_not_fit_are_one_sentence(
    options: dict[str, object], sentence: str, page: Callable[..., Image.Image], classifier: Classifier
) -> None:
    with pytest.raises(InputError, match=sentence):
        read(page("12"), classifier, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((1, 1), np.uint8),
        np.full((1, 5000), 200, np.uint8),
        np.full((300, 200), 131, np.uint8),
        np.full((28, 28, 3), 255, np.uint8),
    ],
    ids=["dot", "line", "grey", "white"],
)
def test_a_page_without_any_digit_says_so(picture: Grey, classifier: Classifier) -> None:
    reading = read(picture, classifier)
    assert (reading.rows, reading.text, reading.number) == ((), "", None)
    assert reading.reason == "No digit was found."
    assert repr(reading) == "Reading: no digit"


def test_noise_is_never_a_number(classifier: Classifier) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    assert read(noise, classifier).number is None


@pytest.mark.parametrize("side", [4, 8])
def test_of_noise_so_much_is_judged_at_most_and_one_sentence_says_so(
    side: int, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    seen = reading_._seen

    def counted(found: Segmentation, pieces: Sequence[tuple[Row, Piece]]) -> Tensor:
        judged.append(len(pieces))
        return seen(found, pieces)

    monkeypatch.setattr(reading_, "_seen", counted)
    noise = (np.random.default_rng(0).random((1600 // side, 1600 // side)) < 0.8).astype(np.float32)
    picture = np.kron(noise, np.ones((side, side), np.float32))
    with suppress(InputError):
        read(picture, classifier)
    assert max(judged, default=0) <= reading_.MOST_PIECES
    with pytest.raises(InputError, match=r"^the picture has more marks than a page of digits: [^.]*\.$"):
        reading_._require_few([...] * (reading_.MOST_PIECES + 1))


def test_the_promise_for_a_number_is_its_digits_risks_together(classifier: Classifier) -> None:
    loaded = Classifier.load()
    assert "numbers of 4 digits" in promised(loaded, 4)
    assert "at most 0.8\N{NO-BREAK SPACE}%" in promised(loaded, 4)
    assert "1 digit like" in promised(loaded, 1)
    assert "100\N{NO-BREAK SPACE}%" in promised(loaded, 100_000)
    assert promised(classifier, 4).startswith("Nothing is promised")  # of another number of draws
    assert promised(loaded.with_promise(rule="confidence"), 4).startswith("Nothing is promised")


def test_why_there_is_no_number_counts_the_reasons() -> None:
    marks = [
        Mark((i, 0, i + 1, 1), answer, reason, 0.9, ())
        for i, (answer, reason) in enumerate(
            [("4", "answered"), (None, "ambiguous"), (None, "unfamiliar"), (None, "ambiguous")]
        )
    ]
    reading = Reading((tuple(marks),), "")
    assert reading.text == "4 ? ? ?"
    assert reading.reason == "Of 4 digits 3 cannot be told (2 ambiguous, 1 unfamiliar)."


def test_only_what_is_laid_out_as_digits_are_can_be_read(untrained: Callable[..., Classifier]) -> None:
    from bnn.data.preprocess import LAYOUTS

    LAYOUTS["other"] = LAYOUTS["mnist"]
    try:
        other = untrained("mlp", {"hidden": 16}, Task(("a", "b"), layout="other"))
        with pytest.raises(InputError, match="layout 'other'"):
            bnn.read(np.zeros((40, 40), np.uint8), other)
    finally:
        del LAYOUTS["other"]


def test_what_is_no_picture_is_one_sentence(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="not dict"):
        read({}, classifier)
    with pytest.raises(InputError, match="there is no file"):
        read("nowhere.png", classifier)


@pytest.mark.slow
def test_a_sheet_of_digits_is_read_whole(page: Callable[..., Image.Image], classifier: Classifier) -> None:
    rows = ["0123456789", "9876543210"] * 3
    reading = read(page(*rows, apart=6), classifier)
    assert [len(row) for row in reading.rows] == [10] * 6
    told = [mark.answer for mark in reading.marks]
    assert all(answer in (None, digit) for answer, digit in zip(told, "".join(rows), strict=True))
    assert sum(answer is not None for answer in told) >= 57


@pytest.mark.slow
def test_the_measurement_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "read_numbers.py"), "--tiny"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    lines = [line.split("│")[1].strip() for line in printed.splitlines() if "│" in line]
    assert lines == list(KINDS)


def test_its_numbers_are_the_same_from_a_seed_and_touch_where_they_should(
    digits: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    for kind in KINDS:
        one, other = (written_numbers(*digits, kind, 20, seed=5) for _ in range(2))
        assert all((a.picture == b.picture).all() for a, b in zip(one, other, strict=True))
        gaps = [
            right[0] - left[2]
            for number in one
            for left, right in zip(number.boxes, number.boxes[1:], strict=False)
        ]
        assert (min(gaps) > 0) == (kind != "touching")
