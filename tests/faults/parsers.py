"""All that reads what strangers may have made, with sound inputs that are made here."""

import asyncio
import base64
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bnn.app.address import Address, accounts_in, api_keys_in
from bnn.app.arrivals import Arrivals
from bnn.app.bounds import AsgiApp, Message, Receive, Send, answer
from bnn.app.pad import drawing
from bnn.app.rest import rest
from bnn.app.uploads import SavedFile, read_files
from bnn.app.waiting import waiting
from bnn.classifier import Classifier
from bnn.cli.read import read_command
from bnn.cli.review import review_command
from bnn.core.checkpoint import load
from bnn.core.task import DIGITS
from bnn.data.digits import load_mnist
from bnn.data.own import own_data
from bnn.data.pen import SIZE
from bnn.data.pictures import PNG_URL
from bnn.data.preprocess import read_images
from bnn.data.sources import image_of, items, scanned
from bnn.errors import InputError
from bnn.reading import read
from bnn.review.entries import Refusal
from bnn.review.store import ReviewQueue
from bnn.scoring.plan import MANIFEST, planned
from bnn.training.states import config_of
from bnn.training.train import train

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import KINDS, digits, idx, png, zipped

ROOT = Path(__file__).parents[2]
FORMATS: Mapping[str, Sequence[str]] = {  # modes in which an image is packed
    **{"PNG": ("L", "RGB", "RGBA", "P", "1", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P")},
    **{"BMP": ("L", "RGB", "1"), "TIFF": ("L", "RGB", "I;16", "F", "1"), "WEBP": ("RGB", "RGBA")},
    **{"AVIF": ("RGB",), "HEIF": ("RGB",), "PPM": ("L", "RGB", "1")},
}
JOIN = "/gradio_api/queue/join"
BOUNDARY = "boundary"
_LABELS = b"\0\0\x08\x01\0\0\0\x06" + bytes(range(6))
_DIGEST = re.compile(rb'\\"digest\\": \\"[0-9a-f]+\\", ')


class Parser(NamedTuple):
    """What reads an input.

    Attributes:
        seeds: sound inputs.
        parse: reads one, and raises no other exception than an `InputError`; it may write in the current
            folder, which is its own.
        share: of all inputs: the less the longer one takes.
    """

    seeds: Callable[[], Sequence[bytes]]
    parse: Callable[[bytes], object]
    share: int


class UnexpectedError(Exception):
    """A status of plain HTTP that no input may have."""


def _file(name: str, parse: Callable[[Path], object], content: bytes) -> None:
    path = Path(name)
    path.write_bytes(content)
    parse(path)


@cache
def _trained() -> Classifier:
    quiet = {"enable_progress_bar": False}
    options: dict[str, Any] = {
        "network": "mlp",
        "network_options": {"hidden": 4},
        "rule": "entropy",
        "refuse": 0.3,
        "draws": 3,
    }
    torch.set_num_threads(1)
    return train("digits", epochs=1, scores=("features", "entropy"), trainer_options=quiet, **options)


def _to_classify(*seeds: bytes) -> list[bytes]:
    """These, when there is a classifier to decide on them."""
    _trained()
    return list(seeds)


def _checkpoints() -> list[bytes]:
    path = Path("seed.safetensors")
    _trained().save(path)
    with_digest = path.read_bytes()
    without = _DIGEST.sub(lambda found: b" " * len(found[0]), with_digest)  # as files of before it
    assert without != with_digest
    return [with_digest, without]


def _states() -> list[bytes]:
    stream = io.BytesIO()
    state = {"hyper_parameters": {"config": {"epochs": 3}}, "state_dict": {"loc": torch.ones(50)}, "epoch": 1}
    torch.save(state, stream)
    return [stream.getvalue()]


def _pictures(kind: str) -> list[bytes]:
    picture = Image.fromarray(np.kron(digits(1)[0], np.ones((2, 2), np.uint8)))
    packed = []
    for mode in FORMATS[kind]:
        stream = io.BytesIO()
        deep = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257) if mode == "I;16" else None
        (deep or picture.convert(mode)).save(stream, kind)
        packed.append(stream.getvalue())
    if kind == "JPEG":
        stream, turned = io.BytesIO(), Image.Exif()
        turned[0x0112] = 6
        picture.save(stream, kind, exif=turned, progressive=True)
        packed.append(stream.getvalue())
    if kind == "TIFF":
        for packing in ("tiff_lzw", "tiff_adobe_deflate", "group4"):
            stream = io.BytesIO()
            picture.convert("1" if packing == "group4" else "L").save(stream, kind, compression=packing)
            packed.append(stream.getvalue())
    return packed


def _of_kinds(*kinds: str) -> list[bytes]:
    return [KINDS[kind][1](digits(6)) for kind in kinds]


def _source(path: Path) -> None:
    source = scanned(str(path), "0 0", 4)
    for start in range(0, min(source.rows, 40), 4):
        for item in items(source, start, min(start + 4, source.rows), 4):
            try:
                read_images(image_of(item))
            except InputError as error:
                _one_sentence(str(error))


def _one_sentence(text: str) -> None:
    if "\n" in text or not text:
        raise UnexpectedError(f"no sentence: {text!r}")


def _upload(path: Path) -> None:
    read_files([SavedFile.at(str(path))])


def _mnist(content: bytes) -> None:
    """As MNIST's labels, where it looks like those, and else as its images; the other file is sound."""
    files = {"images-idx3": idx(digits(6)), "labels-idx1": _LABELS}
    files["labels-idx1" if content[3:4] == b"\1" else "images-idx3"] = content
    raw = Path("MNIST/raw")
    raw.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        for name, one in files.items():
            (raw / f"{part}-{name}-ubyte").write_bytes(one)
    load_mnist(Path(), train=True)


def _idx_seeds() -> list[bytes]:
    return [idx(digits(6)), _LABELS]


def _small() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (24, 4, 4), np.uint8)


def _csvs() -> list[bytes]:
    lines = [[index % 2, *image.ravel().tolist()] for index, image in enumerate(_small())]
    plain = "\n".join(",".join(map(str, line)) for line in lines)
    heads = ",".join(["label", *(f"pixel{index}" for index in range(16))])
    return [plain.encode(), f"{heads}\n{plain}\n".encode()]


def _npzs() -> list[bytes]:
    seeds = []
    for save in (np.savez, np.savez_compressed):
        for labels in (np.arange(24) % 2, np.array(["cat", "dog"] * 12)):
            stream = io.BytesIO()
            save(stream, images=_small(), labels=labels)
            seeds.append(stream.getvalue())
    return seeds


def _drawings() -> list[bytes]:
    canvas = np.full((SIZE, SIZE), 255, np.uint8)
    canvas[60:200, 100:130] = 0
    content = png(canvas)
    return [content, png(np.full((SIZE, SIZE), 255, np.uint8)), f"{PNG_URL}{_text(content)}".encode()]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _drawing(content: bytes) -> None:
    """As the value of a pad: the text itself, or a picture packed as its page does."""
    is_text = content.startswith(PNG_URL.encode())
    drawing(content.decode("latin-1") if is_text else f"{PNG_URL}{_text(content)}")


def _boxes(path: Path) -> None:
    read_command(_trained(), [], boxes=path)


def _grid(content: bytes) -> None:
    Image.new("L", (300, 200)).save("blank.bmp")
    read_command(_trained(), [Path("blank.bmp")], grid=content.decode("latin-1"))


def _numbers(content: bytes) -> None:
    read(content, _trained())


def _number_seeds() -> list[bytes]:
    stream = io.BytesIO()
    with Image.open(ROOT / "docs" / "number.png") as picture:
        picture.convert("L").resize((picture.width // 2, picture.height // 2)).save(stream, "BMP")
    return _to_classify(stream.getvalue())


class _Web:
    """An application, asked in this process."""

    def __init__(self, make: Callable[[], AsgiApp]) -> None:
        self._make, self._runner = make, asyncio.Runner()

    def ask(self, url: str, content: bytes, kind: str) -> int:
        return self._runner.run(self._asked(url, content, kind))

    async def _asked(self, url: str, content: bytes, kind: str) -> int:
        transport = httpx.ASGITransport(app=_app(self._make))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post(url, content=content, headers={"content-type": kind})).status_code


@cache
def _app(make: Callable[[], AsgiApp]) -> AsgiApp:
    return make()


def _plain_http() -> AsgiApp:
    return rest(_trained(), Address(), Arrivals(_trained()))


def _joins() -> AsgiApp:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await answer(send, 200, "text/plain", "")

    return waiting(app, "size", lambda: 0)


_web = cache(_Web)


def _post(make: Callable[[], AsgiApp], urls: Sequence[str], kind: str, content: bytes) -> None:
    for url in urls:
        status = _web(make).ask(url, content, kind)
        if status not in (200, 400, 413, 422):
            raise UnexpectedError(f"{url} answers {status}")


def _form() -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{i}.png"\r\n\r\n'
        for i in (1, 2)
    ]
    return (
        b"".join(part.encode() + png(digits(1)[0]) + b"\r\n" for part in parts)
        + f"--{BOUNDARY}--\r\n".encode()
    )


def _queues() -> list[bytes]:
    path = Path("seed.sqlite")
    votes = np.full((2, 10), 0.1, np.float16)
    with ReviewQueue.open(str(path), DIGITS) as queue:
        queue.add(
            [Refusal(f"{index}.png", one, votes, 0.5, "ambiguous") for index, one in enumerate(digits(4))]
        )
        entry = queue.take("reviewer")
        assert entry is not None
        queue.label("reviewer", entry.number, 3)
    return [path.read_bytes()]


def _queue(path: Path) -> None:
    try:
        review_command(str(path), out=Path("reviewed"))
    finally:
        shutil.rmtree("reviewed", ignore_errors=True)


def _manifests() -> list[bytes]:
    Path("image.png").write_bytes(png(digits(1)[0]))
    os.utime("image.png", (0, 0))  # a plan remembers it
    planned(["image.png"], Path("seed"), 3, {"rule": "entropy"})
    return [(Path("seed") / MANIFEST).read_bytes()]


def _manifest(content: bytes) -> None:
    Path("scores").mkdir(exist_ok=True)
    (Path("scores") / MANIFEST).write_bytes(content)
    list(planned(["image.png"], Path("scores"), 3, {"rule": "entropy"}).chunks())


_ACCOUNTS = [b"ann:secret\n# nobody\n\nbob:a:b\n", "\ufeffzoë:geheim\n".encode()]
_KEYS = [b"till:0123456789abcdef\n# nobody\n\nscanner:a:b:c:0123456789\n"]

PARSERS: Mapping[str, Parser] = {
    "checkpoint": Parser(_checkpoints, partial(_file, "some.safetensors", Classifier.load), 12),
    "checkpoint's file": Parser(_checkpoints, partial(_file, "some.safetensors", load), 4),
    "state": Parser(_states, partial(_file, "last.ckpt", config_of), 8),
    **{
        kind: Parser(partial(_pictures, kind), read_images, 2 if kind in ("AVIF", "HEIF") else 5)
        for kind in FORMATS
    },
    "MNIST": Parser(_idx_seeds, _mnist, 4),
    "IDX": Parser(partial(_of_kinds, "idx", "idx.gz"), partial(_file, "some-idx3-ubyte", _source), 4),
    "zip": Parser(partial(_of_kinds, "zip"), partial(_file, "some.zip", _source), 6),
    "tar": Parser(partial(_of_kinds, "tar", "webdataset", "tar.gz"), partial(_file, "some.tar", _source), 6),
    "Parquet": Parser(
        partial(_of_kinds, "bytes", "struct", "list", "pixels"), partial(_file, "some.parquet", _source), 2
    ),
    "upload": Parser(
        lambda: [*_of_kinds("zip"), zipped([("a.zip", zipped([("b.png", png(digits(1)[0]))]))])],
        partial(_file, "upload", _upload),
        6,
    ),
    "CSV": Parser(_csvs, partial(_file, "some.csv", lambda path: own_data(str(path), "as-is")), 6),
    "npz": Parser(_npzs, partial(_file, "some.npz", lambda path: own_data(str(path), "as-is")), 6),
    "pad": Parser(_drawings, _drawing, 4),
    "boxes": Parser(
        partial(_to_classify, b"left,top,right,bottom\n1,2,30,40\n5,6,70,80\n"),
        partial(_file, "b.csv", _boxes),
        2,
    ),
    "grid": Parser(partial(_to_classify, b"10x20", b"2x3"), _grid, 1),
    "picture to read": Parser(_number_seeds, _numbers, 1),
    "image as JSON": Parser(
        partial(_to_classify, json.dumps({"image": _text(png(digits(1)[0]))}).encode()),
        partial(_post, _plain_http, ("/v1/classify",), "application/json"),
        2,
    ),
    "images as JSON": Parser(
        partial(_to_classify, json.dumps({"images": [_text(one) for one in map(png, digits(2))]}).encode()),
        partial(_post, _plain_http, ("/v1/classify-batch",), "application/json"),
        1,
    ),
    "form": Parser(
        lambda: _to_classify(_form()),
        partial(_post, _plain_http, ("/v1/classify-batch",), f"multipart/form-data; boundary={BOUNDARY}"),
        1,
    ),
    "request to wait": Parser(
        lambda: [json.dumps({"data": ["x", None, 0.5], "fn_index": 1, "session_hash": "a" * 10}).encode()],
        partial(_post, _joins, (JOIN,), "application/json"),
        4,
    ),
    "accounts": Parser(lambda: _ACCOUNTS, partial(_file, "accounts", accounts_in), 4),
    "API keys": Parser(lambda: _KEYS, partial(_file, "keys", api_keys_in), 4),
    "queue": Parser(_queues, partial(_file, "some.sqlite", _queue), 2),
    "manifest": Parser(_manifests, _manifest, 4),
}
