"""Low-rank, point and dropout posteriors, and the guides that fit them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, kl_divergence

from bnn import Classifier
from bnn.core.checkpoint import Checkpoint, load
from bnn.core.networks import MLP
from bnn.core.posterior import (
    DROPPED,
    Dropout,
    Kronecker,
    LowRank,
    Mixture,
    Point,
    Posterior,
    Samples,
    posterior_from,
)
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.elbo import ELBOS, MeanFieldELBO, SampledELBO
from bnn.training.guide import DropoutGuide, LowRankGuide, PointGuide
from bnn.training.guides import GUIDES
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale
from bnn.training.train import train, train_command

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b": (2, 1, 3)}
QUIET = {"enable_progress_bar": False}
BATCH = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])


def drawn(seed: int, *before: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*before, *shape, generator=generator) for name, shape in SHAPES.items()}


def low_rank(seed: int = 0) -> LowRank:
    scale = {name: value.abs() for name, value in drawn(seed + 10).items()}
    return LowRank(drawn(seed), scale, drawn(seed + 20, 2))


def kronecker(seed: int) -> Kronecker:
    axes = [
        torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed + n))).Q
        for n in (0, 1)
    ]
    return Kronecker(drawn(seed), {"a": axes[0]}, {"a": axes[1]}, {"a": drawn(seed, 4)["a.bias"].abs()})


MADE: dict[str, Callable[[int], Posterior]] = {
    "low-rank": low_rank,
    "point": lambda seed: Point(drawn(seed)),
    "dropout": lambda seed: Dropout(drawn(seed)),
    "kronecker": kronecker,
    "samples": lambda seed: Samples(drawn(seed, 3)),
}


def flat(weights: Any, keep: int = 0) -> Tensor:
    return torch.cat([weights[name].flatten(keep) for name in sorted(SHAPES)], -1)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


@pytest.mark.parametrize("kind", MADE)
@settings(max_examples=10, deadline=None)
@given(draws=st.integers(1, 7), components=st.integers(1, 3), seed=st.integers(0, 99))
def test_draws_are_the_seeds_and_come_back_from_the_tensors(
    kind: str, draws: int, components: int, seed: int
) -> None:
    one = Mixture([MADE[kind](m) for m in range(components)])
    again = posterior_from("mixture", one.tensors(), SHAPES)
    weights = one.sample(draws, seed)
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        name: (draws, *shape) for name, shape in SHAPES.items()
    }
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert equal(weights, again.sample(draws, seed))
    assert equal(one.mean(), again.mean())


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("damage", [torch.nan, torch.inf, 2000.0])
def test_damaged_tensors_are_refused(kind: str, damage: float) -> None:
    sound = MADE[kind](0).tensors()
    for name, value in sound.items():
        bad = value.clone()
        bad.view(-1)[0] = damage
        with pytest.raises(InputError):
            posterior_from(kind, sound | {name: bad}, SHAPES)
        with pytest.raises(InputError):
            posterior_from(kind, sound | {name: value.double()}, SHAPES)
        with pytest.raises(InputError):
            posterior_from(kind, sound | {name: value[:1, ...]} if len(value) > 1 else {}, SHAPES)
        with pytest.raises(InputError):
            posterior_from(kind, {key: sound[key] for key in sound if key != name}, SHAPES)


@pytest.mark.parametrize("rank", [0, 1])
def test_low_rank_tensors_with_other_numbers_of_directions_are_refused(rank: int) -> None:
    sound = low_rank().tensors()
    fewer = {name: value[:rank] for name, value in sound.items() if name.startswith("directions/b")}
    with pytest.raises(InputError, match="as many directions"):
        posterior_from("low-rank", sound | fewer, SHAPES)
    with pytest.raises(InputError, match="0 or more"):
        posterior_from("low-rank", sound | {"scale/b": -sound["scale/b"] - 1}, SHAPES)


def test_axes_that_are_not_orthonormal_are_refused() -> None:
    sound = kronecker(0).tensors()
    for name in ("left/a", "right/a"):
        with pytest.raises(InputError, match="must be orthonormal"):
            posterior_from("kronecker", sound | {name: 1.01 * sound[name]}, SHAPES)
    with pytest.raises(InputError, match="axes and scales of some layers"):
        posterior_from("kronecker", sound | {"scale/c": sound["scale/a"]}, SHAPES)


def test_low_rank_draws_have_the_dense_mean_and_covariance() -> None:
    one = low_rank()
    factor = flat(one.directions, 1).float()
    covariance = factor.T @ factor + torch.diag(flat(one.scale).float().square())
    draws = flat(one.sample(20_000, seed=1), 1)
    spread = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - flat(one.loc).float()) / spread).abs().max() < 5 / 20_000**0.5
    assert ((torch.cov(draws.T) - covariance) / spread.outer(spread)).abs().max() < 8 / 20_000**0.5


def test_dropout_leaves_out_whole_inputs_and_keeps_the_mean() -> None:
    one = Dropout(drawn(0))
    draws = one.sample(4000, seed=0)
    kept = draws["a.weight"] != 0
    assert kept.all(1).equal(kept.any(1))  # an input is left out for all outputs, or for none
    assert kept[:, 0].float().mean(0).sub(1 - DROPPED).abs().max() < 5 * (0.09 / 4000) ** 0.5
    assert torch.allclose(draws["a.weight"].mean(0), one.mean()["a.weight"], atol=0.06)
    for whole in ("a.bias", "b"):  # one of a single input would leave out everything
        assert (draws[whole] == one.mean()[whole]).all()


def _dense(guide: LowRankGuide) -> tuple[LowRankMultivariateNormal, MultivariateNormal]:
    """The guide's distribution and the model's prior, over all weights together."""
    names = [key for _, key in guide._sites]
    parts = dict(guide.named_parameters())
    loc = torch.cat([parts[f"{key}_loc"].flatten() for key in names])
    scale = torch.cat([guide._loc_scale(key)[1].flatten() for key in names])
    factor = torch.cat([guide._directions(key).flatten(1) for key in names], 1)
    prior = torch.cat(
        [torch.full((parts[f"{key}_loc"].numel(),), fan_in_scale(parts[f"{key}_loc"].shape)) for key in names]
    )
    fitted = LowRankMultivariateNormal(loc, factor.T, scale.square())
    return fitted, MultivariateNormal(torch.zeros_like(loc), torch.diag(prior.square()))


@pytest.fixture
def pair() -> tuple[BayesianNeuralNetwork, LowRankGuide]:
    torch.manual_seed(0)
    network = MLP(1, classes=2)
    guide = LowRankGuide(network)
    with torch.no_grad():
        for name, value in guide.named_parameters():
            value.mul_(3) if name.endswith("directions") else value
    return BayesianNeuralNetwork(network, 9), guide


def test_the_kl_of_a_low_rank_guide_is_that_of_dense_algebra(
    pair: tuple[BayesianNeuralNetwork, LowRankGuide],
) -> None:
    model, guide = pair
    with torch.no_grad():
        exact = kl_divergence(*_dense(guide)).item()
        for elbo in (MeanFieldELBO(), SampledELBO()):
            kls = torch.stack([elbo.terms(model, guide, *BATCH)[1] for _ in range(150)])
            assert kls.mean().item() == pytest.approx(exact, abs=5 * kls.std().item() / 150**0.5)
        prior = poutine.block(model, hide=["label", "data"])
        pyros = torch.tensor([Trace_ELBO().loss(prior, guide, BATCH[0]) for _ in range(150)])
        assert pyros.mean().item() == pytest.approx(exact, abs=5 * pyros.std().item() / 150**0.5)
        assert guide.information().item() > 1  # without which it would be larger by so much


@pytest.mark.parametrize("name", ELBOS)
def test_gradients_reach_all_of_a_low_rank_guide(
    name: str, pair: tuple[BayesianNeuralNetwork, LowRankGuide]
) -> None:
    model, guide = pair
    sum(ELBOS[name]().terms(model, guide, *BATCH)).backward()  # type: ignore[union-attr]
    assert all(value.grad is not None and value.grad.any() for value in guide.parameters())


def test_the_kl_of_a_point_is_minus_its_log_prior() -> None:
    network = MLP(3, classes=2)
    guide = PointGuide(network)
    expected = sum(
        -torch.distributions.Normal(0, fan_in_scale(value.shape)).log_prob(value).sum()
        for value in guide.posterior().mean().values()
    )
    for elbo in (MeanFieldELBO(), SampledELBO()):
        kl = elbo.terms(BayesianNeuralNetwork(network, 9), guide, *BATCH)[1]
        assert kl.item() == pytest.approx(float(expected), rel=1e-5)


def test_the_kl_of_dropout_is_on_average_weight_decay() -> None:
    """Gal & Ghahramani 2016, eq. 4: E (w · kept / (1 − p))² = w² / (1 − p), over 2 · variance."""
    torch.manual_seed(0)
    network = MLP(3, classes=2)
    guide, model = DropoutGuide(network), BayesianNeuralNetwork(network, 9)
    with torch.no_grad():
        kls = torch.stack([MeanFieldELBO(None).terms(model, guide, *BATCH)[1] for _ in range(200)])
    decay = {
        name: value.square().sum() / (2 * fan_in_scale(value.shape) ** 2)
        for name, value in guide.posterior().mean().items()
    }
    constant = sum(
        -torch.distributions.Normal(0, fan_in_scale(value.shape)).log_prob(torch.zeros(())) * value.numel()
        for value in guide.posterior().mean().values()
    )
    expected = constant + sum(decay.values()) / (1 - DROPPED)  # biases are 0
    assert kls.mean().item() == pytest.approx(float(expected), abs=5 * kls.std().item() / 200**0.5)


def test_every_guide_is_told_of_where_it_is_asked_for() -> None:
    told = TrainConfig.__dataclass_fields__["guide"].metadata["help"]
    assert all(f"{name} (" in told for name in GUIDES)


@pytest.mark.parametrize("guide", ["map", "mc-dropout"])
def test_a_prior_is_not_learnt_from_points(guide: str) -> None:
    with pytest.raises(InputError, match="take another prior or another guide"):
        train("digits", guide=guide, prior="learnt", rule="entropy", network="mlp")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "components"),
    [
        ("low-rank", 1),
        ("map", 1),
        ("map", 2),
        ("mc-dropout", 1),
        ("laplace", 1),
    ],
)
def test_digits_are_learnt_kept_and_loaded(guide: str, components: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"network_options": {"hidden": 32}, "epochs": 6, "batch_size": 64, "lr": 1e-2}
    out = tmp_path / "made.safetensors"
    made = train(
        "digits",
        guide=guide,
        components=components,
        network="mlp",
        draws=6,
        scores=["pixels", "entropy"],
        rule="entropy",
        augment=False,
        out=out,
        trainer_options=QUIET,
        **options,
    )
    assert made.record["calibration"]["accuracy"] > 0.85
    loaded = Classifier.load(out)
    images = ImageSet.from_name("digits", limit=20).images
    assert np.array_equal(loaded.votes(images), made.votes(images))
    assert len(loaded.posterior.components) == components


class Killed(Exception):  # noqa: N818
    """The process ended."""


@pytest.mark.slow
@pytest.mark.parametrize("guide", ["swag", "sghmc"])
def test_a_run_that_ended_while_networks_were_kept_is_resumed_to_the_same_posterior(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        data="digits",
        guide=guide,
        network="mlp",
        network_options={"hidden": 32},
        epochs=5,
        batch_size=32,
        lr=1e-2,
        augment=False,
        draws=5,
        scores=("entropy",),
        rule="entropy",
    )

    def run(name: str, *, resume: bool = False) -> Checkpoint:
        out = tmp_path / f"{name}.safetensors"
        train_command(config, out, runs=tmp_path / name, resume=resume, trainer_options=QUIET)
        return load(out)

    def end(module: pl.LightningModule) -> None:
        if module.trainer.current_epoch == 4:
            raise Killed

    whole = run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(pl.LightningModule, "on_train_epoch_start", end)
        with pytest.raises(Killed):
            run("parts")
    resumed = run("parts", resume=True)
    assert whole.record["calibration"]["accuracy"] > 0.85
    for name, value in whole.posterior.items():
        assert torch.allclose(resumed.posterior[name].float(), value.float(), rtol=2e-3, atol=1e-5), name
