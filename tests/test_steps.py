"""What was done with a picture, as a figure."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bnn.classifier import Classifier
from bnn.cli.predict import predict_command
from bnn.data.preprocess import brightness_of, read_images
from bnn.data.steps import steps_figure

Colour = tuple[int, int, int]
RED, PINK, BLUE = (214, 39, 40), (227, 160, 227), (31, 119, 180)


def cell() -> Image.Image:
    """A one in a cell, of which a ruled line and a speck are seen."""
    image = Image.new("L", (200, 200), 255)
    pen = ImageDraw.Draw(image)
    pen.line([(100, 50), (95, 150)], 0, 14)
    pen.line([(0, 3), (170, 3)], 60, 4)
    pen.ellipse((150, 100, 155, 105), 0)
    return image


def places(figure: Image.Image, colour: Colour) -> int:
    return int((np.asarray(figure) == colour).all(-1).sum())


def test_parts_lines_and_specks_are_told_apart() -> None:
    brightness = brightness_of(cell())
    read = read_images(cell())
    figure = steps_figure(brightness, read.images[0, 0].numpy(), str(read.quality[0]))
    one, line, speck = (places(figure, colour) for colour in (BLUE, RED, PINK))
    assert one > line > speck > 0
    assert (
        places(steps_figure(np.ones((9, 9), np.float32), np.zeros((28, 28), np.float32), "blank"), BLUE) == 0
    )


def test_the_command_writes_a_figure_an_image_and_says_the_same(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/one.png", "b/one.png"):
        (tmp_path / name).parent.mkdir()
        cell().save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"")
    files = [tmp_path / "bad.png", tmp_path / "a", tmp_path / "b"]
    assert predict_command(classifier, files, as_json=True, explain=tmp_path / "out")
    explaining = capsys.readouterr().out
    assert predict_command(classifier, files, as_json=True)
    assert capsys.readouterr().out == explaining
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1-one.png", "2-one.png"]
    with Image.open(tmp_path / "out" / "1-one.png") as figure:
        assert places(figure.convert("RGB"), RED) > 0


def test_a_figure_says_why_its_picture_is_refused() -> None:
    blank, seen = np.ones((9, 9), np.float32), np.zeros((28, 28), np.float32)
    said, unsaid = (np.asarray(steps_figure(blank, seen, "blank", why)) for why in ("nothing like it", ""))
    rows = np.flatnonzero((said != unsaid).any((1, 2)))
    assert rows.min() > 320  # below the panels
