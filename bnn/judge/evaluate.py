"""Batch evaluation: digits and not digits through a classifier, to a `Report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from bnn import __version__
from bnn.decide import Classifier, Prediction
from bnn.errors import InputError
from bnn.files import require_writable
from bnn.judge.report import write_report
from bnn.judge.results import Judged, Report, Rotation, shown
from bnn.preprocess import is_blank
from bnn.sources import Source, familiar_source, progress_bar, unfamiliar_source

ROTATED_DIGIT = 6  # turned upside down it is a digit again, and on the way it is none
ANGLES = tuple(range(0, 181, 10))  # degrees


def evaluate(
    classifier: Classifier,
    familiar: Source,
    unfamiliar: Sequence[Source],
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """What `classifier` does with labelled digits and with images that are no digits.

    Args:
        classifier: to be judged.
        familiar: labelled digits, e.g. from `bnn.sources.familiar_source`.
        unfamiliar: e.g. from `bnn.sources.unfamiliar_source`; may be empty.
        settings: how the sets were chosen, plain values, for the report to tell.

    Raises:
        InputError: the familiar images have no labels, or two sets have the same name.
    """
    if familiar.labels is None:
        raise InputError(f"the digits of {familiar.name} have no labels: give labelled ones.")
    names = [source.name for source in (familiar, *unfamiliar)]
    if len(set(names)) < len(names):
        raise InputError(f"two sets have the same name among {', '.join(names)}: rename one or leave it out.")
    judged = Judged(familiar, _decide(classifier, familiar.images, familiar.name))
    return Report(
        familiar=judged,
        unfamiliar=[Judged(source, _decide(classifier, source.images, source.name)) for source in unfamiliar],
        rotation=_rotation(classifier, judged),
        settings=_settings(classifier) | dict(settings or {}),
    )


def evaluate_command(
    classifier: Classifier,
    familiar: str,
    unfamiliar: Sequence[str],
    out: Path,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
    limit: int | None = None,
) -> bool:
    """`bnn evaluate`: writes the report to the folder `out` and prints its numbers in short.

    Args:
        classifier: to be judged.
        familiar, unfamiliar: see `bnn.sources.familiar_source` and `unfamiliar_source`.
        out: folder of the report; missing folders are made, files of an earlier report replaced.
        data_dir, download, seed, limit: see `bnn.sources.unfamiliar_source`.

    Returns:
        Whether some file could not be read.

    Raises:
        InputError: a set cannot be had, or the report cannot be written.
    """
    require_writable(out / "report.json")
    options: dict[str, Any] = {"seed": seed, "download": download, "limit": limit}
    report = evaluate(
        classifier,
        familiar_source(familiar, data_dir, **options),
        [unfamiliar_source(spec, data_dir, **options) for spec in unfamiliar],
        {"sets": {"familiar": familiar, "unfamiliar": list(unfamiliar), "limit": limit, "seed": seed}},
    )
    write_report(report, out)
    _print_short(report, out)
    return bool(report.unreadable)


def _decide(classifier: Classifier, images: Tensor, name: str) -> Prediction:
    predictive = classifier.predictive(images, progress_bar(f"judging {name}"))
    return classifier.decide(predictive, is_blank(images))


def _rotation(classifier: Classifier, judged: Judged) -> Rotation:
    """A digit answered rightly, turned by `ANGLES`: a 6 where there is one."""
    labels = judged.labels
    right = judged.prediction.labels == labels
    best = int(np.argmax(2 * right + (labels == ROTATED_DIGIT)))
    image = judged.source.images[best]
    turned = torch.stack([rotate(image, angle, InterpolationMode.BILINEAR) for angle in ANGLES])
    return Rotation(
        judged.source.sources[best], np.array(ANGLES), _decide(classifier, turned, "a rotating digit")
    )


def _settings(classifier: Classifier) -> dict[str, Any]:
    checkpoint = classifier.checkpoint
    return {
        "version": __version__,
        "draws": len(classifier.ensemble),
        "ensemble_seed": classifier.seed,
        "rule": classifier.rule.to_dict(),
        "checkpoint": {
            "network": checkpoint.network,
            "network_options": dict(checkpoint.network_options),
            "components": len(next(iter(checkpoint.loc.values()))),
            "calibration_digits": len(classifier.calibration),
            "record": dict(checkpoint.record),
        },
    }


def _print_short(report: Report, out: Path) -> None:
    numbers, console = report.numbers(), Console()
    digits = numbers["familiar"]
    console.print(Text(report.summary()))
    table = Table("unfamiliar set", "images", "refused", "AUROC", "FPR95", "unreadable")
    for row in numbers["unfamiliar"]:
        cells = (shown(row[name]) for name in ("refused", "auroc", "fpr95"))
        table.add_row(Text(row["name"]), str(row["n"]), *cells, str(row["unreadable"]))
    measures = ("accuracy", "nll", "ece", "brier", "aurc")
    console.print(
        Text(f"{digits['name']}: " + ", ".join(f"{name} {shown(digits[name])}" for name in measures))
    )
    if numbers["unfamiliar"]:
        console.print(table)
    if report.unreadable:
        console.print(f"{len(report.unreadable)} files could not be read; the report lists them.")
    console.print(Text(f"The report is in {out / 'report.html'}."), soft_wrap=True)
