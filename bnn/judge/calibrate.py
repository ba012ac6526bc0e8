"""`bnn calibrate`: other promises for a trained checkpoint, or the same on digits of one's own."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bnn import checkpoint as checkpoint_file
from bnn.checkpoint import Checkpoint, shipped
from bnn.decide import Classifier
from bnn.decide.abstention import Calibration
from bnn.decide.recalibration import calibration_on, recalibrated
from bnn.errors import InputError
from bnn.files import require_free
from bnn.progress import progress_bar
from bnn.sources import Source, familiar_source
from bnn.tables import table


def calibrate_command(
    path: Path | None,
    wishes: Mapping[str, float],
    *,
    rule: str | None = None,
    digits: str | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    overwrite: bool = False,
) -> bool:
    """Writes the checkpoint at `path` with a rule fitted anew, and prints what it promises and does.

    Args:
        path: the checkpoint; None for the one that ships.
        wishes: fields of `bnn.wishes.Wishes`; those left out stay as they were.
        rule: name of the rule; by default the checkpoint's.
        digits: what to calibrate on, see `bnn.sources.familiar_source`; by default the checkpoint's own.
        out: where the result goes; by default over the checkpoint at `path`.
        data_dir, download: see `bnn.data.load_digits`.
        overwrite: whether the result takes the place of what is there already.

    Returns:
        Whether some file of digits could not be read; they are listed on standard error.

    Raises:
        InputError: the checkpoint or the digits cannot be used, they cannot promise that, or the result
            has no free place to go; nothing is written then.
    """
    if path is None and out is None:
        raise InputError("the checkpoint that ships stays as it is: name a file for the new one with --out.")
    path = path or shipped()
    out = out or path
    classifier = Classifier.load(path)
    wished = replace(classifier.wishes, **wishes)
    require_free(out, overwrite=overwrite)
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
    title = f"The {rule.pop('name')} rule, on {measured['digits']:,} digits"
    rows = {name.replace("_", " "): f"{value:.6g}" for name, value in rule.items()}
    rows |= {
        "answered": f"{measured['coverage']:.2%}",
        "wrong among the answered": str(measured["errors_among_answered"]),
        "refused as unfamiliar": f"{measured['refused_as_unfamiliar']:.2%}",
    }
    told = table("what", "value", title=title)
    for row in rows.items():
        told.add_row(*row)
    Console().print(told)
