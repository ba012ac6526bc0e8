"""`bnn calibrate`: other promises for a trained checkpoint, or the same on digits of one's own."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnn.classifier import Classifier
from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.data.imageset import Source, familiar_source, progress_bar
from bnn.files import require_writable
from bnn.recalibration import calibration_on, recalibrated
from bnn.rules.abstention import Calibration


def calibrate_command(
    path: Path,
    wishes: Mapping[str, float],
    *,
    rule: str | None = None,
    digits: str | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
    download: bool = False,
) -> bool:
    """Writes the checkpoint at `path` with a rule fitted anew, and prints what it promises and does.

    Args:
        path: the checkpoint.
        wishes: fields of `bnn.rules.promise.Wishes`; those left out stay as they were.
        rule: name of the rule; by default the checkpoint's.
        digits: what to calibrate on, see `bnn.data.imageset.familiar_source`; by default its own.
        out: where the result goes; by default over the checkpoint.
        data_dir, download: see `bnn.data.digits.load_digits`.

    Returns:
        Whether some file of digits could not be read; they are listed on standard error.

    Raises:
        InputError: the checkpoint or the digits cannot be used, or they cannot promise that; nothing is
            written then.
    """
    out = out or path
    classifier = Classifier.load(path)
    wished = replace(classifier.wishes, **wishes)
    require_writable(out)
    source = None if digits is None else familiar_source(digits, data_dir, seed=0, download=download)
    calibration = classifier.calibration if source is None else _calibration(classifier, source)
    done = recalibrated(classifier.checkpoint, rule or classifier.rule.name, wished, calibration)
    checkpoint_file.save(done, out)
    unreadable = [] if source is None else source.unreadable
    for file, why in unreadable:
        print(f"bnn: {file}: {why}", file=sys.stderr)
    _print_short(done)
    Console().print(Text(f"Wrote {out}."), soft_wrap=True)
    return bool(unreadable)


def _calibration(classifier: Classifier, source: Source) -> Calibration:
    assert source.labels is not None  # noqa: S101
    return calibration_on(classifier, source.images, source.labels, progress_bar(f"judging {source.name}"))


def _print_short(checkpoint: Checkpoint) -> None:
    measured, rule = checkpoint.record["calibration"], dict(checkpoint.rule)
    table = Table("what", "value", title=f"The {rule.pop('name')} rule, on {measured['digits']:,} digits")
    rows = {name.replace("_", " "): f"{value:.6g}" for name, value in rule.items()}
    rows |= {
        "answered": f"{measured['coverage']:.2%}",
        "wrong among the answered": str(measured["errors_among_answered"]),
        "refused as unfamiliar": f"{measured['refused_as_unfamiliar']:.2%}",
    }
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)
