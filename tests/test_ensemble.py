"""The ensemble: its draws are the posterior's, and an image's answer depends on nothing but the image."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from any_networks import MAPPED, STACKED
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.ensemble import PredictiveEnsemble, summary
from bnn.core.posterior import MeanField
from bnn.core.uncertainty import Predictive

NETWORKS = STACKED | {name: MAPPED[name] for name in ("resnet", "unbiased-gelu")}
IMAGES = torch.rand(11, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def weights_of(network: nn.Module, draws: int = 3) -> dict[str, Tensor]:
    loc = {name: value.detach() for name, value in network.named_parameters()}
    return MeanField(loc, {name: value.abs() for name, value in loc.items()}).sample(draws, seed=1)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]()


def test_it_agrees_with_one_network_after_another(network: nn.Module) -> None:
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
    said, expected = ensemble.predictive(IMAGES), Predictive.of(torch.stack(one_by_one))
    for name, value in expected.tensors().items():
        torch.testing.assert_close(said.tensors()[name], value, atol=1e-5, rtol=0)


def test_an_image_has_the_same_bits_alone_and_anywhere_in_a_batch(network: nn.Module) -> None:
    ensemble = PredictiveEnsemble(network, weights_of(network))
    together, said = ensemble.probs(IMAGES), ensemble.predictive(IMAGES)
    assert ensemble.probs(IMAGES.flip(0)).flip(1).equal(together)
    for i in range(len(IMAGES)):
        assert ensemble.probs(IMAGES[i : i + 1])[:, 0].equal(together[:, i])
        for name, value in ensemble.predictive(IMAGES[i : i + 1]).tensors().items():
            assert value[0].equal(said.tensors()[name][i]), name


def test_what_it_says_is_the_summary_of_what_each_draw_says(network: nn.Module) -> None:
    ensemble = PredictiveEnsemble(network, weights_of(network))
    said = summary(ensemble.probs(IMAGES)).tensors()
    assert all(value.equal(said[name]) for name, value in ensemble.predictive(IMAGES).tensors().items())


def test_eight_threads_at_once_give_the_serial_answers(network: nn.Module) -> None:
    ensemble = PredictiveEnsemble(network, weights_of(network))
    alone = [ensemble.probs(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    tasks = list(range(len(IMAGES))) * 6
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: ensemble.probs(IMAGES[i : i + 1]), tasks)
        assert all(answer.equal(alone[i]) for i, answer in zip(tasks, answers, strict=True))


def test_an_empty_batch_has_empty_answers(network: nn.Module) -> None:
    classes = network(IMAGES[:1]).shape[1]
    assert PredictiveEnsemble(network, weights_of(network)).probs(IMAGES[:0]).shape == (3, 0, classes)


@pytest.mark.parametrize("name", ["mlp-33", "resnet"])
def test_the_networks_own_weights_are_neither_used_nor_changed(name: str) -> None:
    network = NETWORKS[name]()
    weights = weights_of(network)
    answer = PredictiveEnsemble(network, weights).probs(IMAGES)
    with torch.no_grad():
        network.get_parameter("out.bias").add_(5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert PredictiveEnsemble(network, weights).probs(IMAGES).equal(answer)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("draws", "at_once"), [(7, 3), (6, 2), (5, 8)])
@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_its_parts_are_what_it_consists_of_and_say_the_same(name: str, draws: int, at_once: int) -> None:
    network = NETWORKS[name]()
    weights = weights_of(network, draws)
    ensemble = PredictiveEnsemble(network, weights, at_once)
    together = ensemble.probs(IMAGES)
    parts = ensemble.in_parts(at_once)
    assert [len(part) for part in parts] == [min(at_once, draws - at) for at in range(0, draws, at_once)]
    assert torch.cat([part.probs(IMAGES) for part in parts]).equal(together)
    assert all(again is part for again, part in zip(ensemble.in_parts(at_once), parts, strict=True))
    torch.testing.assert_close(PredictiveEnsemble(network, weights, draws).probs(IMAGES), together)
