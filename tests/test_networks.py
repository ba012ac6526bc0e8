"""The plain networks, and building them by name."""

from typing import Any

import pytest
import torch
from torch import nn

from bnn.core.networks import MLP, NETWORKS, build_network
from bnn.errors import InputError


@pytest.mark.parametrize("name", NETWORKS)
def test_images_become_ten_logits(name: str) -> None:
    assert build_network(name)(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_trunk_makes_the_features_and_the_other_layers_the_logits(name: str) -> None:
    network, images = build_network(name), torch.rand(3, 1, 28, 28)
    trunk = network.trunk()
    features = trunk(images)
    assert features.ndim == 2
    rest = list(network.children())[len(trunk) :]
    assert torch.equal(nn.Sequential(*rest)(features), network(images))
    assert list(network._modules)[len(trunk)] == network.features_before
    assert set(trunk.state_dict()) < set(network.state_dict())


def test_the_notebooks_network_has_its_number_of_weights() -> None:
    assert sum(value.numel() for value in MLP().parameters()) == 784 * 1024 + 1024 + 1024 * 10 + 10


def test_options_set_the_sizes() -> None:
    network = build_network("cnn", {"channels": [3, 5], "hidden": 7})
    assert {name: tuple(value.shape) for name, value in network.named_parameters()} == {
        "conv1.weight": (3, 1, 5, 5),
        "conv1.bias": (3,),
        "conv2.weight": (5, 3, 5, 5),
        "conv2.bias": (5,),
        "hidden.weight": (7, 5 * 4 * 4),
        "hidden.bias": (7,),
        "out.weight": (10, 7),
        "out.bias": (10,),
    }


def test_options_set_the_sizes_of_the_deepest_network() -> None:
    network = build_network("vgg", {"channels": [2, 3, 4], "hidden": 5})
    assert {name: tuple(value.shape) for name, value in network.named_parameters() if "weight" in name} == {
        "conv1.weight": (2, 1, 5, 5),
        "conv2.weight": (3, 2, 3, 3),
        "conv3.weight": (3, 3, 3, 3),
        "conv4.weight": (4, 3, 3, 3),
        "conv5.weight": (4, 4, 3, 3),
        "hidden.weight": (5, 4 * 4 * 4),
        "out.weight": (10, 5),
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {}),
        ("mlp", {"hidden": 0}),
        ("mlp", {"hidden": -1}),
        ("mlp", {"hidden": "many"}),
        ("mlp", {"hidden": 2.5}),
        ("mlp", {"hidden": 10**30}),
        ("mlp", {"width": 3}),
        ("cnn", {"channels": [4]}),
        ("cnn", {"channels": [4, 0]}),
        ("cnn", {"channels": 4}),
        ("cnn", {"channels": ["a", "b"]}),
        ("vgg", {"channels": [4, 4]}),
        ("vgg", {"channels": [4, 4, 0]}),
    ],
)
def test_impossible_options_are_named_in_one_line(name: str, options: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=name) as caught:
        build_network(name, options)
    assert "\n" not in str(caught.value)
