"""The OOD baselines, each against its formula written another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from bnn.core.networks import MLP, last_layer
from bnn.core.uncertainty import Predictive, entropy
from bnn.errors import InputError
from bnn.evaluation.baselines import (
    Described,
    energy,
    fit_baselines,
    gaussians,
    max_softmax,
    neighbours,
    scored,
    vim,
)

CLASSES, SIZE, KNOWN, SEEN = 3, 6, 90, 7


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (KNOWN, SIZE) around a centre a class, of unequal widths, and their labels."""
    labels = torch.arange(KNOWN) % CLASSES
    widths = torch.linspace(0.2, 2, SIZE, dtype=torch.float64)
    return 3 * random(seed, CLASSES, SIZE)[labels] + widths * random(seed + 1, KNOWN, SIZE), labels


def said(seed: int, n: int = SEEN) -> Predictive:
    return Predictive.of(random(seed, 4, n, CLASSES).softmax(-1))


def seen(features: Tensor) -> Described:
    return Described(features, features.new_zeros(len(features), CLASSES))


def squared_distance(x: NDArray[np.float64], mean: NDArray[np.float64], away: NDArray[np.float64]) -> float:
    """Squared Mahalanobis distance of `x` from `mean`, by the covariance of the deviations `away`."""
    covariance = sum(np.outer(row, row) for row in away) / len(away)
    return float((x - mean) @ np.linalg.solve(covariance, x - mean))


def test_mahalanobis_is_the_distance_to_the_nearest_class_and_the_relative_one_is_less_that_to_all() -> None:
    features, labels = clusters()
    x, known, of = random(5, SEEN, SIZE).numpy(), features.numpy(), labels.numpy()
    means = [known[of == label].mean(0) for label in range(CLASSES)]
    within = np.concatenate([known[of == label] - means[label] for label in range(CLASSES)])
    nearest = np.array([min(squared_distance(one, mean, within) for mean in means) for one in x])
    overall = np.array([squared_distance(one, known.mean(0), known - known.mean(0)) for one in x])
    shared, relative = gaussians(features, labels)
    assert np.allclose(shared(torch.from_numpy(x)), nearest, rtol=1e-9)
    assert np.allclose(relative(torch.from_numpy(x)), nearest - overall, rtol=1e-9)


@given(seed=st.integers(0, 50))
def test_mahalanobis_does_not_mind_how_features_are_turned_scaled_and_moved(seed: int) -> None:
    features, labels = clusters()
    x, moved = random(seed, SEEN, SIZE), random(seed + 1, SIZE)
    matrix = torch.linalg.qr(random(seed + 2, SIZE, SIZE)).Q * torch.linspace(0.5, 3, SIZE)
    for plain, changed in zip(
        gaussians(features, labels), gaussians(features @ matrix + moved, labels), strict=True
    ):
        assert torch.allclose(changed(x @ matrix + moved), plain(x), rtol=1e-6, atol=1e-6)


def test_directions_in_which_nothing_varies_do_not_count() -> None:
    features, labels = clusters()
    x = random(5, SEEN, SIZE)
    still, anywhere = torch.zeros(KNOWN, 2), random(6, SEEN, 2)
    for plain, padded in zip(
        gaussians(features, labels), gaussians(torch.cat([features, still], 1), labels), strict=True
    ):
        assert torch.allclose(padded(torch.cat([x, anywhere], 1)), plain(x))


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_neighbours_are_those_of_brute_force(count: int) -> None:
    features, x = clusters()[0], random(5, SEEN, SIZE)
    bank = [row / np.linalg.norm(row) for row in features.numpy()]
    expected = [
        sorted(np.linalg.norm(one / np.linalg.norm(one) - row) for row in bank)[min(count, KNOWN) - 1]
        for one in x.numpy()
    ]
    assert np.allclose(neighbours(features, count)(said(0), seen(x)), expected)


def test_energy_and_softmax_are_their_formulas() -> None:
    logits = random(0, SEEN, CLASSES)
    assert np.allclose(energy(logits), [-math.log(sum(map(math.exp, row))) for row in logits.tolist()])
    assert np.allclose(max_softmax(said(0)), [-max(row) for row in said(0).mean.tolist()])


@pytest.mark.parametrize("has_bias", [True, False])
def test_vim_is_the_virtual_logit_s_share_of_the_softmax(has_bias: bool) -> None:
    """Wang et al. 2022: p₀ = e^{α r} / (Σ e^{logits} + e^{α r}), the sigmoid of α r − log Σ e^{logits}."""
    features = clusters()[0]
    weight, bias = random(2, CLASSES, SIZE), random(3, CLASSES) if has_bias else None
    given_bias = np.zeros(CLASSES) if bias is None else bias.numpy()
    known = Described(features, features @ weight.T + torch.from_numpy(given_bias))
    x = random(5, SEEN, SIZE)
    mine = vim(known, weight, bias)(said(0), Described(x, x @ weight.T + torch.from_numpy(given_bias)))

    origin = -np.linalg.lstsq(weight.numpy(), given_bias, rcond=None)[0]  # of all such, the shortest
    axes = np.linalg.svd(features.numpy() - origin)[2][: SIZE // 2]

    def residual(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([np.linalg.norm(row - axes.T @ (axes @ row)) for row in rows - origin])

    alpha = known.logits.numpy().max(1).mean() / residual(features.numpy()).mean()
    logits = x.numpy() @ weight.numpy().T + given_bias
    virtual = np.exp(alpha * residual(x.numpy()))
    share = virtual / (np.exp(logits).sum(1) + virtual)
    assert np.allclose(mine.sigmoid(), share)


def test_the_baselines_of_a_network_look_at_its_last_features_its_logits_and_the_draws() -> None:
    torch.manual_seed(0)
    network = MLP(12, classes=CLASSES)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    images, labels = torch.rand(60, 1, 28, 28), torch.arange(60) % CLASSES
    described = Described.by(network, weights, images)
    assert torch.allclose(described.logits, network(images).double())
    made = described.features @ weights["out.weight"].double().T + weights["out.bias"].double()
    assert torch.allclose(described.logits, made, atol=1e-6)
    far = Described.by(network, weights, 20 * torch.rand(60, 1, 28, 28))
    baselines = fit_baselines(network, weights, images, labels)
    near_scores, far_scores = (scored(baselines, said(1, 60), one) for one in (described, far))
    assert list(near_scores) == [
        "max-softmax",
        "entropy",
        "mutual-information",
        "energy",
        "mahalanobis",
        "relative-mahalanobis",
        "nearest-neighbours",
        "vim",
    ]
    assert far_scores["mahalanobis"].min() > near_scores["mahalanobis"].max()
    probs = random(1, 4, 60, CLASSES).softmax(-1)
    between = entropy(probs.mean(0)) - entropy(probs).mean(0)
    assert torch.allclose(near_scores["mutual-information"], between)


def test_a_network_whose_last_linear_layer_gives_no_logits_is_refused() -> None:
    class Halved(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = super().forward(images) / 2
            return logits

    network = Halved(nn.Flatten(), nn.Linear(784, CLASSES))
    assert last_layer(network) == "1"
    weights = {name: value.detach() for name, value in network.named_parameters()}
    with pytest.raises(InputError, match="does not give its logits"):
        Described.by(network, weights, torch.rand(2, 1, 28, 28))
