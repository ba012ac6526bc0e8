"""MNIST's layout (LeCun et al. 1998): the ink's box fitted into 20×20, its centre of mass amid 28×28.

Strokes that would be finer there than any of MNIST's are widened first, so that they do not pale.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bnn.core.networks import IMAGE_SIZE

Pixels = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

BOX = 20  # side of the square that the ink is fitted into
_RESIZE_BELOW = BOX - 3  # ink of about the right size is not resampled, hence not blurred
INK = 0.15  # of full ink, from which a pixel counts for the ink's box
_STROKE = 0.5  # of full ink, from which a pixel counts for a stroke's width
_THINNEST = 1.5  # pixels across the widest stroke in the layout, below which MNIST has hardly a digit
_THIN = 2.5  # to which finer ones are widened


def laid_out(ink: Pixels) -> Pixels:
    """What a network sees of `ink` (H, W) in [0, 1]: (28, 28) float32; zeros where there is none."""
    if not (ink > INK).any():
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    return _centred(_fitted(_bold(_cropped(np.asarray(ink, np.float32)))))


def stroke_width(mask: NDArray[np.bool_]) -> float:
    """Pixels across the widest stroke of `mask` (H, W), whose edges bound it; 0 where there is none."""
    if not mask.any():
        return 0.0
    padded = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max()) - 1


def _cropped(ink: Pixels) -> Pixels:
    return _inside(ink, ink > INK)


def _inside(pixels: NDArray[T], mask: NDArray[np.bool_]) -> NDArray[T]:
    """`pixels` (H, W) cropped to the box around `mask` (H, W)."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return pixels[top : top + height, left : left + width]


def _bold(ink: Pixels) -> Pixels:
    """`ink` with its strokes widened, where they are finer than in MNIST."""
    unit = max(ink.shape) / BOX
    if unit <= 1:
        return ink
    width = stroke_width(ink > _STROKE) / unit
    if width >= _THINNEST:
        return ink
    by = max(1, round((_THIN - width) * unit / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    padded = cv2.copyMakeBorder(ink, by, by, by, by, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.dilate(padded, disc), np.float32)


def _fitted(ink: Pixels) -> Pixels:
    height, width = ink.shape
    if _RESIZE_BELOW < max(ink.shape) <= BOX:
        return ink
    ratio = BOX / max(ink.shape)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    resized = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    return resized / resized.max()  # thin strokes pale when made smaller


def _centred(ink: Pixels) -> Pixels:
    """`ink` in a 28×28 frame, its centre of mass on pixel 14 (as in MNIST) as far as it fits."""
    frame = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    top, left = (_offset(ink.sum(1 - axis)) for axis in (0, 1))
    frame[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return frame


def _offset(profile: Pixels) -> int:
    """Where ink with this `profile` along one axis starts."""
    centre = (np.arange(len(profile)) * profile).sum() / profile.sum(dtype=np.float64)
    return int(np.clip(round(IMAGE_SIZE // 2 - centre), 0, IMAGE_SIZE - len(profile)))
