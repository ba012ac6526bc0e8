"""Plots: SVG made from numbers, in the page from the start.

As in `drawings.py`, colours and fonts are in `page.css`, and text is escaped by the XML writer. What tells
the series apart is never colour alone: the second one is dashed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating] | NDArray[np.integer] | Sequence[float]

WIDTH, HEIGHT = 360, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, WIDTH - 12, 24, HEIGHT - 40  # where the data lie, below the legend
_LINE = 17  # the height of a legend's line
_DIAMOND = "m0-5l4 5l-4 5l-4-5z"


@dataclass(frozen=True)
class Axis:
    """What is measured, from where to where, and the places that are named on the way."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """How far along the axis `value` lies, 0 at its start and 1 at its end."""
        return (value - self.low) / (self.high - self.low)


class Plot:
    """An SVG drawing to which lines, intervals and marks are added.

    Args:
        x, y: its axes.
        label: what a screen reader says of it.
        legend: (class, words) of each series; the one called "drawn" has marks and no line.
    """

    def __init__(self, x: Axis, y: Axis, label: str, legend: Iterable[tuple[str, str]] = ()) -> None:
        self._x, self._y = x, y
        box = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "class": "plot", "role": "img", "aria-label": label}
        self._svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **box})
        self._top = _TOP
        for name, words in legend:
            sample = f"m11 0{_DIAMOND}" if name == "drawn" else "h22"
            self._add("path", name, d=f"M{_LEFT} {self._top - 14}{sample}")
            self._add("text", "caption", words, x=_LEFT + 28, y=self._top - 10)
            self._top += _LINE
        self._axes()

    def line(self, x: Numbers, y: Numbers, name: str) -> None:
        """A line through the points (`x`, `y`)."""
        places = (f"{self._across(a):.1f} {self._up(b):.1f}" for a, b in zip(x, y, strict=True))
        self._add("path", name, d=f"M{'L'.join(places)}")

    def steps(self, edges: Numbers, heights: Numbers, name: str) -> None:
        """A histogram: each height between two edges, of which there is one more."""
        outline = [self._y.low, *np.repeat(heights, 2), self._y.low]
        self.line(np.repeat(edges, 2), outline, name)

    def interval(self, x: float, y: float, ends: tuple[float, float], words: str) -> None:
        """A dot at (`x`, `y`) on an upright bar between the `ends`, and `words` below it."""
        across, low, high = self._across(x), self._up(ends[0]), self._up(ends[1])
        self._add("path", "interval", d=f"M{across - 4:.1f} {high:.1f}h8m-4 0V{low:.1f}m-4 0h8")
        self.dot(x, y)
        is_last = across > _RIGHT - 16  # there a centred word would be cut off
        name, place = ("caption end", _RIGHT + 8) if is_last else ("caption middle", across)
        self._add("text", name, words, x=place, y=min(low + 14, _BOTTOM - 3))

    def dot(self, x: float, y: float) -> None:
        """A dot at (`x`, `y`)."""
        self._add("circle", "dot", cx=self._across(x), cy=self._up(y), r=4)

    def upright(self, x: float, words: str) -> None:
        """A line across the whole plot at `x`, with `words` to its right."""
        self._add("path", "limit", d=f"M{self._across(x):.1f} {self._top}V{_BOTTOM}")
        self._add("text", "caption", words, x=self._across(x) + 5, y=self._top + 12)

    def level(self, y: float, words: str) -> None:
        """A line across the whole plot at the height `y`, with `words` above its start."""
        self._add("path", "limit", d=f"M{_LEFT} {self._up(y):.1f}H{_RIGHT}")
        self._add("text", "caption", words, x=_LEFT + 5, y=self._up(y) - 5)

    def marks(self, x: Numbers, y: float, name: str) -> None:
        """A small diamond at each of `x`, at the height `y`."""
        places = (f"M{self._across(a):.1f} {self._up(y):.1f}{_DIAMOND}" for a in x)
        self._add("path", name, d="".join(places))

    def svg(self) -> str:
        """The drawing as text."""
        return ET.tostring(self._svg, encoding="unicode")

    def _axes(self) -> None:
        for tick in self._y.ticks:
            self._add("path", "grid", d=f"M{_LEFT} {self._up(tick):.1f}H{_RIGHT}")
            self._add("text", "caption end", f"{tick:g}", x=_LEFT - 5, y=self._up(tick) + 4)
        for tick in self._x.ticks:
            self._add("path", "grid", d=f"M{self._across(tick):.1f} {_BOTTOM}v4")
            self._add("text", "caption middle", f"{tick:,.10g}", x=self._across(tick), y=_BOTTOM + 17)
        self._add("text", "caption", self._y.name, x=_LEFT - 30, y=self._top - 9)
        self._add("text", "caption middle", self._x.name, x=(_LEFT + _RIGHT) / 2, y=HEIGHT - 6)

    def _across(self, x: float) -> float:
        return _LEFT + self._x.share(x) * (_RIGHT - _LEFT)

    def _up(self, y: float) -> float:
        return _BOTTOM - self._y.share(y) * (_BOTTOM - self._top)

    def _add(self, tag: str, name: str, words: str | None = None, **places: float | str) -> None:
        numbers = {
            key: f"{value:.5g}" if isinstance(value, float) else str(value) for key, value in places.items()
        }
        ET.SubElement(self._svg, tag, {"class": name, **numbers}).text = words


def round_ticks(high: float) -> list[float]:
    """Round places from 0 to `high`, five steps at most."""
    power = 10.0 ** math.floor(math.log10(high / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if high / (power * factor) <= 5)
    return [step * place for place in range(math.floor(high / step + 1e-9) + 1)]
