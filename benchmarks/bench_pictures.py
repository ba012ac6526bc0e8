"""How long it takes to prepare a picture, in milliseconds of one core: `python benchmarks/bench_pictures.py`.

The goals are 3 ms for a drawing on the pad, and 400 ms for a photo of 12 megapixels from its file.
Each time is the least of several of this process alone; on a machine that is busy otherwise they are longer.
"""

import io
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import Image

from bnn.app.examples import DIGITS
from bnn.data.pen import render
from bnn.data.preprocess import read_images

TIMES = 20
PHOTO = (4000, 3000)
LARGEST = (8000, 6000)


def main() -> None:
    """Prints a line a kind of picture."""
    cv2.setNumThreads(1)
    drawing = render(DIGITS["5"])
    print(f"{'pad drawing':24}{least(lambda: read_images(drawing), TIMES):8.1f} ms")
    for kind in ("JPEG", "PNG", "HEIF"):
        content = photo(drawing, PHOTO, kind)
        print(f"{f'12 megapixels, {kind}':24}{least(partial(read_images, content), 3):8.1f} ms")
    content = photo(drawing, LARGEST, "JPEG")
    print(f"{'48 megapixels, JPEG':24}{least(lambda: read_images(content), 3):8.1f} ms")


def photo(drawing: Image.Image, size: tuple[int, int], kind: str) -> bytes:
    """`drawing` on shaded, noisy paper, as a file of `kind`."""
    width, height = size
    paper = np.linspace(0.95, 0.6, width, dtype=np.float32)[None]
    noise = np.random.default_rng(0).normal(0, 0.01, (height, width)).astype(np.float32)
    ink = np.asarray(drawing.resize(size), np.float32) / 255
    pixels = np.round((ink * paper + noise).clip(0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(stream, kind)
    return stream.getvalue()


def least(call: Callable[[], object], times: int) -> float:
    """Milliseconds of the quickest of `times` calls."""
    taken = []
    for _ in range(times):
        before = time.process_time()
        call()
        taken.append(time.process_time() - before)
    return 1000 * min(taken)


if __name__ == "__main__":
    main()
