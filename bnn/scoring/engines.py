"""Who does the chunks: this process, several on this machine, or a Ray cluster."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import torch

from bnn.classifier import Classifier
from bnn.errors import InputError, cause_in
from bnn.scoring.parts import write_part
from bnn.scoring.plan import Chunk

Counts = Mapping[str, int]
_ENDED = (
    "a worker was ended from outside, maybe for want of memory: give the same command again, with fewer "
    "workers, and it goes on."
)


@dataclass(frozen=True)
class Job:
    """What every worker does with the chunks it gets.

    Attributes:
        load: gives the classifier, in another process or on another machine as well.
        draws: see `Classifier.predict`.
        size: rows of the plan's chunks.
        out: the run's folder.
    """

    load: Callable[[], Classifier]
    draws: str
    size: int
    out: Path

    def do(self, classifier: Classifier, chunk: Chunk) -> Counts:
        """Writes the part of `chunk`; see `bnn.scoring.parts.write_part`."""
        return write_part(classifier, self.draws, chunk, self.size, self.out)


def done_here(job: Job, chunks: Iterable[Chunk], classifier: Classifier) -> Iterator[Counts]:
    """What comes of the chunks, one after another in this process, which has loaded the `classifier`."""
    return (job.do(classifier, chunk) for chunk in chunks)


def done_by_processes(job: Job, chunks: Iterable[Chunk], workers: int) -> Iterator[Counts]:
    """What comes of the chunks, as they are done by so many processes of one thread each.

    Raises:
        InputError: a process was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    lines: list[Connection] = []
    processes = []
    left = iter(chunks)
    try:
        for _ in range(workers):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_work, args=(job, theirs), daemon=True))
            processes[-1].start()
            theirs.close()  # so that the end of the process is the end of the line
            lines.append(ours)
        busy = [line for line in lines if _handed(line, left)]
        while busy:
            for line in cast(list[Connection], wait(busy)):
                yield _answer(line)
                if not _handed(line, left):
                    busy.remove(line)
    finally:
        for process in processes:
            process.terminate()  # a part is written whole or not at all
            process.join()


def done_by_ray(job: Job, chunks: Iterable[Chunk], workers: int, address: str | None) -> Iterator[Counts]:
    """What comes of the chunks, as they are done by so many Ray workers of one thread each.

    Every one of them must reach the images, the checkpoint and the run's folder under the same names.

    Args:
        job, chunks, workers: as above.
        address: of the cluster; None for one on this machine, which ends with the run.

    Raises:
        InputError: there is no cluster, or a worker was ended from outside.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would call out
    import ray

    # Ray's workers are nice to others, by 15, of which a busy machine leaves them next to nothing.
    alone = {"num_cpus": workers, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else alone))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no Ray cluster to be had ({cause_in(error)}).") from error
    left = iter(chunks)
    try:
        remote = ray.remote(num_cpus=1)(_RayWorker)
        idle = [remote.remote(job, Path.cwd()) for _ in range(workers)]
        busy = {one.do.remote(chunk): one for one, chunk in zip(idle, left, strict=False)}
        while busy:
            (done, *_), _ = ray.wait(list(busy))
            worker = busy.pop(done)
            yield ray.get(done)
            if (chunk := next(left, None)) is not None:
                busy[worker.do.remote(chunk)] = worker
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise InputError(_ENDED) from error
    finally:
        ray.shutdown()


class _RayWorker:
    """What Ray keeps in a process of its own: a classifier that is loaded once."""

    def __init__(self, job: Job, folder: Path) -> None:
        os.chdir(folder)  # to which paths are relative
        torch.set_num_threads(1)
        self._job, self._classifier = job, job.load()

    def do(self, chunk: Chunk) -> Counts:
        return self._job.do(self._classifier, chunk)


def _handed(line: Connection, left: Iterator[Chunk]) -> bool:
    """Whether there was another chunk for the worker at the other end."""
    chunk = next(left, None)
    if chunk is None:
        return False
    try:
        line.send(chunk)
    except OSError as error:
        raise InputError(_ENDED) from error
    return True


def _answer(line: Connection) -> Counts:
    try:
        said = line.recv()
    except (EOFError, OSError) as error:
        raise InputError(_ENDED) from error
    if isinstance(said, Exception):
        raise said
    counts: Counts = said
    return counts


def _work(job: Job, line: Connection) -> None:
    """Does what comes over the `line`, until its other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    torch.set_num_threads(1)
    try:
        classifier = job.load()
        while True:
            line.send(job.do(classifier, line.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        line.send(error)
