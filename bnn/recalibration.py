"""Calibrating anew what was trained: other promises, or other digits to make them on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import nll_loss

from bnn.classifier import Classifier, Progress
from bnn.core.checkpoint import Checkpoint
from bnn.core.networks import NUM_CLASSES
from bnn.errors import InputError
from bnn.rules.abstention import AbstentionRule, Calibration
from bnn.rules.promise import Wishes
from bnn.rules.thresholds import fit_rule
from bnn.stored import calibration_of

TRIAL = 5  # of so many digits one says which thresholds are worth trying


def calibration_on(
    classifier: Classifier, images: Tensor, labels: NDArray[np.int64], progress: Progress = iter
) -> Calibration:
    """What `classifier` says of digits of one's own, to calibrate it on.

    Args:
        classifier: to be calibrated.
        images: (n, 1, 28, 28) float32 in [0, 1], as `bnn.data.preprocess.prepare` gives them, which it was not
            trained on.
        labels: the true digits, (n,).
        progress: see `Classifier.evidence`.

    Returns:
        Evidence on four in five of the digits; the others' entropies are the thresholds to try, which the
        digits that are calibrated on must not choose.

    Raises:
        InputError: labels and images do not match, or there are none.
    """
    if len(images) == 0:
        raise InputError("there are no digits to calibrate on: give some, each with its label.")
    if labels.shape != (len(images),):
        raise InputError(f"{len(images)} images need as many labels, one each, not {labels.shape}.")
    if not np.isin(labels, np.arange(NUM_CLASSES)).all():
        strange = labels[~np.isin(labels, np.arange(NUM_CLASSES))][0]
        raise InputError(f"a label must be a digit from 0 to 9, and {strange} is not.")
    evidence, truth = classifier.evidence(images, progress), torch.from_numpy(labels.astype(np.int64))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(classifier.seed))
    trial, rest = order.tensor_split([max(1, len(images) // TRIAL)])
    return Calibration(evidence[rest], truth[rest], entropies=evidence[trial].total)


def recalibrated(
    checkpoint: Checkpoint, rule: str, wishes: Wishes, calibration: Calibration | None = None
) -> Checkpoint:
    """`checkpoint` with the rule called `rule`, fitted to do as `wishes` say; nothing is trained.

    Args:
        checkpoint: holds the evidence on its calibration digits.
        rule, wishes: see `bnn.rules.thresholds.fit_rule`.
        calibration: other digits to calibrate on, which the result then holds in place of its own.

    Raises:
        InputError: the checkpoint holds no usable evidence, or these digits cannot promise that.
    """
    if calibration is None:
        calibration = calibration_of(checkpoint)
    fitted = fit_rule(rule, calibration, wishes)
    return replace(
        checkpoint,
        calibration=calibration.tensors(),
        rule=fitted.to_dict(),
        # What was evaluated was another rule.
        record={key: told for key, told in checkpoint.record.items() if key != "evaluation"}
        | {"calibration": measured(fitted, calibration)},
    )


def measured(rule: AbstentionRule, calibration: Calibration) -> Mapping[str, Any]:
    """How the ensemble and `rule` do on the digits they were calibrated on, as plain values."""
    evidence, labels = calibration.evidence, calibration.labels
    wrong, answered = rule.labels(evidence) != labels, ~rule.refuses(evidence)
    of_truth = evidence.mean.clamp_min(torch.finfo(torch.float32).tiny).log()
    return {
        "digits": len(calibration),
        "accuracy": 1 - wrong.double().mean().item(),
        "nll": nll_loss(of_truth, labels).item(),
        "coverage": answered.double().mean().item(),
        "errors_among_answered": int((wrong & answered).sum()),
        "refused_as_unfamiliar": (rule.unfamiliar(evidence) & ~answered).double().mean().item(),
    }
