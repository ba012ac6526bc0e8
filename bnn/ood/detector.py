"""The OOD detector: scores that were fitted to training images, and how they are joined."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.core.ensemble import PredictiveEnsemble, summary
from bnn.core.evidence import Evidence
from bnn.core.features import Features
from bnn.core.stacked import inference
from bnn.core.task import Task
from bnn.core.tensors import in_groups, under
from bnn.core.uncertainty import Predictive, every_extreme
from bnn.errors import InputError, choose
from bnn.ood.combination import COMBINATIONS, Combination, total
from bnn.ood.score import Observed, OODScore
from bnn.ood.scores import SCORES

CHUNK = 32  # images between two steps of a progress bar
_WHAT = "the checkpoint's OOD scores"
Progress = Callable[[Sequence[Tensor]], Iterable[Tensor]]


class Detector:
    """Turns images, and what the ensemble says of them, into `Evidence`; safe under threads.

    Args:
        features: the mean networks' descriptions of images.
        scores: fitted, at least one, no two of the same name.
        combination: fitted to training images' scores.
    """

    def __init__(self, features: Features, scores: Sequence[OODScore], combination: Combination) -> None:
        self.features, self.scores, self.combination = features, tuple(scores), combination

    def evidence(self, images: Tensor, predictive: Predictive) -> Evidence:
        """What is known of `images` (N, 1, 28, 28) of which the ensemble says `predictive`."""
        return self.of(Observed(images, predictive, self.features))

    def of(self, observed: Observed) -> Evidence:
        """What is known of `observed` images; where they require a gradient, it carries one."""
        with inference(observed.images):
            named = raw_scores(self.scores, observed)
            surprises = self.combination.surprises(named)
            joined, novelty = self.combination.joined(surprises), self._novelty(surprises)
        return Evidence(observed.predictive, surprises, joined, novelty)

    def least(self, observed: Observed) -> Evidence | None:
        """What is known of N images before any network is asked: the least strange that they can turn out.

        Whatever the ensemble says of an image, OOD score and novelty are at least these, and `quality` says
        nothing that it does not say here. The predictions are the extremes of what the ensemble may say:
        certain of each class in turn, then of none, (C + 1)·N in all.

        Args:
            observed: the images; its predictions only tell how many classes there are.

        Returns:
            None where a score has no such bounds.
        """
        if not all(score.has_bounds for score in self.scores):
            return None
        count, classes = observed.predictive.mean.shape
        raw_scores(self.scores, observed)  # so what the images alone say is known before they are repeated
        extremes = observed.again(every_extreme(count, classes))
        named = {name: scores.view(-1, count) for name, scores in raw_scores(self.scores, extremes).items()}
        low, high = (
            self.combination.surprises({name: bound(scores) for name, scores in named.items()})
            for bound in (lambda scores: scores.amin(0), lambda scores: scores.amax(0))
        )
        ood = self.combination.joined(low)
        novelty = self._novelty(
            {one.name: (low if one.sees_image else high)[one.name] for one in self.scores}
        )
        told = {one.name: (high if one.quality else low)[one.name] for one in self.scores}
        everywhere = torch.arange(count).repeat(classes + 1)
        surprises = {name: surprise[everywhere] for name, surprise in told.items()}
        return Evidence(extremes.predictive, surprises, ood[everywhere], novelty[everywhere])

    def quality(self, evidence: Evidence) -> NDArray[np.str_]:
        """What a score by itself says of each image if it is refused as unfamiliar, (N,) str; "" of most."""
        words = np.full(len(evidence), "", dtype=object)
        for score in self.scores:
            if score.quality:
                by_itself = self.combination.decided_by(score.name, evidence.surprises, evidence.ood)
                words[by_itself.numpy()] = score.quality
        return words.astype(np.str_)

    def _novelty(self, surprises: Mapping[str, Tensor]) -> Tensor:
        of_image, of_prediction = (
            [surprises[score.name] for score in self.scores if score.sees_image == sees]
            for sees in (True, False)
        )
        zeros = torch.zeros_like(next(iter(surprises.values())))
        return total([*of_image, zeros]) - total([*of_prediction, zeros])

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint stores it."""
        of_scores = [under(score.name, score.tensors()) for score in self.scores]
        joined = {name: tensor for tensors in of_scores for name, tensor in tensors.items()}
        return under("score", joined) | under("combination", self.combination.tensors())


def detector_from(
    names: Sequence[str], combination: str, tensors: Mapping[str, Tensor], task: Task, features: Features
) -> Detector:
    """The detector of the scores called `names` whose `tensors` these are, which anyone may have made.

    Raises:
        InputError: no score or combination has that name, or the tensors are not theirs.
    """
    require_names(names)
    of_scores, joined = in_groups(tensors, ("score", "combination"), _WHAT)
    scores = [
        SCORES[name].from_tensors(own, task, features)
        for name, own in zip(names, in_groups(of_scores, names, _WHAT), strict=True)
    ]
    fitted = choose(COMBINATIONS, combination, "combination of scores").from_tensors(joined, tuple(names))
    return Detector(features, scores, fitted)


def fit_detector(
    scores: Sequence[OODScore],
    features: Features,
    ensemble: PredictiveEnsemble,
    reference: Tensor,
    progress: Progress = iter,
    *,
    combination: str = "fisher",
) -> Detector:
    """The detector of fitted `scores`, joined.

    Args:
        scores: fitted.
        features: the mean networks' descriptions of images.
        ensemble: whose predictions they look at.
        reference: training images (R, 1, 28, 28), which say how surprising a score is.
        progress: goes through chunks of the images one by one, and may show how far it is.
        combination: name in `COMBINATIONS`, of what joins the scores.

    Raises:
        InputError: there is no score, two have one name, one gives something else than a finite number, or no
            combination has that name.
    """
    require_names([score.name for score in scores], known=False)
    kind = choose(COMBINATIONS, combination, "combination of scores")
    with torch.inference_mode():
        parts = [
            raw_scores(scores, Observed(chunk, ensemble.predictive(chunk), features))
            for chunk in progress(reference.split(CHUNK))
        ]
    joined = {name: torch.cat([part[name] for part in parts]).clone() for name in parts[0]}
    for name, values in joined.items():
        if strange := int((~values.isfinite()).sum()):
            raise InputError(
                f"the OOD score {name!r} is not finite for {strange} of {len(values)} training images: "
                "mend it, or leave it out."
            )
    return Detector(features, scores, kind.fit(joined))


def raw_scores(scores: Iterable[OODScore], observed: Observed) -> dict[str, Tensor]:
    """Each of `scores` of the observed images, (N,), by its name.

    Raises:
        InputError: a score gives something else than a number an image.
    """
    named = {score.name: score.score(observed) for score in scores}
    for name, values in named.items():
        if not isinstance(values, Tensor) or values.shape != observed.images.shape[:1]:
            raise InputError(f"the OOD score {name!r} must give one number an image, (N,).")
    return {name: values.float() for name, values in named.items()}


def require_names(names: Sequence[str], *, known: bool = True) -> None:
    """Checks that `names` are of scores, at least one, each once.

    Raises:
        InputError: they are not.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"name at least one OOD score, each once, not {', '.join(names) or 'none'}.")
    for name in names if known else ():
        choose(SCORES, name, "OOD score")


def judged(
    ensemble: PredictiveEnsemble, detector: Detector, images: Tensor, progress: Progress = iter
) -> Iterator[tuple[Evidence, Tensor]]:
    """What is known of `images` (N, 1, 28, 28), and each draw's probabilities (S, n, C), chunk by chunk.

    Args:
        ensemble, detector: judge.
        images: to be judged.
        progress: goes through the chunks, and may show how far it is.
    """
    for chunk in progress(images.split(CHUNK)):
        probs = ensemble.probs(chunk)
        yield detector.evidence(chunk, summary(probs)), probs


def gather_evidence(
    ensemble: PredictiveEnsemble, detector: Detector, images: Tensor, progress: Progress = iter
) -> Evidence:
    """What is known of `images` (N, 1, 28, 28), N ≥ 1; see `judged`."""
    return Evidence.joined([evidence for evidence, _ in judged(ensemble, detector, images, progress)])
