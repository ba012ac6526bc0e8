"""How far long work is, on standard error: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bnn.numerals import percent

EVERY = 10.0  # seconds between two lines
LARGEST_FIRST = (("hours", 3600), ("minutes", 60))

Item = TypeVar("Item")
Advance = Callable[[int, str], None]  # so many steps were done, of what is now being done


class Lines:
    """Progress for files and pipes: at most a line every `EVERY` seconds, with an estimate of what is left.

    Args:
        total: steps in all.
        first: seconds after which the first line comes, if there is more than `EVERY` seconds' work left.
    """

    def __init__(self, total: int, first: float = EVERY) -> None:
        self._total, self._done = total, 0
        self._start = time.monotonic()
        self._next = self._start + first

    def advance(self, steps: int, what: str) -> None:
        """Says, where it is time to, that `steps` more were done of `what`."""
        self._done += steps
        now = time.monotonic()
        if now < self._next or self._done == 0:
            return
        self._next = now + EVERY
        left = (now - self._start) / self._done * (self._total - self._done)
        if left > EVERY:
            line = f"{what}: {percent(self._done / self._total, '.0f')} done, about {duration(left)} left"
            print(f"bnn: {line}.", file=sys.stderr, flush=True)


@contextmanager
def progress(total: int, first: float = EVERY) -> Iterator[Advance]:
    """Gives what is to be called after each of `total` steps; see `Lines`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(total, first).advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps, what: bar.update(task, advance=steps, description=what)


def tracked(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """`items` one by one, each a step of `total`."""
    with progress(total) as advance:
        advance(0, what)
        for item in items:
            yield item
            advance(1, what)


def progress_bar(what: str) -> Callable[[Sequence[Item]], Iterable[Item]]:
    """`tracked` under the name `what`, to be handed to who goes through the items."""
    return lambda items: tracked(items, what, len(items))


def duration(seconds: float) -> str:
    """`seconds` in words, roughly, such as "3 minutes"."""
    for unit, size in LARGEST_FIRST:
        if seconds >= 1.5 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{max(1, round(seconds / 10))}0 seconds"
