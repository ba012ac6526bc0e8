"""Whether an exported graph says what the classifier says, before it is handed over."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.evidence import Evidence
from bnn.core.networks import IMAGE_SIZE
from bnn.data.drawn import drawings
from bnn.data.preprocess import Prepared, read_images
from bnn.data.shapes import DIGITS, DOODLES
from bnn.data.strokes import pen_strokes
from bnn.errors import InputError
from bnn.portable.graph import IMAGES, Ruling, traced
from bnn.prediction import REASONS

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

STROKES, NOISE = 40, 5  # images of random strokes, and of noise
EVERY = 10  # drawn digit, and doodle, is taken
SEED = 0  # of all that is generated
ENTROPIES, SCORES = ("total", "aleatoric", "epistemic"), ("ood_score", "refusal_score")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """How far a graph may be from the classifier, by rounding.

    Attributes:
        probs: a probability.
        entropies: an entropy, in nats.
        scores: an OOD score or a refusal score, by so much, or by so large a share of itself where that is
            above 1. Surprises go up in steps, one a training image, and rounding may take one more.
    """

    probs: float
    entropies: float
    scores: float


SINGLE = Tolerance(probs=1e-5, entropies=1e-4, scores=0.02)
HALF = Tolerance(probs=2e-3, entropies=5e-3, scores=0.05)


@dataclass(frozen=True)
class Checked:
    """What a check has seen.

    Attributes:
        images: that were generated and decided on by both.
        near: of these, those with a measure within the tolerance of its threshold.
        otherwise: of these, those that are decided otherwise.
        probs, entropies, scores: the largest differences, as `Tolerance` has them.
        calibration: images whose evidence the rule in the graph decides on as the original.
        calibration_near: of these, those with a measure within the tolerance of its threshold.
    """

    images: int
    near: int
    otherwise: int
    probs: float
    entropies: float
    scores: float
    calibration: int
    calibration_near: int


def check(model: "onnx.ModelProto", classifier: Classifier, tolerance: Tolerance) -> Checked:
    """Holds `model`, a graph of `Deciding`, against `classifier`.

    On generated images numbers may differ by the `tolerance`, and decisions where a measure is as near to
    its threshold, nowhere else. On the evidence of the calibration images, the rule decides as the original
    does, always.

    Raises:
        InputError: they differ by more.
    """
    images = generated(classifier.task.layout)
    evidence = classifier.evidence(images)
    said = classifier.decide(evidence, Prepared.as_given(images).quality)
    found = run(session(model), {IMAGES: images})
    off = {
        "probs": float(np.abs(found["probs"] - said.probs).max()),
        "entropies": max(_off(found[name], getattr(said, name)) for name in ENTROPIES),
        "scores": max(_off(found[name], getattr(said, name)) for name in SCORES),
    }
    near = _near(classifier, evidence, tolerance)
    otherwise = (found["label"] != said.labels) | (found["reason"] != _numbered(said.reasons))
    for what, difference in off.items():
        if not difference <= (most := asdict(tolerance)[what]):  # so that NaN is too far
            raise InputError(
                f"the graph is not the classifier: on {len(images)} generated images its {what} are off by "
                f"up to {difference:.2g}, and {most:g} is allowed."
            )
    if wrong := int((otherwise & ~near).sum()):
        raise InputError(
            f"the graph is not the classifier: it decides otherwise on {wrong} of {len(images)} generated "
            "images, of which no measure is near its threshold."
        )
    return Checked(
        images=len(images),
        near=int(near.sum()),
        otherwise=int(otherwise.sum()),
        **off,
        calibration=ruled(classifier),
        calibration_near=int(_near(classifier, classifier.calibration.evidence, tolerance).sum()),
    )


def generated(layout: str) -> Tensor:
    """Images to compare on, (N, 1, 28, 28): drawn digits, doodles, random strokes, noise, and nothing."""
    drawn = [one.picture() for one in (*drawings(DIGITS, SEED), *drawings(DOODLES, SEED))[::EVERY]]
    rng = np.random.default_rng(SEED)
    noise = rng.random((NOISE, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    made = torch.from_numpy(np.concatenate([pen_strokes(STROKES, rng), noise, np.zeros_like(noise[:1])]))
    return torch.cat([read_images(drawn, layout).images, made[:, None].float()])


def session(model: "onnx.ModelProto") -> "InferenceSession":
    """What runs `model`."""
    from onnxruntime import InferenceSession

    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(running: "InferenceSession", inputs: Mapping[str, Tensor]) -> Arrays:
    """A graph's outputs by name."""
    names = [output.name for output in running.get_outputs()]
    outputs = running.run(names, {name: value.numpy() for name, value in inputs.items()})
    return dict(zip(names, map(np.asarray, outputs), strict=True))


def ruled(classifier: Classifier) -> int:
    """How many calibration images there are, on whose evidence the rule's graph decides as the rule does.

    Raises:
        InputError: on some it does not.
    """
    evidence = classifier.calibration.evidence
    inputs = {
        **evidence.predictive.tensors(),
        "surprises": torch.stack(list(evidence.surprises.values()), 1),
        "ood": evidence.ood,
        "novelty": evidence.novelty,
    }
    found = run(session(traced(Ruling(classifier.rule, list(evidence.surprises)), inputs)), inputs)
    said = classifier.rule.decide(evidence)
    if wrong := int(((found["label"] != said.labels) | (found["reason"] != _numbered(said.reasons))).sum()):
        raise InputError(
            f"the graph's rule is not the classifier's: of {len(evidence)} calibration images it decides "
            f"otherwise on {wrong}."
        )
    return len(evidence)


def _numbered(reasons: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.array([REASONS.index(reason) for reason in reasons.tolist()])


def _near(classifier: Classifier, evidence: Evidence, tolerance: Tolerance) -> NDArray[np.bool_]:
    """Of which images some measure is so near to what the rule holds it against, (N,).

    Whether a refused image is unfamiliar goes by its novelty too, and that it is more than 0.
    """
    limits = {**classifier.rule.thresholds, "novelty": 0.0}
    measured = {
        "total": (evidence.total, tolerance.entropies),
        "doubt": (1 - evidence.mean.amax(-1), tolerance.probs),
        "ood": (evidence.ood, tolerance.scores * max(1.0, abs(limits.get("ood", 0.0)))),
        "novelty": (evidence.novelty, tolerance.scores),
    }
    near = [(measured[name][0] - limit).abs() <= measured[name][1] for name, limit in limits.items()]
    return torch.stack(near).any(0).numpy()


def _off(found: NDArray[Any], said: NDArray[Any]) -> float:
    """By how much two measures differ at most, or by how large a share of those that are above 1."""
    return float((np.abs(found - said) / np.maximum(1, np.abs(said))).max())
