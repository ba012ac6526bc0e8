"""Images in: everything ends in MNIST's layout, or in one sentence that says why not."""

import io
import struct
import sys
import tracemalloc
import urllib.request
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from programs import printed

from bnn.data import preprocess
from bnn.data.digits import Labelled
from bnn.data.generated import GENERATED
from bnn.data.imageset import ImageSet
from bnn.data.layout import BOX
from bnn.data.preprocess import (
    MAX_PIXELS,
    InvertedWarning,
    Laid,
    is_blank,
    open_image,
    open_stream,
    prepare,
    to_mnist,
)
from bnn.errors import InputError

Pixels = NDArray[np.float32]


def drawing(size: tuple[int, int] = (70, 90), place: tuple[int, int] = (15, 12)) -> Image.Image:
    """A seven, black on white."""
    image = Image.new("L", size, 255)
    x, y = place
    ImageDraw.Draw(image).line([(x, y), (x + 32, y), (x + 12, y + 60)], fill=0, width=6)
    return image


SEVEN = to_mnist(drawing())


def assert_same(image: Pixels, other: Pixels, tolerance: float = 0.01) -> None:
    np.testing.assert_allclose(image, other, atol=tolerance)


def assert_in_layout(image: NDArray[Any]) -> None:
    """MNIST's layout: size, range, the ink's box, and the centre of mass where the box lets it."""
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    for axis in (0, 1):
        profile = image.sum(1 - axis, dtype=np.float64)
        ink = np.flatnonzero(profile)
        if not len(ink):
            return
        assert ink[-1] - ink[0] < BOX
        centred = abs(np.average(np.arange(28), weights=profile) - 14) <= 0.51
        assert centred or 0 in ink or 27 in ink


# What real digits look like must not change


def test_real_digits_come_back_nearly_unchanged(mnist_test: Labelled) -> None:
    digits = mnist_test.images[:400, 0].numpy()
    again = np.stack([to_mnist(digit) for digit in digits])
    # Where a centre of mass lies between two pixels, the digit may move by one.
    moved = [
        min(
            np.abs(np.roll(one, shift, (0, 1)) - two).mean()
            for shift in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
        )
        for one, two in zip(again, digits, strict=True)
    ]
    assert max(moved) < 0.01
    assert np.mean(np.abs(again - digits).mean((1, 2)) < 0.01) > 0.97


def test_real_digits_survive_enlargement_placement_and_inversion(mnist_test: Labelled) -> None:
    for digit in mnist_test.images[:20, 0].numpy():
        once = to_mnist(digit)
        assert_same(to_mnist(1 - digit), once, 1e-6)
        assert_same(to_mnist(np.pad(digit, ((30, 5), (2, 70)))), once, 0)
        large = to_mnist(np.kron(digit, np.ones((6, 6), np.float32)))
        assert np.abs(large - once).mean() < 0.1  # one pixel's shift and the resampling's blur at most


# What the image is made of must not matter


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_the_colour_mode_does_not_matter(mode: str) -> None:
    assert_same(to_mnist(drawing().convert(mode)), SEVEN)


def test_sixteen_bits_do_not_matter(tmp_path: Path) -> None:
    deep = Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    deep.save(tmp_path / "deep.png")
    assert_same(to_mnist(deep), SEVEN)
    assert_same(to_mnist(tmp_path / "deep.png"), SEVEN)


def test_polarity_and_colour_do_not_matter() -> None:
    ink = drawing().point(lambda value: 255 - value)
    assert_same(to_mnist(ink), SEVEN)
    for paper, pen in [("ivory", "navy"), ("black", "yellow"), ("white", "red"), ("darkgreen", "white")]:
        coloured = Image.new("RGB", ink.size, paper)
        coloured.paste(Image.new("RGB", ink.size, pen), mask=ink)
        assert_same(to_mnist(coloured), SEVEN, 0.02)


@pytest.mark.parametrize("pen", ["black", "white", "red"])
@pytest.mark.parametrize("hidden", ["black", "white"])
def test_ink_on_a_transparent_ground_is_ink(pen: str, hidden: str) -> None:
    ink = drawing().point(lambda value: 255 - value)
    image = Image.new("RGB", ink.size, hidden)
    image.paste(Image.new("RGB", ink.size, pen), mask=ink)
    image.putalpha(ink)
    assert_same(to_mnist(image), SEVEN)


def test_a_transparent_palette_colour_is_ground(tmp_path: Path) -> None:
    drawing().convert("P").save(tmp_path / "seven.gif", transparency=255)
    with Image.open(tmp_path / "seven.gif") as image:
        assert "transparency" in image.info
    assert_same(to_mnist(tmp_path / "seven.gif"), SEVEN)


@pytest.mark.parametrize(
    ("size", "place"), [((70, 90), (3, 20)), ((300, 200), (15, 12)), ((64, 400), (20, 330))]
)
def test_place_and_canvas_do_not_matter(size: tuple[int, int], place: tuple[int, int]) -> None:
    assert_same(to_mnist(drawing(size, place)), SEVEN, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_sideways_does_not_matter(tmp_path: Path, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = drawing().transpose(turns[orientation]) if orientation > 1 else drawing()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "seven.png", exif=exif)
    assert_same(to_mnist(tmp_path / "seven.png"), SEVEN, 0)
    with Image.open(tmp_path / "seven.png") as image:
        assert_same(to_mnist(image), SEVEN, 0)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    drawing().save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("L", (70, 90), 255)] * 3)
    assert_same(to_mnist(tmp_path / "moving.gif"), SEVEN)


def test_arrays_files_and_images_agree(tmp_path: Path) -> None:
    drawing().save(tmp_path / "seven.png")
    grey = np.asarray(drawing())
    for image in (tmp_path / "seven.png", str(tmp_path / "seven.png"), grey, grey.astype(np.float64) / 255):
        assert_same(to_mnist(image), SEVEN, 1e-6)
    assert_same(to_mnist(grey[:, :, None]), SEVEN, 1e-6)
    for channels in ("RGB", "RGBA"):
        assert_same(to_mnist(np.asarray(drawing().convert(channels))), SEVEN, 1e-6)


# The layout holds for anything


@given(
    st.lists(st.tuples(st.integers(-9, 130), st.integers(-9, 130)), min_size=2, max_size=6),
    st.integers(1, 30),
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
def test_strokes_always_end_in_the_layout(
    points: list[tuple[int, int]], width: int, size: tuple[int, int], greys: tuple[int, int]
) -> None:
    image = Image.new("L", size, greys[0])
    ImageDraw.Draw(image).line(points, fill=greys[1], width=width)
    assert_in_layout(to_mnist(image))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32), st.sampled_from((0.01, 0.2, 1, 30)))
def test_any_array_ends_in_the_layout(height: int, width: int, seed: int, power: float) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) ** power
    assert_in_layout(to_mnist(pixels))


def test_a_small_digit_far_from_the_middle_is_still_seen() -> None:
    small = np.asarray(drawing()) / np.float32(255)
    pixels = np.ones((2000, 2000), np.float32)
    pixels[-91:-1, -71:-1] = small
    assert_same(to_mnist(pixels), SEVEN)


# Blank


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "CMYK", "I", "F"])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_one_brightness_is_blank(mode: str, grey: int) -> None:
    prepared = prepare(Image.new("L", (50, 40), grey).convert(mode))
    assert not prepared.any()
    assert is_blank(prepared).tolist() == [True]


@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 255, 255, 0), (200, 10, 10, 0)])
def test_wholly_transparent_is_blank(colour: tuple[int, ...]) -> None:
    assert not to_mnist(Image.new("RGBA", (50, 40), colour)).any()


def test_one_pixel_alone_is_all_ground() -> None:
    assert not to_mnist(np.ones((1, 1))).any()


def test_faint_noise_is_no_ink() -> None:
    noise = np.random.default_rng(0).normal(0.9, 0.01, (90, 70)).clip(0, 1)
    assert not to_mnist(noise).any()
    seven = np.asarray(drawing()) / 255
    assert_same(to_mnist(np.where(seven > 0.5, noise, 0)), SEVEN, 0.1)


def test_blank_is_told_from_ink_image_by_image() -> None:
    stack = np.zeros((4, 28, 28), np.float32)
    stack[1, 5, 5] = 1
    stack[2] = 0.7
    stack[3] = SEVEN
    assert is_blank(prepare(stack)).tolist() == [True, False, True, False]


# What needs no preparing is not touched


def random_digits(count: int = 5) -> NDArray[np.uint8]:
    """Images that differ in every pixel, dark at the border."""
    pixels = np.zeros((count, 28, 28), np.uint8)
    pixels[:, 2:26, 2:26] = np.random.default_rng(0).integers(0, 256, (count, 24, 24), np.uint8)
    return pixels


def test_arrays_of_the_networks_size_come_through_bit_for_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    scaled = pixels.astype(np.float32) / 255
    for array in (pixels, scaled, scaled.astype(np.float64)):
        assert np.array_equal(prepare(array).numpy()[:, 0], scaled)
        assert np.array_equal(prepare(array[0]).numpy()[:, 0], scaled[:1])
    assert prepare(scaled).dtype == torch.float32
    assert prepare(pixels > 200).equal(prepare((pixels > 200).astype(np.float32)))


SEEN = random_digits()
EXACT = torch.from_numpy(SEEN.astype(np.float32) / 255)[:, None]


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 1, 28, 28), (5, 28, 28, 1), (5, 784)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.asfortranarray, list, iter])
def test_images_of_the_networks_size_are_the_same_in_every_shape(
    shape: tuple[int, ...], kind: Callable[[Any], Any]
) -> None:
    given = SEEN.reshape(shape)
    if kind in (list, iter) and shape == (5, 784):
        given = given[:, None]  # a row by itself is no image
    assert prepare(kind(given)).equal(EXACT)
    assert prepare(kind(given.astype(np.float64) / 255)).equal(EXACT)


@pytest.mark.parametrize(
    "shape", [(28, 28), (28, 28, 1), (1, 28, 28), (1, 1, 28, 28), (1, 28, 28, 1), (1, 784)]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_one_image_of_the_networks_size_is_one_image(
    shape: tuple[int, ...], kind: Callable[[Any], Any]
) -> None:
    assert prepare(kind(SEEN[0].reshape(shape))).equal(EXACT[:1])


def test_what_can_be_made_an_array_is_taken_as_one() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas, which is optional, is not installed")
    frame = pandas.DataFrame(SEEN.reshape(5, 784), columns=[f"pixel{i}" for i in range(784)])
    for same in (frame, ImageSet.from_arrays(SEEN), ImageSet.from_arrays(SEEN)[:]):
        assert prepare(same).equal(EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_float_that_may_even_need_gradients_are_taken(dtype: torch.dtype) -> None:
    tensor = EXACT.clone().to(dtype).requires_grad_()
    assert prepare(tensor).equal(EXACT.to(dtype).float())
    assert not prepare(tensor).requires_grad


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(28, 28, dtype=torch.int64),
        torch.zeros(28, 28, dtype=torch.complex64),
        torch.zeros(28, 28).to_sparse(),
        torch.zeros(28, 28, device="meta"),
        torch.full((28, 28), 2.0),
        torch.full((28, 28), torch.nan),
        torch.zeros(3),
    ],
)
def test_tensors_that_are_no_images_are_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        prepare(tensor)


def documented_count(shape: tuple[int, ...]) -> int | None:
    """How many images an array of `shape` holds by `prepare`'s documentation; None where it is refused."""
    match shape:
        case (n, 784) | (n, 28, 28) | (n, 1, 28, 28) | (n, 28, 28, 1):
            return n
        case (28, 28) | (28, 28, 1):
            return 1
        case _ if 0 in shape:
            return None
        case (_, _) | (_, _, 1 | 3 | 4):
            return 1
        case (3 | 4, _, _):
            return None
        case (n, _, _) | (n, _, _, 1 | 3 | 4) | (n, 1, _, _):
            return n
    return None


SIDES = st.sampled_from([0, 1, 2, 3, 4, 5, 27, 28, 29, 783, 784])


@given(
    st.lists(SIDES, max_size=5), st.sampled_from([np.uint8, np.float32, np.float64, np.bool_]), st.booleans()
)
def test_an_array_of_any_shape_is_as_many_images_as_is_documented_or_refused(
    sides: list[int], dtype: type[np.generic], as_tensor: bool
) -> None:
    shape = tuple(sides)
    assume(np.prod(shape) < 1_000_000)
    array: Any = np.zeros(shape, dtype)
    count = documented_count(shape)
    if as_tensor:
        array = torch.from_numpy(array)
    if count is None:
        with pytest.raises(InputError, match=r"^an array of shape [^\n]+\.$"):
            prepare(array)
    else:
        assert prepare(array).shape == (count, 1, 28, 28)


def test_flat_images_are_no_picture_and_a_channel_is_no_row() -> None:
    assert prepare(np.zeros((2, 784))).shape == (2, 1, 28, 28)
    assert prepare(np.zeros((28, 28, 1))).shape == (1, 1, 28, 28)


def test_pictures_may_have_their_one_channel_before_or_after() -> None:
    grey = np.asarray(drawing())
    for many in (np.stack([grey, grey]), np.stack([grey, grey])[:, None], np.stack([grey, grey])[..., None]):
        for image in prepare(many).numpy()[:, 0]:
            assert_same(image, SEVEN, 1e-6)
    assert_same(prepare(grey[..., None]).numpy()[0, 0], SEVEN, 1e-6)


@pytest.mark.parametrize(
    "shape", [(3, 40, 50), (4, 40, 50), (2, 3, 40, 50), (2, 4, 40, 50), (2, 3, 28, 28), (1, 4, 28, 28)]
)
def test_colours_that_come_first_are_told_where_they_belong(shape: tuple[int, ...]) -> None:
    for array in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(InputError, match=r"its colours first: move them to the end, or [^\n]+\.$"):
            prepare(array)


@pytest.mark.parametrize("value", [{"background": None, "layers": [], "composite": np.zeros((9, 9, 4))}, {}])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [np.zeros((28, 28)), value]])
def test_the_value_of_a_gradio_editor_is_told_apart(
    value: dict[str, Any], wrap: Callable[[Any], Any]
) -> None:
    with pytest.raises(
        InputError, match=r"^a dictionary is no image: of a Gradio [^\n]+ under 'composite'\.$"
    ):
        prepare(wrap(value))


# Dark ink on a bright ground, as arrays, gets a hint and no correction


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 1, 28, 28), (5, 784)])
def test_inverted_arrays_are_taken_as_they_are_with_a_hint_where_they_are_given(
    shape: tuple[int, ...],
) -> None:
    inverted = (255 - SEEN).reshape(shape)
    for array in (inverted, torch.from_numpy(inverted), inverted / 255):
        with pytest.warns(InvertedWarning, match=r"give 1 − array \(255 − array of uint8\)\.$") as caught:
            prepared = prepare(array)
        assert prepared.numpy() == pytest.approx(1 - EXACT.numpy(), abs=1e-6)
        assert [warning.filename for warning in caught] == [__file__]
    lists: list[Any] = [[inverted, drawing()], list(255 - SEEN), [[inverted], [inverted[0:1]]]]
    for several in lists:
        with pytest.warns(InvertedWarning) as caught:
            prepare(several)
        assert [warning.filename for warning in caught] == [__file__]  # once


@pytest.mark.parametrize(
    "array",
    [
        SEEN,
        np.concatenate((SEEN, 255 - SEEN)),  # which of them are meant so, no one knows
        np.full((3, 28, 28), 255, np.uint8),  # nothing is drawn
        np.zeros((0, 28, 28), np.uint8),
        np.full((40, 30), 255, np.uint8),  # a picture, whose ground is found
        [255 - SEEN[0], SEEN[1]],
        [[255 - SEEN], [Image.new("L", (9, 9)), SEEN[0]]],
        [Image.fromarray(255 - SEEN[0])],
    ],
)
def test_no_hint_is_given_where_none_is_due(array: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(array)


@pytest.mark.parametrize("name", [*GENERATED, "digits"])
def test_the_sets_that_are_known_by_name_give_no_such_hint(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(ImageSet.from_name(name, seed=1).images)


def test_a_grey_file_of_the_networks_size_is_judged_as_the_array_is(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[2:9, 1:27] = np.random.default_rng(0).integers(1, 256, (7, 26), np.uint8)  # off the middle
    image = Image.fromarray(pixels)
    image.save(tmp_path / "seen.png")
    for same in (image, tmp_path / "seen.png"):
        assert prepare(same).equal(prepare(pixels))


def test_other_files_of_the_networks_size_are_brought_to_the_layout() -> None:
    seven = drawing().resize((28, 28))
    for image in (seven, ImageOps.invert(seven).convert("RGB"), ImageOps.invert(seven).resize((28, 29))):
        assert_in_layout(prepare(image).numpy()[0, 0])
        assert prepare(image).numpy()[0, 0].max() == 1


def test_many_kinds_at_once_keep_their_order(tmp_path: Path) -> None:
    drawing().save(tmp_path / "seven.png")
    blank = np.zeros((2, 28, 28), np.uint8)
    prepared = prepare(iter([drawing(), blank, str(tmp_path / "seven.png"), [tmp_path / "seven.png"]]))
    assert prepared.shape == (5, 1, 28, 28)
    assert is_blank(prepared).tolist() == [False, True, True, False, False]
    assert prepared[[0, 3]].equal(prepared[[4, 4]])


class Unseekable(io.BytesIO):
    """A stream that can be read once, as one from the network."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


def test_a_files_bytes_and_any_open_file_are_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    drawing().save(path)
    content, expected = path.read_bytes(), prepare(path)
    for same in (content, bytearray(content), memoryview(content), io.BytesIO(content), Unseekable(content)):
        assert prepare(same).equal(expected)
    with path.open("rb") as opened, urllib.request.urlopen(path.as_uri()) as fetched:
        assert prepare([opened, fetched, content, path]).equal(expected.expand(4, -1, -1, -1))
    written = io.BytesIO()
    drawing().save(written, "PNG")  # which leaves it at its end
    assert prepare(written).equal(expected)


class Upload:
    """An upload as web frameworks have it, whose bytes must be awaited."""

    async def read(self) -> bytes:
        return encoded("PNG")


def closed() -> io.BytesIO:
    stream = io.BytesIO(encoded("PNG"))
    stream.close()
    return stream


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "the file is empty"),
        (lambda: b"seven.png", "the file is not an image .*"),
        (lambda: io.BytesIO(), "the file is empty"),
        (lambda: Unseekable(b""), "the file is empty"),
        (lambda: Unseekable(encoded("PNG")[:200]), "the file cannot be read as an image: .*"),
        (lambda: io.StringIO("seven"), "a file must be open in binary mode, .* give its bytes"),
        (lambda: Upload(), "a file must be open in binary mode, .* give its bytes"),
        (closed, "the file cannot be read as an image: I/O operation on closed file"),
    ],
)
def test_files_that_cannot_be_read_are_told_in_one_sentence(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^{message}\.$"):
        prepare(make())


def test_a_layout_of_ones_own_is_for_what_is_not_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def corner(brightness: Pixels) -> Laid:
        laid_out = np.zeros((28, 28), np.float32)
        laid_out[0, 0] = brightness.mean()
        return Laid(laid_out)

    monkeypatch.setitem(preprocess.LAYOUTS, "corner", corner)
    grey = np.asarray(drawing())
    for picture in (grey, drawing(), [grey[..., None]]):
        laid_out = prepare(picture, "corner")
        assert laid_out[0, 0, 0, 0].item() == pytest.approx(grey.mean() / 255, abs=1e-3)
        assert laid_out.count_nonzero() == 1
    assert prepare(SEEN, "corner").equal(EXACT)
    with pytest.raises(InputError, match="there is no layout 'middle': choose one of mnist, as-is, corner"):
        prepare(grey, "middle")


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 28, 28), np.float32), [[], []]])
def test_no_images_are_an_empty_batch(nothing: Any) -> None:
    assert prepare(nothing).shape == (0, 1, 28, 28)


# Bad input gets one sentence


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG of that size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return (
        b"\x89PNG\r\n\x1a\n" + data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    drawing().convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.png is empty\."),
        (b"these are words", r"x\.png is not an image \(of PNG, [A-Z, ]+\)\."),
        (encoded("PNG")[:200], r"x\.png cannot be read as an image: [^\n]+\."),
        (encoded("JPEG")[:-300], r"x\.png cannot be read as an image: [^\n]+\."),
        (encoded("HEIF")[:-40], r"x\.png cannot be read as an image: [^\n]+\."),
        (encoded("GIF")[:-40], r"x\.png cannot be read as an image: [^\n]+\."),
        (png_header(100_000, 100_000), r"x\.png has more than 50,000,000 pixels: make it smaller\."),
        (
            png_header(MAX_PIXELS // 5000 + 1, 5000),
            r"x\.png has more than 50,000,000 pixels: make it smaller\.",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    tracemalloc.start()
    for read in (open_image, to_mnist, prepare):
        with pytest.raises(InputError, match=rf"^\S*{message}$"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_bound_of_ones_own_is_met_exactly_and_before_anything_is_unpacked() -> None:
    content, pixels = encoded("PNG"), drawing().width * drawing().height
    opened = open_stream(io.BytesIO(content), "it", pixels)
    assert np.array_equal(np.asarray(opened), np.asarray(drawing().convert("RGB")))
    with pytest.raises(InputError, match=rf"^it has more than {pixels - 1:,} pixels: make it smaller\.$"):
        open_stream(io.BytesIO(content), "it", pixels - 1)
    with pytest.raises(InputError, match=r"^it has more than 99 pixels: make it smaller\.$"):
        open_stream(io.BytesIO(png_header(10, 10)), "it", 99)  # though it holds none


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no file \S*none\.png\.$"):
        prepare([tmp_path / "none.png"])
    with pytest.raises(InputError, match=r"is a folder, not an image\.$"):
        prepare(tmp_path)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(InputError, match="null byte"):
        prepare(["a\0b.png"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM"])
@given(flips=st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=5))
def test_damaged_files_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, flips: dict[int, int]
) -> None:
    content = bytearray(encoded(kind))
    for place, byte in flips.items():
        content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(content)
    try:
        image = to_mnist(path)
    except InputError:
        return
    assert_in_layout(image)


def test_a_damaged_image_that_is_read_only_now_is_refused() -> None:
    cut = Image.open(io.BytesIO(encoded("PNG")[:200]))
    with pytest.raises(InputError, match="an image cannot be read"):
        prepare(cut)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.new("L", (0, 5)),
        lambda: Image.new("RGBA", (0, 0)),
        lambda: Image.new("I", (5, 0)),
        lambda: Image.new("F", (40, 40), float("nan")),
        lambda: Image.new("F", (40, 40), -1.0),
        lambda: Image.new("1", (10_000, 5_001)),
    ],
)
def test_unusable_images_are_refused(make: Callable[[], Image.Image]) -> None:
    with pytest.raises(InputError, match=r"^an image .*[a-z0-9]\.$"):
        prepare(make())


def with_value(value: float, shape: tuple[int, ...] = (28, 28)) -> NDArray[np.float64]:
    array = np.full(shape, 0.5)
    array[3, 3] = value
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.array(0.5),
        np.zeros(784),
        np.zeros((0, 0)),
        np.zeros((40, 0)),
        np.zeros((0, 5, 5, 3)),
        np.zeros((2, 2, 28, 28), np.uint8),
        np.zeros((2, 2, 28, 28, 3), np.uint8),
        with_value(np.nan),
        with_value(np.inf),
        with_value(-0.01),
        with_value(1.01),
        with_value(255.0),
        with_value(np.nan, (40, 30)),
        with_value(-np.inf, (40, 30)),
        with_value(2.0, (40, 30)),
        np.zeros((28, 28), np.int64),
        np.zeros((40, 30), np.uint16),
        np.zeros((28, 28), np.complex64),
        np.full((28, 28), None),
        np.full((28, 28), "a"),
        np.array(["a.png", "b.png"]),
        np.zeros((10_000, 5_001), np.uint8),
    ],
)
def test_unusable_arrays_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"^an array .*[a-z0-9)]\.$"):
        prepare(array)


@pytest.mark.parametrize("thing", [None, 7, 0.5, [None], [[0.1, 0.2]], [(SEEN[0], 7)]])
def test_what_is_no_image_at_all_is_named(thing: Any) -> None:
    kinds = "PIL images, paths, bytes, files, arrays or tensors"
    with pytest.raises(InputError, match=rf"^images must be {kinds}, not \w+\.$"):
        prepare(thing)


# Large images take little memory


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("size", [(70, 90), (431, 207), (1999, 3)])
def test_what_is_reduced_in_strips_is_what_is_reduced_at_once(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocess, "LONGEST", 30)
    monkeypatch.setattr(preprocess, "_STRIP", 5)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = (
        Image.fromarray(noise).convert("RGB" if mode in ("CMYK", "YCbCr", "P", "1") else "RGBA").convert(mode)
    )
    for target in ("L", "RGB", "RGBA"):
        expected = image.convert(target).reduce(max(size) // 30)
        assert preprocess._reduced(image, target).tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_what_is_deep_is_the_same_in_strips(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 60_000, (50, 40))
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    image = Image.fromarray(values.astype(kind))
    assert image.mode == mode
    whole = preprocess._deep_brightness(image, "it")
    monkeypatch.setattr(preprocess, "_ROWS", 7)
    assert (preprocess._deep_brightness(image, "it") == whole).all()
    np.testing.assert_array_equal(whole, (values / 65535).astype(np.float32))


PEAK = """
import sys
from PIL import Image
from bnn.data.preprocess import read_images

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

read_images(Image.new("L", (300, 300), 255))
before = peak()
read_images(sys.argv[1])
print((peak() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("mode", "size", "kind", "most"),
    [
        ("RGBA", (8000, 6000), "PNG", 500),
        ("RGBA", (5000, 5000), "PNG", 300),
        ("I;16", (5000, 5000), "PNG", 350),
        ("P", (5000, 5000), "PNG", 300),
        ("RGB", (8000, 6000), "HEIF", 550),
        ("RGB", (8000, 6000), "JPEG", 200),
    ],
)
def test_one_image_takes_so_many_megabytes_at_most(
    mode: str, size: tuple[int, int], kind: str, most: int, tmp_path: Path
) -> None:
    image = Image.new(mode, size, 255 if mode in ("P", "I;16") else (255,) * len(mode))
    image.paste(0, (1000, 1000, 1400, 4000))
    image.save(tmp_path / "large", kind)
    assert int(printed(sys.executable, "-c", PEAK, str(tmp_path / "large"))) <= most
