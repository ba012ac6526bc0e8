"""What plain HTTP costs beside the Python API, in one process (docs/rest.md).

    python benchmarks/rest.py

The server and its client share this process and the machine's cores. Times of the processor and of the clock
are medians over rounds in which both ways take turns, of the same digits as PNG files.
"""

import argparse
import socket
import statistics
import time
from collections.abc import Callable
from io import BytesIO

import httpx
import torch
from rich.console import Console
from rich.table import Table

from bnn.app import Address, served
from bnn.classifier import Classifier
from bnn.data.imageset import ImageSet
from bnn.data.pictures import picture

ROUNDS = 5
AT_ONCE = 1_000  # images in a request
SINGLE = 300  # requests of one image


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="in a round (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    digits = [_png(image) for image in ImageSet.from_name("digits", part="all").images[:, 0]]
    files = [digits[i % len(digits)] for i in range(arguments.images)]
    classifier = Classifier.load()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = Address(port=port)
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=None) as client:
        ways: dict[str, Callable[[], object]] = {
            "Classifier.predict_stream": lambda: sum(1 for _ in classifier.predict_stream(iter(files))),
            "/v1/classify-batch": lambda: _in_batches(client, files),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                taken[name].append(_timed(way))
        singles = sorted(_timed(lambda i=i: _one(client, digits[i]))[1] for i in range(SINGLE))  # type: ignore[misc]
    table = Table("way", "images a second", "processor, ms an image", title=f"{len(files):,} images")
    for name, times in taken.items():
        processor, clock = (statistics.median(kind) for kind in zip(*times, strict=True))
        table.add_row(name, f"{len(files) / clock:.0f}", f"{1000 * processor / len(files):.2f}")
    Console().print(table)
    p50, p95 = (1000 * singles[int(share * SINGLE)] for share in (0.5, 0.95))
    print(f"/v1/classify, one after another: half within {p50:.0f} ms, 95 % within {p95:.0f} ms.")


def _png(image: torch.Tensor) -> bytes:
    stream = BytesIO()
    picture(image.numpy()).save(stream, "PNG")
    return stream.getvalue()


def _timed(way: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    begun = time.process_time(), time.perf_counter()
    way()
    return time.process_time() - begun[0], time.perf_counter() - begun[1]


def _in_batches(client: httpx.Client, files: list[bytes]) -> None:
    for start in range(0, len(files), AT_ONCE):
        sent = [("images", file) for file in files[start : start + AT_ONCE]]
        with client.stream("POST", "/v1/classify-batch", files=sent) as answer:
            assert sum(1 for _ in answer.iter_lines()) == len(sent)


def _one(client: httpx.Client, file: bytes) -> None:
    client.post("/v1/classify", content=file).raise_for_status()


if __name__ == "__main__":
    main()
