"""The states that a component's training goes on from: the two last, each whole or not used.

Lightning stages a state in TMPDIR and copies it where that is another file system, so that a kill or a full
disk tears it. Here it is staged beside its place. `digests` lists what was written to the end; a state whose
digest is not there is none.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from bnn.errors import InputError
from bnn.files import written_whole

LAST, BEFORE, DIGESTS = "last.ckpt", "previous.ckpt", "digests"
_KEPT = 4  # digests: of the two states, and of one that is being written


class WholeStates(TorchCheckpointIO):
    """Lightning's way to write and read its states, but whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        with written_whole(path) as staged:
            staged.write_bytes(content.getbuffer())
            if path.name == LAST:
                _remember(path.parent, content.getbuffer())
                if config_of(path) is not None:  # of what is damaged no whole state makes room
                    path.replace(path.with_name(BEFORE))


def _remember(folder: Path, content: memoryview) -> None:
    known = _digests(folder) or []
    with written_whole(folder / DIGESTS) as staged:
        staged.write_text("\n".join([*known, hashlib.sha256(content).hexdigest()][-_KEPT:]) + "\n")


def _digests(folder: Path) -> list[str] | None:
    """Of the states in `folder`; None where it is from before there were any."""
    try:
        return (folder / DIGESTS).read_text("ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return []


def whole_state(folder: Path) -> Path | None:
    """The last whole state in a component's `folder`; None where its training has none as yet.

    Raises:
        InputError: there are states, and none is whole.
    """
    there = [path for path in (folder / LAST, folder / BEFORE) if os.path.lexists(path)]
    whole = next((path for path in there if config_of(path) is not None), None)
    if there and whole is None:
        raise InputError(
            f"no state in {folder} is whole, so nothing can go on from it: remove that folder, and its "
            "component is trained from its start."
        )
    return whole


def config_of(path: Path) -> Mapping[str, Any] | None:
    """The options that the training of the state at `path` was started with; None where it is not whole."""
    known = _digests(path.parent)
    try:
        content = path.read_bytes()
        if known is not None and hashlib.sha256(content).hexdigest() not in known:
            return None
        state = torch.load(io.BytesIO(content), weights_only=True)  # which unpickles nothing but tensors
        config = state["hyper_parameters"]["config"]
        sound = isinstance(config, Mapping) and isinstance(state["state_dict"], Mapping)
    except Exception:  # whatever lies there: empty, cut short, foreign, pickled, a folder
        return None
    return config if sound else None
