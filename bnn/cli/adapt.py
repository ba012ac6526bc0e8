"""`bnn adapt`: a checkpoint that answers more of the digits of one's own."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bnn.classifier import Classifier
from bnn.cli.fresh import fresh_digits
from bnn.files import require_free
from bnn.numerals import percent
from bnn.tables import table
from bnn.training.adaptation import adapt

COLUMNS = {"before": "as it was", "calibrated": "calibrated\nanew", "after": "adapted"}


def adapt_command(
    path: Path | None,
    digits: str,
    out: Path,
    promise: Mapping[str, float],
    *,
    rule: str | None = None,
    held_out: float,
    beta: float,
    seed: int = 0,
    data_dir: Path | None = None,
    download: bool = False,
    overwrite: bool = False,
) -> bool:
    """Writes the checkpoint at `path`, adapted to `digits`, to `out`, and prints what it gained.

    Args:
        path: the checkpoint; None for the one that ships.
        digits: what to adapt to, see `bnn.cli.fresh.fresh_digits`.
        out: where the result goes.
        promise: fields of `bnn.rules.promise.Promise`; those left out stay as they were.
        rule, held_out, beta, seed: see `bnn.training.adaptation.adapt`.
        data_dir, download: see `ImageSet.from_name`.
        overwrite: whether the result takes the place of what is there already.

    Returns:
        Whether some file of digits could not be read; they are listed on standard error.

    Raises:
        InputError: as `adapt`, the checkpoint or the digits cannot be used, or the result has no free place
            to go; nothing is written then.
    """
    classifier = Classifier.load(path)
    require_free(out, overwrite=overwrite)
    images = fresh_digits(classifier, digits, data_dir, download=download)
    adapted = adapt(
        classifier, images, images.truth(), held_out=held_out, beta=beta, seed=seed, rule=rule, **promise
    )
    adapted.save(out)
    for file, why in images.unreadable:
        print(f"bnn: {file}: {why}", file=sys.stderr)
    _print_gain(adapted, out)
    return bool(images.unreadable)


def _print_gain(adapted: Classifier, out: Path) -> None:
    numbers, learnt = adapted.record["adaptation"], adapted.record["data"]["trained_on"]
    title = f"On {numbers['after']['images']:,} images held out, {learnt:,} others being learnt from"
    shown = table("what", *COLUMNS.values(), title=title)
    for what, values in _rows([numbers[name] for name in COLUMNS]):
        shown.add_row(what, *values)
    console = Console()
    console.print(shown)
    console.print(Text(_what_holds(adapted, out)), soft_wrap=True)
    console.print(Text(f"Wrote {out}."), soft_wrap=True)


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    def share(name: str) -> list[str]:
        return [f"{column[name]} ({percent(column[name] / column['images'])})" for column in columns]

    return [
        ("right when forced to answer", share("right")),
        ("answered", share("answered")),
        ("wrong among the answered", [str(column["wrong_among_answered"]) for column in columns]),
        ("NLL (nats)", [f"{column['nll']:.4f}" for column in columns]),
    ]


def _what_holds(adapted: Classifier, out: Path) -> str:
    if adapted.rule.promise is None:
        return f"{adapted.rule.describe()} `bnn calibrate {out} --overwrite` asks less of it."
    return (
        f"{adapted.rule.describe()} These are images like those held out, on which the last two rules were "
        "fitted: of digits like those of its first training it promises nothing any more."
    )
