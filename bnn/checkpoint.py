"""A trained classifier as one `.safetensors` file: tensors plus a JSON header. Nothing is unpickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bnn.errors import InputError
from bnn.files import written_whole

FORMAT = 2
SHIPPED = "mnist.safetensors"
_HEADER = "bnn"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        network: name of the network, and `network_options` its constructor's arguments.
        loc, scale: the posterior's Normal parameters by parameter name, each (M, *shape) float16, where
            M counts the equally weighted components of a mixture (1 for a mean-field guide).
        draws, seed: size of the ensemble and the seed it is drawn from.
        familiarity: densities of digits, `pixels/…` and `features/…`, and training digits' scores,
            `reference/…`.
        calibration: what is known of the calibration digits, and their labels, by name.
        rule: the fitted abstention rule, plain values.
        record: how it was trained and how it did: config, data, metrics; plain values.
    """

    network: str
    network_options: Mapping[str, Any]
    loc: Mapping[str, Tensor]
    scale: Mapping[str, Tensor]
    draws: int
    seed: int
    familiarity: Mapping[str, Tensor]
    calibration: Mapping[str, Tensor]
    rule: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)


_GROUPS = ("loc", "scale", "familiarity", "calibration")
_FIELDS = {"network": str, "network_options": dict, "draws": int, "seed": int, "rule": dict, "record": dict}


def save(checkpoint: Checkpoint, path: str | Path) -> None:
    """Writes `checkpoint` to `path`, whole or not at all; equal checkpoints give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()  # the format lets no two share memory
        for group in _GROUPS
        for name, tensor in getattr(checkpoint, group).items()
    }
    header = {"format": FORMAT} | {name: getattr(checkpoint, name) for name in _FIELDS}
    metadata = {_HEADER: json.dumps(header, sort_keys=True, allow_nan=False)}
    with written_whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be written ({error}): choose another place.") from error


def load(path: str | Path | None = None) -> Checkpoint:
    """The checkpoint at `path`, or the one that ships.

    Raises:
        InputError: the file is missing, cut short, of another format version or not a checkpoint of ours.
    """
    path = shipped() if path is None else Path(path)
    if not path.is_file():
        raise InputError(
            f"there is no checkpoint at {path}: name another, none for the one that ships, or train one "
            f"with `bnn train --out {path}`."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = _parsed_header(file.metadata(), path)
            groups: dict[str, Any] = {group: {} for group in _GROUPS}
            for key in sorted(file.keys()):
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut short or no .safetensors file: {error}.") from error
    except KeyError as error:
        raise InputError(f"{path} is a damaged checkpoint: {error} does not belong in it.") from error
    values: dict[str, Any] = {name: header[name] for name in _FIELDS}
    return Checkpoint(**groups, **values)


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
        unusable = [name for name, kind in _FIELDS.items() if type(header.get(name)) is not kind]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"the header of {path} is damaged: take another copy of the file.") from error
    if version != FORMAT:
        raise InputError(
            f"{path} has format version {version!r}, and this program reads version {FORMAT}: "
            "train it again, or use the program's version that wrote it."
        )
    if unusable:
        raise InputError(
            f"the header of {path} has no usable {', '.join(unusable)}: take another copy of the file."
        )
    return dict(header)
