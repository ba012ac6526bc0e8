"""`bnn review`: how far a review is, what came of it as files, and deleting it."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from bnn.errors import InputError, choose
from bnn.numerals import percent
from bnn.review.entries import NO_DIGIT, Progress
from bnn.review.export import write_folder
from bnn.review.store import ReviewQueue
from bnn.tables import table

DELETED = {"reviewed": ReviewQueue.delete_reviewed, "all": ReviewQueue.delete_all}


def review_command(where: str, *, out: Path | None = None, deleting: str | None = None) -> int:
    """Prints how far the review of a queue is; writes what came of it, and deletes it, where that is asked.

    Args:
        where: the queue, see `bnn.review.store.ReviewQueue.open`.
        out: a new folder for the images by their labels, and a CSV of them.
        deleting: a name in `DELETED`: what is deleted from the queue, after it was written.

    Returns:
        The exit status, 0.

    Raises:
        InputError: the queue cannot be used, there is nothing to write, or no free place for it; nothing is
            deleted then.
    """
    delete = None if deleting is None else choose(DELETED, deleting, "part of a queue")
    console = Console()
    with ReviewQueue.open(where, writes=delete is not None) as queue:
        names = queue.task.names
        console.print(_table(queue.progress(), names))
        if out is not None:
            reviewed = queue.reviewed()
            if not reviewed:
                raise InputError("nothing has been reviewed yet, so there is nothing to write.")
            write_folder(reviewed, names, out)
            console.print(Text(f"Wrote {len(reviewed):,} images to {out}."), soft_wrap=True)
        if delete is not None:
            console.print(Text(f"Deleted {delete(queue):,} images."), soft_wrap=True)
    return 0


def _table(progress: Progress, names: tuple[str, ...]) -> object:
    title = f"{progress.reviewed:,} of {progress.together:,} images reviewed"
    if progress.together:
        title += f" ({percent(progress.reviewed / progress.together, '.3g')})"
    shown = table("label", "images", title=title)
    for label, name in [*enumerate(names), (NO_DIGIT, "none")]:
        shown.add_row(Text(name), f"{progress.labels.get(label, 0):,}")
    shown.add_row("waiting", f"{progress.waiting:,}")
    return shown
