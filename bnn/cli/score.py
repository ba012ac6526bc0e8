"""`bnn score`: decisions on any number of images, into Parquet files, and on from where a run was ended."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bnn import __version__
from bnn.classifier import ADAPTIVE, Classifier
from bnn.core.checkpoint import shipped
from bnn.errors import InputError, choose, shown
from bnn.progress import progress
from bnn.scoring.engines import Job, done_by_processes, done_by_ray, done_here
from bnn.scoring.parts import OUTCOMES, UNREADABLE, counted_in
from bnn.scoring.plan import planned

PROCESSES, RAY = ENGINES = ("processes", "ray")


def score_command(
    load: Callable[[], Classifier],
    checkpoint: Path | None,
    places: Sequence[str],
    out: Path,
    *,
    draws: str,
    chunk: int,
    engine: str = PROCESSES,
    workers: int = 1,
    address: str | None = None,
    share: str | None = None,
) -> bool:
    """`bnn score`: writes what is not yet in `out`, and prints how many images have each outcome.

    Args:
        load: gives the classifier, in a worker's process too.
        checkpoint: its file; None for the one that ships.
        places: files, folders and URLs.
        out: folder of the run.
        draws: see `Classifier.predict`.
        chunk: images of a part.
        engine: "processes" of this machine, or "ray".
        workers: how many.
        address: of a Ray cluster; None for one on this machine.
        share: such as 2/8: of every 8 parts the second is done, and the others by other processes.

    Returns:
        Whether some image could not be read.

    Raises:
        InputError: see `bnn.scoring.plan.planned`, or an option cannot be used; nothing is scored then.
    """
    if workers < 1:
        raise InputError(f"the number of workers must be at least 1, and {workers} is not.")
    choose(dict.fromkeys(ENGINES), engine, "engine")
    if address is not None and engine != RAY:
        raise InputError("an address is of a Ray cluster: give it with --engine ray.")
    first, step = _share(share)
    classifier = load()
    plan = planned(places, out, chunk, _asked(classifier, checkpoint, draws))
    counts: Counter[str] = Counter()
    left, rows = set(), 0  # of a million chunks the numbers fit, and the chunks themselves do not
    for one in plan.chunks():
        if one.number % step == first:
            there = counted_in(one, out)
            if there is None:
                left.add(one.number)
                rows += one.rows
            counts.update(there or {})
    if found := counts.total():
        print(f"bnn: {found:,} images were scored before, and {rows:,} are left.", file=sys.stderr)
    job = Job(load, draws, plan.size, out)
    todo = (one for one in plan.chunks() if one.number in left)
    few = min(workers, len(left))
    if engine == RAY and left:
        done = done_by_ray(job, todo, few, address)
    else:
        done = done_by_processes(job, todo, few) if few > 1 else done_here(job, todo, classifier)
    for more in _tracked(done, rows):
        counts.update(more)
    print(_summary(counts, out, share))
    return counts[UNREADABLE] > 0


def _asked(classifier: Classifier, checkpoint: Path | None, draws: str) -> dict[str, Any]:
    """What the decisions depend on besides the images."""
    return {
        "version of bnn": __version__,
        "checkpoint": hashlib.sha256((checkpoint or shipped()).read_bytes()).hexdigest(),
        "draws": ADAPTIVE if draws == ADAPTIVE else len(classifier.ensemble),
        "rule": dict(classifier.rule.to_dict()),
    }


def _share(text: str | None) -> tuple[int, int]:
    """(of every so many parts which, from 0; how many), from such as 2/8."""
    first, _, of = (text or "1/1").partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise InputError(f"--share takes such as 2/8, the second of 8 shares, and not {shown(text)}.")
    return int(first) - 1, int(of)


def _tracked(done: Iterator[Mapping[str, int]], rows: int) -> Iterator[Mapping[str, int]]:
    """What comes of each chunk, while a bar tells how many of so many `rows` are scored, and how fast."""
    count, start = 0, time.monotonic()
    with progress(rows) as advance:
        advance(0, "scoring")
        for counts in done:
            count += (more := sum(counts.values()))
            advance(more, f"scoring, {count / (time.monotonic() - start):,.0f} images a second")
            yield counts


def _summary(counts: Counter[str], out: Path, share: str | None) -> str:
    of = f"share {share} of the images" if share else "all images"
    told = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES)
    return f"{out} holds the scores of {of}: {counts.total():,}, {told}."
