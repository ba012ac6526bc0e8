"""Checkpoints of which a bit was flipped do not load, or say what they said."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from bnn.core.checkpoint import Checkpoint, load, save, shipped
from bnn.errors import InputError

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def whole(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    save(make_checkpoint(), path)
    return path


def header_length(content: bytes | bytearray) -> int:
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def said_by(path: Path) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["bnn"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_tensor_loads(whole: Path, place: float, bit: int) -> None:
    content = bytearray(whole.read_bytes())
    start = header_length(content)
    content[start + int(place * (len(content) - start))] ^= 1 << bit
    damaged = whole.with_name("damaged.safetensors")
    damaged.write_bytes(content)
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        load(damaged)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_header_is_told_or_says_nothing_else(
    whole: Path, place: float, bit: int
) -> None:
    content = bytearray(whole.read_bytes())
    content[int(place * header_length(content))] ^= 1 << bit
    damaged = whole.with_name("damaged.safetensors")
    damaged.write_bytes(content)
    try:
        load(damaged)
    except InputError:
        return
    (header, tensors), (before, same) = said_by(damaged), said_by(whole)
    assert header == before
    assert all(tensors[name].equal(same[name]) for name in same)


@pytest.mark.parametrize("name", [b"digesu", b"Digest", b"ddgest"])
def test_a_damaged_name_of_the_digest_does_not_make_an_older_file_of_it(whole: Path, name: bytes) -> None:
    damaged = whole.with_name("damaged.safetensors")
    damaged.write_bytes(whole.read_bytes().replace(b'\\"digest\\"', b'\\"' + name + b'\\"'))
    with pytest.raises(InputError, match=f"its header holds '{name.decode()}', which does not belong there"):
        load(damaged)


@pytest.mark.parametrize("digest", ["0" * 64, "", None, 7, ["a"], {}])
def test_another_digest_is_refused(whole: Path, digest: object) -> None:
    header, tensors = said_by(whole)
    damaged = whole.with_name("damaged.safetensors")
    save_file(tensors, damaged, metadata={"bnn": json.dumps(header | {"digest": digest})})
    with pytest.raises(InputError, match="not what was written, by its digest: take another copy"):
        load(damaged)


def test_a_changed_threshold_is_told(whole: Path) -> None:
    damaged = whole.with_name("damaged.safetensors")
    content = whole.read_bytes()
    assert content.count(b'\\"refuse\\": 0.05') == 1
    damaged.write_bytes(content.replace(b'\\"refuse\\": 0.05', b'\\"refuse\\": 0.95'))
    with pytest.raises(InputError, match="by its digest"):
        load(damaged)


def test_a_file_from_before_there_were_digests_loads_and_gets_one(whole: Path, tmp_path: Path) -> None:
    header, tensors = said_by(whole)
    digest = header.pop("digest")
    save_file(tensors, tmp_path / "older.safetensors", metadata={"bnn": json.dumps(header)})
    older = load(tmp_path / "older.safetensors")
    save(older, tmp_path / "newer.safetensors")
    assert said_by(tmp_path / "newer.safetensors")[0]["digest"] == digest
    assert replace(older, record={}).rule == load(whole).rule


def test_the_one_that_ships_has_a_digest() -> None:
    assert said_by(shipped())[0]["digest"]
