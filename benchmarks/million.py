"""A million images by two workers, killed three times: none lost, none twice, the same bytes, memory flat.

    python benchmarks/million.py --checkpoint small.safetensors

writes MNIST's training images, repeated, as IDX files (0.8 GB), and has `bnn score` decide on them twice:
undisturbed, and killed at random moments, the driver or a worker, and given again each time. Before that one
worker and several take turns on the first images. What it prints stands in docs/scaling.md. The exit status
is 1 where an image has no row or two, a byte differs, a process or a file is left behind, or memory grows. It
needs Ray (`pip install '.[ray]'`), unless `--engine processes` is asked for.
"""

import argparse
import hashlib
import os
import random
import statistics
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE

import numpy as np
import psutil
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bnn.data.digits import data_dir, load_mnist
from bnn.progress import progress

SCORE = (sys.executable, "-c", "import sys; from bnn.cli import main; sys.exit(main())", "score")
SHARD = 100_000  # images of a file
WORKERS = {"ray": "ray::_RayWorker", "processes": "spawn_main"}  # what a worker's command line has in it
STARTING, ENDING = 0.2, 0.9  # of the parts, between which the pace is measured
LOOK = 0.25  # seconds between two looks at a run
PATIENCE = 120.0  # seconds after which a process that goes on after its driver was killed is left behind
GROWTH = 0.1  # of its memory that a process may gain or lose from the first third of its time to the last


@dataclass(frozen=True)
class Look:
    """A look at a run: when, how many parts there were, and each process's memory and CPU time.

    Attributes:
        time: in seconds.
        parts: files.
        memory: resident bytes, by process: the driver first, then the workers.
        cpu: seconds, likewise.
    """

    time: float
    parts: int
    memory: Sequence[int]
    cpu: Sequence[float]


@dataclass
class Run:
    """A run of `bnn score` while it goes on.

    Attributes:
        process: the driver.
        engine: "ray" or "processes".
        workers: how many processes are to decide.
        out: its folder.
    """

    process: psutil.Popen
    engine: str
    workers: int
    out: Path
    _working: list[psutil.Process] = field(default_factory=list)

    def working(self) -> Sequence[psutil.Process]:
        """The workers, as far as they have been started; the driver itself where it is alone."""
        if self.workers == 1 and self.engine == "processes":
            return [self.process]
        if len(self._working) < self.workers:
            named = WORKERS[self.engine]
            self._working = [one for one in self.all_but_driver() if named in " ".join(_command(one))]
        return self._working

    def all_but_driver(self) -> list[psutil.Process]:
        """Every process that the driver has started."""
        try:
            return list(self.process.children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def killed(self, victim: psutil.Process) -> str:
        """How it ended, in words, after the kill of `victim`."""
        if not _goes_on(self.process):
            return "it had ended before"
        with suppress(psutil.NoSuchProcess):
            victim.kill()
        return f"status {self.process.wait()}"

    def faults(self) -> list[str]:
        """What it said if it did not end well."""
        _, error = self.process.communicate()
        status = self.process.returncode
        return [f"a run ended with status {status}: {error.strip().splitlines()[-1:]}"] if status else []

    def looks(self, until: float = float("inf")) -> Iterator[Look]:
        """A look now and then, once all workers and a part are there, until so many or the run's end."""
        while _goes_on(self.process):
            parts = parts_in(self.out)
            try:
                seen = [self.process, *self.working()]
                times = [one.cpu_times() for one in seen]
                memory = [one.memory_info().rss for one in seen]
            except psutil.NoSuchProcess:
                return
            if parts and len(seen) > self.workers:
                yield Look(time.monotonic(), parts, memory, [one.user + one.system for one in times])
                if parts >= until:
                    return
            time.sleep(LOOK)


def main() -> int:
    """Does what the command line asks for; returns 1 where something is not as it should be."""
    asked = parsed()
    with tempfile.TemporaryDirectory(prefix="bnn-", dir=asked.scratch) as scratch:
        os.environ["RAY_TMPDIR"] = scratch  # what Ray leaves there after a kill goes with it
        folder = Path(scratch)
        shards = written_shards(folder / "images", asked.images, asked.data_dir)
        if asked.rounds:
            print_throughput(asked, shards[0], folder)
        faults = [
            *undisturbed(asked, shards, folder / "undisturbed"),
            *disturbed(asked, shards, folder / "killed"),
            *differences(folder / "undisturbed", folder / "killed"),
            *not_once(folder / "killed", {str(path): rows_of(path) for path in shards}),
        ]
    for fault in faults:
        print(f"FAULT: {fault}")
    if not faults:
        print(f"{asked.images:,} images: a row each, and the bytes of the run that was not killed.")
    return int(bool(faults))


def undisturbed(asked: argparse.Namespace, shards: Sequence[Path], out: Path) -> list[str]:
    """Scores all images, and tells what was wrong: the exit status, or memory that grew."""
    with started(asked, shards, out, asked.workers) as run:
        looks = list(tracked(run, total_parts(asked)))
        faults = run.faults()
    names = ("the driver", *(f"worker {number}" for number in range(1, asked.workers + 1)))
    for name, (first, last) in zip(names, thirds([look.memory for look in looks]), strict=False):
        print(f"memory of {name}: {first / 1e6:,.0f} MB, and in the last third {last / 1e6:,.0f} MB")
        if not abs(last - first) <= GROWTH * first:
            faults.append(f"memory of {name} is not flat")
    return faults


def disturbed(asked: argparse.Namespace, shards: Sequence[Path], out: Path) -> list[str]:
    """Scores all images in a run that is killed, and tells what was wrong."""
    rng, faults = random.Random(asked.seed), []
    total = total_parts(asked)
    moments = sorted(rng.sample(range(1, total), asked.kills))
    victims = [("driver", "worker")[number % 2] for number in range(asked.kills)]
    rng.shuffle(victims)
    for moment, victim in zip(moments, victims, strict=True):
        with started(asked, shards, out, asked.workers) as run:
            deque(tracked(run, total, moment), maxlen=0)
            time.sleep(rng.uniform(0, LOOK))
            others = run.all_but_driver()
            told = run.killed(rng.choice(run.working()) if victim == "worker" else run.process)
            _, left = psutil.wait_procs(others, PATIENCE)
        print(f"{victim} killed after {parts_in(out):,} of {total:,} parts: {told}", flush=True)
        faults += [f"{' '.join(_command(one))} goes on after its driver's end" for one in left]
    with started(asked, shards, out, asked.workers) as run:
        deque(tracked(run, total), maxlen=0)
        return faults + run.faults()


def print_throughput(asked: argparse.Namespace, shard: Path, folder: Path) -> None:
    """Lets one worker and several take turns on the first images, and prints how fast each was."""
    counts = (1, asked.workers)
    paces: dict[int, list[Pace]] = {count: [] for count in counts}
    (some := folder / "some").mkdir()
    images = idx_images(shard)[: asked.sample]
    write_idx(some / "images-idx3-ubyte", images)
    for number in range(asked.rounds):
        for count in counts:
            with started(asked, [some], folder / f"round-{number}-{count}", count) as run:
                looks = list(tracked(run, parts_of(len(images), asked.chunk)))
                if faults := run.faults():
                    sys.exit("\n".join(faults))
            pace = pace_of(looks, asked.chunk)
            paces[count].append(pace)
            print(
                f"{count} worker{'s' * (count > 1)}: {pace.images_a_second:,.0f} images a second, "
                f"{1000 * pace.cpu_an_image:.3f} ms of CPU an image, {pace.share:.0%} of a core each",
                flush=True,
            )
    wall, cpu = ratios(paces[1], paces[asked.workers])
    print(
        f"{asked.workers} workers to 1: {wall:.2f} times as fast here; on idle cores, by CPU time, {cpu:.2f}"
    )


@dataclass(frozen=True)
class Pace:
    """How fast so many workers were together.

    Attributes:
        workers: how many.
        images_a_second: of all, by the clock.
        cpu_an_image: seconds of CPU time of the workers.
    """

    workers: int
    images_a_second: float
    cpu_an_image: float

    @property
    def share(self) -> float:
        """Of a core that each worker had, in [0, 1]."""
        return self.images_a_second * self.cpu_an_image / self.workers


def pace_of(looks: Sequence[Look], chunk: int) -> Pace:
    """The pace in the middle of a run, when all workers were at it; parts have `chunk` images.

    Raises:
        SystemExit: it was over too soon to tell.
    """
    most = max((look.parts for look in looks), default=0)
    middle = [look for look in looks if STARTING <= look.parts / most <= ENDING]
    if len({look.parts for look in middle}) < 2:
        sys.exit("The run was over too soon to tell how fast it was: give more images (--sample).")
    first, last = middle[0], middle[-1]
    images = chunk * (last.parts - first.parts)
    cpu = sum(last.cpu[1:]) - sum(first.cpu[1:])
    return Pace(len(last.cpu) - 1, images / (last.time - first.time), cpu / images)


def ratios(one: Sequence[Pace], several: Sequence[Pace]) -> tuple[float, float]:
    """How many times as fast several workers are as one: medians, by the clock and by CPU time.

    By CPU time it is what several would be if each had a core to itself: their number, times the CPU time
    that one needs of an image, by what they need.
    """
    pairs = list(zip(one, several, strict=True))
    wall = statistics.median(more.images_a_second / alone.images_a_second for alone, more in pairs)
    cpu = statistics.median(more.workers * alone.cpu_an_image / more.cpu_an_image for alone, more in pairs)
    return wall, cpu


def thirds(values: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Of each column the medians of the first third and of the last."""
    third = max(1, len(values) // 3)
    return [
        (statistics.median(column[:third]), statistics.median(column[-third:]))
        for column in zip(*values, strict=True)
    ]


def differences(one: Path, other: Path) -> list[str]:
    """What two runs' folders differ in: parts, by their digests, and files that should not be there."""
    first, second = digests(one), digests(other)
    names = sorted(first.keys() | second.keys())
    return [f"{name} differs" for name in names if first.get(name) != second.get(name)]


def digests(out: Path) -> Mapping[str, str]:
    """SHA-256 of every file under `out`, by its name there."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def not_once(out: Path, sources: Mapping[str, int]) -> list[str]:
    """Which images of the `sources`, of so many rows each, have no row under `out` or several."""
    table = pq.read_table(out, columns=["id", "source", "row"])
    names, rows = table["source"].to_numpy(), table["row"].to_numpy()
    faults = [f"{name} is no source" for name in sorted(set(names.tolist()) - set(sources))]
    for name, count in sources.items():
        told = np.bincount(rows[names == name], minlength=count)
        if len(told) > count:
            faults.append(f"{name} has {int(told[count:].sum())} rows more than images")
        elif (told != 1).any():
            faults.append(f"of {name} {int((told == 0).sum())} rows lack, {int((told > 1).sum())} are twice")
    if table["id"].combine_chunks().unique().to_numpy(zero_copy_only=False).size < len(table):
        faults.append("two rows have one id")
    return faults


def tracked(run: Run, total: int, until: float = float("inf")) -> Iterator[Look]:
    """The looks at `run`, while a bar tells how many of `total` parts there are."""
    done = 0
    with progress(total) as advance:
        for look in run.looks(until):
            advance(look.parts - done, "scoring")
            done = look.parts
            yield look


@contextmanager
def started(asked: argparse.Namespace, images: Sequence[Path], out: Path, workers: int) -> Iterator[Run]:
    """`bnn score` on `images`; it, and all that it started, ends with the block at the latest."""
    options = ("--engine", asked.engine, "--workers", str(workers), "--chunk", str(asked.chunk))
    checkpoint = () if asked.checkpoint is None else ("--checkpoint", str(asked.checkpoint))
    command = [*SCORE, *map(str, images), "--out", str(out), *options, *checkpoint]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with psutil.Popen(command, env=environment, stdout=DEVNULL, stderr=PIPE, text=True) as process:
        run = Run(process, asked.engine, workers, out)
        try:
            yield run
        finally:
            if process.poll() is None:
                for one in (*run.all_but_driver(), process):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()


def total_parts(asked: argparse.Namespace) -> int:
    """How many parts the whole run has."""
    whole, rest = divmod(asked.images, SHARD)
    return whole * parts_of(SHARD, asked.chunk) + parts_of(rest, asked.chunk)


def parts_of(images: int, chunk: int) -> int:
    """How many parts a file of so many images has."""
    return -(-images // chunk)


def parts_in(out: Path) -> int:
    """How many parts there are under `out` now."""
    return sum(1 for _ in out.glob("*/part-*.parquet"))


def written_shards(folder: Path, images: int, given: Path | None) -> list[Path]:
    """IDX files of MNIST's training images, over and over, `images` in all."""
    digits = load_mnist(data_dir(given), train=True).images
    pixels = digits.mul(255).round().byte().numpy()[:, 0]
    folder.mkdir()
    paths: list[Path] = []
    for start in range(0, images, SHARD):
        rows = np.arange(start, min(start + SHARD, images)) % len(pixels)
        paths.append(folder / f"{len(paths):03}-idx3-ubyte")
        write_idx(paths[-1], pixels[rows])
    return paths


def write_idx(path: Path, images: NDArray[np.uint8]) -> None:
    """Writes `images` (N, 28, 28) as MNIST's own files are."""
    path.write_bytes(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())


def idx_images(path: Path) -> NDArray[np.uint8]:
    """The images (N, 28, 28) of such a file."""
    return np.memmap(path, np.uint8, offset=16).reshape(-1, 28, 28)


def rows_of(path: Path) -> int:
    """How many images such a file has."""
    return len(idx_images(path))


def _goes_on(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return ()


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=1_000_000, help="(default: %(default)s)")
    add("--kills", type=int, default=3, help="of drivers and workers, in turn (default: %(default)s)")
    add("--checkpoint", type=Path, help="decides (default: the one that ships)")
    add("--engine", choices=WORKERS, default="ray", help="(default: %(default)s)")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    add("--chunk", type=int, default=1000, help="images of a part (default: %(default)s)")
    add(
        "--rounds",
        type=int,
        default=5,
        help="in which one and several workers take turns (default: %(default)s)",
    )
    add("--sample", type=int, default=30_000, help="images of each such turn (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the moments of the kills (default: %(default)s)")
    add("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    add("--scratch", type=Path, help="where 1 GB may lie meanwhile (default: the system's folder for that)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
