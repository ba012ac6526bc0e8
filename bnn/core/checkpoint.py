"""A trained classifier as one `.safetensors` file: tensors plus a JSON header. Nothing is unpickled.

The header holds a digest of all the rest, without which a flipped bit is a weight like another. Files of
before it have none, and load unproven; saved again they have one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bnn.core.earlier import from_format_2, require_kinds
from bnn.core.task import Task
from bnn.core.tensors import in_groups
from bnn.errors import InputError, cause_in, shown
from bnn.files import held, written_whole

FORMAT = 3
SHIPPED = "mnist.safetensors"
_HEADER = "bnn"


@dataclass(frozen=True)
class Parts:
    """Which classes of ours a checkpoint's tensors belong to, by the names in their tables.

    Attributes:
        network: in `bnn.core.networks.NETWORKS`, and `network_options` its constructor's arguments.
        posterior: in `bnn.core.posterior.POSTERIORS`.
        scores: in `bnn.ood.scores.SCORES`, in the order in which they are joined.
        combination: in `bnn.ood.combination.COMBINATIONS`.
    """

    network: str
    network_options: Mapping[str, Any]
    posterior: str
    scores: tuple[str, ...]
    combination: str = "fisher"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        task: what is to be classified.
        parts: which network, posterior, scores and combination these are.
        posterior: tensors of the posterior over the network's weights.
        detector: tensors of the OOD scores and of their combination.
        calibration: what is known of the calibration images, and their labels.
        draws, seed: size of the ensemble and the seed it is drawn from.
        rule: the fitted abstention rule, plain values.
        record: how it was trained and how it did: config, data, metrics; plain values.
    """

    task: Task
    parts: Parts
    posterior: Mapping[str, Tensor]
    detector: Mapping[str, Tensor]
    calibration: Mapping[str, Tensor]
    draws: int
    seed: int
    rule: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)


_GROUPS = ("posterior", "detector", "calibration")
_FIELDS = {"task": dict, "parts": dict, "draws": int, "seed": int, "rule": dict, "record": dict}
_DIGEST = "digest"  # in the header
_PARTS = {"network": str, "network_options": dict, "posterior": str, "scores": list, "combination": str}


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Writes `checkpoint` to `path`, whole or not at all; equal checkpoints give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    header, tensors = _said(checkpoint)
    metadata = {_HEADER: json.dumps(header, sort_keys=True)}
    with written_whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be written ({error}): choose another place.") from error


def update(path: str | Path, seen: Checkpoint, changed: Callable[[Checkpoint], Checkpoint]) -> None:
    """Writes what is `changed` of the checkpoint at `path` over it, where it is as `seen` but for its record.

    Raises:
        InputError: another command has changed it meanwhile, or it cannot be written.
    """
    path = Path(path)
    with held(path.parent, wait=True):
        present = load(path)
        if _said(replace(present, record={}))[0] != _said(replace(seen, record={}))[0]:
            raise InputError(
                f"{path} was changed by another command meanwhile, and is left as it is: run this one again."
            )
        save(changed(present), path)


def load(path: str | Path | None = None) -> Checkpoint:
    """The checkpoint at `path`, or the one that ships.

    Raises:
        InputError: the file is missing, cut short, of another format version or not a checkpoint of ours.
    """
    path = shipped() if path is None else Path(path)
    if not path.is_file():
        raise InputError(
            f"there is no checkpoint at {path}: name one that is there, or none for the one that ships "
            f"(`bnn train --out {path}`, or `bnn.train(out=...)`, makes one)."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = _parsed_header(file.metadata(), path)
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut short or no .safetensors file: {cause_in(error)}.") from error
    try:
        if header["format"] == 2:
            return _checkpoint(*from_format_2(header, tensors))
        checkpoint = _checkpoint(header, tensors)
        _require_whole(header, tensors)
        return checkpoint
    except InputError as error:
        raise InputError(f"{path} is a damaged checkpoint: {error}") from error


def _said(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors that a file holds of `checkpoint`."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()  # the format lets no two share memory
        for group in _GROUPS
        for name, tensor in getattr(checkpoint, group).items()
    }
    header = {"format": FORMAT} | {name: getattr(checkpoint, name) for name in _FIELDS}
    header |= {"task": checkpoint.task.to_dict(), "parts": asdict(checkpoint.parts)}
    plain = json.loads(json.dumps(header, allow_nan=False))  # as it will be read
    return plain | {_DIGEST: _digest(plain, tensors)}, tensors


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of all that a file says: `header`, but for its digest, and `tensors`."""
    said = {name: value for name, value in header.items() if name != _DIGEST}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_whole(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Checks the digest of a file that has one. Where its name is damaged, that is a field too many."""
    if strange := header.keys() - {"format", _DIGEST, *_FIELDS}:
        raise InputError(f"its header holds {shown(min(strange))}, which does not belong there.")
    if _DIGEST in header and header[_DIGEST] != _digest(header, tensors):
        raise InputError("it is not what was written, by its digest: take another copy of the file.")


def shipped() -> Path:
    """Where the checkpoint that ships lies: inside an installed wheel, or beside the package in a clone."""
    package = Path(str(resources.files("bnn")))
    installed = package / "checkpoints" / SHIPPED
    return installed if installed.is_file() else package.parent / "checkpoints" / SHIPPED


def _parsed_header(metadata: Mapping[str, str] | None, path: Path) -> dict[str, Any]:
    if not metadata or _HEADER not in metadata:
        raise InputError(f"{path} is not a checkpoint of this program: make one with `bnn train`.")
    try:
        header = json.loads(metadata[_HEADER])
        version = header["format"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"the header of {path} is damaged: take another copy of the file.") from error
    if version not in (2, FORMAT):
        raise InputError(
            f"{path} has format version {version!r}, and this program reads versions 2 and {FORMAT}: "
            "train it again, or use the program's version that wrote it."
        )
    return dict(header)


def _checkpoint(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    require_kinds(header, _FIELDS)
    require_kinds(header["parts"], _PARTS)
    if not all(isinstance(name, str) for name in header["parts"]["scores"]):
        raise InputError("its header has no usable scores.")
    groups: dict[str, Any] = dict(zip(_GROUPS, in_groups(tensors, _GROUPS, "its tensors"), strict=True))
    parts = Parts(
        **{name: header["parts"][name] for name in _PARTS} | {"scores": tuple(header["parts"]["scores"])}
    )
    plain: dict[str, Any] = {name: header[name] for name in ("draws", "seed", "rule", "record")}
    return Checkpoint(task=Task.from_dict(header["task"]), parts=parts, **groups, **plain)
