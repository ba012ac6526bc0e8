"""Checkpoints that anyone may have made: what does not fit together is refused with one sentence."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, Parts, save
from bnn.core.posterior import MeanField
from bnn.core.task import DIGITS, Task
from bnn.core.tensors import under
from bnn.errors import InputError

MakeCheckpoint = Callable[..., Checkpoint]
Content = dict[str, Tensor]

DENSITY = ("log_weight", "mean", "basis", "variance", "noise")
GROUPS: dict[str, tuple[str, ...]] = {
    "posterior": tuple(
        f"mean-field/{of}/{name}" for of in ("loc", "scale") for name in ("hidden.bias", "out.weight")
    ),
    "detector": (
        *(f"score/{score}/{name}" for score in ("pixels", "features") for name in DENSITY),
        *(f"combination/{score}" for score in ("pixels", "features", "entropy")),
    ),
    "calibration": (
        *("truth/labels", "truth/grid", "evidence/joined/ood", "evidence/joined/novelty"),
        *(f"evidence/predictive/{name}" for name in ("mean", "median", "total", "aleatoric", "epistemic")),
        *(f"evidence/surprise/{name}" for name in ("pixels", "features", "entropy")),
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
    with pytest.raises(InputError, match=r"^[^\n]{20,300}\.$") as caught:
        Classifier(checkpoint)
    assert ". " not in str(caught.value)


# Which will do.
ANY_NUMBER = {("truth/grid", "of another number"), ("truth/grid", "one too many")}


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
    assert set(sound.detector) == set(GROUPS["detector"])
    assert set(sound.calibration) == set(GROUPS["calibration"])
    assert set(sound.posterior) > set(GROUPS["posterior"])


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
        ("posterior", "mean-field/loc/extra.weight"),
        ("posterior", "mean-field/scale/extra.weight"),
        ("posterior", "mean-field/extra"),
        ("posterior", "mean-field"),
        ("posterior", "extra"),
        ("posterior", "extra/loc/out.bias"),
        ("posterior", "mixture/mean-field/loc/out.bias"),
        ("detector", "score/pixels/extra"),
        ("detector", "score/features/extra"),
        ("detector", "score/entropy/extra"),
        ("detector", "score/extra/mean"),
        ("detector", "score/extra"),
        ("detector", "combination/extra"),
        ("detector", "combination/pixels/again"),
        ("detector", "extra"),
        ("detector", "extra/mean"),
        ("detector", "score/pixels/mean/again"),
        ("calibration", "extra"),
        ("calibration", "extra/mean"),
        ("calibration", "truth/extra"),
        ("calibration", "truth/labels/again"),
        ("calibration", "evidence/extra"),
        ("calibration", "evidence/predictive/extra"),
        ("calibration", "evidence/joined/extra"),
        ("calibration", "evidence/surprise/mean/again"),
        ("calibration", "evidence/surprise/extra"),
    ],
)
def test_an_extra_tensor_is_refused(make_checkpoint: MakeCheckpoint, group: str, name: str) -> None:
    assert_refused(make_checkpoint(**{group: {**getattr(make_checkpoint(), group), name: torch.ones(60)}}))


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("posterior", "mean-field/scale/out.bias", -0.1),
        ("detector", "score/pixels/variance", 0.0),
        ("detector", "score/pixels/noise", 0.0),
        ("detector", "score/features/variance", -1.0),
        ("detector", "score/features/noise", -1.0),
        ("calibration", "truth/labels", 10),
        ("calibration", "truth/labels", -1),
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
    detector = make_checkpoint().detector
    nine = {name: value[:9] for name, value in detector.items() if name.startswith("score/pixels/")}
    assert_refused(make_checkpoint(detector={**detector, **nine}))


def test_densities_of_other_features_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    detector = make_checkpoint().detector
    narrow = {
        f"score/features/{name}": detector[f"score/features/{name}"][..., :-1] for name in ("mean", "basis")
    }
    assert_refused(make_checkpoint(detector={**detector, **narrow}))


@pytest.mark.parametrize("networks", [1, 3])
def test_densities_of_fewer_or_more_networks_are_refused(
    make_checkpoint: MakeCheckpoint, networks: int
) -> None:
    detector = make_checkpoint().detector
    other = {
        name: torch.cat([value, value])[:networks]
        for name, value in detector.items()
        if name.startswith("score/features/")
    }
    assert_refused(make_checkpoint(detector={**detector, **other}))


def test_a_task_of_other_classes_fits_nothing_of_it(make_checkpoint: MakeCheckpoint) -> None:
    for classes in (2, 9, 11):
        assert_refused(make_checkpoint(task=Task(tuple(map(str, range(classes))))))


def test_one_reference_score_is_too_few(make_checkpoint: MakeCheckpoint) -> None:
    detector = make_checkpoint().detector
    one = {name: value[:1] for name, value in detector.items() if name.startswith("combination/")}
    assert_refused(make_checkpoint(detector={**detector, **one}))


SOUND = Parts("mlp", {"hidden": 16}, "mixture", ("pixels", "features", "entropy"))


def with_parts(**replaced: Any) -> dict[str, Any]:
    return {"parts": replace(SOUND, **replaced)}


@pytest.mark.parametrize(
    "replaced",
    [
        {"draws": 0},
        {"draws": -3},
        {"draws": 10**12},
        {"draws": 10**30},
        {"seed": -1},
        {"seed": 2**70},
        with_parts(network="transformer"),
        with_parts(network="cnn", network_options={}),
        with_parts(network="vgg", network_options={"channels": [1, 1]}),
        with_parts(network="cnn", network_options={"channels": 4}),
        with_parts(network="resnet", network_options={"channels": [4] * 30}),
        with_parts(network_options={"hidden": 17}),
        with_parts(network_options={"hidden": 0}),
        with_parts(network_options={"hidden": 10**12}),
        with_parts(network_options={"hidden": 10**30}),
        with_parts(network_options={"hidden": "16"}),
        with_parts(network_options={"depth": 3}),
        with_parts(network_options={"classes": 10}),
        with_parts(posterior="mean-field"),
        with_parts(posterior="laplace"),
        with_parts(posterior="x" * 10_000),
        with_parts(scores=()),
        with_parts(scores=("pixels", "entropy")),
        with_parts(scores=("pixels", "features", "entropy", "entropy")),
        with_parts(scores=("pixels", "features", "oracle")),
        with_parts(combination="oracle"),
        {"task": replace(DIGITS, layout="oracle")},
        {"rule": {}},
        {"rule": {"name": "oracle"}},
        {"rule": {"name": "entropy", "threshold": "low", "refuse": 0.1}},
        {"rule": {"name": "x" * 10_000}},
        {"posterior": {}},
    ],
)
def test_impossible_values_are_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, replaced: dict[str, Any]
) -> None:
    save(make_checkpoint(**replaced), tmp_path / "some.safetensors")
    with pytest.raises(InputError, match=r"^[^\n]{1,400}\.$"):
        Classifier.load(tmp_path / "some.safetensors")


def test_a_header_that_claims_terabytes_allocates_nothing(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(MeanField, "sample_each", lambda components, draws, seed: drawn.append(draws))
    huge = {"channels": [10**4, 10**5, 10**5], "hidden": 10**6}
    for claimed in (
        with_parts(network="vgg", network_options=huge),
        with_parts(network="resnet", network_options={"channels": [10**4, 10**5, 10**5]}),
        with_parts(network_options={"hidden": 10**11}),
        {"draws": 10**9},
    ):
        with pytest.raises(InputError):
            Classifier(make_checkpoint(**claimed))
    assert drawn == []


def test_without_dimensions_of_shape_0_nothing_stands_for_a_density(make_checkpoint: MakeCheckpoint) -> None:
    detector = make_checkpoint().detector
    hollow = {
        "log_weight": torch.zeros(10, 0),
        "mean": torch.zeros(10, 0, 784).half(),
        "basis": torch.zeros(10, 0, 3, 784).half(),
        "variance": torch.zeros(10, 0, 3),
        "noise": torch.zeros(10, 0),
    }
    assert_refused(make_checkpoint(detector={**detector, **under("score/pixels", hollow)}))
    flat = {
        "score/pixels/basis": detector["score/pixels/basis"][:, :, :0],
        "score/pixels/variance": detector["score/pixels/variance"][:, :, :0],
    }
    assert_refused(make_checkpoint(detector={**detector, **flat}))
