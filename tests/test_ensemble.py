"""The ensemble: its draws are the posterior's, and an image's answer depends on nothing but the image."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.ensemble import PredictiveEnsemble, draw_weights
from bnn.core.networks import CNN, MLP, VGG, DigitNetwork
from bnn.core.uncertainty import Predictive

NETWORKS = [VGG((2, 3, 4), 16), CNN((4, 6), 16), CNN((3, 5), 7), MLP(64), MLP(50), MLP(33)]
IMAGES = torch.rand(11, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def weights_of(network: nn.Module, draws: int = 3) -> dict[str, Tensor]:
    loc = {name: value.detach()[None] for name, value in network.named_parameters()}
    return draw_weights(loc, {name: value.abs() for name, value in loc.items()}, draws, seed=1)


@pytest.fixture(
    params=NETWORKS, ids=lambda network: f"{type(network).__name__}-{network.hidden.out_features}"
)
def network(request: pytest.FixtureRequest) -> DigitNetwork:
    return request.param


def test_it_agrees_with_one_network_after_another(network: DigitNetwork) -> None:
    weights = weights_of(network)
    with torch.no_grad():
        one_by_one = [
            functional_call(network, {name: value[s] for name, value in weights.items()}, (IMAGES,)).softmax(
                -1
            )
            for s in range(3)
        ]
    ensemble = PredictiveEnsemble(network, weights)
    assert len(ensemble) == 3
    torch.testing.assert_close(ensemble.probs(IMAGES), torch.stack(one_by_one), atol=1e-5, rtol=0)
    summary, expected = ensemble.predictive(IMAGES), Predictive.of(torch.stack(one_by_one))
    for name, value in expected.tensors().items():
        torch.testing.assert_close(summary.tensors()[name], value, atol=1e-5, rtol=0)


def test_an_image_has_the_same_bits_alone_and_anywhere_in_a_batch(network: DigitNetwork) -> None:
    ensemble = PredictiveEnsemble(network, weights_of(network))
    together, summary = ensemble.probs(IMAGES), ensemble.predictive(IMAGES)
    assert ensemble.probs(IMAGES.flip(0)).flip(1).equal(together)
    for i in range(len(IMAGES)):
        assert ensemble.probs(IMAGES[i : i + 1])[:, 0].equal(together[:, i])
        for name, value in ensemble.predictive(IMAGES[i : i + 1]).tensors().items():
            assert value[0].equal(summary.tensors()[name][i]), name


def test_eight_threads_at_once_give_the_serial_answers(network: DigitNetwork) -> None:
    ensemble = PredictiveEnsemble(network, weights_of(network))
    alone = [ensemble.probs(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    tasks = list(range(len(IMAGES))) * 6
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: ensemble.probs(IMAGES[i : i + 1]), tasks)
        assert all(answer.equal(alone[i]) for i, answer in zip(tasks, answers, strict=True))


def test_an_empty_batch_has_empty_answers(network: DigitNetwork) -> None:
    assert PredictiveEnsemble(network, weights_of(network)).probs(IMAGES[:0]).shape == (3, 0, 10)


def test_the_networks_own_weights_are_neither_used_nor_changed() -> None:
    network = MLP(16)
    weights = weights_of(network)
    answer = PredictiveEnsemble(network, weights).probs(IMAGES)
    with torch.no_grad():
        network.get_parameter("out.bias").add_(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert PredictiveEnsemble(network, weights).probs(IMAGES).equal(answer)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_the_draws_are_the_seeds() -> None:
    loc, scale = (
        {"a": torch.zeros(1, 5), "b": torch.ones(1, 2, 3)},
        {"a": torch.ones(1, 5), "b": torch.ones(1, 2, 3)},
    )
    first, again, other = (draw_weights(loc, scale, 4, seed) for seed in (3, 3, 4))
    backwards = draw_weights(dict(reversed(loc.items())), scale, 4, 3)
    for name in loc:
        assert first[name].shape == (4, *loc[name].shape[1:])
        assert first[name].equal(again[name])
        assert first[name].equal(backwards[name])
        assert not first[name].equal(other[name])


def test_the_draws_have_the_posteriors_moments() -> None:
    loc, scale = torch.linspace(-3, 3, 50)[None], torch.linspace(0.01, 2, 50)[None]
    draws = draw_weights({"a": loc}, {"a": scale}, 4000, seed=0)["a"]
    standard = (draws - loc) / scale
    assert standard.mean(0).abs().max() < 5 / 4000**0.5
    assert (standard.std(0) - 1).abs().max() < 5 / 8000**0.5
    assert torch.corrcoef(standard.T).fill_diagonal_(0).abs().max() < 6 / 4000**0.5


def test_half_precision_parameters_are_drawn_from_in_single_precision() -> None:
    loc, scale = torch.full((1, 5), 0.5), torch.full((1, 5), 0.25)
    of_half = draw_weights({"a": loc.half()}, {"a": scale.half()}, 4, seed=0)["a"]
    assert of_half.dtype == torch.float32
    assert of_half.equal(draw_weights({"a": loc}, {"a": scale}, 4, seed=0)["a"])


def test_each_component_of_a_mixture_is_drawn_equally_often() -> None:
    loc = {"a": torch.tensor([[0.0], [100.0], [200.0]]), "b": torch.tensor([[0.0], [100.0], [200.0]])}
    drawn = draw_weights(loc, {name: torch.ones(3, 1) for name in loc}, 30, seed=0)
    component = {name: (value / 100).round().long().flatten() for name, value in drawn.items()}
    assert component["a"].bincount().tolist() == [10, 10, 10]
    assert component["a"].equal(component["b"])  # a draw's weights are all of one component
