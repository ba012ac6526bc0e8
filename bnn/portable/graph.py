"""What the classifier computes as one ONNX graph, from images to decisions.

Nothing is written twice: the ensemble, the OOD scores, their combination and the rule are traced as they
stand, by `torch.export`. So whatever is made of torch's operations goes along, and the rest is refused.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.networks import IMAGE_SIZE
from bnn.core.uncertainty import Predictive
from bnn.data.preprocess import is_blank
from bnn.errors import InputError, cause_in
from bnn.prediction import REASONS
from bnn.rules.abstention import AbstentionRule

if TYPE_CHECKING:
    import onnx

IMAGES = "images"
LARGE = 10_000  # numbers of a tensor from which on it is worth storing in half precision
_EXAMPLES = 3  # images that it is traced with; the graph takes any number
_ANSWERED, _AMBIGUOUS, _UNFAMILIAR = range(len(REASONS))

Outputs = dict[str, Tensor]


class Deciding(nn.Module):
    """From images (N, 1, 28, 28) to what `Classifier.predict` says of them, as numbers.

    Outputs, a row an image: `label` and `reason` (a place in `REASONS`), `probs`, `total`, `aleatoric`,
    `epistemic`, `ood_score` and `refusal_score` as `Prediction` has them; `candidates` (N, C) bool; `votes`
    (N, C), how many draws find each class likeliest; and, a column a score, `surprises` (N, K) and
    `by_itself` (N, K) bool, where the joined score is that score's alone.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self._classifier = classifier

    def forward(self, images: Tensor) -> Outputs:
        classifier = self._classifier
        probs = classifier.ensemble.probs(images)
        evidence = classifier.detector.evidence(images, Predictive.of(probs))
        return {
            **_decided(classifier.rule, evidence, is_blank(images)),
            "probs": evidence.mean,
            "total": evidence.total,
            "aleatoric": evidence.predictive.aleatoric,
            "epistemic": evidence.predictive.epistemic,
            "ood_score": evidence.ood,
            **_scored(classifier, evidence),
            "candidates": _candidates(classifier, evidence),
            "votes": one_hot(probs.argmax(-1), evidence.classes).sum(0).int(),
        }


class Ruling(nn.Module):
    """From evidence to decisions: the rule by itself, `label` and `reason` as in `Deciding`.

    Its inputs are the rows of `Evidence`: mean, median, total, aleatoric, epistemic, the surprises (N, K) in
    the order of `scores`, the joined OOD score and the novelty.
    """

    def __init__(self, rule: AbstentionRule, scores: Sequence[str]) -> None:
        super().__init__()
        self._rule, self._scores = rule, tuple(scores)

    def forward(
        self,
        mean: Tensor,
        median: Tensor,
        total: Tensor,
        aleatoric: Tensor,
        epistemic: Tensor,
        surprises: Tensor,
        ood: Tensor,
        novelty: Tensor,
    ) -> Outputs:
        named = dict(zip(self._scores, surprises.unbind(1), strict=True))
        evidence = Evidence(Predictive(mean, median, total, aleatoric, epistemic), named, ood, novelty)
        return _decided(self._rule, evidence, torch.zeros_like(total, dtype=torch.bool))


class MeanNetworks(nn.Module):
    """From images (N, 1, 28, 28) to `probs` (N, C): the mean over the mean network of each component."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        means = [component.mean() for component in classifier.posterior.components]
        stacked = {name: torch.stack([mean[name] for mean in means]) for name in means[0]}
        self._ensemble = PredictiveEnsemble(classifier.network, stacked)

    def forward(self, images: Tensor) -> Outputs:
        return {"probs": self._ensemble.probs(images).mean(0)}


def of_images(module: nn.Module, *, half: bool = False) -> "onnx.ModelProto":
    """The graph of a `module` that takes images; see `traced`.

    Args:
        module: `Deciding` or `MeanNetworks`.
        half: whether large tensors are stored in half precision. They are computed with in single.
    """
    model = traced(module, {IMAGES: torch.rand(_EXAMPLES, 1, IMAGE_SIZE, IMAGE_SIZE)})
    return halved(model) if half else model


def traced(module: nn.Module, inputs: Mapping[str, Tensor]) -> "onnx.ModelProto":
    """`module` as an ONNX graph of any number of rows, N.

    Args:
        module: takes the inputs in their order, and gives a dictionary of tensors, whose names the outputs
            get.
        inputs: what it is traced with, by the names that the graph's inputs get.

    Raises:
        InputError: a part of it is not made of operations that ONNX knows.
    """
    rows = torch.export.Dim("N", min=1)
    shapes = tuple({0: rows} for _ in inputs)
    given = tuple(inputs.values())
    try:
        with torch.no_grad():
            names = list(module(*given))  # run before it is traced: what it keeps for later is then numbers
            program = torch.export.export(module, given, dynamic_shapes=shapes, strict=False)
        written = torch.onnx.export(
            program,
            given,
            input_names=list(inputs),
            output_names=names,
            custom_translation_table={torch.ops.aten.searchsorted.Tensor: _below},
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # a score, a combination or a rule of one's own may do anything
        raise InputError(
            "this classifier has a part that has no ONNX form: write its scores, combination and rule in "
            f"torch's operations on whole tensors ({cause_in(_first(error))})."
        ) from error
    assert written is not None  # noqa: S101
    return written.model_proto


def halved(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """`model`, changed so that it stores its large tensors of single precision in half precision."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    for stored in graph.initializer:
        if stored.data_type != TensorProto.FLOAT or np.prod(stored.dims) < LARGE:
            continue
        name, values = stored.name, numpy_helper.to_array(stored)
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        graph.node.insert(0, helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
    return model


def _decided(rule: AbstentionRule, evidence: Evidence, blank: Tensor) -> Outputs:
    """As `Classifier.decide` has it, where nothing is known of the pictures but which are `blank`, (N,)."""
    refused = rule.refuses(evidence) | blank
    unfamiliar = rule.unfamiliar(evidence) | blank
    why = torch.where(unfamiliar, _UNFAMILIAR, _AMBIGUOUS)
    return {
        "label": torch.where(refused, -1, rule.labels(evidence)).int(),
        "reason": torch.where(refused, why, _ANSWERED).int(),
        "refusal_score": torch.where(blank, rule.highest_score(evidence.classes), rule.score(evidence)),
    }


def _scored(classifier: Classifier, evidence: Evidence) -> Outputs:
    combination, names = classifier.detector.combination, [one.name for one in classifier.detector.scores]
    alone = [combination.decided_by(name, evidence.surprises, evidence.ood) for name in names]
    surprises = [evidence.surprises[name] for name in names]
    return {"surprises": torch.stack(surprises, 1), "by_itself": torch.stack(alone, 1)}


def _candidates(classifier: Classifier, evidence: Evidence) -> Tensor:
    of_answer = evidence.mean.gather(1, classifier.rule.labels(evidence)[:, None])
    return evidence.mean >= of_answer.clamp_max(classifier.candidate_threshold)


def _below(sorted_sequence: Any, values: Any, **_: Any) -> Any:
    """`torch.searchsorted`, for which ONNX has no operation: how many of the sequence each value is above."""
    import onnxscript

    op: Any = onnxscript.opset18  # whose types do not know that a list of numbers is a constant
    is_below = op.Less(op.Unsqueeze(sorted_sequence, [0]), op.Unsqueeze(values, [1]))
    return op.ReduceSum(op.Cast(is_below, to=onnxscript.INT64.dtype), [1], keepdims=0)


def _first(error: BaseException) -> Exception:
    """What `error` came of."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    assert isinstance(error, Exception)  # noqa: S101
    return error
