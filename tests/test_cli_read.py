"""`bnn read` on files: what it prints, what it writes, and what it says of what cannot be read."""

import csv
import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from bnn.cli.command import main

ROOT = Path(__file__).parents[1]
NUMBER, FOUR, STAR = (ROOT / "docs" / f"{name}.png" for name in ("number", "four", "star"))
READ = ["read", "--draws=6"]


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that `bnn` prints when it exits with status 2."""
    assert main([*READ, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    return error


def test_a_table_says_what_each_picture_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*READ, str(NUMBER), str(STAR)]) == 0
    head, number, star = capsys.readouterr().out.splitlines()
    assert head.split() == ["number", "reads", "why", "file"]
    assert number.split()[:6] == ["4071", "4", "0", "7", "1", "answered"]
    assert star.startswith("I don't know  ?")
    assert "cannot be told (1 unfamiliar)" in star


def test_csv_has_a_line_a_digit_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "digits.csv"
    assert main([*READ, str(NUMBER), str(STAR), "--out", str(out)]) == 0
    with out.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["decision"] for line in lines] == ["4", "0", "7", "1", "refused"]
    assert [line["position"] for line in lines] == ["1", "2", "3", "4", "1"]
    assert {line["row"] for line in lines} == {"1"}
    boxes = [[int(line[side]) for side in ("left", "top", "right", "bottom")] for line in lines[:4]]
    assert all(before[2] < after[0] for before, after in pairwise(boxes))
    with Image.open(NUMBER) as picture:
        width, height = picture.size
    assert all(
        0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in boxes
    )


def test_json_lines_have_a_line_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "digits.jsonl"
    assert main([*READ, str(NUMBER), str(STAR), "--out", str(out)]) == 0
    number, star = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert (number["number"], number["text"], number["numbers"]) == ("4071", "4 0 7 1", ["4071"])
    assert [mark["answer"] for mark in number["rows"][0]] == ["4", "0", "7", "1"]
    assert (star["number"], star["rows"][0][0]["answer"]) == (None, None)
    assert star["reason"] == "Of 1 digits 1 cannot be told (1 unfamiliar)."


def test_cells_are_given_as_a_grid_or_by_their_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = Image.new("L", (400, 200), 255)
    with Image.open(FOUR) as picture:
        four = picture.convert("L")
    for place in ((0, 0), (200, 0)):
        sheet.paste(four.resize((200, 200)), place)
    sheet.save(tmp_path / "sheet.png")
    assert main([*READ, str(tmp_path / "sheet.png"), "--grid", "1x2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("44 ")
    (tmp_path / "boxes.csv").write_text("left,top,right,bottom\n200,0,400,200\n", encoding="utf-8")
    assert main([*READ, str(tmp_path / "sheet.png"), "--boxes", str(tmp_path / "boxes.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("4 ")


def test_a_page_without_a_digit_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    assert main([*READ, str(tmp_path / "empty.png")]) == 0
    assert "No digit was found." in capsys.readouterr().out


def test_a_bad_file_among_good_ones_is_told_and_the_rest_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(NUMBER, tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    out = tmp_path / "out.jsonl"
    assert main([*READ, str(tmp_path), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "bad.png is not an image" in captured.err
    assert captured.err.count("\n") == 1
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1


def test_a_grid_that_does_not_fit_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*READ, str(NUMBER), "--grid", "200x2"]) == 1
    error = capsys.readouterr().err
    assert "number.png: a grid of 200x2 does not fit" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--grid", "ten"], "--grid takes rows and columns such as 10x20, and not 'ten'"),
        (["--grid", "10x"], "such as 10x20"),
        (["--grid", f"{'9' * 5000}x3"], "such as 10x20"),
        (["--boxes", "nowhere.csv"], "the boxes in nowhere.csv cannot be read"),
        (["--boxes", "empty.csv"], "empty.csv has no box"),
        (["--boxes", "words.csv"], "line 2 of words.csv is no box"),
        (["--boxes", "heads.csv"], "line 2 of heads.csv is no box"),
        (["--boxes", "good.csv", "--grid", "1x1"], "--grid or --boxes, not both"),
        (["--out", "digits.txt"], "digits.txt must end in .csv or .jsonl"),
        (["--out", "there.csv"], "there.csv is there already"),
    ],
)
def test_bad_options_are_one_sentence_before_anything_is_read(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "left,top,right,bottom\n"
    for name, text in {
        "empty.csv": head,
        "words.csv": f"{head}a,b,c,d\n",
        "heads.csv": "1,2,3,4\n5,6,7,8\n",
        "good.csv": f"{head}0,0,9,9\n",
        "there.csv": "kept",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert sentence in failing([str(NUMBER), *options], capsys)
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "kept"
