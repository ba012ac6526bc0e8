"""Checkpoint files: they come back as they went, and whatever else lies there gets one sentence."""

import errno
import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core import checkpoint as checkpoints
from bnn.core.checkpoint import Checkpoint, load, save, shipped
from bnn.errors import InputError

MakeCheckpoint = Callable[..., Checkpoint]
Content = dict[str, Tensor]


@pytest.fixture(scope="module")
def whole(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a sound checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "sound.safetensors"
    save(make_checkpoint(), path)
    Classifier.load(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.safetensors"


def header_length(whole: bytes) -> int:
    return 8 + struct.unpack("<Q", whole[:8])[0]


def write_header(path: Path, ours: str) -> None:
    """A well-formed .safetensors file whose metadata holds `ours` where our header stands."""
    save_file({"loc/a": torch.zeros(1)}, path, metadata={"bnn": ours})


def test_a_checkpoint_comes_back_bit_for_bit(make_checkpoint: MakeCheckpoint, path: Path) -> None:
    before = make_checkpoint()
    save(before, path)
    after = load(path)
    for group in ("loc", "scale", "familiarity", "calibration"):
        old, new = getattr(before, group), getattr(after, group)
        assert old.keys() == new.keys()
        assert all(new[name].equal(old[name]) and new[name].dtype == old[name].dtype for name in old)
    for name in ("network", "network_options", "draws", "seed", "rule", "record"):
        assert getattr(after, name) == getattr(before, name)


def test_equal_checkpoints_give_equal_bytes(
    make_checkpoint: MakeCheckpoint, path: Path, whole: bytes
) -> None:
    checkpoint = make_checkpoint()
    turned = {
        name: dict(reversed(getattr(checkpoint, name).items()))
        for name in ("loc", "scale", "familiarity", "calibration", "rule", "record")
    }
    save(make_checkpoint(**turned), path)
    assert path.read_bytes() == whole
    save(make_checkpoint(seed=8), path)
    assert path.read_bytes() != whole


def test_the_shipped_checkpoint_is_ours() -> None:
    assert shipped().is_file()
    assert load().network == load(shipped()).network


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"no checkpoint at .*bnn train --out"):
            load(path)


def test_a_file_cut_short_is_refused_at_every_length(whole: bytes, path: Path) -> None:
    head = header_length(whole)
    for length in (0, 1, 7, 8, 9, head // 2, head - 1, head, head + 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            load(path)


@given(flips=st.dictionaries(st.floats(0, 1, exclude_max=True), st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_header_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, flips: dict[float, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    content = bytearray(whole)
    for where, byte in flips.items():
        content[int(where * header_length(whole))] = byte
    path.write_bytes(content)
    try:
        classifier = Classifier.load(path)
    except InputError:
        return
    # The damage missed all that matters: it is still a classifier.
    assert np.isfinite(classifier.predict(np.zeros((28, 28), np.uint8)).probs).all()


@pytest.mark.parametrize("kind", ["foreign", "pickle", "text"])
def test_files_of_others_are_refused(kind: str, path: Path) -> None:
    if kind == "foreign":
        save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    elif kind == "pickle":
        torch.save({"loc": torch.ones(2)}, path)
    else:
        path.write_text("a checkpoint, honestly")
    with pytest.raises(InputError, match=r"not a checkpoint of this program|no \.safetensors file"):
        load(path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(path: Path, tmp_path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(InputError):
        load(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("version", [0, 1, 3, "2", 2.5, None, math.nan])
def test_another_format_version_is_named(version: Any, path: Path) -> None:
    write_header(path, json.dumps({"format": version}))
    with pytest.raises(InputError, match=rf"format version {version!r}, and this program reads version 2"):
        load(path)


@pytest.mark.parametrize("header", ["", "{", "[]", "7", "null", '"text"', "{}", "[" * 100_000, "9" * 5000])
def test_a_header_that_is_no_header_is_damaged(header: str, path: Path) -> None:
    write_header(path, header)
    with pytest.raises(InputError, match=r"^the header of \S+ is damaged: take another copy of the file\.$"):
        load(path)


@pytest.mark.parametrize("field", ["network", "network_options", "draws", "seed", "rule", "record"])
def test_a_missing_or_mistyped_field_is_named(
    make_checkpoint: MakeCheckpoint, field: str, path: Path
) -> None:
    sound = make_checkpoint()
    header = {"format": 2} | {
        name: getattr(sound, name)
        for name in ("network", "network_options", "draws", "seed", "rule", "record")
    }
    del header[field]
    write_header(path, json.dumps(header))
    with pytest.raises(InputError, match=rf"has no usable {field}:"):
        load(path)
    for wrong in (None, True, 1.5, [], ["name"]):
        save(make_checkpoint(**{field: wrong}), path)
        with pytest.raises(InputError, match=rf"has no usable {field}:"):
            load(path)


@pytest.mark.parametrize("end", [2, 2 * 10**12, 2**64 - 1])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(end: int, path: Path) -> None:
    claim = {"loc/a": {"dtype": "F16", "shape": [10**12], "data_offsets": [0, end]}}
    header = json.dumps(claim | {"__metadata__": {"bnn": "{}"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"00")
    with pytest.raises(InputError, match="cut short"):
        load(path)


def test_tensors_of_no_group_are_refused(whole: bytes, path: Path) -> None:
    path.write_bytes(whole.replace(b'"loc/out.bias"', b'"luc/out.bias"'))
    with pytest.raises(InputError, match=r"damaged checkpoint: 'luc' does not belong in it"):
        load(path)


@pytest.mark.parametrize(
    "failure", [SafetensorError("I/O error: no space left"), OSError(errno.ENOSPC, "no space left")]
)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    make_checkpoint: MakeCheckpoint,
    whole: bytes,
    path: Path,
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def half_written(tensors: Content, filename: Path, metadata: dict[str, str]) -> None:
        filename.write_bytes(whole[:100])
        raise failure

    path.write_bytes(whole)
    monkeypatch.setattr(checkpoints, "save_file", half_written)
    with pytest.raises(InputError, match=r"cannot be written .*no space left"):
        save(make_checkpoint(), path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_values_that_json_lacks_are_never_written(
    make_checkpoint: MakeCheckpoint, whole: bytes, path: Path
) -> None:
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="JSON"):
        save(make_checkpoint(record={"loss": math.nan}), path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]
