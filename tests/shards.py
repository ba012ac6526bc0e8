"""The same images as every kind of source that `bnn score` takes."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

Stack = NDArray[np.uint8]  # (N, 28, 28)


def digits(count: int, seed: int = 0) -> Stack:
    """So many strokes on black, 28×28, no two alike."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    for image in images:
        left, top = rng.integers(5, 15, 2)
        image[top : top + 10, left : left + 4] = rng.integers(150, 256, (10, 4))
    return images


def png(image: Stack) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def tarred(members: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            (info := tarfile.TarInfo(name)).size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zipped(members: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def idx(images: Stack) -> bytes:
    return struct.pack(">IIII", 0x803, *images.shape) + images.tobytes()


def parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, row_group_size=7)
    return stream.getvalue()


def named(images: Stack) -> list[tuple[str, bytes]]:
    return [(f"some/{number:04}.png", png(image)) for number, image in enumerate(images)]


def with_labels(images: Stack) -> list[tuple[str, bytes]]:
    """As WebDataset has them: beside each image its class."""
    return [part for name, content in named(images) for part in ((name, content), (f"{name[:-4]}.cls", b"7"))]


def pixel_columns(images: Stack) -> dict[str, object]:
    return {"label": [7] * len(images)} | {
        f"pixel{place}": column for place, column in enumerate(images.reshape(len(images), -1).T)
    }


KINDS: dict[str, tuple[str, Callable[[Stack], bytes]]] = {
    "zip": ("a.zip", lambda images: zipped(named(images))),
    "tar": ("a.tar", lambda images: tarred(named(images))),
    "webdataset": ("a-000.tar", lambda images: tarred(with_labels(images))),
    "tar.gz": ("a.tar.gz", lambda images: gzip.compress(tarred(named(images)), 1)),
    "idx": ("a-idx3-ubyte", idx),
    "idx.gz": ("a-idx3-ubyte.gz", lambda images: gzip.compress(idx(images), 1)),
    "bytes": ("a.parquet", lambda images: parquet(label=[1] * len(images), image=[*map(png, images)])),
    "struct": (
        "b.parquet",
        lambda images: parquet(image=[{"bytes": png(image), "path": "x.png"} for image in images]),
    ),
    "list": ("c.parquet", lambda images: parquet(pixels=[image.ravel().tolist() for image in images])),
    "rows": ("d.parquet", lambda images: parquet(pixels=[image.tolist() for image in images])),
    "pixels": ("e.parquet", lambda images: parquet(**pixel_columns(images))),
    "fractions": (
        "f.parquet",
        lambda images: parquet(image=[(image.ravel() / np.float32(255)).tolist() for image in images]),
    ),
}


def written(kind: str, images: Stack, folder: Path) -> Path:
    name, make = KINDS[kind]
    (folder / name).write_bytes(make(images))
    return folder / name
