"""Images in: anything a person may hand over, brought to MNIST's own layout, white ink on black."""

import inspect
import io
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, Protocol, Self, runtime_checkable

import cv2
import numpy as np
import pillow_heif
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bnn.core.networks import IMAGE_SIZE
from bnn.data.ink import LONGEST, Ink, find_ink
from bnn.data.layout import laid_out
from bnn.data.quality import BLANK, quality_of
from bnn.errors import InputError, cause_in, choose

pillow_heif.register_heif_opener()

# Pillow knows more, some of which start other programs (EPS) or are hardly ever met.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF", "PPM")
MAX_BYTES = 1_000_000_000  # of an image file: no format holds `MAX_PIXELS` in more
MAX_PIXELS = 50_000_000  # of one image: a decompression bomb is refused before it is unpacked
_CONTRAST = 0.1  # an array taken as it is whose brightness varies by less shows nothing
_THUMB = 64  # pixels of a side in which it is seen what colour tells the ink from its ground
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in brightness (ITU-R BT.601)
_PALE = 2.5  # times as much as in brightness must stand out in one colour for it to be taken instead
_BRIGHT, _DARK = 0.9, 0.5  # borders above, with ink below, look like dark ink on a bright ground
_STRIP = 64  # rows of a reduced image that are made at once
_ROWS = 256  # of an image of 16 or 32 bits that are looked at at once
_LYING = (5, 6, 7, 8)  # orientations in Exif by which width and height change places
_FULL = "bnn.full"  # under which an image's `info` has its height and width before it was shrunk
_COLOURS = (1, 3, 4)  # numbers of a pixel: grey, RGB, RGBA


class _Array(Protocol):
    """What NumPy can make an array of, such as a tensor."""

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]: ...


_ONE = (Image.Image, str, os.PathLike, bytes, bytearray, memoryview)  # that `_opened` takes, as it does files
_File = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


@runtime_checkable
class HoldsPrepared(Protocol):
    """What was prepared before, such as an `ImageSet`."""

    def prepared(self) -> "Prepared":
        """It."""
        ...


Images = _Array | HoldsPrepared | Image.Image | _File | Iterable["Images"]
Pixels = NDArray[np.floating[Any]]


class Laid(NamedTuple):
    """A picture as the network sees it, (28, 28), and a word of `QUALITIES`, or "" where it can be judged."""

    image: Pixels
    quality: str = ""


# From a picture's brightness (H, W) in [0, 1].
Layout = Callable[[Pixels], Laid]


def _of_ink(brightness: Pixels) -> Laid:
    return _laid(find_ink(brightness))


def _laid(ink: Ink) -> Laid:
    return Laid(laid_out(ink.ink), quality_of(ink))


def _whole(brightness: Pixels) -> Laid:
    """The whole picture, its longer side of the network's size; what lacks beside it is as its border."""
    size = [max(1, round(side * IMAGE_SIZE / max(brightness.shape))) for side in brightness.shape]
    if brightness.shape != (IMAGE_SIZE, IMAGE_SIZE):
        method = Image.Resampling.BOX if max(brightness.shape) > IMAGE_SIZE else Image.Resampling.BICUBIC
        picture = Image.fromarray(np.asarray(brightness, np.float32)).resize((size[1], size[0]), method)
        brightness = np.asarray(picture, np.float32).clip(0, 1)
    frame = np.full((IMAGE_SIZE, IMAGE_SIZE), np.median(_border(brightness)), np.float32)
    top, left = ((IMAGE_SIZE - side) // 2 for side in size)
    frame[top : top + size[0], left : left + size[1]] = brightness
    return Laid(frame)


INK, AS_IS = "mnist", "as-is"
LAYOUTS: MutableMapping[str, Layout] = {INK: _of_ink, AS_IS: _whole}


class InvertedWarning(UserWarning):
    """Arrays taken as they are look like dark ink on a bright ground."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Images as the network sees them, and what is wrong with each.

    Attributes:
        images: (N, 1, 28, 28) float32 in [0, 1], white ink on black.
        quality: (N,) str, a word of `bnn.data.quality.QUALITIES`, or "" where it can be judged.
    """

    images: Tensor
    quality: NDArray[np.str_]

    def prepared(self) -> "Prepared":
        """Itself: it can be decided on as it is."""
        return self

    @classmethod
    def joined(cls, parts: Iterable["Prepared"]) -> Self:
        """All images of `parts`, in their order."""
        parts = list(parts)
        nothing = torch.zeros(0, 1, IMAGE_SIZE, IMAGE_SIZE)
        images = torch.cat([nothing, *(part.images for part in parts)])
        return cls(images, np.concatenate([np.zeros(0, "U1"), *(part.quality for part in parts)]))

    @classmethod
    def as_given(cls, images: Tensor) -> Self:
        """`images` (N, 1, 28, 28) of which nothing is known but what they show."""
        return cls(images, np.where(is_blank(images).numpy(), BLANK, ""))


def prepare(images: "Images", layout: str = "mnist") -> Tensor:
    """What the network sees of `images`: `read_images(images, layout).images`."""
    return read_images(images, layout).images


def read_images(images: "Images", layout: str = "mnist") -> Prepared:
    """What the network sees of `images`, white ink on black, and whether each can be judged.

    What has the network's size is taken as it is: arrays (N, 28, 28), (N, 1, 28, 28), (N, 28, 28, 1),
    (28, 28), (28, 28, 1) and flat ones (N, 784), and grey images of 28×28 on a dark ground, so that a digit
    is judged alike as an array and as a file. Everything else is brought to the layout: pictures of any
    size, and arrays (H, W), (H, W, 1), (H, W, 3), (H, W, 4), or N of these, or (N, 1, H, W). Any other
    shape is refused, and so is (3, H, W) or (4, H, W): it may be grey images or one with its colours first.

    Args:
        images: a PIL image, a path, the bytes of an image file, an open file of one, an array (also a tensor,
            a data frame, an `ImageSet`) of uint8 or of floats in [0, 1], or an iterable of these.
        layout: a name in `LAYOUTS`.

    Raises:
        InputError: an image cannot be read or used.

    Warns:
        InvertedWarning: all arrays that are taken as they are look like dark ink on a bright ground.
    """
    lay_out = choose(LAYOUTS, layout, "layout")
    if isinstance(images, Prepared):  # and was looked at when it was
        return images
    prepared, as_given = _prepared(images, lay_out)
    _warn_of_inverted(prepared.images, as_given)
    return prepared


def _prepared(images: Images, lay_out: Layout) -> tuple[Prepared, Tensor]:
    """What the network sees of `images`, and which are arrays that were taken as they are, (N,) bool."""
    if isinstance(images, HoldsPrepared):
        held = images.prepared()
        return held, torch.ones(len(held.images), dtype=torch.bool)
    if isinstance(images, _ONE) or hasattr(images, "read"):
        return _prepare_image(images, lay_out), torch.tensor([False])
    if hasattr(images, "__array__"):
        array = _array(images)
        prepared = _prepare_array(array, lay_out)
        return prepared, torch.full((len(prepared.images),), _has_network_size(array.shape))
    if isinstance(images, Mapping):
        raise InputError(
            "a dictionary is no image: of a Gradio editor's value, give the picture under 'composite'."
        )
    if not isinstance(images, Iterable):
        raise InputError(
            f"images must be PIL images, paths, bytes, files, arrays or tensors, not {type(images).__name__}."
        )
    parts = [_prepared(image, lay_out) for image in images]
    marks = torch.cat([torch.zeros(0, dtype=torch.bool), *(as_given for _, as_given in parts)])
    return Prepared.joined(part for part, _ in parts), marks


def to_mnist(image: Image.Image | str | os.PathLike[str] | NDArray[np.generic]) -> Pixels:
    """One image in MNIST's layout, (28, 28) float32 in [0, 1]; zeros where nothing is drawn.

    Transparent pixels count as background, and the first frame of an animation counts. Where the ink is,
    `bnn.data.ink.find_ink` says. An image already in MNIST's layout comes back nearly unchanged.

    Args:
        image: a PIL image of any mode, a path, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4),
            uint8 or float in [0, 1].

    Raises:
        InputError: it cannot be read, has over `MAX_PIXELS` pixels, or holds values out of range.
    """
    return _of_ink(brightness_of(image)).image


def brightness_of(picture: "Images") -> Pixels:
    """The brightness of one picture, held upright, (H, W) in [0, 1]; of the kinds that `prepare` takes.

    A large one is shrunk as it is read: `pictured` says how large it was.

    Raises:
        InputError: it cannot be read, or it is several.
    """
    return pictured(picture)[0]


def pictured(picture: "Images") -> tuple[Pixels, tuple[int, int]]:
    """`brightness_of` a picture, and the height and width that the picture itself has, held upright.

    Raises:
        InputError: it cannot be read, or it is several.
    """
    if isinstance(picture, _ONE) or hasattr(picture, "read"):
        image, what = _opened(picture)
        height, width = image.info.get(_FULL, image.size[::-1])
        return _image_brightness(image, what), (height, width)
    if hasattr(picture, "__array__"):
        array = _array(picture)
        return _array_brightness(array), array.shape[:2]
    raise InputError(
        f"a picture must be a PIL image, a path, bytes, a file or an array, not {type(picture).__name__}."
    )


def is_blank(prepared: Tensor) -> Tensor:
    """Which of `prepared` images (N, 1, 28, 28) show nothing, being of one brightness: (N,) bool."""
    flat = prepared.flatten(1)
    return flat.amax(1) - flat.amin(1) < _CONTRAST


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image file at `path`, read whole; of an animation its first frame.

    Raises:
        InputError: it is missing, no file, empty, no image, damaged, or has over `MAX_BYTES` or `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        _require_file(path)
        with path.open("rb") as stream:
            return open_stream(stream, str(path))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not an image.") from error
    except (OSError, ValueError) as error:  # of a name that holds a null byte, for one
        raise InputError(_unreadable(str(path), error)) from error


def _require_file(path: Path) -> None:
    """Checks that reading `path` ends: a pipe may never, and a file with holes is larger than any memory."""
    there = path.stat()
    if not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        raise InputError(f"{path} is a device or a pipe, not an image: give a file, or its bytes.")
    if there.st_size > MAX_BYTES:
        raise InputError(
            f"{path} has {there.st_size:,} bytes, and an image at most {MAX_BYTES:,}: take another."
        )


def open_stream(stream: BinaryIO, what: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image file in `stream`, read whole; of an animation its first frame.

    Args:
        stream: seekable.
        what: what an error should call it.
        max_pixels: of the image; one with more is refused before it is unpacked.

    Raises:
        InputError: it is empty, no image, damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters becomes an error below
            with Image.open(stream, formats=FORMATS) as image:
                return _upright(image, what, max_pixels)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if stream.seek(0, os.SEEK_END) == 0:
            raise InputError(f"{what} is empty.") from error
        raise InputError(f"{what} is not an image (of {', '.join(FORMATS)}).") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(what, max_pixels)) from error
    except Exception as error:  # on damaged files Pillow's readers raise exceptions of nearly any kind
        raise InputError(_unreadable(what, error)) from error


def _upright(image: Image.Image, what: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`image` read whole, and turned as its camera was held."""
    _check_size(image.size, what, max_pixels)
    try:
        width, height = image.size
        share = LONGEST / max(image.size)  # a large JPEG is shrunk while it is unpacked
        image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
        image.load()
        is_shrunk = image.size != (width, height)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
        upright = ImageOps.exif_transpose(image)
        if is_shrunk:
            upright.info[_FULL] = (width, height) if turned else (height, width)
        return upright
    except Exception as error:  # see `open_stream`
        raise InputError(_unreadable(what, error)) from error


def _opened(image: Any) -> tuple[Image.Image, str]:
    """The image read whole, and what an error should call it."""
    if isinstance(image, Image.Image):
        return _upright(image, "an image"), "an image"
    if isinstance(image, bytes | bytearray | memoryview):
        image = io.BytesIO(image)
    if not hasattr(image, "read"):
        return open_image(image), str(Path(image))
    return open_stream(_seekable(image), "the file"), "the file"


def _seekable(stream: Any) -> BinaryIO:
    """`stream`, or all that is left in it where it cannot be read again."""
    if isinstance(stream, io.TextIOBase) or inspect.iscoroutinefunction(stream.read):
        raise InputError("a file must be open in binary mode, and not be one to await: give its bytes.")
    try:
        return stream if stream.seekable() else io.BytesIO(stream.read())
    except (AttributeError, TypeError, ValueError, OSError) as error:  # a closed one, for one
        raise InputError(_unreadable("the file", error)) from error


def _array(images: Any) -> NDArray[np.generic]:
    try:
        if not isinstance(images, Tensor):
            return np.asarray(images)
        known = images.float() if images.is_floating_point() else images  # NumPy has no bfloat16
        array: NDArray[np.generic] = known.numpy(force=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{type(images).__name__} cannot be made an array: {' '.join(str(error).split()).rstrip('.')}."
        ) from error
    return array


def _prepare_image(image: Any, lay_out: Layout) -> Prepared:
    opened, what = _opened(image)
    brightness = _image_brightness(opened, what)
    has_size = opened.mode == "L" and opened.size == (IMAGE_SIZE, IMAGE_SIZE)
    if has_size and np.median(_border(brightness)) < 0.5:
        return Prepared.as_given(torch.from_numpy(brightness)[None, None])
    return _prepare_picture(brightness, lay_out)


def prepared_ink(ink: Ink) -> Prepared:
    """What the network sees of the `ink` that was found in a picture, in MNIST's layout."""
    return _prepared_as(_laid(ink))


def _prepare_picture(brightness: Pixels, lay_out: Layout) -> Prepared:
    return _prepared_as(lay_out(brightness))


def _prepared_as(laid: Laid) -> Prepared:
    images = torch.from_numpy(laid.image)[None, None]
    return Prepared(images, np.array([laid.quality])) if laid.quality else Prepared.as_given(images)


def _prepare_array(array: NDArray[np.generic], lay_out: Layout) -> Prepared:
    if _has_network_size(array.shape):
        pixels = _unit_range(array).reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE)
        return Prepared.as_given(torch.from_numpy(pixels))
    if array.ndim in (3, 4) and array.shape[-3] in (3, 4) and array.shape[-1] not in _COLOURS:
        raise InputError(
            f"an array of shape {array.shape} seems to have its colours first: move them to the end, or give "
            "grey images as a list."
        )
    if array.ndim == 4 and array.shape[1] == 1 and array.shape[-1] not in _COLOURS:
        array = array[:, 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _COLOURS):
        return _prepare_picture(_array_brightness(array), lay_out)
    if array.ndim in (3, 4) and array.size:
        return Prepared.joined(_prepare_picture(_array_brightness(image), lay_out) for image in array)
    raise InputError(
        f"an array of shape {array.shape} is no image: give (N, 28, 28), (N, 1, 28, 28), (N, 784), (H, W), "
        "(H, W, 3) or (H, W, 4)."
    )


def _has_network_size(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape holds images of the network's size, to be taken as they are."""
    side = IMAGE_SIZE
    match shape:
        case (_, columns) if columns == side * side:
            return True
        case (_, height, width) if (height, width) == (side, side):
            return True
        case (_, 1, height, width) | (_, height, width, 1) if (height, width) == (side, side):
            return True
    return shape in ((side, side), (side, side, 1))


def _warn_of_inverted(prepared: Tensor, as_given: Tensor) -> None:
    edges = (prepared[:, 0, 0], prepared[:, 0, -1], prepared[:, 0, :, 0], prepared[:, 0, :, -1])
    bright = torch.cat(edges, dim=1).median(1).values[as_given] > _BRIGHT
    if len(bright) and bright.all() and (prepared.amin((1, 2, 3))[as_given] < _DARK).any():
        warnings.warn(
            "these arrays look like dark ink on a bright ground and are taken as they are: expected is white "
            "ink on black, so give 1 − array (255 − array of uint8).",
            InvertedWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """How many frames above who asks for it the first one outside of this package is."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "bnn":
        level, frame = level + 1, frame.f_back
    return level


def _unit_range(array: NDArray[np.generic]) -> Pixels:
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"an array of {array.dtype} is no image: give uint8, or floats between 0 and 1.")
    if not np.isfinite(array).all():
        raise InputError("an array with NaN or infinite values is no image: give floats between 0 and 1.")
    if array.size and (array.min() < 0 or array.max() > 1):
        raise InputError(
            f"an array with values from {array.min():g} to {array.max():g} is no image: "
            "give floats between 0 and 1, or uint8."
        )
    return array.astype(np.float32)


def _array_brightness(array: NDArray[np.generic]) -> Pixels:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)) or not array.size:
        raise InputError(f"an array of shape {array.shape} is no image: give (H, W), (H, W, 3) or (H, W, 4).")
    _check_size(array.shape[:2], "an array")
    pixels = _unit_range(array)
    if pixels.ndim == 2:
        return pixels
    return _image_brightness(Image.fromarray((pixels * 255).round().astype(np.uint8)), "an array")


def _image_brightness(image: Image.Image, what: str) -> Pixels:
    if image.mode.startswith(("I", "F")):
        return _deep_brightness(image, what)
    try:
        if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
            return _flattened(_reduced(image, "RGBA"))
        if image.mode in ("1", "L"):
            return np.asarray(_reduced(image, "L"), np.float32) / 255
        return _telling_grey(np.asarray(_reduced(image, "RGB")))
    except ValueError as error:
        raise InputError(f"{what} has colours of mode {image.mode}: save it as RGB or grey.") from error


def _reduced(image: Image.Image, mode: str) -> Image.Image:
    """`image` in that `mode`, its longer side below twice `LONGEST`: large ones need much memory as floats.

    It is made so strip by strip: a whole copy of a large image in another mode may take 200 MB.
    """
    factor = max(image.size) // LONGEST
    if factor <= 1:
        return image.convert(mode)
    size = (math.ceil(image.width / factor), math.ceil(image.height / factor))
    reduced = Image.new(mode, size)
    for top, strip in _strips(image, factor * _STRIP):
        reduced.paste(strip.convert(mode).reduce(factor), (0, top // factor))
    return reduced


def _strips(image: Image.Image, rows: int) -> Iterator[tuple[int, Image.Image]]:
    """`image` in parts of so many rows, each with its top."""
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _telling_grey(rgb: NDArray[np.uint8]) -> Pixels:
    """Brightness of `rgb` (H, W, 3), or of the one colour in which much more stands out, as with pale ink."""
    small = cv2.resize(rgb, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    apart = np.asarray(small, np.float32) - cv2.medianBlur(small, _THUMB // 2 + 1)
    colours = apart.std((0, 1))
    best = int(colours.argmax())
    weights = np.array(_LUMA, np.float32)
    if colours[best] > _PALE * (apart @ weights).std():
        return rgb[..., best].astype(np.float32) / 255
    return np.asarray(Image.fromarray(rgb).convert("L"), np.float32) / 255


def _flattened(image: Image.Image) -> Pixels:
    """Brightness of an image with transparency, laid on a ground from which its ink stands out."""
    brightness = np.asarray(image.convert("RGB").convert("L"), np.float32) / 255
    alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    if alpha.max() == 0:
        return np.zeros_like(alpha)
    opaque_mean = float((brightness * alpha).sum() / alpha.sum())
    transparent_ground = np.median(_border(alpha)) < 0.5
    # On a transparent ground the opaque part is the ink; else it is mostly the ground itself.
    ground = round(1 - opaque_mean) if transparent_ground else opaque_mean
    brightness *= alpha
    np.subtract(1, alpha, out=alpha)
    alpha *= np.float32(ground)
    brightness += alpha
    return brightness


def _deep_brightness(image: Image.Image, what: str) -> Pixels:
    """Brightness of an image of 16 or 32 bits, integer or float, in [0, 1]."""
    highest = 0.0
    for _, strip in _strips(image, _ROWS):
        values = np.asarray(strip)
        if not np.isfinite(values).all() or values.min() < 0:
            raise InputError(
                f"{what} (mode {image.mode}) has negative, NaN or infinite values: save it as grey."
            )
        highest = max(highest, float(values.max()))
    # 10, 12 or 14 bits are often stored in 16 as they are.
    deep = (1023.0, 4095.0, 16383.0, 65535.0)
    tops = deep if image.mode.startswith("I;16") else (1.0, 255.0, *deep)
    top = next((top for top in tops if highest <= top), highest)
    brightness = np.empty((image.height, image.width), np.float32)
    for row, strip in _strips(image, _ROWS):
        brightness[row : row + strip.height] = np.asarray(strip) / np.float64(top)
    return brightness


def _border(pixels: Pixels) -> Pixels:
    return np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def _check_size(size: tuple[int, ...], what: str, max_pixels: int = MAX_PIXELS) -> None:
    if size[0] * size[1] == 0:
        raise InputError(f"{what} has no pixels: its size is {size[0]}×{size[1]}.")
    if size[0] * size[1] > max_pixels:
        raise InputError(_too_large(what, max_pixels))


def _too_large(what: str, max_pixels: int) -> str:
    return f"{what} has more than {max_pixels:,} pixels: make it smaller."


def _unreadable(what: str, error: Exception) -> str:
    return f"{what} cannot be read as an image: {cause_in(error)}."
