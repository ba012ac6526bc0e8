"""What is done with a picture before a network sees it, step by step or as one figure."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bnn.data.ink import Ink, find_ink, shrunk

Pixels = NDArray[np.float32]
Colours = NDArray[np.uint8]  # (H, W) grey, or (H, W, 3)

_PANEL = 320  # pixels of a panel's side
_HEAD = 40  # pixels above it, for its heading
_PARTS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189), (140, 86, 75))  # one after another
_LINES, _SPECKS = (214, 39, 40), (227, 160, 227)


class Step(NamedTuple):
    """What is left of a picture after a step, and what the step is, in words."""

    heading: str
    image: Image.Image


def steps(brightness: Pixels, ink: Ink | None, seen: Pixels, word: str, side: int = _PANEL) -> list[Step]:
    """The picture of `brightness` (H, W) in [0, 1], its ink, its parts, and what a network sees of it.

    Args:
        brightness: of the picture.
        ink: that was found in it and cut out; None where the picture is seen whole.
        seen: what the network sees, (28, 28) in [0, 1].
        word: what is wrong with the picture, of `bnn.data.quality.QUALITIES`, or "".
        side: pixels of each step's longer side.
    """
    panels = {
        "as it was given": _grey(shrunk(brightness)[0]),
        **({} if ink is None else _of_ink(ink)),
        f"28 by 28, refused: {word}" if word else "28 by 28, as the network sees it": _grey(seen),
    }
    return [Step(heading, _fitted(Image.fromarray(pixels), side)) for heading, pixels in panels.items()]


def _of_ink(ink: Ink) -> dict[str, Colours]:
    return {"ink": _grey(1 - ink.ink), "parts (red: lines, pink: specks)": _parts(ink)}


def steps_figure(
    brightness: Pixels, seen: Pixels, word: str, why: str = "", *, cut_out: bool = True
) -> Image.Image:
    """`steps` side by side, each under its heading, and below them `why` it is refused.

    Without `cut_out` the picture is seen whole.
    """
    panels = steps(brightness, find_ink(brightness) if cut_out else None, seen, word)
    figure = Image.new("RGB", (len(panels) * (_PANEL + 10), _PANEL + _HEAD), "white")
    for index, (heading, panel) in enumerate(panels):
        left = index * (_PANEL + 10)
        ImageDraw.Draw(figure).text((left + 4, 12), heading, "black", font_size=16)
        figure.paste(panel, (left, _HEAD))
        ImageDraw.Draw(figure).rectangle(
            (left, _HEAD, left + panel.width - 1, _HEAD + panel.height - 1), outline="grey"
        )
    if why:
        ImageDraw.Draw(figure).text((4, _PANEL + _HEAD - 20), why, "black", font_size=14)
    return figure


def _grey(pixels: Pixels) -> Colours:
    return np.round(pixels * 255).astype(np.uint8)


def _parts(ink: Ink) -> Colours:
    """Each part in a colour, lines red and specks pink."""
    colours = np.full((*ink.labels.shape, 3), 255, np.uint8)
    table = np.array(_PARTS, np.uint8)
    kept = ink.labels > 0
    colours[kept] = table[(ink.labels[kept] - 1) % len(table)]
    colours[ink.lines], colours[ink.specks] = _LINES, _SPECKS
    return colours


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """`image` with a longer side of so many pixels; enlarged, its pixels are seen."""
    ratio = side / max(image.size)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.NEAREST if ratio > 1 else Image.Resampling.BOX)
