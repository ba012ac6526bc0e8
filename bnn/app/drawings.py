"""Drawings: pure functions from numbers to SVG.

Their colours and fonts are in `page.css`; here are only places and sizes, in SVG units. Text is escaped
by the XML writer.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from bnn.core.networks import IMAGE_SIZE
from bnn.reading import Mark

_WIDTH, _LEFT, _RIGHT = 340, 28, 288  # of the drawing; where the draws start and end
_TOP, _ROW, _TALL = 20, 29, 23  # first row's place; heights of a row, and of a column that fills it
_FILLED = 0.85  # of its place that a column takes in breadth
_TOO_MUCH, _MISSING = np.array((213, 94, 0)), np.array((86, 180, 233))  # told apart by the colour-blind too

BOXES = ("answered", "ambiguous", "unfamiliar", "quality")  # kinds of a sheet's boxes

Floats = NDArray[np.float32]


def ensemble_svg(
    probs: Floats,
    names: Sequence[str],
    answer: int = -1,
    label: str = "What each network says",
    note: str = "",
) -> str:
    """A row a class, with a column for each draw: as tall as that class's probability.

    One scale serves all rows. The draws stand in the same order in each: by the digit they vote for, which is
    their likeliest, that of most votes first, then by how sure they are of it. A row's votes are drawn apart
    from its doubts, the columns of draws that vote for another digit; `data-count` says how many they are.

    Args:
        probs: (S, C), each draw's probabilities of one image; with S = 0 the rows are empty.
        names: of the C classes.
        answer: the class to highlight, -1 for none.
        label: what a screen reader says of the whole drawing.
        note: is written above the rows.
    """
    svg = _svg("ensemble", _WIDTH, _TOP + len(names) * _ROW, label)
    svg.set("role", "group")
    _text(svg, _LEFT, 12, note, "caption")
    _text(svg, _WIDTH - 8, 12, "votes", "caption end")
    votes = probs.argmax(1)
    order = np.lexsort((-probs.max(1, initial=0), votes, -vote_counts(probs)[votes]))
    for label_of, name in enumerate(names):
        row = _row(probs[order, label_of], votes[order] == label_of, name, label_of == answer)
        row.set("transform", f"translate(0 {_TOP + label_of * _ROW})")
        svg.append(row)
    return ET.tostring(svg, encoding="unicode")


def vote_counts(probs: Floats) -> NDArray[np.int64]:
    """How many draws, whose probabilities are `probs` (S, C), find each class the likeliest: (C,)."""
    return np.bincount(probs.argmax(1), minlength=probs.shape[1])


def seen_svg(image: Floats, label: str = "What the networks saw", change: Floats | None = None) -> str:
    """The (28, 28) `image` in [0, 1] that the network saw, white ink on black, pixel by pixel.

    Args:
        image: what it saw.
        label: what a screen reader says of it.
        change: (28, 28), of its ink; where it is below 0 a pixel is marked as too much, above 0 as missing.
    """
    amount = np.zeros_like(image) if change is None else change.clip(-1, 1)
    colours = np.where((amount < 0)[..., None], _TOO_MUCH, _MISSING)
    shades = image.clip(0, 1)[..., None] * 255
    levels = (shades + np.abs(amount)[..., None] * (colours - shades)).round().astype(int)
    rows, columns = np.nonzero(levels.any(-1))
    svg = _svg("seen", IMAGE_SIZE, IMAGE_SIZE, label)
    svg.set("role", "img")
    svg.set("shape-rendering", "crispEdges")
    _rectangle(svg, 0, 0, IMAGE_SIZE, IMAGE_SIZE).set("fill", "#000")
    # Some hundreds of rectangles, of nothing but numbers, which the XML writer takes three times as long for.
    pixels = "".join(
        f'<rect x="{x}" y="{y}" width="1" height="1" fill="rgb({red},{green},{blue})" />'
        for x, y, (red, green, blue) in zip(
            columns.tolist(), rows.tolist(), levels[rows, columns].tolist(), strict=True
        )
    )
    return ET.tostring(svg, encoding="unicode").replace("</svg>", f"{pixels}</svg>")


def sheet_svg(url: str, size: tuple[int, int], marks: Sequence[Mark], label: str) -> str:
    """A picture with a box around each of `marks`, of a class of `BOXES`, and the answer or "?" above it.

    Args:
        url: of the picture.
        size: its width and height, in which the boxes lie.
        marks: what was found there.
        label: what a screen reader says of the whole.
    """
    width, height = size
    svg = _svg("sheet", width, height, label)
    svg.set("role", "img")
    ET.SubElement(svg, "image", {"href": url, "width": f"{width}", "height": f"{height}"})
    for mark in marks:
        left, top, right, bottom = mark.box
        kind = mark.reason if mark.reason in BOXES else "quality"
        box = ET.SubElement(svg, "g", {"class": f"mark {kind}"})
        ET.SubElement(box, "title").text = f"{mark.answer or '?'}: {mark.reason}"
        _rectangle(box, left, top, right - left, bottom - top)
        tall = max(0.25 * (bottom - top), height / 40)
        _text(box, left, max(top - 0.15 * tall, 0.8 * tall), mark.answer or "?", "said")
        box[-1].set("font-size", f"{tall:.4g}")
    return ET.tostring(svg, encoding="unicode")


def _row(values: Floats, voted: NDArray[np.bool_], name: str, answered: bool) -> ET.Element:
    row = ET.Element("g", {"class": "row answer" if answered else "row", "role": "img"})
    description = _described(values, int(voted.sum()), name, answered)
    row.set("aria-label", description)
    ET.SubElement(row, "title").text = description
    _rectangle(row, 2, 1, _WIDTH - 4, _ROW - 2).set("class", "ground")
    _text(row, 10, 20, name, "digit")
    _rectangle(row, _LEFT, 3, _RIGHT - _LEFT, _TALL).set("class", "paper")
    if len(values) == 0:
        return row
    _columns(row, values, ~voted, "doubts")
    _columns(row, values, voted, "votes").set("data-count", str(voted.sum()))
    count = f"{'✓ ' if answered else ''}{voted.sum()}"
    _text(row, _WIDTH - 8, 20, count, "value end" if voted.any() else "none end")
    return row


def _columns(row: ET.Element, values: Floats, shown: NDArray[np.bool_], name: str) -> ET.Element:
    """One path for all columns of `values` that are `shown`, for there may be many."""
    step = (_RIGHT - _LEFT) / len(values)
    columns = (
        f"M{_LEFT + (index + 0.5) * step:.1f} {3 + _TALL}v-{values[index] * _TALL:.1f}"
        for index in np.flatnonzero(shown & (values * _TALL >= 0.05)).tolist()
    )
    path = {"class": name, "d": "".join(columns), "stroke-width": f"{_FILLED * step:.4g}"}
    return ET.SubElement(row, "path", path)


def _described(values: Floats, votes: int, name: str, answered: bool) -> str:
    if len(values) == 0:
        return f"{name}: nothing drawn yet"
    spread = f"probability {values.mean():.2f} on average, from {values.min():.2f} to {values.max():.2f}"
    return f"{name}{', the answer' if answered else ''}: {votes} of {len(values)} networks; {spread}"


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
