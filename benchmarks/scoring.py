"""What `bnn score` costs, for docs/scaling.md: CPU time of one thread, memory, and bytes on the disk.

    python benchmarks/scoring.py

has digits of MNIST's calibration split (seed 0) decided on, from an IDX file and from a tar, and lists,
counts and looks at what `bnn score` lists, counts and looks at besides. Times are medians of rounds in which
all take turns. It takes some three minutes, and prints the table. Memory is read from /proc: Linux alone.
"""

import argparse
import io
import itertools
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timing import seconds

from bnn.classifier import ADAPTIVE, ALL, Classifier
from bnn.data.imageset import CALIBRATION_SHARE, ImageSet
from bnn.data.sources import Source, scanned
from bnn.scoring.parts import counted_in, write_part
from bnn.scoring.plan import MANIFEST, Chunk, Plan, planned

SCORE = """
import re
from pathlib import Path
from bnn.cli import main
main()
print(*re.findall(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()))
"""
OF_ALL_DRAWS = 5  # as many times fewer images are decided on with all draws
MORE = 10  # as many times more images, for memory


def main() -> None:
    """Measures, and prints the table."""
    asked = parsed()
    torch.set_num_threads(1)
    classifier = Classifier.load(asked.checkpoint)
    digits = calibration_digits(asked.data_dir, asked.images)
    with tempfile.TemporaryDirectory(prefix="bnn-") as scratch:
        folder = Path(scratch)
        idx, tar = folder / "digits-idx3-ubyte", folder / "digits.tar"
        idx.write_bytes(struct.pack(">IIII", 0x803, *digits.shape) + digits.tobytes())
        write_tar(tar, digits)
        found = timed(classifier, idx, tar, len(digits), asked.rounds, folder)
        print("| what | |\n|---|---|")
        for what, told in (*found, *listed(folder / "loose", digits), *processes(asked, idx, digits, folder)):
            print(f"| {what} | {told} |")


def calibration_digits(given: Path | None, count: int) -> NDArray[np.uint8]:
    """The first digits (N, 28, 28) of the calibration split of seed 0."""
    _, digits = ImageSet.from_name("mnist", given, part="train").split_calibration(0, CALIBRATION_SHARE)
    return digits.images[:count, 0].mul(255).round().byte().numpy()


def write_tar(path: Path, digits: NDArray[np.uint8]) -> None:
    """Writes the digits as PNGs."""
    with tarfile.open(path, "w") as archive:
        for number, digit in enumerate(digits):
            stream = io.BytesIO()
            Image.fromarray(digit).save(stream, "PNG")
            (member := tarfile.TarInfo(f"{number}.png")).size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)


def timed(
    classifier: Classifier, idx: Path, tar: Path, count: int, rounds: int, folder: Path
) -> list[tuple[str, str]]:
    """What an image costs, a member that is counted, and a part that is looked at."""
    of_idx, of_tar = (scanned(str(path), "", count) for path in (idx, tar))
    few = count // OF_ALL_DRAWS
    parts = {
        "decided adaptively, from an IDX file": (ADAPTIVE, of_idx, count),
        "the same, from a tar of PNGs": (ADAPTIVE, of_tar, count),
        "with all draws": (ALL, of_idx, few),
    }
    works: dict[str, Callable[[], object]] = {
        name: partial(write_part, classifier, draws, chunk_of(source, n), count, folder / name)
        for name, (draws, source, n) in parts.items()
    }
    works["counted"] = partial(scanned, str(tar), "", count)
    first = next(iter(works))
    whole = chunk_of(of_idx, count)
    works["looked at"] = partial(counted_in, whole, folder / first)
    taken = seconds(works, rounds)
    decided = [
        (
            f"an image of 28×28 {name} ({n:,})",
            f"{1000 * taken[name] / n:.2f} ms, or {n / taken[name]:,.0f} a second",
        )
        for name, (_, _, n) in parts.items()
    ]
    size = whole.part_in(folder / first).stat().st_size
    return [
        *decided,
        ("a member of a tar counted", f"{1000 * taken['counted'] / count:.3f} ms"),
        ("a part that is there already, looked at", f"{1000 * taken['looked at']:.2f} ms"),
        (f"a row of a part of {count:,}", f"{size / count:.0f} bytes"),
    ]


def chunk_of(source: Source, count: int) -> Chunk:
    """The first images of `source`."""
    return Chunk(0, [source], 0, count)


def listed(loose: Path, digits: NDArray[np.uint8]) -> list[tuple[str, str]]:
    """What a loose file costs that is found and listed."""
    loose.mkdir()
    for number in range(len(digits)):
        (loose / f"{number:06}.png").touch()

    fresh = (loose.with_name(f"plan-{number}") for number in itertools.count())

    def listing() -> Plan:
        return planned([str(loose)], next(fresh), len(digits), {})

    taken = seconds({"listing": listing}, 5)["listing"] / len(digits)
    tracemalloc.start()
    plan = listing()
    memory = tracemalloc.get_traced_memory()[1] / plan.rows
    tracemalloc.stop()
    manifest = (loose.with_name("plan-0") / MANIFEST).stat().st_size / plan.rows
    told = f"{1000 * taken:.3f} ms, {memory:,.0f} bytes of memory at the peak, {manifest:.0f} of the manifest"
    return [("a loose file found and listed", told)]


def processes(
    asked: argparse.Namespace, idx: Path, digits: NDArray[np.uint8], folder: Path
) -> list[tuple[str, str]]:
    """What a process of `bnn score` takes besides: its start, and its memory, also for more images."""
    more = folder / "more-idx3-ubyte"
    many = np.concatenate([digits] * MORE)
    more.write_bytes(struct.pack(">IIII", 0x803, *many.shape) + many.tobytes())
    few_peak, many_peak = (peak_of(asked, path) for path in (idx, more))
    before = cpu_of_children()
    peak_of(asked, more)  # nothing is left to do
    return [
        ("a process that starts", f"{cpu_of_children() - before:.1f} s"),
        (
            f"memory of a process at its peak, {len(digits):,} images; {len(many):,}",
            f"{few_peak:,.0f} MB; {many_peak:,.0f} MB",
        ),
    ]


def peak_of(asked: argparse.Namespace, path: Path) -> float:
    """MB of memory that a process which scores the images at `path` has at its peak."""
    checkpoint = () if asked.checkpoint is None else ("--checkpoint", str(asked.checkpoint))
    command = [sys.executable, "-c", SCORE, "score", str(path), "--out", f"{path}.scores", *checkpoint]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) / 1000


def cpu_of_children() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, help="(default: the one that ships)")
    add("--images", type=int, default=1000, help="(default: %(default)s)")
    add("--rounds", type=int, default=7, help="(default: %(default)s)")
    add("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
