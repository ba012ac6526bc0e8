"""Posteriors: what they draw, what they are kept as, and one of one's own, added in one place."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, Parts
from bnn.core.posterior import POSTERIORS, MeanField, Mixture, Posterior, posterior_from
from bnn.core.tensors import Shapes, require
from bnn.errors import InputError

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b": (2, 1, 3)}


def mean_field(seed: int) -> MeanField:
    generator = torch.Generator().manual_seed(seed)
    loc, scale = (
        {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()} for _ in range(2)
    )
    return MeanField(loc, {name: value.abs() for name, value in scale.items()})


def mixture(components: int) -> Mixture:
    return Mixture([mean_field(seed) for seed in range(components)])


BOTH = [mean_field(0), mixture(1), mixture(3)]


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].equal(b[name]) and a[name].dtype == b[name].dtype for name in a
    )


@pytest.mark.parametrize("posterior", BOTH)
def test_the_draws_are_the_seeds(posterior: Posterior) -> None:
    first, again, other = (posterior.sample(5, seed) for seed in (3, 3, 4))
    assert {name: tuple(value.shape) for name, value in first.items()} == {
        name: (5, *shape) for name, shape in SHAPES.items()
    }
    assert all(value.dtype == torch.float32 for value in first.values())
    assert equal(first, again)
    assert not any(first[name].equal(other[name]) for name in SHAPES)
    assert torch.cat([value.flatten() for value in first.values()]).unique().numel() == 5 * 22


def test_the_order_of_the_parameters_does_not_matter() -> None:
    one = mean_field(0)
    backwards = MeanField(dict(reversed(one.loc.items())), dict(reversed(one.scale.items())))
    assert equal(dict(sorted(one.sample(4, 3).items())), dict(sorted(backwards.sample(4, 3).items())))


def test_the_draws_have_the_posteriors_moments() -> None:
    loc, scale = torch.linspace(-3, 3, 50).half(), torch.linspace(0.01, 2, 50).half()
    draws = MeanField({"a": loc}, {"a": scale}).sample(4000, seed=0)["a"]
    standard = (draws - loc) / scale
    assert standard.mean(0).abs().max() < 5 / 4000**0.5
    assert (standard.std(0) - 1).abs().max() < 5 / 8000**0.5
    assert torch.corrcoef(standard.T).fill_diagonal_(0).abs().max() < 6 / 4000**0.5


def test_a_mean_field_draws_in_single_precision_from_what_it_keeps_in_half() -> None:
    one = mean_field(0)
    assert all(value.dtype == torch.float16 for value in (*one.loc.values(), *one.scale.values()))
    generator = torch.Generator().manual_seed(7)
    drawn = one.sample(6, seed=7)
    for name in sorted(SHAPES):
        noise = torch.randn(6, *SHAPES[name], generator=generator)
        assert drawn[name].equal(one.loc[name].float() + one.scale[name].float() * noise)


@pytest.mark.parametrize("draws", [1, 2, 3, 7, 30])
def test_draw_s_of_a_mixture_is_of_component_s_modulo_m(draws: int) -> None:
    ones = {"a": torch.ones(2), "b": torch.ones(1)}
    far = [{name: at * value for name, value in ones.items()} for at in (0, 100, 200)]
    drawn = Mixture([MeanField(loc, ones) for loc in far]).sample(draws, seed=0)
    expected = torch.arange(draws) % 3
    for value in drawn.values():  # all weights of a draw are of one component
        assert (value / 100).round().long().equal(expected[:, None].expand_as(value))


@pytest.mark.parametrize("draws", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("components", [1, 2, 3, 5])
def test_a_mixtures_own_way_to_sample_has_the_bits_of_the_default_one(components: int, draws: int) -> None:
    parts = mixture(components).components
    plain = Posterior.sample_each.__func__(MeanField, parts, draws, 9)  # type: ignore[attr-defined]
    assert equal(mixture(components).sample(draws, 9), plain)


def test_the_mean_of_a_mixture_is_its_components_means_mean() -> None:
    means = [mean_field(seed).mean() for seed in range(3)]
    assert all(value.dtype == torch.float32 for value in mixture(3).mean().values())
    for name, value in mixture(3).mean().items():
        torch.testing.assert_close(value, (means[0][name] + means[1][name] + means[2][name]) / 3)
    assert equal(mean_field(0).mean(), {name: value.float() for name, value in mean_field(0).loc.items()})
    assert [type(part) for part in mixture(3).components] == [MeanField] * 3
    assert mean_field(0).components[0].mean().keys() == SHAPES.keys()


@pytest.mark.parametrize("posterior", BOTH)
def test_a_posterior_comes_back_from_its_tensors(posterior: Posterior) -> None:
    again = posterior_from(posterior.name, posterior.tensors(), SHAPES)
    assert type(again) is type(posterior)
    assert equal(again.tensors(), posterior.tensors())
    assert equal(again.sample(7, 2), posterior.sample(7, 2))
    assert len(again.components) == len(posterior.components)


def test_a_mixture_is_of_one_kind() -> None:
    for parts in ([], [mean_field(0), mixture(1)]):
        with pytest.raises(
            InputError, match=r"^a mixture needs at least one component, and all of one kind\.$"
        ):
            Mixture(parts)


@pytest.mark.parametrize("name", ["laplace", "", "Mean-Field"])
def test_an_unknown_posterior_names_those_there_are(name: str) -> None:
    there = "mean-field, low-rank, point, dropout, samples, kronecker, mixture"
    with pytest.raises(InputError, match=rf"^there is no posterior '{name}': choose one of {there}\.$"):
        posterior_from(name, mean_field(0).tensors(), SHAPES)


DAMAGE: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda tensor: tensor.index_fill(0, torch.tensor(0), math.nan),
    "infinite": lambda tensor: tensor.index_fill(0, torch.tensor(0), math.inf),
    "one less": lambda tensor: tensor[:-1],
    "one more": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "of another shape": lambda tensor: tensor[..., None],
    "without dimensions": lambda tensor: tensor.flatten()[0],
    "empty": lambda tensor: tensor[:0],
    "in single precision": lambda tensor: tensor.float(),
    "of bfloat": lambda tensor: tensor.bfloat16(),
    "of whole numbers": lambda tensor: tensor.long(),
    "complex": lambda tensor: tensor.float() * 1j,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("posterior", BOTH)
def test_damaged_tensors_are_refused_whichever_it_is(posterior: Posterior, damage: str) -> None:
    sound = posterior.tensors()
    for name in sound:
        with pytest.raises(InputError, match=r"^[^\n]*posterior[^\n]*\.$|^a mixture[^\n]*\.$"):
            posterior_from(posterior.name, sound | {name: DAMAGE[damage](sound[name])}, SHAPES)


@pytest.mark.parametrize("posterior", BOTH)
def test_missing_and_extra_tensors_and_those_of_another_network_are_refused(posterior: Posterior) -> None:
    sound = posterior.tensors()
    first = next(iter(sound))
    hostile: list[Mapping[str, Tensor]] = [
        {},
        *({name: value for name, value in sound.items() if name != left_out} for left_out in sound),
        *(
            sound | {name: sound[first]}
            for name in ("extra", "loc/extra", "mean-field/extra", "/", "a/b/c/d")
        ),
        {name.rpartition("/")[2]: value for name, value in sound.items()},
    ]
    for tensors in hostile:
        with pytest.raises(InputError, match=r"^[^\n]+\.$"):
            posterior_from(posterior.name, tensors, SHAPES)
    for shapes in ({}, SHAPES | {"c": (1,)}, SHAPES | {"b": (2, 3, 1)}, {"b": SHAPES["b"]}):
        with pytest.raises(InputError, match=r"^[^\n]+\.$"):
            posterior_from(posterior.name, sound, shapes)


@pytest.mark.parametrize("posterior", BOTH)
def test_a_scale_below_0_is_refused(posterior: Posterior) -> None:
    tensors = {name: value.clone() for name, value in posterior.tensors().items()}
    next(value for name, value in tensors.items() if "scale/" in name).view(-1)[3] = -0.1
    with pytest.raises(InputError, match=r"^a mean-field posterior's scales must be 0 or more\.$"):
        posterior_from(posterior.name, tensors, SHAPES)


def test_mixtures_of_mixtures_as_deep_as_a_file_can_name_them_end_in_a_sentence() -> None:
    tensors = {"mixture/" * 5000 + "mean-field/loc/b": torch.zeros(1).half()}
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        posterior_from("mixture", tensors, {"b": ()})


class PointMass(Posterior):
    """All of its mass on one set of weights."""

    name = "point-mass"

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)

    def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
        return {name: value.repeat(draws, *[1] * value.ndim) for name, value in self._weights.items()}

    def mean(self) -> dict[str, Tensor]:
        return self._weights

    def tensors(self) -> dict[str, Tensor]:
        return self._weights

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shapes: Shapes) -> Self:
        require(tensors, shapes, torch.float32, "the point mass's weights")
        return cls(tensors)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_posterior_added_in_one_place_goes_through_a_checkpoint(
    make_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mixed: bool
) -> None:
    monkeypatch.setitem(POSTERIORS, "point-mass", PointMass)
    sound = make_checkpoint()
    kept = Classifier(sound).posterior
    points = [PointMass(component.mean()) for component in kept.components]
    posterior: Posterior = Mixture(points) if mixed else points[0]
    detector = dict(sound.detector) if mixed else _of_one_component(sound.detector)
    checkpoint = make_checkpoint(
        parts=_with(sound.parts, posterior=posterior.name), posterior=posterior.tensors(), detector=detector
    )
    classifier = Classifier(checkpoint, draws=5)
    images = np.random.default_rng(0).random((6, 28, 28), np.float32)
    votes = classifier.votes(images)
    distinct = len(points) if mixed else 1
    assert len(np.unique(votes, axis=0)) == distinct
    assert (votes[distinct:] == votes[: 5 - distinct]).all()
    classifier.save(tmp_path / "points.safetensors")
    again = Classifier.load(tmp_path / "points.safetensors", draws=5)
    assert type(again.posterior) is type(posterior)
    assert again.predict(images).plain() == classifier.predict(images).plain()


def _with(parts: Parts, **replaced: Any) -> Parts:
    return Parts(**{name: getattr(parts, name) for name in Parts.__dataclass_fields__} | replaced)


def _of_one_component(detector: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value[:1] if "/features/" in f"/{name}" and name.startswith("score") else value
        for name, value in detector.items()
    }


@given(st.integers(1, 6), st.integers(1, 4))
def test_every_component_is_drawn_equally_often(each: int, components: int) -> None:
    counted: list[Sequence[int]] = []

    class Counting(PointMass):
        def sample(self, draws: int, seed: int) -> dict[str, Tensor]:
            counted.append((draws, seed))
            return super().sample(draws, seed)

    parts = [Counting({"a": torch.tensor([float(m)])}) for m in range(components)]
    drawn = Mixture(parts).sample(each * components, 5)["a"].flatten().long()
    assert drawn.bincount().tolist() == [each] * components
    assert counted == [(each * components, 5)] * components  # noise at its place, whoever's draw it is
