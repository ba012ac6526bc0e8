"""`bnn calibrate`: other promises for a trained checkpoint, or the same on digits of one's own."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bnn.classifier import Classifier
from bnn.cli.fresh import fresh_digits
from bnn.core import checkpoint as checkpoint_file
from bnn.data.copies import SEEN, marks_of
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.files import require_free
from bnn.numerals import percent
from bnn.progress import progress_bar
from bnn.tables import table


def calibrate_command(
    path: Path | None,
    promise: Mapping[str, float],
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
        promise: fields of `bnn.rules.promise.Promise`; those left out stay as they were.
        rule: name of the rule; by default the checkpoint's.
        digits: what to calibrate on, see `bnn.cli.fresh.fresh_digits`; by default the checkpoint's own.
        out: where the result goes; by default over the checkpoint at `path`.
        data_dir, download: see `ImageSet.from_name`.
        overwrite: whether the result takes the place of what is there already.

    Returns:
        Whether some file of digits could not be read; they are listed on standard error.

    Raises:
        InputError: the checkpoint or the digits cannot be used, they cannot promise that, or the result
            has no free place to go; nothing is written then.
    """
    if path is None and out is None:
        raise InputError("the checkpoint that ships stays as it is: name a file for the new one with --out.")
    out = out or path
    assert out is not None  # noqa: S101  # as was checked
    classifier = Classifier.load(path)
    require_free(out, overwrite=overwrite)
    images = None
    if digits is not None:
        images = fresh_digits(classifier, digits, data_dir, download=download)
    done = _calibrated(classifier, images, promise, rule)
    if path is not None and out.exists() and out.samefile(path):
        checkpoint_file.update(out, classifier.checkpoint(), lambda _: done.checkpoint())
    else:
        done.save(out)
    unreadable = [] if images is None else images.unreadable
    for file, why in unreadable:
        print(f"bnn: {file}: {why}", file=sys.stderr)
    _print_short(done)
    Console().print(Text(f"Wrote {out}."), soft_wrap=True)
    return bool(unreadable)


def _calibrated(
    classifier: Classifier, images: ImageSet | None, promise: Mapping[str, float], rule: str | None
) -> Classifier:
    if images is None:
        return classifier.with_promise(rule=rule, **promise)
    bar = progress_bar(f"judging {images.name}")
    done = classifier.calibrate(images, images.truth(), rule=rule, progress=bar, **promise)
    if SEEN in done.record:
        done.record = {**done.record, SEEN: marks_of(images.images, done.record[SEEN])}
    return done


def _print_short(classifier: Classifier) -> None:
    measured, rule = classifier.record["calibration"], classifier.rule.to_dict()
    title = f"The {rule.pop('name')} rule, on {measured['digits']:,} images"
    shown = table("what", "value", title=title)
    numbers = {name: value for name, value in rule.items() if isinstance(value, float)}
    rows = {name.replace("_", " "): f"{value:.6g}" for name, value in numbers.items()}
    rows |= {
        "answered": percent(measured["coverage"]),
        "wrong among the answered": str(measured["errors_among_answered"]),
        "refused as unfamiliar": percent(measured["refused_as_unfamiliar"]),
    }
    for row in rows.items():
        shown.add_row(*row)
    Console().print(shown)
