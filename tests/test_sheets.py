"""Sheets on the page: pictures of several digits are read within bounds, shown with boxes, and downloaded."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from bnn.app import sheets
from bnn.app.drawings import BOXES, sheet_svg
from bnn.app.examples import examples
from bnn.app.many import Decisions, as_plain, decisions, shown, with_sheets
from bnn.app.sheets import MOST_MARKS, MOST_MARKS_TOGETHER, read_sheets, sheets_html
from bnn.app.uploads import Images, SavedFile, read_files
from bnn.classifier import Classifier
from bnn.decisions import digits_csv
from bnn.reading import Mark, read

PICTURES = {example.name: example.image for example in examples()}
HOSTILE = "<script>alert(1)</script>\"'&.png"
SVG = "{http://www.w3.org/2000/svg}"


def sheet(*names: str, side: int = 120) -> Image.Image:
    """Examples side by side, black on white."""
    paper = Image.new("L", (side * len(names), side), 255)
    for place, name in enumerate(names):
        paper.paste(PICTURES[name].resize((side, side)), (place * side, 0))
    return paper


def dots(count: int) -> Image.Image:
    """So many dots of 5×5, that are far apart."""
    pixels = np.full((20 * (1 + count // 30), 600), 255, np.uint8)
    for place in range(count):
        top, left = 20 * (place // 30) + 7, 20 * (place % 30) + 7
        pixels[top : top + 5, left : left + 5] = 0
    return Image.fromarray(pixels)


def content(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """A number, a digit, a sheet with a doubtful digit and a tree, and two marks in 28×28."""
    pictures = {
        "number.png": sheet("4", "0", "7", "1"),
        "digit.png": sheet("3"),
        HOSTILE: sheet("8", "4 or 9", "a tree", "2"),
        "small.png": sheet("1", "1", side=14).resize((28, 28)),
    }
    folder, files = tmp_path_factory.mktemp("sheets"), []
    for number, (name, image) in enumerate(pictures.items()):
        path: Path = folder / f"{number}.png"
        path.write_bytes(content(image))
        files.append(SavedFile(str(path), name))
    return read_files(files)


@pytest.fixture(scope="module")
def decided(classifier: Classifier, given: Images) -> Decisions:
    return with_sheets(decisions(classifier, given), classifier, given.several.items())


def test_pictures_of_several_marks_are_sheets_and_no_others(decided: Decisions, given: Images) -> None:
    assert list(given.several) == list(decided.sheets) == [0, 2]
    assert decided.sheets[0].reading.number == "4071"
    assert decided.unread == []


def test_a_sheet_is_read_as_bnn_read_does(classifier: Classifier, decided: Decisions, given: Images) -> None:
    for index, one in decided.sheets.items():
        assert one.reading == read(given.several[index], classifier)


def test_what_is_no_sheet_is_judged_and_shown_as_without_them(
    classifier: Classifier, decided: Decisions, given: Images
) -> None:
    without = decisions(classifier, given)
    for index in (1, 3):
        assert decided.rows[index] == without.rows[index]
    assert ["reading" in row for row in decided.rows] == [True, False, True, False]


def test_one_mark_found_among_several_is_no_sheet(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = read(sheet("3"), classifier)
    monkeypatch.setattr(sheets, "read", lambda *_: alone)
    assert read_sheets(classifier, [(0, content(sheet("3", "1")))], ["3.png"]) == ({}, [])


def test_a_box_a_digit_of_the_kind_of_its_reason_where_the_reading_has_it(decided: Decisions) -> None:
    for one in decided.sheets.values():
        marks = one.reading.marks
        svg = ET.fromstring(sheet_svg(one.url, one.size, marks, "a sheet"))
        boxes = svg.findall(f"{SVG}g")
        for box, mark in zip(boxes, marks, strict=True):
            rectangle, said = box.find(f"{SVG}rect"), box.find(f"{SVG}text")
            assert rectangle is not None
            assert said is not None
            left, top, width, height = (
                float(rectangle.attrib[name]) for name in ("x", "y", "width", "height")
            )
            assert (left, top, left + width, top + height) == mark.box
            assert said.text == (mark.answer or "?")
            assert box.attrib["class"] == f"mark {mark.reason if mark.reason in BOXES else 'quality'}"
    assert Counter(mark.answer is None for mark in decided.sheets[2].reading.marks)[True] >= 1


@pytest.mark.parametrize("reason", ["too small", "unclear cut", "cut off"])
def test_what_no_rule_refused_is_of_quality(reason: str) -> None:
    svg = sheet_svg("data:,", (9, 9), [Mark((1, 2, 3, 4), None, reason, 0.5, ())], "a sheet")
    assert 'class="mark quality"' in svg
    assert f"<title>?: {reason}</title>" in svg


def test_the_page_shows_text_and_counts_of_sheets(decided: Decisions) -> None:
    told = shown(decided)
    assert "2 read as sheets" in told.summary
    assert "Sheets (2)" in told.gallery
    assert "<pre>4 0 7 1</pre>" in told.gallery
    assert "<td>4 0 7 1</td><td>4 of 4 digits answered</td>" in told.table
    assert HOSTILE not in told.gallery + told.table + told.summary
    assert sheets_html([]) == ""


def test_downloads_hold_what_sheets_read_and_where(decided: Decisions) -> None:
    lines = list(csv.DictReader(io.StringIO(decided.csv(), newline="")))
    texts = [decided.sheets[index].reading.text if index in decided.sheets else "" for index in range(4)]
    assert [line["reads"] for line in lines] == texts
    images = json.loads(json.dumps(as_plain(decided)))["images"]
    assert [one.get("reading", {}).get("text", "") for one in images] == texts
    assert 'download="digits.csv"' in shown(decided).summary


def test_digits_as_csv_come_back(decided: Decisions) -> None:
    reading = decided.sheets[2].reading
    lines = list(csv.DictReader(io.StringIO(digits_csv([(HOSTILE, reading)]), newline="")))
    for line, mark in zip(lines, reading.marks, strict=True):
        assert line["file"] == HOSTILE
        assert tuple(int(line[side]) for side in ("left", "top", "right", "bottom")) == mark.box
        assert (line["decision"], line["reason"]) == (mark.answer or "refused", mark.reason)


def test_a_sheet_of_too_many_marks_is_not_read(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "read", lambda *_: pytest.fail("read"))
    found, unread = read_sheets(classifier, [(0, content(dots(MOST_MARKS + 1)))], ["dots.png"])
    assert found == {}
    assert [(one.name, one.why) for one in unread] == [
        ("dots.png", f"it has more than {MOST_MARKS} marks: cut it into parts, or use bnn read.")
    ]


def test_sheets_together_are_bounded(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    number = read(sheet("1", "7"), classifier)
    monkeypatch.setattr(sheets, "read", lambda *_: number)
    files = [(index, content(dots(MOST_MARKS))) for index in range(1 + MOST_MARKS_TOGETHER // MOST_MARKS)]
    files.append((len(files), content(sheet("1", "7"))))  # there is still room for a small one
    found, unread = read_sheets(classifier, files, [f"{index}.png" for index, _ in files])
    assert len(found) == MOST_MARKS_TOGETHER // MOST_MARKS + 1
    assert [one.name for one in unread] == [f"{len(files) - 2}.png"]
    assert unread[0].why.endswith("marks together: upload it by itself.")


def test_what_was_not_read_stays_refused_and_is_told(classifier: Classifier, given: Images) -> None:
    files = [(0, content(dots(MOST_MARKS + 1)))]
    decided = with_sheets(decisions(classifier, given), classifier, files)
    assert (decided.sheets, decided.rows[0]["label"]) == ({}, None)
    told = shown(decided).summary
    assert "1 file with several marks could not be read as a sheet" in told
    assert "read as sheets" not in told
    assert "reads" not in decided.csv().splitlines()[0]
