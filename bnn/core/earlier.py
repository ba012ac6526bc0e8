"""Checkpoints of format 2 (version 0.1) as they would be in format 3, with the same decisions."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bnn.core.task import DIGITS
from bnn.core.tensors import grouped, in_groups, under
from bnn.errors import InputError

_NEW_NAMES = {"entropy": "entropy", "pixel": "pixels", "feature": "features"}
_SETS = {"familiar": "in_distribution", "unfamiliar": "out_of_distribution", "elsewhere": "shifted"}
_FIELDS = {"network": str, "network_options": dict, "draws": int, "seed": int, "rule": dict, "record": dict}


def from_format_2(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors as format 3 has them.

    Raises:
        InputError: they are not those of a checkpoint of format 2.
    """
    require_kinds(header, _FIELDS)
    loc, scale, familiarity, calibration = in_groups(
        tensors, ("loc", "scale", "familiarity", "calibration"), "its tensors"
    )
    posterior = under("mean-field/loc", loc) | under("mean-field/scale", scale)
    new_tensors = (
        under("posterior", posterior)
        | under("detector", _detector(familiarity))
        | under("calibration", _calibration(calibration))
    )
    parts = {
        "network": header["network"],
        "network_options": header["network_options"],
        "posterior": "mixture",
        "scores": ["pixels", "features", "entropy"],
        "combination": "fisher",
    }
    same = {name: header[name] for name in ("draws", "seed", "rule")}
    new_header = {"format": 3, "task": DIGITS.to_dict(), "parts": parts, "record": _record(header["record"])}
    return new_header | same, new_tensors


def require_kinds(values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Checks that a header's `values`, which anyone may have made, are of these `kinds`.

    Raises:
        InputError: one is missing or of another kind.
    """
    unusable = [name for name, kind in kinds.items() if type(values.get(name)) is not kind]
    if unusable:
        raise InputError(f"its header has no usable {', '.join(unusable)}.")


def _detector(familiarity: Mapping[str, Tensor]) -> dict[str, Tensor]:
    groups: dict[str, dict[str, Tensor]] = {"reference": {}} | grouped(familiarity)
    reference = {_NEW_NAMES.get(name, name): tensor for name, tensor in groups.pop("reference").items()}
    scores = {key: tensor for name, tensors in groups.items() for key, tensor in under(name, tensors).items()}
    return under("score", scores) | under("combination", reference)


def _calibration(calibration: Mapping[str, Tensor]) -> dict[str, Tensor]:
    old = dict(calibration)
    truth = {new: old.pop(name) for name, new in (("labels", "labels"), ("entropies", "grid")) if name in old}
    surprises = {
        new: old.pop(f"{name}_surprise") for name, new in _NEW_NAMES.items() if f"{name}_surprise" in old
    }
    if surprises.keys() != set(_NEW_NAMES.values()) or len({one.shape for one in surprises.values()}) > 1:
        raise InputError("it holds no usable calibration evidence.")
    of_image = surprises["pixels"] + surprises["features"]
    joined = {"ood": 2 * (of_image + surprises["entropy"]), "novelty": of_image - surprises["entropy"]}
    evidence = under("predictive", old) | under("surprise", surprises) | under("joined", joined)
    return under("evidence", evidence) | under("truth", truth)


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    evaluation = record.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return dict(record)
    return {**record, "evaluation": {_SETS.get(name, name): value for name, value in evaluation.items()}}
