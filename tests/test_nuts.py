"""NUTS: its target, its chain on a posterior that is known, and what it refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import cross_entropy

from bnn import Classifier
from bnn.core.networks import MLP
from bnn.core.posterior import Samples, Weights
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.adaptation import adapt
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale
from bnn.training.nuts import Target, run_chain
from bnn.training.train import train

CHAIN, WORTH = 400, 160  # samples, and about as many independent ones


def test_the_target_is_the_log_joint_with_a_tempered_likelihood() -> None:
    torch.manual_seed(0)
    network = MLP(3, classes=4)
    images, labels = torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 2, 3, 0, 1])
    weights = {name: value.detach() for name, value in network.named_parameters()}
    prior = sum(
        Normal(0, fan_in_scale(value.shape)).log_prob(value).sum().item() for value in weights.values()
    )
    loss = cross_entropy(network(images), labels, reduction="sum").item()
    for beta in (1.0, 0.1):
        energy = Target(BayesianNeuralNetwork(network, 6), images, labels, beta)(weights)
        assert energy.item() == pytest.approx(loss / beta - prior, rel=1e-4)


class Coin(nn.Module):
    """The same logits (0, w) whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([0 * self.w, self.w], -1).expand(len(images), 2)


def grid_moments(heads: int, tails: int, beta: float) -> tuple[float, float]:
    """Mean and standard deviation of w under a Normal(0, 2) prior (its fan-in is 1), by quadrature."""
    w = torch.linspace(-12, 12, 200_001).double()
    log_joint = -w.square() / 4 - (heads * torch.log1p((-w).exp()) + tails * torch.log1p(w.exp())) / beta
    weight = (log_joint - log_joint.max()).exp()
    mean = (weight * w).sum() / weight.sum()
    return float(mean), math.sqrt((weight * (w - mean).square()).sum() / weight.sum())


def test_the_chain_has_the_moments_of_a_known_posterior() -> None:
    torch.manual_seed(0)
    beta = 0.25
    labels = torch.tensor([1] * 7 + [0] * 3)
    target = Target(BayesianNeuralNetwork(Coin(), 10), torch.zeros(10, 1, 28, 28), labels, beta)
    start: Weights = {"w": torch.zeros(1)}
    drawn = run_chain(target, start, warmup=100, samples=CHAIN)["w"]
    mean, deviation = grid_moments(7, 3, beta)
    assert drawn.shape == (CHAIN, 1)
    assert drawn.mean().item() == pytest.approx(mean, abs=4 * deviation / WORTH**0.5)
    assert drawn.std().item() == pytest.approx(deviation, rel=4 / (2 * WORTH) ** 0.5)


def test_what_is_too_large_for_it_is_refused_before_the_training() -> None:
    with pytest.raises(InputError, match=r"at most 20,000 weights .* these are 25,450 and 1,3\d\d"):
        train("digits", guide="nuts", network="mlp", network_options={"hidden": 32}, rule="entropy")
    for guide in ("nuts", "laplace"):
        with pytest.raises(InputError, match="if beta is 0: take more, or the guide map"):
            train(
                "digits", guide=guide, rule="entropy", network="mlp", network_options={"hidden": 4}, beta=0.0
            )


@pytest.mark.slow
def test_digits_are_sampled_kept_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.training.nuts.WARMUP", 10)
    monkeypatch.setattr("bnn.training.nuts.SAMPLES", 6)
    monkeypatch.setattr("bnn.training.nuts.DEEPEST", 3)
    made = train(
        "digits",
        guide="nuts",
        network="mlp",
        network_options={"hidden": 16},
        batch_size=32,
        lr=1e-2,
        scores=["entropy"],
        draws=6,
        rule="entropy",
        augment=False,
        out=tmp_path / "made.safetensors",
        trainer_options={"enable_progress_bar": False},
    )
    assert made.record["calibration"]["accuracy"] > 0.7  # of few units
    (component,) = made.posterior.components
    assert isinstance(component, Samples)
    assert component.count == 6
    loaded = Classifier.load(tmp_path / "made.safetensors")
    images = ImageSet.from_name("digits", limit=20).images
    votes = made.votes(images)
    assert np.array_equal(loaded.votes(images), votes)
    assert len(np.unique(votes, axis=0)) == 6  # the chain moved
    few = ImageSet.from_name("digits", limit=200)
    with pytest.raises(InputError, match="of the kind 'samples' cannot be adapted"):
        adapt(loaded, few, few.truth(), refuse=0.2)
