"""Drawings: pure functions from numbers to SVG.

Their colours and fonts are in `page.css`; here are only places and sizes, in SVG units. Text is escaped
by the XML writer.
"""

from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from bnn.core.networks import IMAGE_SIZE, NUM_CLASSES

BINS = 25  # of each histogram on [0, 1]
_WIDTH, _LEFT, _RIGHT = 340, 30, 268  # of the drawing; where the axis starts and ends
_TOP, _ROW, _BAR, _RUG = (
    22,
    32,
    20,
    4,
)  # first row's place; heights of a row, of a full bar, of the marks below
_AXIS_TICKS = (0, 0.5, 1)

Floats = NDArray[np.float32]


def ensemble_svg(probs: Floats, answer: int = -1, label: str = "Probability of each digit") -> str:
    """Ten rows, one a digit, each with the histogram of its probability over the draws.

    A row's bars are drawn to its own scale, the tallest being full; `data-count` says how many draws each
    holds. The marks below are the draws one by one, the upright line is their median.

    Args:
        probs: (S, 10), each draw's probabilities of one image; with S = 0 the rows are empty.
        answer: the digit to highlight, -1 for none.
        label: what a screen reader says of the whole drawing.
    """
    height = _TOP + NUM_CLASSES * _ROW + 18
    svg = _svg("ensemble", _WIDTH, height, label)
    svg.set("role", "group")
    _text(svg, _LEFT, 12, "probability", "caption")
    _text(svg, _WIDTH - 8, 12, "median", "caption end")
    for digit in range(NUM_CLASSES):
        svg.append(_row(probs[:, digit], digit, digit == answer))
    for tick in _AXIS_TICKS:
        _text(svg, _x(tick), height - 4, f"{tick:g}", "caption middle")
    return ET.tostring(svg, encoding="unicode")


def seen_svg(image: Floats, label: str = "What the networks saw") -> str:
    """The (28, 28) `image` in [0, 1] that the network saw, white ink on black, pixel by pixel."""
    svg = _svg("seen", IMAGE_SIZE, IMAGE_SIZE, label)
    svg.set("role", "img")
    svg.set("shape-rendering", "crispEdges")
    _rectangle(svg, 0, 0, IMAGE_SIZE, IMAGE_SIZE).set("fill", "#000")
    levels = (image.clip(0, 1) * 255).round().astype(int)
    for row, column in zip(*np.nonzero(levels), strict=True):
        level = levels[row, column]
        _rectangle(svg, column, row, 1, 1).set("fill", f"rgb({level},{level},{level})")
    return ET.tostring(svg, encoding="unicode")


def histogram(values: Floats) -> NDArray[np.int64]:
    """How many of `values` (S,) in [0, 1] fall into each of `BINS` equal bins."""
    bins = np.clip((values * BINS).astype(np.int64), 0, BINS - 1)
    return np.bincount(bins, minlength=BINS)


def _row(values: Floats, digit: int, answered: bool) -> ET.Element:
    row = ET.Element("g", {"class": "row answer" if answered else "row", "role": "img"})
    row.set("transform", f"translate(0 {_TOP + digit * _ROW})")
    description = _described(values, digit, answered)
    row.set("aria-label", description)
    ET.SubElement(row, "title").text = description
    _rectangle(row, 2, 1, _WIDTH - 4, _ROW - 2).set("class", "ground")
    _text(row, 10, 21, str(digit), "digit")
    _rectangle(row, _LEFT, 3 + _BAR, _RIGHT - _LEFT, 0.5).set("class", "axis")
    if len(values) == 0:
        return row
    counts = histogram(values)
    for index in np.flatnonzero(counts).tolist():
        _bar(row, index, int(counts[index]), int(counts.max()))
    marks = "".join(f"M{_x(value):.1f} {4.5 + _BAR}v{_RUG}" for value in np.unique(values.round(3)).tolist())
    ET.SubElement(row, "path", {"class": "draws", "d": marks})
    median = float(np.median(values))
    ET.SubElement(row, "path", {"class": "median", "d": f"M{_x(median):.1f} 3v{_BAR + _RUG + 2}"})
    _text(row, _WIDTH - 8, 21, f"{'✓ ' if answered else ''}{median:.2f}", "value end")
    return row


def _described(values: Floats, digit: int, answered: bool) -> str:
    if len(values) == 0:
        return f"Digit {digit}: nothing drawn yet"
    spread = f"median probability {np.median(values):.2f}, from {values.min():.2f} to {values.max():.2f}"
    return f"Digit {digit}{', the answer' if answered else ''}: {spread} over {len(values)} networks"


def _bar(row: ET.Element, index: int, count: int, tallest: int) -> None:
    height = count / tallest * _BAR
    step = (_RIGHT - _LEFT) / BINS
    bar = _rectangle(row, _LEFT + index * step, 3 + _BAR - height, step - 0.8, height)
    bar.set("class", "bar")
    bar.set("data-count", str(count))


def _x(probability: float) -> float:
    return _LEFT + probability * (_RIGHT - _LEFT)


def _svg(name: str, width: int, height: int, label: str) -> ET.Element:
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": name,
        "viewBox": f"0 0 {width} {height}",
        "aria-label": label,
    }
    return ET.Element("svg", attributes)


def _rectangle(parent: ET.Element, x: float, y: float, width: float, height: float) -> ET.Element:
    sides = {"x": x, "y": y, "width": width, "height": height}
    return ET.SubElement(parent, "rect", {name: f"{side:.4g}" for name, side in sides.items()})


def _text(parent: ET.Element, x: float, y: float, text: str, name: str) -> None:
    ET.SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", "class": name}).text = text
