"""Decisions on image files, printed."""

import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnn.classifier import ADAPTIVE, ALL, Classifier
from bnn.data.imageset import image_files
from bnn.data.preprocess import AS_IS, Prepared, brightness_of, read_images
from bnn.data.steps import steps_figure
from bnn.errors import InputError
from bnn.explanation import explained
from bnn.files import printable, require_writable, written_whole
from bnn.prediction import Prediction
from bnn.progress import tracked

NARROW = ("answer", "reason", "prob.", "total\n(nats)", "epistemic\n(nats)")  # columns that are not wrapped
PIPED_WIDTH = 160  # characters of a line where standard output is no terminal


def predict_command(
    classifier: Classifier,
    files: Sequence[Path],
    *,
    as_json: bool = False,
    explain: Path | None = None,
    draws: str = ALL,
) -> bool:
    """`bnn predict`: prints the decision on each image file, and on those in each folder.

    A file that cannot be used is named on standard error, and the others are done.

    Args:
        classifier: decides.
        files: image files and folders of them.
        as_json: one line of JSON an image, in batches as they are decided, instead of one table.
        draws: see `Classifier.predict`; JSON then has how many an image had.
        explain: folder for a figure an image of what was done with it, named by its number and its file.

    Returns:
        Whether some file could not be used.
    """
    found, failed = walked(files)
    decisions = decided(classifier, found, failed, draws)
    if explain is not None:
        require_writable(explain / "1.png")
        decisions = _with_figures(classifier, decisions, explain)
    if as_json:
        for file, prediction in decisions:
            (decision,) = prediction.plain()
            if draws == ADAPTIVE and prediction.draws_used is not None:
                decision["draws_used"] = int(prediction.draws_used[0])
            print(json.dumps({"file": str(file)} | decision, allow_nan=False), flush=True)
    else:
        _print_table(decisions)
    return bool(failed)


def walked(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(all files with folders opened, folders that hold none)."""
    found: list[Path] = []
    empty: list[Path] = []
    for path in files:
        try:
            found.extend(image_files(path) if path.is_dir() else [path])
        except InputError as error:
            complain(error)
            empty.append(path)
    return found, empty


def decided(
    classifier: Classifier, files: Sequence[Path], failed: list[Path], draws: str
) -> Iterator[tuple[Path, Prediction]]:
    """Each file with its decision; those that cannot be used are added to `failed`."""
    waiting: deque[Path] = deque()

    def usable() -> Iterator[Prepared]:
        for file in tracked(files, "deciding", len(files)):
            try:
                read = read_images(file, classifier.task.layout)
            except InputError as error:
                complain(error)
                failed.append(file)
            else:
                waiting.append(file)
                yield read

    for prediction in classifier.predict_stream(usable(), draws=draws):
        yield waiting.popleft(), prediction


def _with_figures(
    classifier: Classifier, decisions: Iterator[tuple[Path, Prediction]], folder: Path
) -> Iterator[tuple[Path, Prediction]]:
    """The same `decisions`; of each image a figure is written to `folder`."""
    for number, (file, prediction) in enumerate(decisions, 1):
        read = read_images(file, classifier.task.layout)
        why = "" if prediction.labels[0] >= 0 else _refusal(classifier, read, prediction)
        seen, word = read.images[0, 0].numpy(), str(prediction.quality[0])
        cut_out = classifier.task.layout != AS_IS
        figure = steps_figure(brightness_of(file), seen, word, why, cut_out=cut_out)
        with written_whole(folder / f"{number}-{file.stem}.png") as path:
            figure.save(path, "PNG")
        yield file, prediction


def _refusal(classifier: Classifier, read: Prepared, prediction: Prediction) -> str:
    """Why the image that was `read` is refused."""
    (why,) = explained(classifier, read, classifier.evidence(read.images), prediction)
    return str(why)


def complain(error: InputError) -> None:
    """Names on standard error what could not be used."""
    print(f"bnn: {printable(str(error))}", file=sys.stderr)


def _print_table(decisions: Iterator[tuple[Path, Prediction]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in NARROW:
        table.add_column(column, no_wrap=True)
    table.add_column("candidates", min_width=10)
    table.add_column("file", overflow="fold", min_width=12)
    for file, prediction in decisions:
        answered = prediction.labels[0] >= 0
        table.add_row(
            prediction.decision(0) if answered else "I don't know",
            str(prediction.quality[0] or prediction.reasons[0]),
            f"{prediction.probs[0].max():.3f}",
            f"{prediction.total[0]:.3f}",
            f"{prediction.epistemic[0]:.3f}",
            " ".join(prediction.names[label] for label in prediction.candidates[0]),
            Text(printable(file)),
        )
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
