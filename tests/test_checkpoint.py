"""Checkpoint files: they come back as they went, and whatever else lies there gets one sentence."""

import errno
import json
import math
import pickle
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format2 import PROMISE, SAID, images, probe, said
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core import checkpoint as checkpoints
from bnn.core.checkpoint import Checkpoint, load, save, shipped
from bnn.core.earlier import from_format_2
from bnn.core.task import DIGITS
from bnn.errors import InputError
from bnn.rules.promise import Promise
from bnn.rules.table import fit_rule

MakeCheckpoint = Callable[..., Checkpoint]
Content = dict[str, Tensor]
GROUPS = ("posterior", "detector", "calibration")
FIELDS = ("task", "parts", "draws", "seed", "rule", "record")
FORMAT_2 = Path(__file__).parent / "fixtures" / "format2.safetensors"  # made by the script beside it


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
    for group in GROUPS:
        old, new = getattr(before, group), getattr(after, group)
        assert old.keys() == new.keys()
        assert all(new[name].equal(old[name]) and new[name].dtype == old[name].dtype for name in old)
    for name in FIELDS:
        assert getattr(after, name) == getattr(before, name)


def test_equal_checkpoints_give_equal_bytes(
    make_checkpoint: MakeCheckpoint, path: Path, whole: bytes
) -> None:
    checkpoint = make_checkpoint()
    turned = {name: dict(reversed(getattr(checkpoint, name).items())) for name in (*GROUPS, "rule", "record")}
    save(make_checkpoint(**turned), path)
    assert path.read_bytes() == whole
    save(make_checkpoint(seed=8), path)
    assert path.read_bytes() != whole


def test_the_shipped_checkpoint_is_ours() -> None:
    assert shipped().is_file()
    assert load().parts == load(shipped()).parts
    assert load().task.classes == 10


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


@pytest.mark.parametrize("version", [0, 1, 4, 10**30, "2", "3", 2.5, True, None, math.nan, [3]])
def test_another_format_version_is_named(version: Any, path: Path) -> None:
    write_header(path, json.dumps({"format": version}))
    said = re.escape(
        f"has format version {version!r}, and this program reads versions 2 and 3: train it again"
    )
    with pytest.raises(InputError, match=said):
        load(path)


@pytest.mark.parametrize("header", ["", "{", "[]", "7", "null", '"text"', "{}", "[" * 100_000, "9" * 5000])
def test_a_header_that_is_no_header_is_damaged(header: str, path: Path) -> None:
    write_header(path, header)
    with pytest.raises(InputError, match=r"^the header of \S+ is damaged: take another copy of the file\.$"):
        load(path)


def header_of(checkpoint: Checkpoint) -> dict[str, Any]:
    plain = {name: getattr(checkpoint, name) for name in FIELDS}
    return plain | {"format": 3, "task": checkpoint.task.to_dict(), "parts": asdict(checkpoint.parts)}


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_or_mistyped_field_is_named(
    make_checkpoint: MakeCheckpoint, field: str, path: Path
) -> None:
    header = header_of(make_checkpoint())
    for wrong in (..., None, True, 1.5, [], ["name"], "text"):
        write_header(
            path,
            json.dumps({key: value for key, value in (header | {field: wrong}).items() if value is not ...}),
        )
        with pytest.raises(InputError, match=rf"damaged checkpoint: its header has no usable {field}\.$"):
            load(path)


@pytest.mark.parametrize("part", ["network", "network_options", "posterior", "scores", "combination"])
def test_a_missing_or_mistyped_part_is_named(make_checkpoint: MakeCheckpoint, part: str, path: Path) -> None:
    header = header_of(make_checkpoint())
    for wrong in (..., None, True, 1.5, [["name"]], [7]):
        parts = {key: value for key, value in (header["parts"] | {part: wrong}).items() if value is not ...}
        write_header(path, json.dumps(header | {"parts": parts}))
        with pytest.raises(InputError, match=rf"damaged checkpoint: its header has no usable {part}\.$"):
            load(path)


@pytest.mark.parametrize("task", [{}, {"names": ["a"]}, DIGITS.to_dict() | {"names": ["a", "a "]}])
def test_a_task_that_is_none_is_a_damaged_checkpoint(
    make_checkpoint: MakeCheckpoint, task: dict[str, Any], path: Path
) -> None:
    write_header(path, json.dumps(header_of(make_checkpoint()) | {"task": task}))
    with pytest.raises(InputError, match=r"^\S+ is a damaged checkpoint: [^\n]+\.$"):
        load(path)


@pytest.mark.parametrize("end", [2, 2 * 10**12, 2**64 - 1])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(end: int, path: Path) -> None:
    claim = {"loc/a": {"dtype": "F16", "shape": [10**12], "data_offsets": [0, end]}}
    header = json.dumps(claim | {"__metadata__": {"bnn": "{}"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"00")
    with pytest.raises(InputError, match="cut short"):
        load(path)


def test_tensors_of_no_group_are_refused(whole: bytes, path: Path) -> None:
    name = b"posterior/mean-field/loc/out.bias"
    for other in (b"posteriur/mean-field/loc/out.bias", b"posterior_mean-field_loc_out.bias"):
        path.write_bytes(whole.replace(b'"' + name + b'"', b'"' + other + b'"'))
        group = other.decode().partition("/")[0]
        with pytest.raises(
            InputError, match=f"damaged checkpoint: its tensors hold '{group}', which does not belong there"
        ):
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


@pytest.fixture(scope="module")
def told() -> Mapping[str, NDArray[Any]]:
    """What version 0.1 says of `images()`."""
    return said(FORMAT_2.with_suffix(".json"))


@pytest.fixture(scope="module")
def of_format_2() -> Classifier:
    return Classifier.load(FORMAT_2)


def assert_told(found: NDArray[Any], expected: NDArray[Any], told: Mapping[str, NDArray[Any]]) -> None:
    """Bit for bit, or nearly so on a machine that computes otherwise than the one that made the fixture."""
    if np.array_equal(probe(), told["probe"]):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_format_2_decides_as_it_did(
    of_format_2: Classifier, told: Mapping[str, NDArray[Any]]
) -> None:
    prediction = of_format_2.predict(images())
    assert set(told["reasons"].tolist()) == {"answered", "ambiguous", "unfamiliar"}  # all of them are tried
    assert told["blank"].any()
    assert (prediction.quality == np.where(told["blank"], "blank", "")).all()
    for name in (*(name for name in SAID if name != "blank"), "ood_score", "votes"):
        found, expected = getattr(prediction, name), told[name]
        assert found.dtype == expected.dtype
        if expected.dtype.kind == "f":
            assert_told(found, expected, told)
        else:
            assert found.tolist() == expected.tolist(), name
    assert [list(one) for one in prediction.candidates] == json.loads(str(told["candidates"]))


def test_the_rules_are_fitted_to_its_calibration_digits_as_they_were(
    of_format_2: Classifier, told: Mapping[str, NDArray[Any]]
) -> None:
    for name, values in json.loads(str(told["rules"])).items():
        assert fit_rule(name, of_format_2.calibration, Promise(**PROMISE)).to_dict() == values


def test_what_is_loaded_from_format_2_is_saved_in_format_3_and_decides_the_same(
    of_format_2: Classifier, told: Mapping[str, NDArray[Any]], path: Path
) -> None:
    of_format_2.save(path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["bnn"])["format"] == 3
    again = Classifier.load(path)
    assert again.predict(images()).plain() == of_format_2.predict(images()).plain()
    assert again.rule == of_format_2.rule
    assert again.record == of_format_2.record == _read_format_2()[0]["record"]


def test_an_evaluation_in_the_record_is_told_in_the_new_words() -> None:
    header, tensors = _read_format_2()
    header["record"]["evaluation"] = {"familiar": {"n": 1}, "unfamiliar": [2], "elsewhere": 3, "else": 4}
    record = from_format_2(header, tensors)[0]["record"]
    assert record["evaluation"] == {
        "in_distribution": {"n": 1},
        "out_of_distribution": [2],
        "shifted": 3,
        "else": 4,
    }


def _read_format_2() -> tuple[dict[str, Any], Content]:
    with safe_open(FORMAT_2, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return json.loads(file.metadata()["bnn"]), tensors


def assert_refused_as_format_2(header: Mapping[str, Any], tensors: Content, path: Path) -> None:
    save_file(tensors, path, metadata={"bnn": json.dumps(header)})
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        Classifier.load(path)


@pytest.mark.parametrize("field", ["network", "network_options", "draws", "seed", "rule", "record"])
def test_a_missing_or_mistyped_field_of_format_2_is_named(field: str, path: Path) -> None:
    header, tensors = _read_format_2()
    for wrong in (..., None, True, 1.5, ["name"]):
        values = {key: value for key, value in (header | {field: wrong}).items() if value is not ...}
        save_file(tensors, path, metadata={"bnn": json.dumps(values)})
        with pytest.raises(InputError, match=rf"damaged checkpoint: its header has no usable {field}\.$"):
            load(path)


def test_each_damaged_missing_or_extra_tensor_of_format_2_is_refused(path: Path) -> None:
    header, tensors = _read_format_2()
    for name, tensor in tensors.items():
        others = {key: value for key, value in tensors.items() if key != name}
        assert_refused_as_format_2(header, others, path)
        damaged = [tensor[..., None], tensor.flatten()[0], tensor.double()]
        shorter = [] if name == "calibration/entropies" else [tensor[:-1]]  # of these any number will do
        for other in damaged + shorter:
            assert_refused_as_format_2(header, others | {name: other.clone()}, path)
    for name in ("extra", "extra/a", "loc/a", "familiarity/a", "familiarity/reference/a", "calibration/a"):
        assert_refused_as_format_2(header, tensors | {name: torch.ones(120)}, path)
    for name in ("posterior/mean-field/loc/out.bias", "familiarity/reference/pixels", "calibration/ood"):
        assert_refused_as_format_2(header, tensors | {name: torch.ones(120)}, path)
    for group in ("loc", "scale", "familiarity", "calibration"):
        rest = {key: value for key, value in tensors.items() if not key.startswith(group)}
        assert_refused_as_format_2(header, rest, path)
