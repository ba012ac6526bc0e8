"""Progress of long work, for people to see."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress_bar(what: str) -> Callable[[Sequence[Item]], Iterable[Item]]:
    """`tracked` under the name `what`, to be handed to who goes through the items."""
    return lambda items: tracked(items, what, len(items))


def tracked(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """`items` one by one, with a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
