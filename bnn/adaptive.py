"""As many draws as a decision needs: until neither answer nor reason can reasonably change."""

from collections.abc import Iterator

import torch
from torch import Tensor

from bnn.core.ensemble import PredictiveEnsemble, summary
from bnn.core.evidence import Evidence
from bnn.core.stopping import extremes, left_out, said
from bnn.ood.detector import Detector
from bnn.ood.score import Observed
from bnn.rules.abstention import AbstentionRule

AT_ONCE = 256  # images at once: of many, those that need more draws fill a block together


def judged_adaptively(
    ensemble: PredictiveEnsemble, detector: Detector, rule: AbstentionRule, images: Tensor, size: int
) -> Iterator[tuple[Evidence, Tensor]]:
    """What is known of `images` (N, 1, 28, 28), and how many draws (n,) that rests on, chunk by chunk.

    Each image has what it would have alone: whether it needs more draws depends on no other.

    Args:
        ensemble, detector: judge.
        rule: whose decision must not change by more draws.
        images: to be judged.
        size: draws that are made at once; all, where `rule` looks at more than can be foreseen.
    """
    size = size if rule.by_mean else len(ensemble)
    for chunk in images.split(AT_ONCE):
        yield _judged(ensemble, detector, rule, chunk, size)


def _judged(
    ensemble: PredictiveEnsemble, detector: Detector, rule: AbstentionRule, images: Tensor, size: int
) -> tuple[Evidence, Tensor]:
    left, used = torch.arange(len(images)), torch.full((len(images),), len(ensemble))
    found: list[Evidence] = []
    places: list[Tensor] = []
    drawn: list[Tensor] = []
    observed: Observed | None = None
    for part in ensemble.in_parts(size):
        drawn.append(part.probs(images[left]))
        probs = torch.cat(drawn)
        says = summary(probs) if len(probs) == len(ensemble) else said(probs)
        observed = Observed(images, says, detector.features) if observed is None else observed.again(says)
        now = detector.of(observed)
        done = is_settled(detector, rule, observed, now, probs, len(ensemble))
        settled, open_ = (chosen.nonzero().squeeze(1) for chosen in (done, ~done))
        found.append(now[settled])
        places.append(left[settled])
        used[left[settled]] = len(probs)
        if not len(open_):
            break
        left, observed, drawn = left[open_], observed[open_], [one[:, open_] for one in drawn]
    order = torch.cat(places).argsort()
    return Evidence.joined(found)[order], used


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

    Args:
        detector, rule: judge and decide; the rule is one `by_mean`.
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
    labels, reasons = possible.labels.reshape(-1, count), possible.reasons.reshape(-1, count)
    return torch.from_numpy((labels == labels[0]).all(0) & (reasons == reasons[0]).all(0))
