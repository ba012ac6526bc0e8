"""The pad's pen, without the pad: strokes as points, and the picture that drawing them makes."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIZE = 400  # pixels of the pad's side
BRUSH = 36  # their stroke's width; a digit of 2/3 of the pad's height gets strokes as thick as MNIST's
_FINER = 2  # drawn larger and reduced, for smooth edges

Stroke = Sequence[tuple[float, float]]  # places on the pad, from 0 to 1; y grows downwards
Strokes = Sequence[Stroke]


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """An arc of the ellipse around (`x`, `y`), its radii `width` and `height`; degrees, 90 is below."""
    angles = np.radians(np.linspace(start, end, 2 + round(abs(end - start) / 10)))
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


def render(strokes: Strokes, brush: float = BRUSH) -> Image.Image:
    """`strokes` as the pad's pen would draw them, black on white; `brush` is their width in pixels."""
    side, radius = SIZE * _FINER, brush * _FINER / 2
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        places = [(x * side, y * side) for x, y in stroke]
        pen.line(places, fill=0, width=round(2 * radius), joint="curve")
        for x, y in places:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
