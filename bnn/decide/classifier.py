"""The classifier: a checkpoint's ensemble and rule, from images to decisions."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn import checkpoint as checkpoint_file
from bnn.checkpoint import Checkpoint
from bnn.decide.ensemble import PredictiveEnsemble, Progress, draw_weights
from bnn.decide.rules import AbstentionRule, candidate_threshold, reasons, rule_from_dict
from bnn.decide.uncertainty import Predictive
from bnn.errors import InputError
from bnn.networks import NUM_CLASSES, build_network
from bnn.preprocess import Images, is_blank, prepare

CANDIDATE_MISS = 0.001  # a candidate set misses the true digit of a digit image at most this often
MAX_WEIGHTS = 1_000_000_000  # in all draws together (4 GB): a header cannot make us allocate more


@dataclass(frozen=True)
class Prediction:
    """Decisions on N images, as NumPy arrays.

    Attributes:
        labels: (N,) int64, the digit, or -1 where it refuses.
        reasons: (N,) "answered", "ambiguous" or "unfamiliar".
        probs: (N, 10) float32, the predictive mean over the draws.
        total, aleatoric, epistemic: (N,) float32 in nats; higher is less certain.
        refusal_score: (N,) float32; higher is more reason to refuse.
        candidates: N tuples of digits still possible, likeliest first.
        blank: (N,) bool, whether nothing is drawn; such an image is always refused.
    """

    labels: NDArray[np.int64]
    reasons: NDArray[np.str_]
    probs: NDArray[np.float32]
    total: NDArray[np.float32]
    aleatoric: NDArray[np.float32]
    epistemic: NDArray[np.float32]
    refusal_score: NDArray[np.float32]
    candidates: list[tuple[int, ...]]
    blank: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


class Classifier:
    """Answers with a digit or refuses with a reason; safe under threads.

    `predict` is all that most users need. It is `decide(predictive(x), is_blank(x))` of
    `x = prepare(images)`; each step can be had by itself.

    Args:
        checkpoint: what was trained.
        draws, seed: the ensemble's size and seed, where they should not be the checkpoint's.
        rule: the abstention rule, where it should not be the checkpoint's.

    Raises:
        InputError: the checkpoint's parts do not fit together, or `draws` or `seed` is out of its range.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        draws: int | None = None,
        seed: int | None = None,
        rule: AbstentionRule | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.rule = rule_from_dict(checkpoint.rule) if rule is None else rule
        self.seed = checkpoint.seed if seed is None else seed
        self.ensemble = _ensemble(checkpoint, checkpoint.draws if draws is None else draws, self.seed)
        self.calibration, self.calibration_labels = _calibration(checkpoint)
        self._candidate_threshold = candidate_threshold(
            self.calibration, self.calibration_labels, CANDIDATE_MISS
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
        """
        return cls(checkpoint_file.load(path), draws=draws, seed=seed, rule=rule)

    def with_rule(self, rule: AbstentionRule) -> Self:
        """The same ensemble under another abstention rule; nothing is computed anew."""
        other = copy.copy(self)
        other.rule = rule
        return other

    def predict(self, images: Images) -> Prediction:
        """Decides on PIL images, paths or arrays, one or many; see `bnn.preprocess.prepare`.

        Raises:
            InputError: an image cannot be used.
        """
        prepared = prepare(images)
        return self.decide(self.predictive(prepared), is_blank(prepared))

    def predictive(self, prepared: Tensor, progress: Progress = iter) -> Predictive:
        """What the ensemble says of `prepared` images (N, 1, 28, 28) float32 in [0, 1]; see the ensemble."""
        return self.ensemble.predictive(prepared, progress)

    def decide(self, predictive: Predictive, blank: Tensor) -> Prediction:
        """Decisions on N images of which `blank` (N,) bool show nothing."""
        refused = self.rule.refuses(predictive) | blank
        why = np.where(blank, "unfamiliar", reasons(predictive, refused))
        labels = self.rule.labels(predictive)
        return Prediction(
            labels=torch.where(refused, -1, labels).numpy(),
            reasons=why.astype(np.str_),
            probs=predictive.mean.numpy(),
            total=predictive.total.numpy(),
            aleatoric=predictive.aleatoric.numpy(),
            epistemic=predictive.epistemic.numpy(),
            refusal_score=torch.where(blank, self.rule.highest_score, self.rule.score(predictive)).numpy(),
            candidates=[
                self._candidates(probs, label)
                for probs, label in zip(predictive.mean, labels.tolist(), strict=True)
            ],
            blank=blank.numpy(),
        )

    def _candidates(self, probs: Tensor, label: int) -> tuple[int, ...]:
        lowest = min(self._candidate_threshold, probs[label].item())  # the answer is always one of them
        order = probs.argsort(descending=True, stable=True)
        return tuple(order[: int((probs >= lowest).sum())].tolist())


def _ensemble(checkpoint: Checkpoint, draws: int, seed: int) -> PredictiveEnsemble:
    if draws < 1:
        raise InputError(f"the number of draws must be at least 1, and {draws} is not.")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must be at least 0 and below 2^63, and {seed} is not.")
    with torch.device("meta"):  # shapes only: a header cannot make us allocate
        network = build_network(checkpoint.network, checkpoint.network_options)
    shapes = {name: value.shape for name, value in network.named_parameters()}
    first = next(iter(checkpoint.loc.values()), torch.empty(0))
    components = len(first) if first.ndim else 0
    if not (
        components
        and _are(checkpoint.loc, {name: (components, *shape) for name, shape in shapes.items()})
        and _are(checkpoint.scale, {name: (components, *shape) for name, shape in shapes.items()})
        and all((value >= 0).all() for value in checkpoint.scale.values())
    ):
        raise InputError(
            f"the checkpoint's tensors are not those of its network {checkpoint.network!r}: "
            "take another copy of the file."
        )
    most = MAX_WEIGHTS // sum(shape.numel() for shape in shapes.values())
    if draws > most:
        raise InputError(f"{draws} draws of this network do not fit in memory: at most {most} do.")
    return PredictiveEnsemble(network, draw_weights(checkpoint.loc, checkpoint.scale, draws, seed))


def _calibration(checkpoint: Checkpoint) -> tuple[Predictive, Tensor]:
    tensors = dict(checkpoint.calibration)
    labels = tensors.pop("labels", torch.empty(0))
    n = labels.numel()
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("mean", "median"), (n, NUM_CLASSES))
    shapes |= dict.fromkeys(("total", "aleatoric", "epistemic"), (n,))
    if not (
        n
        and labels.shape == (n,)
        and labels.dtype == torch.int64
        and ((labels >= 0) & (labels < NUM_CLASSES)).all()
        and _are(tensors, shapes)
    ):
        raise InputError(
            "the checkpoint holds no usable calibration evidence: make it again with `bnn train`."
        )
    return Predictive(**tensors), labels


def _are(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether `tensors` are float32 of these `shapes`, without NaN or infinite values."""
    return {name: tuple(value.shape) for name, value in tensors.items()} == shapes and all(
        value.dtype == torch.float32 and bool(value.isfinite().all()) for value in tensors.values()
    )
