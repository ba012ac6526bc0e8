"""What finds the ink is written for speed: it gives what the plain way gives, bit for bit."""

import cv2
import numpy as np
import pytest

from bnn.data.ink import _closed, _high, _median


@pytest.mark.parametrize("window", [3, 5, 29, 65])
@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (70, 41)])
def test_the_closing_is_opencvs(window: int, shape: tuple[int, int]) -> None:
    half = window // 2
    padded = np.random.default_rng(0).integers(0, 256, (shape[0] + 2 * half, shape[1] + 2 * half), np.uint8)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (window, window))
    whole = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, square)
    plain = whole[half : half + shape[0], half : half + shape[1]]
    assert np.array_equal(_closed(padded, window), plain)


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 16384])
def test_the_median_is_numpys(count: int) -> None:
    rng = np.random.default_rng(count)
    for values in (rng.random(count, np.float32), rng.integers(0, 3, count).astype(np.float32)):
        assert _median(values) == float(np.median(values))


@pytest.mark.parametrize("inked", [0.0, 0.0005, 0.1, 1.0])
def test_the_strength_of_the_ink_is_the_bin_of_its_few_strongest_pixels(inked: float) -> None:
    rng = np.random.default_rng(0)
    strength = rng.random((120, 150), np.float32) * (rng.random((120, 150)) < inked).astype(np.float32)
    counts = cv2.calcHist([strength], [0], None, [256], [0, 1 + 1 / 256]).ravel()
    stronger = np.cumsum(counts[::-1])[::-1]
    few = 120 * 150 // 2000
    assert _high(strength) == np.flatnonzero(stronger >= few)[-1] / 255
