"""What an abstention rule is, and what it is fitted on.

A new rule is one class and one name in `bnn.rules.table.RULES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.core.task import checked_labels
from bnn.core.tensors import in_groups, require, under
from bnn.errors import InputError
from bnn.rules.promise import Promise

# Between so many classes at most an ambiguous image leaves the choice, by its perplexity: half of them, or
# two (whose perplexity is 2) where there are few.
MEANT_SHARE, MEANT_LEAST = 0.5, 2.5
TRIAL = 5  # of so many calibration images one says which thresholds are worth trying
_WHAT = "the calibration labels and the thresholds to try"


@dataclass(frozen=True)
class Calibration:
    """What a rule is fitted on.

    Raises:
        InputError: some number is not finite.

    Attributes:
        evidence: of n images that were held out of training.
        labels: their true classes, (n,) int64.
        grid: predictive entropies of other images of the same kind, in nats, (R,); they say which
            thresholds are worth trying, which the images that are calibrated on must not choose.
    """

    evidence: Evidence
    labels: Tensor
    grid: Tensor

    def __post_init__(self) -> None:
        if strange := int((~self.evidence.sound).sum()) + int((~self.grid.isfinite()).sum()):
            raise InputError(
                f"nothing is calibrated on numbers that are not finite, of which {strange} images have some."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, evidence: Evidence, labels: Any, seed: int = 0) -> Self:
        """A calibration on four in five of the images; the others' entropies are the thresholds to try.

        Args:
            evidence: of images that were held out of training.
            labels: their true classes, one an image.
            seed: of which are which.

        Raises:
            InputError: there are no images, or `labels` are not a class for each.
        """
        n = len(evidence)
        truth = checked_labels(labels, n, evidence.classes)
        if n < 2:
            raise InputError("one image is none to calibrate on: give more, each with its label.")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        trial, rest = order.tensor_split([n - calibrated_count(n)])
        return cls(evidence[rest], truth[rest], evidence[trial].total)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint stores it."""
        return under("evidence", self.evidence.tensors()) | {
            "truth/labels": self.labels,
            "truth/grid": self.grid,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], classes: int, scores: Sequence[str]) -> Self:
        """The calibration whose `tensors` these are, which anyone may have made; see `Evidence.from_tensors`.

        Raises:
            InputError: they are missing, damaged or do not fit together.
        """
        known, truth = in_groups(tensors, ("evidence", "truth"), _WHAT)
        evidence = Evidence.from_tensors(known, classes, scores)
        n, count = len(evidence), truth.get("grid", torch.empty(0)).numel()
        require(
            {name: truth[name] for name in truth if name != "labels"},
            {"grid": (count,)},
            torch.float32,
            _WHAT,
        )
        require(
            {name: truth[name] for name in truth if name == "labels"}, {"labels": (n,)}, torch.int64, _WHAT
        )
        if not (n and count and ((truth["labels"] >= 0) & (truth["labels"] < classes)).all()):
            raise InputError(f"{_WHAT} are missing, damaged, or do not fit the rest.")
        return cls(evidence, truth["labels"], truth["grid"])


def calibrated_count(n: int) -> int:
    """How many of n images `Calibration.of` leaves to calibrate on."""
    return n - max(1, n // TRIAL)


class Decisions(NamedTuple):
    """What a rule decides on N images.

    Attributes:
        labels: (N,) int64, the class, or -1 where it refuses.
        reasons: (N,) "answered", "ambiguous" or "unfamiliar".
        scores: (N,) float32 refusal scores; higher is more reason to refuse.
    """

    labels: NDArray[np.int64]
    reasons: NDArray[np.str_]
    scores: NDArray[np.float32]


class AbstentionRule(ABC):
    """Decides which images to answer, and what.

    `fit` and `decide` take plain arrays, of this library's classifier or of any other. A rule says by
    `answers` and `reluctance` what it does with sound evidence; what has a number that is not finite, every
    rule refuses.

    Example:
        >>> import numpy as np
        >>> from bnn import EntropyRule, Promise
        >>> likely = np.linspace(0.5, 1, 50)  # a classifier's probabilities of the first of two classes
        >>> rule = EntropyRule.fit(np.stack([likely, 1 - likely], 1), np.zeros(50, int), Promise(refuse=0.2))
        >>> rule.decide([[0.51, 0.49], [0.05, 0.95]]).labels.tolist()
        [-1, 1]
    """

    name: ClassVar[str]
    controls: ClassVar[tuple[str, ...]] = ()  # fields of `Promise` that it is fitted for
    by_mean: ClassVar[bool] = False  # holds mean, entropy, OOD score and novelty against limits: nothing else

    @classmethod
    def fit(cls, probs: Any, labels: Any, promise: Promise | None = None, *, scores: Any = None) -> Self:
        """The rule fitted on images that the classifier was not trained on.

        Args:
            probs: class probabilities, (n, C), or (S, n, C) of an ensemble; or `Evidence`.
            labels: the true classes, (n,).
            promise: what it should keep; the defaults of `Promise` where None.
            scores: OOD scores (n,), higher meaning more out-of-distribution; None where there are none.

        Raises:
            InputError: the arrays do not fit together, or these images cannot promise that; it says what
                they can.
        """
        return cls.fit_on(Calibration.of(as_evidence(probs, scores), labels), promise or Promise())

    def decide(self, probs: Any, scores: Any = None) -> Decisions:
        """What to answer, and what to refuse and why.

        Args:
            probs, scores: as `fit` takes them.

        Raises:
            InputError: the arrays do not fit together.
        """
        evidence = as_evidence(probs, scores)
        refused = self.refuses(evidence)
        unfamiliar = self.unfamiliar(evidence)
        why = np.where(~refused, "answered", np.where(unfamiliar, "unfamiliar", "ambiguous"))
        labels = torch.where(refused, -1, self.labels(evidence))
        return Decisions(labels.numpy(), why.astype(np.str_), self.score(evidence).numpy())

    def score(self, evidence: Evidence) -> Tensor:
        """The reason to refuse, (N,): higher means more, and what is not finite has the most."""
        highest = torch.tensor(self.highest_score(evidence.classes), dtype=torch.float32)
        return torch.where(evidence.sound, self.reluctance(evidence), highest)

    def refuses(self, evidence: Evidence) -> Tensor:
        """Which images it refuses, (N,) bool; where it refuses one, it refuses all of higher score."""
        return ~(evidence.sound & self.answers(evidence))

    @abstractmethod
    def answers(self, evidence: Evidence) -> Tensor:
        """Which images of sound evidence it answers, (N,) bool."""

    @abstractmethod
    def reluctance(self, evidence: Evidence) -> Tensor:
        """The `score` of images of sound evidence, (N,)."""

    @abstractmethod
    def highest_score(self, classes: int) -> float:
        """What no `score` of so many `classes` is above."""

    def unfamiliar(self, evidence: Evidence) -> Tensor:
        """Which images are refused, if they are, because they are like none it learnt, (N,) bool.

        Those that are more surprising by themselves than by what is said of them, those that could be more
        than `MEANT_SHARE` of the classes, for what may be anything is like nothing, and those of which a
        number is not finite. The others are ambiguous.
        """
        could_be_anything = evidence.total.exp() > max(MEANT_SHARE * evidence.classes, MEANT_LEAST)
        return could_be_anything | (evidence.novelty > 0) | ~evidence.sound

    def labels(self, evidence: Evidence) -> Tensor:
        """The likeliest class, refused or not, (N,)."""
        return evidence.mean.argmax(-1)

    @classmethod
    @abstractmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        """The rule that keeps `promise` for images like those of `calibration`; see `fit`."""

    @classmethod
    @abstractmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        """Checks, before long work, that n calibration images could do for `fit_on`; raises as that does."""

    @property
    def promise(self) -> Promise | None:
        """What it was fitted for; None where it promises nothing."""
        return None

    @property
    def asked(self) -> tuple[str, Promise]:
        """Name and promise of the rule to fit where it is to be fitted anew."""
        return self.name, self.promise or Promise()

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The highest value that is still answered, of each measure that the rule compares.

        Measures: "total" (nats), "ood" and "doubt" (1 − the highest probability).
        """
        return {}

    @abstractmethod
    def describe(self) -> str:
        """What it does and promises, in a sentence."""

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain values for `bnn.rules.table.rule_from_dict`."""
        return {"name": self.name} | asdict(self)  # type: ignore[call-overload]  # rules are dataclasses


@dataclass(frozen=True)
class RefuseAll(AbstentionRule):
    """Refuses everything: what is left where a promise cannot be kept.

    Attributes:
        why: in a sentence.
        instead_of: name of the rule that could not be fitted.
        wanted: what that should have promised.
    """

    why: str
    instead_of: str = "calibrated"
    wanted: Promise = field(default_factory=Promise)

    name: ClassVar[str] = "refuse-all"
    by_mean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.wanted, Mapping):  # plain values
            object.__setattr__(self, "wanted", Promise(**self.wanted))
        kinds = (self.why, str), (self.instead_of, str), (self.wanted, Promise)
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise InputError("the rule that refuses everything needs a reason, a rule's name and a promise.")

    @property
    def asked(self) -> tuple[str, Promise]:
        return self.instead_of, self.wanted

    def reluctance(self, evidence: Evidence) -> Tensor:
        return torch.ones_like(evidence.total)

    def highest_score(self, classes: int) -> float:
        return 1.0

    def answers(self, evidence: Evidence) -> Tensor:
        return torch.zeros_like(evidence.total, dtype=torch.bool)

    @classmethod
    def fit_on(cls, calibration: Calibration, promise: Promise) -> Self:
        return cls("it was asked to.", wanted=promise)

    @classmethod
    def require_fittable(cls, n: int, promise: Promise) -> None:
        """Nothing is fitted, so any number of images will do."""

    def describe(self) -> str:
        return f"Refuses every image: {self.why}"


def as_evidence(probs: Any, scores: Any = None) -> Evidence:
    """`probs` where they are `Evidence`, else `Evidence.of` the arrays; raises as that does."""
    return probs if isinstance(probs, Evidence) else Evidence.of(probs, scores)
