"""Reviewers who are killed at any moment: no label is lost, and no image given to two at once.

    python tests/reviewers.py --kills 200
    python tests/reviewers.py --kills 200 --queue postgresql://USER@HOST/DATABASE

Each reviewer is a process with a connection of its own, takes images and labels them, and writes down what it
does. Now and then one is killed by SIGKILL, wherever it is, and another starts, half of the time as the same
reviewer (who reloads the page). Clocks run faster, so that what a killed one held is soon given to others. In
the end what was written down is held against the queue. Exit status 1: something was lost or given twice.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnn.core.task import DIGITS
from bnn.review.entries import Refusal
from bnn.review.store import HELD_SECONDS, ReviewQueue

REVIEWERS = 3
IMAGES_PER_KILL = 4
FASTER = 400  # times: a held image is free again after 0.75 s
LOOKS = 0.03  # seconds at most that a reviewer looks at an image


class Given(NamedTuple):
    """An image that was given to a reviewer, and until when, by the queue's clock."""

    at: float
    until: float
    reviewer: str


def refusals(count: int) -> list[Refusal]:
    """So many images that differ, some more disputed than others."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 28, 28), np.uint8)  # on a dark ground, as the networks see digits
    images[:, 4:24, 4:24] = rng.integers(0, 256, (count, 20, 20), np.uint8)
    votes = np.full((2, 10), 0.1, np.float16)
    return [Refusal(f"{i}.png", one, votes, rng.random(), "ambiguous") for i, one in enumerate(images)]


def review(where: str, reviewer: str, seed: int, log: Path) -> None:
    """Takes and labels images until it is killed, or none waits and the log has been told so."""
    rng, seen = random.Random(seed), [0.0]
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def clock() -> float:
        seen[0] = time.time() * FASTER
        return seen[0]

    with ReviewQueue.open(where, DIGITS, clock=clock) as queue, log.open("a", buffering=1) as told:
        while True:
            entry = queue.take(reviewer, rng.choice(["disputed", "oldest"]))
            if entry is None:
                time.sleep(LOOKS)
                continue
            told.write(f"given {entry.number} {seen[0]!r} {reviewer}\n")
            time.sleep(rng.random() * LOOKS)
            label = rng.randrange(-1, 10)
            told.write(f"says {entry.number} {label}\n")
            if queue.label(reviewer, entry.number, label):
                told.write(f"said {entry.number} {label}\n")


class Crowd:
    """Reviewers who work on the queue at `where`, and write down in a file of `folder` each what they do."""

    def __init__(self, where: str, folder: Path, seed: int) -> None:
        self._where, self._folder, self._rng = where, folder, random.Random(seed)
        self._started = 0
        self._workers: list[tuple[BaseProcess, str]] = []

    def start(self, reviewer: str = "") -> None:
        """One more, who is another reviewer unless told."""
        self._started += 1
        name = reviewer or f"reviewer-{self._started}"
        log = self._folder / f"{self._started:05d}.log"
        fork = multiprocessing.get_context("fork")  # all is imported already: a start takes milliseconds
        worker = fork.Process(target=review, args=(self._where, name, self._rng.randrange(2**32), log))
        worker.start()
        self._workers.append((worker, name))

    def kill_one(self) -> None:
        """Kills one, and has another take its place."""
        worker, name = self._workers.pop(self._rng.randrange(len(self._workers)))
        _killed(worker)
        self.start(self._rng.choice(["", name]))

    def end(self) -> None:
        """Kills all."""
        for worker, _ in self._workers:
            _killed(worker)
        self._workers.clear()


def _killed(worker: BaseProcess) -> None:
    assert worker.exitcode is None, f"a reviewer ended by itself, with {worker.exitcode}"
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()


def wrongs(where: str, folder: Path, images: int) -> tuple[list[str], int]:
    """What went wrong, and how many of the killed were killed while they held an image."""
    given: dict[int, list[Given]] = defaultdict(list)
    meant: dict[int, set[int]] = defaultdict(set)
    stood: dict[int, list[int]] = defaultdict(list)
    held = 0
    for log in sorted(folder.glob("*.log")):
        lines = [line.split() for line in log.read_text().splitlines()]
        held += bool(lines) and lines[-1][0] != "said"
        for kind, image, *rest in lines:
            if kind == "given":
                at = float(rest[0])
                given[int(image)].append(Given(at, at + HELD_SECONDS, rest[1]))
            elif kind == "says":
                meant[int(image)].add(int(rest[0]))
            else:
                stood[int(image)].append(int(rest[0]))
    with ReviewQueue.open(where, DIGITS, writes=False) as queue:
        labels = {one.number: one.label for one in queue.reviewed()}
    found = [f"{images - len(labels)} images have no label"] if len(labels) != images else []
    for number, label in labels.items():
        if label not in meant[number]:
            found.append(f"image {number} has the label {label}, which nobody gave it")
        if stood[number] not in ([], [label]):
            found.append(f"image {number} was to have the labels {stood[number]}, and has {label}")
    for number, times in given.items():
        times.sort()
        for first, second in pairwise(times):
            if first.reviewer != second.reviewer and second.at < first.until:
                found.append(f"image {number} was given to {second.reviewer} while {first.reviewer} held it")
    return found, held


@contextmanager
def queue_at(where: str | None, folder: Path) -> Iterator[str]:
    """The place of an empty queue: `where`, or a file in `folder`."""
    place = where or str(folder / "queue.sqlite")
    with ReviewQueue.open(place, DIGITS) as queue:
        queue.delete_all()
    yield place


def main(arguments: Sequence[str] | None = None) -> int:
    """Kills reviewers, prints what came of it, and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--queue", help="a database, which is emptied first (default: a file of SQLite)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = parser.parse_args(arguments)
    rng, images = random.Random(given.seed), IMAGES_PER_KILL * given.kills
    with tempfile.TemporaryDirectory() as name, queue_at(given.queue, Path(name)) as where:
        with ReviewQueue.open(where, DIGITS) as queue:
            queue.add(refusals(images))
        crowd = Crowd(where, Path(name), given.seed)
        for _ in range(REVIEWERS):
            crowd.start()
        try:
            for _ in range(given.kills):
                time.sleep(2 * LOOKS * rng.random())
                crowd.kill_one()
            with ReviewQueue.open(where, DIGITS, writes=False) as queue:
                while queue.progress().waiting:
                    time.sleep(0.1)
        finally:
            crowd.end()
        found, held = wrongs(where, Path(name), images)
    print(f"{given.kills} kills, {held} of reviewers who held an image; {images} images; seed {given.seed}.")
    print("\n".join(found) or "Every image has its label, none was lost, and none was given to two at once.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
