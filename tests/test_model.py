"""The lifted model: sites, priors, and the plate that scales the likelihood."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import math

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.nn.functional import cross_entropy

from bnn.core.networks import CNN, MLP, ResNet
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale

N_TRAIN = 600


def trace(model, images, labels=None):
    return poutine.trace(model).get_trace(images, labels)


def normal(site):
    return site["fn"].base_dist


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("kind", [MLP, CNN, ResNet])
def test_every_parameter_becomes_a_site_of_its_shape(kind, classes):
    network = kind(classes=classes)
    recorded = trace(BayesianNeuralNetwork(network, N_TRAIN), torch.rand(2, 1, 28, 28))
    expected = {f"network.{name}": value.shape for name, value in network.named_parameters()}
    sites = {name: recorded.nodes[name]["value"].shape for name in expected}
    assert sites == expected
    assert set(recorded.stochastic_nodes) - set(expected) <= {"label", "data"}


def test_the_priors_are_fan_in_normals_by_default():
    recorded = trace(BayesianNeuralNetwork(CNN(classes=10), N_TRAIN), torch.rand(1, 1, 28, 28))
    prior = normal(recorded.nodes["network.conv2.weight"])
    assert torch.equal(prior.loc, torch.zeros(32, 16, 5, 5))
    assert prior.scale.unique().item() == pytest.approx(math.sqrt(2 / (16 * 5 * 5)))
    assert normal(recorded.nodes["network.conv2.bias"]).scale.unique().item() == pytest.approx(math.sqrt(2))


def test_a_given_prior_scale_is_every_weights():
    recorded = trace(
        BayesianNeuralNetwork(MLP(8, classes=10), N_TRAIN, prior_scale=0.7), torch.rand(1, 1, 28, 28)
    )
    scales = torch.cat(
        [
            normal(recorded.nodes[name]).scale.flatten()
            for name in recorded.nodes
            if name.startswith("network.")
        ]
    )
    assert scales.unique().item() == pytest.approx(0.7)


def test_priors_are_buffers_that_move_with_the_module():
    model = BayesianNeuralNetwork(MLP(4, classes=10), N_TRAIN).double()
    assert list(model.parameters()) == []
    assert all(buffer.dtype == torch.float64 for buffer in model.buffers())


def test_lifting_leaves_the_plain_network_alone():
    network = MLP(8, classes=10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    BayesianNeuralNetwork(network, N_TRAIN)
    assert type(network) is MLP
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_the_plate_scales_the_likelihood_to_the_data_set():
    images, labels = torch.rand(20, 1, 28, 28), torch.randint(0, 10, (20,))
    model = BayesianNeuralNetwork(MLP(8, classes=10), N_TRAIN)
    recorded = trace(model, images, labels)
    weights = {
        name: recorded.nodes[f"network.{name}"]["value"] for name, _ in MLP(8, classes=10).named_parameters()
    }
    logits = torch.func.functional_call(MLP(8, classes=10), weights, (images,))
    recorded.compute_log_prob()
    expected = -cross_entropy(logits, labels, reduction="sum") * N_TRAIN / 20
    assert recorded.nodes["label"]["log_prob_sum"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_labels_they_are_sampled():
    recorded = trace(BayesianNeuralNetwork(MLP(8, classes=10), N_TRAIN), torch.rand(50, 1, 28, 28))
    site = recorded.nodes["label"]
    assert not site["is_observed"]
    assert isinstance(site["fn"], dist.Categorical)
    assert site["value"].shape == (50,)


def test_fan_in_scale_keeps_a_relu_layers_signal():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 400, generator=generator)
    weight = torch.randn(300, 400, generator=generator) * fan_in_scale(torch.Size([300, 400]))
    passed = torch.relu(x) @ weight.T
    assert passed.square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.05)
