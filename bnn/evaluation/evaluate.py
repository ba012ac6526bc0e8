"""Batch evaluation: images of the classes, and others, through a classifier, to a `Report`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnn import __version__
from bnn.classifier import ALL, Classifier, require_kind_of_draws
from bnn.core.checkpoint import Checkpoint
from bnn.core.evidence import Evidence
from bnn.core.task import Task, are_digits
from bnn.data.copies import SEEN
from bnn.data.imageset import ImageSet
from bnn.data.preprocess import Prepared
from bnn.errors import InputError
from bnn.evaluation.resplits import Resplits, resplit
from bnn.evaluation.results import Judged, Report, Rotation
from bnn.evaluation.robustness import CELLS, measure, turned
from bnn.prediction import Prediction
from bnn.progress import Advance, progress
from bnn.rules.calibrated import CalibratedRule

ROTATED_DIGIT = 6  # turned upside down it is a digit again, and on the way it is none
ANGLES = tuple(range(0, 181, 10))  # degrees
RECORDED = (
    "in_distribution",
    "out_of_distribution",
    "shifted",
    "robustness",
    "resplits",
)  # in a checkpoint, of a report
_LEFT_OUT = ("evaluation", SEEN)  # of a checkpoint's record, in a report
ROBUSTNESS = 500  # digits that are corrupted, in each way at each strength
FIRST = 1.0  # seconds after which it is estimated how long all will take


def evaluate(
    classifier: Classifier,
    in_distribution: ImageSet,
    out_of_distribution: ImageSet | Sequence[ImageSet] = (),
    shifted: ImageSet | Sequence[ImageSet] = (),
    *,
    robustness: int = ROBUSTNESS,
    draws: str = ALL,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """What `classifier` does with labelled images, and with images that need not show any class.

    Args:
        classifier: to be judged.
        in_distribution: labelled images like those that were learnt.
        out_of_distribution: a set, or several, that need not show any class.
        shifted: a labelled set, or several, of the same classes from other sources.
        robustness: on how many in-distribution images corruptions are tried, 35 times each; 0 for none.
        draws: "all", or "adaptive": a few at a time, until neither answer nor reason can reasonably change,
            one part at least. What is told beside the decisions then rests on the draws that an image had,
            and the rule is not fitted anew on parts of the images.
        seed: of corruptions and re-splits.
        settings: how the sets were chosen, plain values, for the report to tell.

    Raises:
        InputError: labels are missing or none of the classifier's, two sets have the same name, or
            `robustness` is below 0, or `draws` is neither.

    Example:
        >>> import bnn
        >>> report = bnn.evaluate(
        ...     bnn.Classifier.load(draws=5),
        ...     bnn.ImageSet.from_name("digits", limit=50),
        ...     bnn.ImageSet.from_name("noise", limit=20),
        ...     robustness=0,
        ... )
        >>> report.numbers["out_of_distribution"][0]["refused"]
        1.0
    """
    require_kind_of_draws(draws)
    strange, moved = _several(out_of_distribution), _several(shifted)
    _require_usable(classifier.task, in_distribution, strange, moved)
    corrupted = in_distribution.part(robustness, seed) if robustness else None
    others = (*strange, *moved)
    repeated = CELLS * len(corrupted) if corrupted else 0
    total = len(in_distribution) + sum(map(len, others)) + len(ANGLES) + repeated
    with progress(total, FIRST) as advance:
        judge = _Judge(classifier, draws, advance)
        evidence = judge.evidence(in_distribution.images, in_distribution.name)
        judged = Judged(in_distribution, classifier.decide(evidence, in_distribution.quality))
        judged_others = [Judged(one, judge.decided(one.prepared(), one.name)) for one in others]
        rotation = _rotation(judge.decided_as_given, judged)
        cells = list(measure(judge.decided_as_given, corrupted, seed)) if corrupted else []
    return Report(
        in_distribution=judged,
        out_of_distribution=judged_others[: len(strange)],
        shifted=judged_others[len(strange) :],
        rotation=rotation,
        robustness=cells,
        resplits=_resplits(classifier, evidence, judged, seed) if draws == ALL else None,
        settings=_settings(classifier) | judge.told() | dict(settings or {}),
    )


def recorded(checkpoint: Checkpoint, report: Report) -> Checkpoint:
    """`checkpoint` with the numbers of its `report` in its record, under "evaluation"."""
    numbers = {name: report.numbers[name] for name in RECORDED}
    return replace(checkpoint, record={**checkpoint.record, "evaluation": numbers})


def _several(sets: ImageSet | Sequence[ImageSet]) -> Sequence[ImageSet]:
    return (sets,) if isinstance(sets, ImageSet) else sets


def _require_usable(
    task: Task, in_distribution: ImageSet, strange: Sequence[ImageSet], shifted: Sequence[ImageSet]
) -> None:
    for labelled in (in_distribution, *shifted):
        task.require_labels(labelled.truth().unique().tolist())
    names = [one.name for one in (in_distribution, *strange, *shifted)]
    if len(set(names)) < len(names):
        raise InputError(f"two sets have the same name among {', '.join(names)}: rename one or leave it out.")


class _Judge:
    """Judges images by all draws or by as many as a decision needs, and shows how far it is."""

    def __init__(self, classifier: Classifier, draws: str, advance: Advance) -> None:
        self._classifier, self._draws, self._advance = classifier, draws, advance
        self._used: list[Tensor] = []

    def evidence(self, images: Tensor, name: str) -> Evidence:
        """What is known of `images` (N, 1, 28, 28) of the set `name`."""

        def through(chunks: Sequence[Tensor]) -> Iterator[Tensor]:
            for chunk in chunks:
                yield chunk
                self._advance(len(chunk), f"judging {name}")

        if self._draws == ALL:
            return self._classifier.evidence(images, through)
        # Each has some draws: of none all classes are as likely, and nothing is told of accuracy.
        evidence, used = self._classifier.adaptive_evidence(images, through, zero=False)
        self._used.append(used)
        return evidence

    def decided(self, prepared: Prepared, name: str) -> Prediction:
        """What is decided on the images of the set `name`."""
        return self._classifier.decide(self.evidence(prepared.images, name), prepared.quality)

    def decided_as_given(self, images: Tensor, name: str) -> Prediction:
        """What is decided on `images` (N, 1, 28, 28), of which nothing else is known."""
        return self.decided(Prepared.as_given(images), name)

    def told(self) -> dict[str, Any]:
        """For the report: how many draws an image had on average, where not all."""
        return {"draws_used": torch.cat(self._used).double().mean().item()} if self._used else {}


def _resplits(classifier: Classifier, evidence: Evidence, judged: Judged, seed: int) -> Resplits | None:
    if not isinstance(classifier.rule, CalibratedRule):
        return None
    labels = torch.from_numpy(judged.labels)
    return resplit(evidence, labels, classifier.calibration, classifier.promise, seed=seed)


def _rotation(decide: Callable[[Tensor, str], Prediction], judged: Judged) -> Rotation:
    """A digit answered rightly, turned by `ANGLES`: a 6 where there is one."""
    labels = judged.labels
    right = judged.prediction.labels == labels
    preferred = labels == (ROTATED_DIGIT if are_digits(judged.prediction.names) else -1)
    best = int(np.argmax(2 * right + preferred))
    angles = torch.tensor(ANGLES)
    images = turned(judged.images.images[best].expand(len(angles), -1, -1, -1), angles.deg2rad())
    return Rotation(judged.images.sources[best], angles.numpy(), decide(images, "a rotating digit"))


def _settings(classifier: Classifier) -> dict[str, Any]:
    parts = classifier.parts
    return {
        "version": __version__,
        "draws": len(classifier.ensemble),
        "ensemble_seed": classifier.seed,
        "rule": classifier.rule.to_dict(),
        "checkpoint": {
            "network": parts.network,
            "network_options": dict(parts.network_options),
            "posterior": parts.posterior,
            "scores": list(parts.scores),
            "components": len(classifier.posterior.components),
            "calibration_images": len(classifier.calibration),
            "record": {key: value for key, value in classifier.record.items() if key not in _LEFT_OUT},
        },
    }
