"""As many draws as a decision needs: until neither answer nor reason can reasonably change."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bnn.core.ensemble import PredictiveEnsemble, summary
from bnn.core.evidence import Evidence
from bnn.core.stopping import NATS, extremes, left_out, said
from bnn.ood.detector import Detector, Progress
from bnn.ood.score import Observed
from bnn.rules.abstention import AbstentionRule

AT_ONCE = 256  # images at once: of many, those that need more draws fill a block together


def judged_adaptively(
    ensemble: PredictiveEnsemble,
    detector: Detector,
    rule: AbstentionRule,
    images: Tensor,
    *,
    classes: int,
    size: int,
    progress: Progress = iter,
    zero: bool = True,
) -> Iterator[tuple[Evidence, Tensor]]:
    """What is known of `images` (N, 1, 28, 28), and how many draws (n,) that rests on, chunk by chunk.

    Each image has what it would have alone: whether it needs more draws depends on no other.

    Args:
        ensemble, detector: judge.
        rule: whose decision must not change by more draws.
        images: to be judged.
        classes: that the networks tell apart.
        size: draws that are made at once; all, where `rule` looks at more than can be foreseen.
        progress: goes through chunks of the images one by one, and may show how far it is.
        zero: whether one that is refused whatever the networks would say has no draws.
    """
    parts = ensemble.in_parts(size if rule.by_mean else len(ensemble))
    for chunk in progress(images.split(AT_ONCE)):
        yield _judged(parts, detector, rule, chunk, classes, zero=zero)


def _judged(
    parts: Sequence[PredictiveEnsemble],
    detector: Detector,
    rule: AbstentionRule,
    images: Tensor,
    classes: int,
    *,
    zero: bool,
) -> tuple[Evidence, Tensor]:
    draws, settled, left = sum(map(len, parts)), _Settled(len(images)), torch.arange(len(images))
    probs = torch.empty(0, len(images), classes)
    observed = Observed(images, said(probs), detector.features)
    if zero and (anyway := is_refused_anyway(detector, rule, observed)).any():
        settled.add(left[anyway], detector.of(observed[anyway]), 0)
        left, observed, probs = left[~anyway], observed[~anyway], probs[:, ~anyway]
    for part in parts if len(left) else ():
        probs = torch.cat([probs, part.probs(images[left])])
        observed = observed.again(summary(probs) if len(probs) == draws else said(probs))
        now = detector.of(observed)
        done = is_settled(detector, rule, observed, now, probs, draws)
        settled.add(left[done], now[done], len(probs))
        if done.all():
            break
        left, observed, probs = left[~done], observed[~done], probs[:, ~done]
    return settled.in_order()


class _Settled:
    """What is known of `count` images, and by how many draws, as one after another is settled."""

    def __init__(self, count: int) -> None:
        self._used = torch.zeros(count, dtype=torch.int64)
        self._places: list[Tensor] = []
        self._found: list[Evidence] = []

    def add(self, places: Tensor, found: Evidence, draws: int) -> None:
        """What was `found` by so many draws of the images at `places`."""
        self._used[places] = draws
        self._places.append(places)
        self._found.append(found)

    def in_order(self) -> tuple[Evidence, Tensor]:
        """Of all images, in their order."""
        return Evidence.joined(self._found)[torch.cat(self._places).argsort()], self._used


def settled_after(
    detector: Detector, rule: AbstentionRule, observed: Observed, probs: Tensor, size: int
) -> int | None:
    """After how many of one image's draws, `size` at a time, neither answer nor reason could change any more.

    Args:
        detector, rule: judge and decide.
        observed: the image, with what all its draws say.
        probs: these draws', (S, 1, C).
        size: draws that come at once.

    Returns:
        None where the rule looks at more than can be foreseen.
    """
    if not rule.by_mean:
        return None
    if is_refused_anyway(detector, rule, observed):
        return 0

    def is_settled_after(count: int) -> bool:
        drawn = probs[:count]
        then = observed.again(said(drawn))
        return bool(is_settled(detector, rule, then, detector.of(then), drawn, len(probs)))

    return next((count for count in range(size, len(probs), size) if is_settled_after(count)), len(probs))


@torch.inference_mode()
def is_settled(
    detector: Detector,
    rule: AbstentionRule,
    observed: Observed,
    now: Evidence,
    probs: Tensor,
    draws: int,
) -> Tensor:
    """Of which images neither answer nor reason can reasonably change by more draws, (N,) bool.

    Nor does the word of quality hang on any one of them.

    Args:
        detector, rule: judge and decide; unless `probs` are of all draws, the rule is one `by_mean`.
        observed: the images, with what these draws say.
        now: what is known of them.
        probs: these draws', (n, N, C).
        draws: of the whole ensemble; where `probs` are of as many, all is settled.
    """
    count = len(now)
    if len(probs) == draws:
        return torch.ones(count, dtype=torch.bool)
    without = detector.of(observed.again(left_out(probs)))
    possible = rule.decide(extremes(now, without, draws))
    words = np.concatenate([detector.quality(now), detector.quality(without)])
    alike = [each.reshape(-1, count) for each in (possible.labels, possible.reasons, words)]
    return torch.from_numpy(np.all([(each == each[0]).all(0) for each in alike], axis=0))


@torch.inference_mode()
def is_refused_anyway(detector: Detector, rule: AbstentionRule, observed: Observed) -> Tensor:
    """Which images are refused as unfamiliar, with no word of quality, whatever is said of them, (N,) bool.

    An exact bound, but for rounding, to which `NATS` are left.
    """
    count = len(observed.images)
    none = torch.zeros(count, dtype=torch.bool)
    if not rule.by_mean or "ood" not in rule.thresholds:
        return none
    least = detector.least(observed)
    if least is None:
        return none
    below = replace(least, ood=least.ood - NATS, novelty=least.novelty - NATS)
    if not (below.ood > rule.thresholds["ood"]).any():  # so it is of nearly all digits: it takes no more time
        return none
    sure = (rule.decide(below).reasons == "unfamiliar") & (detector.quality(below) == "")
    return torch.from_numpy(sure.reshape(-1, count).all(0)) & least.sound.view(-1, count).all(0)
