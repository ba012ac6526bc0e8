"""Batch evaluation: digits and not digits through a classifier, to a `Report`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from bnn import __version__
from bnn import checkpoint as checkpoint_file
from bnn.checkpoint import Checkpoint
from bnn.decide import CalibratedRule, Classifier, Evidence, Prediction
from bnn.errors import InputError
from bnn.files import require_free, require_writable
from bnn.judge.printed import print_short
from bnn.judge.report import write_report
from bnn.judge.resplits import Resplits, resplit
from bnn.judge.results import Judged, Report, Rotation
from bnn.judge.robustness import CELLS, measure
from bnn.preprocess import is_blank
from bnn.progress import Advance, progress
from bnn.sources import Source, elsewhere_source, familiar_source, unfamiliar_source

ROTATED_DIGIT = 6  # turned upside down it is a digit again, and on the way it is none
ANGLES = tuple(range(0, 181, 10))  # degrees
RECORDED = ("familiar", "unfamiliar", "elsewhere", "robustness", "resplits")  # in a checkpoint, of a report
ROBUSTNESS = 500  # digits that are spoilt, in each way at each strength
FIRST = 1.0  # seconds after which it is estimated how long all will take


def evaluate(
    classifier: Classifier,
    familiar: Source,
    unfamiliar: Sequence[Source] = (),
    elsewhere: Sequence[Source] = (),
    *,
    robustness: int = ROBUSTNESS,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """What `classifier` does with labelled digits and with images that are no digits.

    Args:
        classifier: to be judged.
        familiar: labelled digits, e.g. from `bnn.sources.familiar_source`.
        unfamiliar: e.g. from `bnn.sources.unfamiliar_source`.
        elsewhere: labelled digits from other sources, e.g. from `bnn.sources.elsewhere_source`.
        robustness: on how many of the familiar digits corruptions are tried, 35 times each; 0 for none.
        seed: of corruptions and re-splits.
        settings: how the sets were chosen, plain values, for the report to tell.

    Raises:
        InputError: digits have no labels, two sets have the same name, or `robustness` is below 0.
    """
    _require_usable(familiar, unfamiliar, elsewhere)
    spoilt = familiar.part(robustness, seed) if robustness else None
    others = (*unfamiliar, *elsewhere)
    images = len(familiar) + sum(map(len, others)) + len(ANGLES) + (CELLS * len(spoilt) if spoilt else 0)
    with progress(images, FIRST) as advance:

        def decide(images: Tensor, name: str) -> Prediction:
            return classifier.decide(_evidence(classifier, images, name, advance), is_blank(images))

        evidence = _evidence(classifier, familiar.images, familiar.name, advance)
        judged = Judged(familiar, classifier.decide(evidence, is_blank(familiar.images)))
        judged_others = [Judged(source, decide(source.images, source.name)) for source in others]
        rotation = _rotation(decide, judged)
        cells = list(measure(decide, spoilt, seed)) if spoilt else []
    return Report(
        familiar=judged,
        unfamiliar=judged_others[: len(unfamiliar)],
        elsewhere=judged_others[len(unfamiliar) :],
        rotation=rotation,
        robustness=cells,
        resplits=_resplits(classifier, evidence, judged, seed),
        settings=_settings(classifier) | dict(settings or {}),
    )


def evaluate_command(
    classifier: Classifier,
    familiar: str,
    unfamiliar: Sequence[str],
    out: Path,
    *,
    elsewhere: Sequence[str] = (),
    robustness: int = ROBUSTNESS,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
    limit: int | None = None,
    record: Path | None = None,
    overwrite: bool = False,
) -> bool:
    """`bnn evaluate`: writes the report to the folder `out` and prints its numbers in short.

    Args:
        classifier: to be judged.
        familiar, unfamiliar, elsewhere: see the functions of these names in `bnn.sources`.
        out: folder of the report; missing folders are made.
        robustness: see `evaluate`.
        data_dir, download, seed, limit: see `bnn.sources.unfamiliar_source`.
        record: the classifier's checkpoint file, if it is to keep the numbers.
        overwrite: whether the report takes the place of one that is in `out` already.

    Returns:
        Whether some file could not be read.

    Raises:
        InputError: a set cannot be had, the report cannot be written or would replace another, or the
            numbers to be recorded are not those of the checkpoint as it is.
    """
    require_free(out / "report.json", overwrite=overwrite)
    if record is not None:
        _require_as_stored(classifier, record)
    options: dict[str, Any] = {"seed": seed, "download": download, "limit": limit}
    data = classifier.checkpoint.record.get("data")
    learnt = data.get("name") if isinstance(data, Mapping) else None
    sets = {"familiar": familiar, "unfamiliar": list(unfamiliar), "elsewhere": list(elsewhere)}
    report = evaluate(
        classifier,
        familiar_source(familiar, data_dir, **options),
        [unfamiliar_source(spec, data_dir, **options) for spec in unfamiliar],
        [elsewhere_source(spec, data_dir, trained_on=learnt, **options) for spec in elsewhere],
        robustness=robustness,
        seed=seed,
        settings={"sets": sets | {"limit": limit, "robustness": robustness, "seed": seed}},
    )
    write_report(report, out)
    if record is not None:
        checkpoint_file.save(recorded(classifier.checkpoint, report), record)
    print_short(report, out)
    return bool(report.unreadable)


def recorded(checkpoint: Checkpoint, report: Report) -> Checkpoint:
    """`checkpoint` with the numbers of its `report` in its record, under "evaluation"."""
    numbers = {name: report.numbers[name] for name in RECORDED}
    return replace(checkpoint, record={**checkpoint.record, "evaluation": numbers})


def _require_as_stored(classifier: Classifier, path: Path) -> None:
    require_writable(path)
    stored = classifier.checkpoint
    judged = (len(classifier.ensemble), classifier.seed, classifier.rule.to_dict())
    if judged != (stored.draws, stored.seed, stored.rule):
        raise InputError(
            "only what the checkpoint does as it is can be recorded in it: leave out --record, or --draws, "
            "--rule and the rule's options."
        )


def _require_usable(familiar: Source, unfamiliar: Sequence[Source], elsewhere: Sequence[Source]) -> None:
    for source in (familiar, *elsewhere):
        if source.labels is None:
            raise InputError(f"the digits of {source.name} have no labels: give labelled ones.")
    names = [source.name for source in (familiar, *unfamiliar, *elsewhere)]
    if len(set(names)) < len(names):
        raise InputError(f"two sets have the same name among {', '.join(names)}: rename one or leave it out.")


def _evidence(classifier: Classifier, images: Tensor, name: str, advance: Advance) -> Evidence:
    def through(chunks: Sequence[Tensor]) -> Iterator[Tensor]:
        for chunk in chunks:
            yield chunk
            advance(len(chunk), f"judging {name}")

    return classifier.evidence(images, through)


def _resplits(classifier: Classifier, evidence: Evidence, judged: Judged, seed: int) -> Resplits | None:
    if not isinstance(classifier.rule, CalibratedRule):
        return None
    labels = torch.from_numpy(judged.labels)
    return resplit(evidence, labels, classifier.calibration, classifier.wishes, seed=seed)


def _rotation(decide: Callable[[Tensor, str], Prediction], judged: Judged) -> Rotation:
    """A digit answered rightly, turned by `ANGLES`: a 6 where there is one."""
    labels = judged.labels
    right = judged.prediction.labels == labels
    best = int(np.argmax(2 * right + (labels == ROTATED_DIGIT)))
    image = judged.source.images[best]
    turned = torch.stack([rotate(image, angle, InterpolationMode.BILINEAR) for angle in ANGLES])
    return Rotation(judged.source.sources[best], np.array(ANGLES), decide(turned, "a rotating digit"))


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
            "record": {key: told for key, told in checkpoint.record.items() if key != "evaluation"},
        },
    }
