"""Images for pages: pixels as pictures, and pictures as text that a page can hold."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

PNG_URL = "data:image/png;base64,"  # how the URL of a PNG image starts
_LEVEL = 3  # of compression: the usual 6 takes half as long again and saves a tenth


def picture(pixels: NDArray[np.floating[Any]]) -> Image.Image:
    """The grey picture of `pixels` (H, W) in [0, 1]."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def png_url(image: Image.Image) -> str:
    """`image` as a PNG data URL."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=_LEVEL)
    return PNG_URL + base64.b64encode(stream.getvalue()).decode("ascii")


def framed(image: Image.Image) -> Image.Image:
    """The grey `image` with a white edge, so that ink reaching its edge is not taken for the ground."""
    return ImageOps.expand(image, border=1, fill=255)
