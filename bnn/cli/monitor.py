"""`bnn monitor`: whether the images that come in are still like those that were calibrated on."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from bnn.classifier import ALL, Classifier
from bnn.cli.predict import decided, walked
from bnn.errors import InputError
from bnn.files import printable, require_free, require_writable, written_whole
from bnn.monitoring import LEVEL, TESTS, Monitor, Step, said_of_refusals, verdict
from bnn.numerals import percent, percent_interval
from bnn.prediction import Prediction
from bnn.rules.risk_control import exact_interval
from bnn.tables import table

ALARM, SOME_FAILED = 4, 1  # exit statuses
STRETCHES = 10  # rows of the table


def monitor_command(
    classifier: Classifier,
    files: Sequence[Path],
    *,
    false_alarms: float = 0.01,
    state: Path | None = None,
    out: Path | None = None,
    as_json: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Prints whether the images in `files`, in their order, are like the calibration images.

    A file that cannot be used is named on standard error, and the others are seen.

    Args:
        classifier: decides.
        files: image files and folders of them.
        false_alarms: probability that there is ever an alarm where nothing has changed.
        state: what it goes on from, where it is there, and can be gone on from afterwards.
        out: a PNG for the plot.
        as_json: one line of JSON an image instead of the table.
        seed: of the numbers that break ties, where nothing is gone on from.
        overwrite: whether `out` is replaced where it is there already.

    Returns:
        The exit status: 4 where there is an alarm, else 1 where some file could not be used, else 0.

    Raises:
        InputError: `state` or `out` cannot be used, or no image; nothing is written then.
    """
    monitor = _monitor(classifier, false_alarms, state, seed)
    if state is not None:
        require_writable(state)
    if out is not None:
        _require_drawable(out, overwrite=overwrite)
    before = len(monitor)
    found, failed = walked(files)
    alarmed = ""
    for file, prediction in decided(classifier, found, failed, ALL):
        was = monitor.alarm
        (step,) = monitor.see(prediction)
        if as_json:
            print(json.dumps(_line(file, len(monitor), prediction, step), allow_nan=False), flush=True)
        alarmed = printable(file) if was is None and monitor.alarm is not None else alarmed
    if len(monitor) == before:
        raise InputError("none of these files could be used, so there is nothing to tell: name some images.")
    if state is not None:
        monitor.save(state)
    if out is not None:
        _draw(monitor, out)
    _tell(monitor, before, alarmed, as_json=as_json)
    return ALARM if monitor.alarm is not None else SOME_FAILED if failed else 0


def _monitor(classifier: Classifier, false_alarms: float, state: Path | None, seed: int) -> Monitor:
    if state is not None and state.exists():
        return Monitor.resume(state, classifier, false_alarms=false_alarms)
    return Monitor(classifier, false_alarms=false_alarms, seed=seed)


def _require_drawable(out: Path, *, overwrite: bool) -> None:
    import matplotlib as mpl  # noqa: F401  # which may not be installed: said before long work

    if out.suffix.lower() != ".png":
        raise InputError(f"{out} must end in .png, for the plot is one.")
    require_free(out, overwrite=overwrite)


def _line(file: Path, number: int, prediction: Prediction, step: Step) -> dict[str, Any]:
    (decision,) = prediction.plain()
    return {
        "file": str(file),
        "image": number,
        **{name: decision[name] for name in ("label", "reason", *TESTS)},
        "p": dict(zip(TESTS, step.p, strict=True)),
        "log10_wealth": dict(zip(TESTS, _powers(step.log_wealth), strict=True)),
        "alarm": step.alarm,
    }


def _powers(logs: Sequence[float]) -> list[float]:
    """Natural logarithms as powers of ten."""
    return [log / math.log(10) for log in logs]


def _draw(monitor: Monitor, out: Path) -> None:
    from bnn.evaluation.drift import drift_figure

    figure = drift_figure(monitor)
    with written_whole(out) as path:
        figure.savefig(path, format="png", dpi=150)


def _tell(monitor: Monitor, before: int, file: str, *, as_json: bool) -> None:
    """Prints the table and what it comes to; beside JSON the latter alone, on standard error."""
    console = Console(stderr=as_json)
    if not as_json:
        console.print(_table(monitor))
    where = "in an earlier run" if monitor.alarm is not None and monitor.alarm <= before else file
    for sentence in (said_of_refusals(monitor), verdict(monitor, where)):
        console.print(Text(sentence), soft_wrap=True)


def _table(monitor: Monitor) -> Any:
    what, _ = monitor.promised
    tests = [f"evidence,\n{said}" for said in TESTS.values()]
    shown = table("images", f"{what}\n(95 % interval)", "ambiguous", *tests)
    powers, refused, reasons = monitor.log_wealth / math.log(10), monitor.refused, monitor.reasons
    for rows in np.array_split(np.arange(len(monitor)), min(STRETCHES, len(monitor))):
        count, n = int(refused[rows].sum()), len(rows)
        interval = percent_interval(exact_interval(count, n, LEVEL), ".2g")
        shown.add_row(
            f"{rows[0] + 1:,} to {rows[-1] + 1:,}",
            f"{percent(count / n, '.3g')} {interval}",
            percent(float((reasons[rows] == "ambiguous").mean()), ".3g"),
            *(f"10^{power:.1f}" for power in powers[rows[-1]]),
        )
    return shown
