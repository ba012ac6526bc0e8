"""A command in a process of its own, which is killed at a moment that is given."""

import mmap
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from disks import Disk

from bnn.cli.command import main

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = (
    *("os.rename", "os.link", "os.symlink", "os.remove"),
    *("os.mkdir", "os.rmdir", "os.truncate", "os.chmod"),
)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status, or minus the signal that ended it.
        said: on standard error.
        events: changes of files, counted until then.
        seconds: of the processor.
    """

    status: int
    said: str
    events: int
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where a command runs, and where its TMPDIR is."""

    name: str
    folder: Path
    temporary: Path
    disk: Disk | None = None

    def emptied(self) -> None:
        """Makes both folders anew."""
        for folder in (self.folder, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)


def run(words: Sequence[str], place: Place, event: int = 0, seconds: float = 0.0) -> Ended:
    """A command in a process of its own, which has imported everything before.

    Args:
        words: its command line.
        place: where.
        event: the file event before which it kills itself; 0 for none.
        seconds: of the processor after which the kernel ends it; 0 for never.
    """
    count = mmap.mmap(-1, 8)
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if not child:
            _run_and_exit(words, place, event, seconds, count, told.fileno())
        _, status, usage = os.wait4(child, 0)
        told.seek(0)
        said = told.read().decode(errors="replace")
    return Ended(
        os.waitstatus_to_exitcode(status),
        said,
        int.from_bytes(count[:8], "little"),
        usage.ru_utime + usage.ru_stime,
    )


def _run_and_exit(
    words: Sequence[str], place: Place, event: int, seconds: float, count: mmap.mmap, told: int
) -> None:
    status = 99
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(told, 2)
        os.chdir(place.folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(place.temporary)
        sys.addaudithook(partial(_at_event, (str(place.folder), str(place.temporary)), event, count))
        if seconds:  # of which the signal, unlike any that Python handles, ends a process wherever it is
            signal.setitimer(signal.ITIMER_PROF, seconds)
        status = main(words)
        sys.stderr.flush()
    finally:
        os._exit(status)


def _at_event(
    places: tuple[str, str], fatal: int, count: mmap.mmap, event: str, given: tuple[Any, ...]
) -> None:
    changes = event in _CHANGES or (event == "open" and bool((given[2] or 0) & _WRITES))
    if not changes or isinstance(given[0], int):
        return
    if os.path.abspath(os.fsdecode(given[0])).startswith(places):  # noqa: PTH100  # which is quick
        seen = int.from_bytes(count[:8], "little") + 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        count[:8] = seen.to_bytes(8, "little")
