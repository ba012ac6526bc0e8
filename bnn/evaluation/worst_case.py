"""The worst case: what becomes of refusals when every pixel may be moved a little, so as to undo them.

Bitterwolf, Meinke & Hein 2020, "Certifiably adversarially robust detection of out-of-distribution data", call
it adversarial OOD detection. What is found here is what an attack finds: that none is worse is not certified.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.ensemble import summary
from bnn.core.evidence import Evidence
from bnn.errors import InputError

STEPS = 20  # of the attack, in each ball
STEP = 0.25  # of the ball's radius
DRAWS = 10  # networks whose gradient a step follows; the next step follows that of others
TINY = torch.finfo(torch.float32).tiny  # probabilities below it are no lower

MEASURES: Mapping[str, Callable[[Evidence], Tensor]] = {  # that a rule's thresholds may be of
    "total": lambda evidence: evidence.total,
    "ood": lambda evidence: evidence.ood,
    "doubt": lambda evidence: 1 - evidence.mean.amax(-1),
}


@dataclass(frozen=True)
class WorstCase:
    """The worst that was found for N images, each within a ball of its own.

    Attributes:
        radius: by how much each pixel may differ from the image's, within [0, 1].
        images: (N, 1, 28, 28), within the balls.
        objective: (N,), 0 or below where the attack has reached its end.
        reached: (N,) bool, whether it has: the image is answered, and not by its true class if it has one.
    """

    radius: float
    images: Tensor
    objective: Tensor
    reached: Tensor


def worst_cases(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    radii: Sequence[float],
    steps: int = STEPS,
) -> list[WorstCase]:
    """The worst that is found within balls of several `radii` about images: each starts from the one before.

    By projected gradient descent in the maximum norm (Madry et al. 2018, "Towards deep learning models
    resistant to adversarial attacks"), on the expected predictive of the sampled networks and on the OOD
    scores. These have a gradient where they are higher than those of 99 % of the training images, and so
    wherever one of them refuses. Of all images on the way the one of the lowest objective is kept, which is
    measured by all networks.

    Args:
        classifier: whose rule is attacked; it compares measures with thresholds.
        images: (N, 1, 28, 28) in [0, 1], N ≥ 1.
        labels: the true classes (N,), which must not be answered; None where any answer is wrong.
        radii: of the balls, 0 or more, in rising order.
        steps: in each ball.

    Returns:
        One for each radius. An objective never rises with the radius, nor with the number of steps in a
        single ball.

    Raises:
        InputError: the rule has no thresholds, or the radii do not rise from 0 or above.
    """
    if not classifier.rule.thresholds:
        raise InputError(
            f"the rule {classifier.rule.name!r} compares nothing with thresholds: take one that does."
        )
    if min(radii, default=0) < 0 or list(radii) != sorted(radii):
        raise InputError("the radii must rise, from 0 or more.")
    allowed = torch.ones(len(images), classifier.task.classes, dtype=torch.bool)
    if labels is not None:
        allowed[torch.arange(len(images)), labels] = False
    found = []
    best = images
    for radius in radii:
        best = _attacked(classifier, images, best, allowed, radius, steps)
        evidence = classifier.evidence(best)
        answer = classifier.rule.labels(evidence)
        is_wrong = allowed.gather(1, answer[:, None])[:, 0]
        reached = ~classifier.rule.refuses(evidence) & is_wrong
        found.append(WorstCase(radius, best, objective(evidence, classifier, allowed), reached))
    return found


def objective(evidence: Evidence, classifier: Classifier, allowed: Tensor) -> Tensor:
    """What the attack lowers, (N,): 0 or below where an `allowed` class is answered, (N, C) bool.

    The largest of what each measure is above its threshold, in thresholds, and of what the likeliest class
    that is not allowed is likelier than any that is.
    """
    lead = _likeliest(evidence, ~allowed) - _likeliest(evidence, allowed)
    return torch.stack([*_excesses(evidence, classifier), lead]).amax(0)


def _attacked(
    classifier: Classifier, images: Tensor, start: Tensor, allowed: Tensor, radius: float, steps: int
) -> Tensor:
    """The best on the way from `start` within balls of that `radius` about `images`, (N, 1, 28, 28)."""
    parts = classifier.ensemble.in_parts(min(DRAWS, len(classifier.ensemble)))
    low, high = (images - radius).clamp_min(0), (images + radius).clamp_max(1)
    best = moving = start
    lowest = objective(classifier.evidence(start), classifier, allowed)
    for step in range(steps if radius else 0):
        moved = moving.clone().requires_grad_()
        evidence = classifier.detector.evidence(moved, summary(parts[step % len(parts)].probs(moved)))
        (gradient,) = torch.autograd.grad(_loss(evidence, classifier, allowed), moved)
        moving = (moving - STEP * radius * gradient.nan_to_num().sign()).clamp(low, high)
        reached = objective(classifier.evidence(moving), classifier, allowed)
        best = torch.where((reached < lowest)[:, None, None, None], moving, best)
        lowest = torch.minimum(lowest, reached)
    return best


def _loss(evidence: Evidence, classifier: Classifier, allowed: Tensor) -> Tensor:
    """What a step descends: how unlikely each image's likeliest `allowed` class is, and every excess."""
    unlikely = -_likeliest(evidence, allowed).clamp_min(TINY).log()
    return (unlikely + torch.stack([F.relu(one) for one in _excesses(evidence, classifier)]).sum(0)).sum()


def _excesses(evidence: Evidence, classifier: Classifier) -> list[Tensor]:
    thresholds = classifier.rule.thresholds
    return [(MEASURES[name](evidence) - limit) / (abs(limit) or 1.0) for name, limit in thresholds.items()]


def _likeliest(evidence: Evidence, among: Tensor) -> Tensor:
    """The highest probability of a class `among` those (N, C), (N,); −1 where there is none."""
    return evidence.mean.masked_fill(~among, -1.0).amax(-1)
