"""Checkpoints that anyone may have made: what does not fit together is refused with one sentence."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, save
from bnn.errors import InputError

MakeCheckpoint = Callable[..., Checkpoint]
Content = dict[str, Tensor]

GROUPS: dict[str, tuple[str, ...]] = {
    "loc": ("hidden.bias", "out.weight"),
    "scale": ("hidden.bias", "out.weight"),
    "familiarity": (
        *("pixels/log_weight", "pixels/mean", "pixels/basis", "pixels/variance", "pixels/noise"),
        *("features/log_weight", "features/mean", "features/basis", "features/variance", "features/noise"),
        *("reference/entropy", "reference/pixel", "reference/feature"),
    ),
    "calibration": (
        *("labels", "entropies", "mean", "median", "total", "aleatoric", "epistemic"),
        *("entropy_surprise", "pixel_surprise", "feature_surprise"),
    ),
}
TENSORS = [(group, name) for group, names in GROUPS.items() for name in names]


def spoilt(tensor: Tensor, value: float) -> Tensor:
    """`tensor` with one entry of `value`, in its own type where that holds it."""
    other = tensor.clone() if tensor.is_floating_point() else tensor.float()
    other.flatten()[-1] = value
    return other


DAMAGE: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda tensor: spoilt(tensor, math.nan),
    "infinite": lambda tensor: spoilt(tensor, math.inf),
    "of another number": lambda tensor: tensor[:-1].clone(),
    "one too many": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "of another shape": lambda tensor: tensor[..., None],
    "turned": lambda tensor: tensor.reshape(1, -1),
    "empty": lambda tensor: tensor[:0],
    "without dimensions": lambda tensor: tensor.flatten()[0],
    "of the other precision": lambda tensor: (
        tensor.float() if tensor.dtype == torch.float16 else tensor.half()
    ),
    "double": lambda tensor: tensor.double(),
    "small integers": lambda tensor: tensor.to(torch.int8),
}


def assert_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"^the checkpoint[^\n]+: [^\n]+\.$"):
        Classifier(checkpoint)


ANY_NUMBER = {("entropies", "of another number"), ("entropies", "one too many")}  # which will do


@pytest.mark.parametrize(
    ("group", "name", "damage"),
    [(*tensor, damage) for tensor in TENSORS for damage in DAMAGE if (tensor[1], damage) not in ANY_NUMBER],
)
def test_an_unusable_tensor_is_refused(
    make_checkpoint: MakeCheckpoint, group: str, name: str, damage: str
) -> None:
    tensors: Content = dict(getattr(make_checkpoint(), group))
    assert_refused(make_checkpoint(**{group: tensors | {name: DAMAGE[damage](tensors[name])}}))


def test_the_tensors_named_here_are_all_there_are(make_checkpoint: MakeCheckpoint) -> None:
    sound = make_checkpoint()
    assert set(sound.familiarity) == set(GROUPS["familiarity"])
    assert set(sound.calibration) == set(GROUPS["calibration"])


@pytest.mark.parametrize(("group", "name"), TENSORS)
def test_a_missing_tensor_is_refused(make_checkpoint: MakeCheckpoint, group: str, name: str) -> None:
    tensors: Content = dict(getattr(make_checkpoint(), group))
    del tensors[name]
    assert_refused(make_checkpoint(**{group: tensors}))


@pytest.mark.parametrize("group", GROUPS)
def test_a_missing_group_is_refused(make_checkpoint: MakeCheckpoint, group: str) -> None:
    assert_refused(make_checkpoint(**{group: {}}))


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("loc", "extra.weight"),
        ("scale", "extra.weight"),
        ("familiarity", "pixels/extra"),
        ("familiarity", "features/extra"),
        ("familiarity", "reference/extra"),
        ("familiarity", "extra"),
        ("familiarity", "extra/mean"),
        ("familiarity", "pixels/mean/again"),
        ("calibration", "extra"),
    ],
)
def test_an_extra_tensor_is_refused(make_checkpoint: MakeCheckpoint, group: str, name: str) -> None:
    assert_refused(make_checkpoint(**{group: {**getattr(make_checkpoint(), group), name: torch.ones(60)}}))


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("scale", "out.bias", -0.1),
        ("familiarity", "pixels/variance", 0.0),
        ("familiarity", "pixels/noise", 0.0),
        ("familiarity", "features/variance", -1.0),
        ("familiarity", "features/noise", -1.0),
        ("calibration", "labels", 10),
        ("calibration", "labels", -1),
    ],
)
def test_a_value_out_of_range_is_refused(
    make_checkpoint: MakeCheckpoint, group: str, name: str, value: float
) -> None:
    tensors: Content = dict(getattr(make_checkpoint(), group))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[3] = value
    assert_refused(make_checkpoint(**{group: tensors}))


def test_densities_of_nine_digits_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    familiarity = make_checkpoint().familiarity
    nine = {name: value[:9] for name, value in familiarity.items() if name.startswith("pixels/")}
    assert_refused(make_checkpoint(familiarity={**familiarity, **nine}))


def test_densities_of_other_features_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    familiarity = make_checkpoint().familiarity
    narrow = {name: familiarity[name][..., :-1] for name in ("features/mean", "features/basis")}
    assert_refused(make_checkpoint(familiarity={**familiarity, **narrow}))


def test_densities_of_fewer_networks_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    familiarity = make_checkpoint().familiarity
    one = {name: value[:1] for name, value in familiarity.items() if name.startswith("features/")}
    assert_refused(make_checkpoint(familiarity={**familiarity, **one}))


@pytest.mark.parametrize(
    "replaced",
    [
        {"draws": 0},
        {"draws": -3},
        {"draws": 10**12},
        {"draws": 10**30},
        {"seed": -1},
        {"seed": 2**70},
        {"network": "resnet"},
        {"network": "cnn"},
        {"network": "vgg", "network_options": {"channels": [1, 1]}},
        {"network": "cnn", "network_options": {"channels": 4}},
        {"network_options": {"hidden": 17}},
        {"network_options": {"hidden": 0}},
        {"network_options": {"hidden": 10**12}},
        {"network_options": {"hidden": 10**30}},
        {"network_options": {"hidden": "16"}},
        {"network_options": {"depth": 3}},
        {"rule": {}},
        {"rule": {"name": "oracle"}},
        {"rule": {"name": "entropy", "threshold": "low", "refuse": 0.1}},
        {"loc": {}, "scale": {}},
    ],
)
def test_impossible_values_are_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, replaced: dict[str, Any]
) -> None:
    save(make_checkpoint(**replaced), tmp_path / "some.safetensors")
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        Classifier.load(tmp_path / "some.safetensors")


def test_a_header_that_claims_terabytes_allocates_nothing(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr("bnn.stored.draw_weights", lambda *given: drawn.append(given[2]))
    huge = {"network": "vgg", "network_options": {"channels": [10**4, 10**5, 10**5], "hidden": 10**6}}
    for claimed in (huge, {"network_options": {"hidden": 10**11}}, {"draws": 10**9}):
        with pytest.raises(InputError):
            Classifier(make_checkpoint(**claimed))
    assert drawn == []


def test_without_dimensions_of_shape_0_nothing_stands_for_a_density(make_checkpoint: MakeCheckpoint) -> None:
    familiarity = make_checkpoint().familiarity
    hollow = {
        "pixels/log_weight": torch.zeros(10, 0),
        "pixels/mean": torch.zeros(10, 0, 784).half(),
        "pixels/basis": torch.zeros(10, 0, 3, 784).half(),
        "pixels/variance": torch.zeros(10, 0, 3),
        "pixels/noise": torch.zeros(10, 0),
    }
    assert_refused(make_checkpoint(familiarity={**familiarity, **hollow}))
    flat = {
        "pixels/basis": familiarity["pixels/basis"][:, :, :0],
        "pixels/variance": familiarity["pixels/variance"][:, :, :0],
    }
    assert_refused(make_checkpoint(familiarity={**familiarity, **flat}))
