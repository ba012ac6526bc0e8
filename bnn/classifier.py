"""The classifier: an ensemble, a detector and a rule, from images to decisions."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from bnn.adaptive import judged_adaptively
from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.features import Features
from bnn.core.networks import IMAGE_SIZE, build_network
from bnn.core.posterior import posterior_from
from bnn.core.stopping import group_size
from bnn.core.task import checked_labels
from bnn.data.copies import require_distinct
from bnn.data.preprocess import LAYOUTS, Images, Prepared, prepare, read_images
from bnn.errors import InputError, choose, shown
from bnn.ood.detector import Progress, detector_from, fit_detector, gather_evidence, judged
from bnn.ood.score import OODScore
from bnn.ood.scores import SCORES
from bnn.prediction import Prediction
from bnn.rules.abstention import AbstentionRule, Calibration, RefuseAll, calibrated_count
from bnn.rules.conformal import candidate_threshold
from bnn.rules.promise import Promise
from bnn.rules.table import RULES, fit_rule, rule_from_dict

ALL, ADAPTIVE = "all", "adaptive"  # the draws that a decision may rest on
STREAMED = 128  # images that `predict_stream` decides on together
OF_THE_RULE = ("calibration", "evaluation", "adaptation")  # in the record
CANDIDATE_MISS = 0.001  # a candidate set misses the true class of an image at most this often
MAX_WEIGHTS = 1_000_000_000  # in all draws together (4 GB): a header cannot make us allocate more


class Classifier:
    """Answers with a class or refuses with a reason; safe under threads.

    `predict` is all that most users need. It is `decide(evidence(x.images), x.quality)` of
    `x = read_images(images)`; each step can be had by itself. Nothing that is asked of a classifier changes
    it: `with_promise`, `with_rule`, `with_scores` and `calibrate` give another one.

    Args:
        checkpoint: what was trained.
        draws, seed: the ensemble's size and seed, where they should not be the checkpoint's.
        rule: the abstention rule, where it should not be the checkpoint's.

    Raises:
        InputError: the checkpoint's parts do not fit together, or `draws` or `seed` is out of its range.

    Example:
        >>> from bnn import Classifier
        >>> clf = Classifier.load(draws=10)
        >>> clf.predict("docs/star.png").reasons.tolist()
        ['unfamiliar']
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        draws: int | None = None,
        seed: int | None = None,
        rule: AbstentionRule | None = None,
    ) -> None:
        self.task, self.parts = checkpoint.task, checkpoint.parts
        choose(LAYOUTS, self.task.layout, "layout")
        self._calibrated_as = (checkpoint.draws, checkpoint.seed)
        self.rule = rule_from_dict(checkpoint.rule) if rule is None else rule
        of_this_rule = self.rule.to_dict() == checkpoint.rule
        self.record = checkpoint.record if of_this_rule else _without_measures(checkpoint.record)
        self.seed = checkpoint.seed if seed is None else seed
        draws = checkpoint.draws if draws is None else draws
        with torch.device("meta"):  # shapes only: a header cannot make us allocate
            self.network = build_network(self.parts.network, self.parts.network_options, self.task)
        shapes = {name: tuple(value.shape) for name, value in self.network.named_parameters()}
        require_drawable(draws, self.seed, self.network)
        self.posterior = posterior_from(self.parts.posterior, checkpoint.posterior, shapes)
        self.ensemble = self._drawn(draws)
        features = Features(self.network, self.posterior)
        self.detector = detector_from(
            self.parts.scores, self.parts.combination, checkpoint.detector, self.task, features
        )
        self._calibrate_on(
            Calibration.from_tensors(checkpoint.calibration, self.task.classes, self.parts.scores)
        )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        draws: int | None = None,
        seed: int | None = None,
        rule: AbstentionRule | None = None,
    ) -> Self:
        """The classifier of the checkpoint at `path`, or of the one that ships; see the class.

        Raises:
            InputError: the file is missing, damaged or not a checkpoint.

        Example:
            >>> from bnn import Classifier, MedianRule
            >>> len(Classifier.load(draws=10, rule=MedianRule(0.2)).ensemble)
            10
        """
        return cls(checkpoint_file.load(path), draws=draws, seed=seed, rule=rule)

    @property
    def promise(self) -> Promise:
        """What the rule was fitted for; the defaults where it promises nothing."""
        return self.rule.asked[1]

    def describe(self) -> str:
        """What decides, in a sentence or two: the ensemble, the rule, and whether its promise holds here."""
        said = f"{len(self.ensemble)} sampled networks. {self.rule.describe()}"
        if self.rule.promise is not None and not self.is_as_calibrated:
            draws, seed = self._calibrated_as
            said += f" It was calibrated with {draws} networks of seed {seed}: of these it promises nothing."
        return said

    @property
    def at_once(self) -> int:
        """Draws that are made at once, equally many of each of the posterior's components."""
        return group_size(len(self.posterior.components))

    @property
    def calibrated_draws(self) -> int:
        """How many networks the rule was fitted with."""
        return self._calibrated_as[0]

    @property
    def is_as_calibrated(self) -> bool:
        """Whether the ensemble is the one that the rule was fitted with."""
        return (len(self.ensemble), self.seed) == self._calibrated_as

    def predict(self, images: Images, *, draws: str = ALL) -> Prediction:
        """Decides on images, one or many, of any of the kinds that `bnn.data.preprocess.prepare` takes.

        Args:
            images: to be decided on.
            draws: "all", or "adaptive": a few at a time, until neither answer nor reason can reasonably
                change. Then `probs`, the measures and `candidates` rest on the `draws_used` of an image, and
                there are no votes. One that is refused whatever the networks would say has no draws, and
                every class is as likely.

        Raises:
            InputError: an image cannot be used, or `draws` is neither.

        Example:
            >>> from bnn import Classifier
            >>> p = Classifier.load(draws=10).predict(["docs/four.png", "docs/star.png"])
            >>> p.labels.tolist()
            [4, -1]
        """
        require_kind_of_draws(draws)
        read = read_images(images, self.task.layout)
        prepared = read.images
        if len(prepared) == 0:
            return self.predict(prepared.new_zeros(1, *prepared.shape[1:]), draws=draws)[:0]
        if draws == ADAPTIVE:
            few, used = self.adaptive_evidence(prepared)
            return replace(self.decide(few, read.quality), draws_used=used.numpy())
        evidence, votes = zip(*judged(self.ensemble, self.detector, prepared), strict=True)
        prediction = self.decide(Evidence.joined(list(evidence)), read.quality)
        return replace(
            prediction,
            votes=torch.cat(votes, dim=1).numpy(),
            draws_used=np.full(len(prepared), len(self.ensemble)),
        )

    def predict_stream(self, images: Iterable[Images], *, draws: str = ALL) -> Iterator[Prediction]:
        """Decides on images as they come: a prediction for each item, however many, in the same memory.

        What comes is decided on together, some `STREAMED` images at a time, with the result of `predict`.

        Args:
            images: such as a generator of arrays or of files; each item is what `predict` takes.
            draws: see `predict`.

        Raises:
            InputError: an image cannot be used; it, and those that were waiting with it, are not decided on.

        Example:
            >>> from bnn import Classifier
            >>> files = iter(["docs/four.png", "docs/star.png"])
            >>> [p.decision(0) for p in Classifier.load(draws=10).predict_stream(files)]
            ['4', 'refused']
        """
        for parts in _gathered(read_images(item, self.task.layout) for item in images):
            together = self.predict(Prepared.joined(parts), draws=draws)
            ends = np.cumsum([len(part.images) for part in parts])
            yield from (together[end - len(part.images) : end] for part, end in zip(parts, ends, strict=True))

    def votes(self, images: Images) -> NDArray[np.float32]:
        """Each draw's probabilities, (S, N, C) float32, of the images that `predict` takes.

        Raises:
            InputError: an image cannot be used.

        Example:
            >>> from bnn import Classifier
            >>> Classifier.load(draws=10).votes("docs/four.png").argmax(2).ravel().tolist()
            [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
        """
        votes: NDArray[np.float32] = self.ensemble.probs(prepare(images, self.task.layout)).numpy()
        return votes

    def networks(self, count: int) -> list[nn.Module]:
        """`count` networks drawn from the posterior: plain modules, images (N, 1, 28, 28) to logits (N, C).

        With as many as the ensemble has, they are its networks.

        Raises:
            InputError: `count` is below 1, or they do not fit in memory.

        Example:
            >>> import torch
            >>> from bnn import Classifier
            >>> networks = Classifier.load().networks(3)
            >>> networks[0](torch.zeros(2, 1, 28, 28)).shape
            torch.Size([2, 10])
        """
        require_drawable(count, self.seed, self.network)
        weights = self.posterior.sample(count, self.seed)
        return [self._network({name: value[s] for name, value in weights.items()}) for s in range(count)]

    def _drawn(self, draws: int) -> PredictiveEnsemble:
        """The ensemble of so many draws, which gives numbers for the darkest and the brightest image."""
        weights = self.posterior.sample(draws, self.seed)
        ensemble = PredictiveEnsemble(self.network, weights, self.at_once)
        extremes = torch.stack([shade(1, IMAGE_SIZE, IMAGE_SIZE) for shade in (torch.zeros, torch.ones)])
        if not ensemble.probs(extremes).isfinite().all():
            raise InputError(
                "its weights are so large that no probability comes of them: it is damaged, or of a training "
                "that diverged."
            )
        return ensemble

    def _network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        network = copy.deepcopy(self.network)
        network.load_state_dict(weights, assign=True)
        return network.eval()

    def evidence(self, prepared: Tensor, progress: Progress = iter) -> Evidence:
        """What is known of `prepared` images (N, 1, 28, 28) float32 in [0, 1].

        Args:
            prepared: to be judged.
            progress: goes through chunks of the images one by one, and may show how far it is.
        """
        if len(prepared) == 0:
            return self.evidence(prepared.new_zeros(1, *prepared.shape[1:]))[:0]
        return gather_evidence(self.ensemble, self.detector, prepared, progress)

    def adaptive_evidence(
        self, prepared: Tensor, progress: Progress = iter, *, zero: bool = True
    ) -> tuple[Evidence, Tensor]:
        """As `evidence`, by as many draws as each decision needs; and how many these were, (N,) int64.

        Args:
            prepared, progress: see `evidence`.
            zero: whether one that is refused whatever the networks would say has no draws.
        """
        if len(prepared) == 0:
            evidence, used = self.adaptive_evidence(prepared.new_zeros(1, *prepared.shape[1:]))
            return evidence[:0], used[:0]
        chunks = judged_adaptively(
            self.ensemble,
            self.detector,
            self.rule,
            prepared,
            classes=self.task.classes,
            size=self.at_once,
            progress=progress,
            zero=zero,
        )
        each, counts = zip(*chunks, strict=True)
        return Evidence.joined(list(each)), torch.cat(counts)

    def decide(self, evidence: Evidence, quality: NDArray[np.str_]) -> Prediction:
        """Decisions on N images; one with a word of `quality` (N,), such as "blank", is always refused."""
        decided = self.rule.decide(evidence)
        hidden = quality != ""
        unfamiliar = ~hidden & (decided.reasons == "unfamiliar")
        predictive = evidence.predictive
        likeliest = self.rule.labels(evidence)
        highest = np.float32(self.rule.highest_score(self.task.classes))
        return Prediction(
            labels=np.where(hidden, -1, decided.labels),
            reasons=np.where(hidden, "unfamiliar", decided.reasons),
            probs=predictive.mean.numpy(),
            total=predictive.total.numpy(),
            aleatoric=predictive.aleatoric.numpy(),
            epistemic=predictive.epistemic.numpy(),
            ood_score=evidence.ood.numpy(),
            refusal_score=np.where(hidden, highest, decided.scores),
            candidates=[
                self._candidates(probs, label)
                for probs, label in zip(predictive.mean, likeliest.tolist(), strict=True)
            ],
            quality=np.where(unfamiliar, self.detector.quality(evidence), quality),
            names=self.task.names,
        )

    def with_draws(self, draws: int) -> Self:
        """The same posterior and rule with an ensemble of another size, for which the rule promises nothing.

        Raises:
            InputError: `draws` is below 1, or they do not fit in memory.

        Example:
            >>> from bnn import Classifier
            >>> Classifier.load().with_draws(10).describe()
            '10 sampled networks. ... calibrated with 50 networks of seed 0: of these it promises nothing.'
        """
        require_drawable(draws, self.seed, self.network)
        other = copy.copy(self)
        other.ensemble = self._drawn(draws)
        return other

    def with_rule(self, rule: AbstentionRule) -> Self:
        """The same ensemble under another abstention rule; nothing is computed anew.

        Example:
            >>> from bnn import Classifier, MedianRule
            >>> Classifier.load(draws=10).with_rule(MedianRule(0.2)).predict("docs/star.png").decision(0)
            '8'
        """
        other = copy.copy(self)
        other.rule = rule
        if rule != self.rule:
            other.record = _without_measures(self.record)
        return other

    def with_promise(
        self,
        *,
        risk: float | None = None,
        delta: float | None = None,
        alpha: float | None = None,
        refuse: float | None = None,
        rule: str | None = None,
    ) -> Self:
        """The same ensemble under a rule that is fitted, on the calibration images, to keep another promise.

        Args:
            risk, delta, alpha, refuse: see `Promise`; what is left out stays as it is.
            rule: name of the rule; the present one's where None.

        Raises:
            InputError: the calibration images cannot promise that; it says what they can.

        Example:
            >>> from bnn import Classifier
            >>> strict = Classifier.load().with_promise(risk=0.001)
            >>> strict.promise.risk
            0.001
        """
        calibration = self.calibration
        name, promise = self.asked(rule, risk=risk, delta=delta, alpha=alpha, refuse=refuse)
        return self._fitted_anew(fit_rule(name, calibration, promise), calibration)

    def calibrate(
        self,
        images: Images,
        labels: Any,
        *,
        risk: float | None = None,
        delta: float | None = None,
        alpha: float | None = None,
        refuse: float | None = None,
        rule: str | None = None,
        progress: Progress = iter,
    ) -> Self:
        """The same ensemble under a rule that is fitted on images of one's own, to keep the same promise.

        Args:
            images: of the kinds that `predict` takes, which it was not trained on.
            labels: their true classes, (n,).
            risk, delta, alpha, refuse, rule: see `with_promise`.
            progress: see `evidence`.

        Raises:
            InputError: an image or a label cannot be used, images are copies of others, a class has none, or
                they cannot promise as much.

        Example:
            >>> import bnn
            >>> digits = bnn.ImageSet.from_name("digits", limit=100)
            >>> clf = bnn.Classifier.load(draws=10)
            >>> clf.calibrate(digits, digits.labels, rule="entropy", refuse=0.1).promise.refuse
            0.1
        """
        prepared = prepare(images, self.task.layout)
        truth = checked_labels(labels, len(prepared), self.task.classes)
        name, promise = self.asked(rule, risk=risk, delta=delta, alpha=alpha, refuse=refuse)
        choose(RULES, name, "abstention rule").require_fittable(calibrated_count(len(truth)), promise)
        require_distinct(prepared)
        self.task.require_every_class(truth, "calibrated on")
        calibration = Calibration.of(self.evidence(prepared, progress), truth, self.seed)
        return self.calibrated_on(calibration, fit_rule(name, calibration, promise))

    def calibrated_on(self, calibration: Calibration, rule: AbstentionRule) -> Self:
        """The same ensemble under a `rule` that was fitted on what it says of other images, `calibration`."""
        other = self._fitted_anew(rule, calibration)
        other._calibrated_as = (len(self.ensemble), self.seed)
        other._calibrate_on(calibration)
        return other

    def asked(self, rule: str | None, **given: float | None) -> tuple[str, Promise]:
        """Name and promise of the rule to fit, where what is None stays as it is."""
        name, promise = self.rule.asked
        changed = {of: share for of, share in given.items() if share is not None}
        return name if rule is None else rule, replace(promise, **changed)

    def _fitted_anew(self, rule: AbstentionRule, calibration: Calibration) -> Self:
        other = self.with_rule(rule)
        other.record = dict(other.record) | {"calibration": measured(rule, calibration)}
        return other

    def with_scores(self, *scores: OODScore, reference: Images) -> Self:
        """The same ensemble with other OOD scores; it refuses everything until `calibrate` is called.

        Args:
            scores: fitted, no two of one name.
            reference: images of the kinds that it was trained on, which say how surprising a score is.

        Raises:
            InputError: an image cannot be used, there are fewer than two, or a score's values cannot.

        Example:
            >>> import bnn
            >>> class Ink(bnn.OODScore):
            ...     name = "ink"
            ...     def score(self, observed):
            ...         return observed.images.mean((1, 2, 3))
            >>> digits = bnn.ImageSet.from_name("digits", limit=100)
            >>> clf = bnn.Classifier.load(draws=5).with_scores(Ink(), reference=digits)
            >>> clf.predict(digits)
            Prediction of 100 images: 0 answered, ...
            >>> clf.calibrate(digits, digits.labels, risk=0.1, alpha=0.05).predict(digits)
            Prediction of 100 images: 9... answered, ...
        """
        prepared = prepare(reference, self.task.layout)
        if len(prepared) < 2:
            raise InputError("reference needs at least two images, to say how surprising a score is.")
        new = "its OOD scores are new: call calibrate with images of your own."
        other = self.with_rule(RefuseAll(new, *self.rule.asked))
        combination = self.parts.combination
        other.detector = fit_detector(
            scores, self.detector.features, self.ensemble, prepared, combination=combination
        )
        other._calibration = None
        other.parts = replace(self.parts, scores=tuple(score.name for score in scores))
        return other

    def save(self, path: str | Path) -> None:
        """Writes a checkpoint, from which `load` gives this classifier again, with the calibrated ensemble.

        Raises:
            InputError: the file cannot be written, the classifier has not been calibrated, or one of its OOD
                scores is none that `load` knows.

        Example:
            >>> import tempfile
            >>> from bnn import Classifier
            >>> path = f"{tempfile.mkdtemp()}/mine.safetensors"
            >>> Classifier.load().with_promise(risk=0.01).save(path)
            >>> Classifier.load(path).promise.risk
            0.01
        """
        checkpoint_file.save(self.checkpoint(), path)

    def checkpoint(self) -> Checkpoint:
        """What `save` writes.

        Raises:
            InputError: as `save`.
        """
        calibration = self.calibration
        for score in self.detector.scores:
            if SCORES.get(score.name) is not type(score):
                raise InputError(
                    f"no checkpoint with the OOD score {score.name!r} could be loaded: put its class into "
                    "bnn.ood.scores.SCORES under that name first."
                )
        return Checkpoint(
            task=self.task,
            parts=self.parts,
            posterior=self.posterior.tensors(),
            detector=self.detector.tensors(),
            calibration=calibration.tensors(),
            draws=self._calibrated_as[0],
            seed=self._calibrated_as[1],
            rule=self.rule.to_dict(),
            record=self.record,
        )

    @property
    def calibration(self) -> Calibration:
        """What the rule was fitted on.

        Raises:
            InputError: the classifier has not been calibrated.
        """
        if self._calibration is None:
            raise InputError(
                "the classifier has not been calibrated: call calibrate with images of your own."
            )
        return self._calibration

    def _calibrate_on(self, calibration: Calibration) -> None:
        self._calibration: Calibration | None = calibration
        self.candidate_threshold = candidate_threshold(
            calibration.evidence.mean, calibration.labels, CANDIDATE_MISS
        )

    def _candidates(self, probs: Tensor, label: int) -> tuple[int, ...]:
        lowest = min(self.candidate_threshold, probs[label].item())  # the answer is always one of them
        order = probs.argsort(descending=True, stable=True)
        return tuple(order[: int((probs >= lowest).sum())].tolist())


def require_kind_of_draws(draws: str) -> None:
    """Checks that `draws` is one of the two ways to ask the ensemble.

    Raises:
        InputError: it is not.
    """
    if draws not in (ALL, ADAPTIVE):
        raise InputError(f"draws are {ALL!r} or {ADAPTIVE!r}, not {shown(draws)}: see with_draws.")


def measured(rule: AbstentionRule, calibration: Calibration) -> Mapping[str, Any]:
    """How the ensemble and `rule` do on the images they were calibrated on, as plain values."""
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


def _gathered(parts: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """`parts` in their order, in lists of `STREAMED` images or just more, the last of what is left."""
    held: list[Prepared] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part.images)
        if count >= STREAMED:
            yield held
            held, count = [], 0
    if held:
        yield held


def _without_measures(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """`record` without what was measured, which was that of another rule."""
    return {key: value for key, value in record.items() if key not in OF_THE_RULE}


def require_drawable(draws: int, seed: int, network: nn.Module, components: int = 1) -> None:
    """Checks, before any memory is taken, that `draws` of `network`'s weights, of each component, fit in it.

    Raises:
        InputError: they do not, or `draws` or `seed` is out of its range.
    """
    if draws < 1:
        raise InputError(f"the number of draws must be at least 1, and {draws} is not.")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must be at least 0 and below 2^63, and {seed} is not.")
    most = MAX_WEIGHTS // max(1, components * sum(value.numel() for value in network.parameters()))
    if draws > most:
        raise InputError(f"{draws} draws of this network do not fit in memory: at most {most} do.")
