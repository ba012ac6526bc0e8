"""The plain networks, and building them by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn.core.networks import MLP, NETWORKS, build_network, feature_layer
from bnn.core.task import DIGITS, Task
from bnn.errors import InputError

THREE = Task(("cat", "dog", "fish"))


@pytest.mark.parametrize("task", [DIGITS, THREE], ids=["ten", "three"])
@pytest.mark.parametrize("name", NETWORKS)
def test_images_become_a_logit_for_every_class(name: str, task: Task) -> None:
    logits = build_network(name, None, task)(torch.rand(3, 1, 28, 28))
    assert logits.shape == (3, task.classes)
    assert logits.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_each_describes_an_image_before_one_of_its_linear_layers(name: str) -> None:
    network = build_network(name, None, DIGITS)
    layer = network.get_submodule(feature_layer(network))
    assert isinstance(layer, nn.Linear)
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.rand(3, 1, 28, 28))
    assert [one.shape for one in seen] == [(3, layer.in_features)]


def test_the_layer_a_network_names_is_the_one_else_the_last() -> None:
    assert feature_layer(build_network("vgg", None, DIGITS)) == "hidden"
    assert feature_layer(build_network("mlp", None, DIGITS)) == "out"
    assert feature_layer(nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.Linear(5, 3), nn.ReLU())) == "2"


def test_the_notebooks_network_has_its_number_of_weights() -> None:
    weights = sum(value.numel() for value in MLP(classes=10).parameters())
    assert weights == 784 * 1024 + 1024 + 1024 * 10 + 10


def test_options_set_the_sizes() -> None:
    network = build_network("cnn", {"channels": [3, 5], "hidden": 7}, DIGITS)
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
    network = build_network("vgg", {"channels": [2, 3, 4], "hidden": 5}, THREE)
    assert {name: tuple(value.shape) for name, value in network.named_parameters() if "weight" in name} == {
        "conv1.weight": (2, 1, 5, 5),
        "conv2.weight": (3, 2, 3, 3),
        "conv3.weight": (3, 3, 3, 3),
        "conv4.weight": (4, 3, 3, 3),
        "conv5.weight": (4, 4, 3, 3),
        "hidden.weight": (5, 4 * 4 * 4),
        "out.weight": (3, 5),
    }


def test_options_set_the_sizes_of_the_residual_network() -> None:
    network = build_network("resnet", {"channels": [2, 3]}, THREE)
    assert {name: tuple(value.shape) for name, value in network.named_parameters() if "weight" in name} == {
        "stem.weight": (2, 1, 5, 5),
        "blocks.0.first.weight": (2, 2, 3, 3),
        "blocks.0.second.weight": (2, 2, 3, 3),
        "blocks.1.first.weight": (3, 2, 3, 3),
        "blocks.1.second.weight": (3, 3, 3, 3),
        "blocks.1.skip.weight": (3, 2, 1, 1),
        "out.weight": (3, 3),
    }
    assert not any("first.bias" in name for name, _ in network.named_parameters())


def test_a_residual_block_passes_on_what_it_is_given() -> None:
    network = build_network("resnet", {"channels": [4]}, THREE)
    with torch.no_grad():
        network.get_parameter("blocks.0.second.weight").zero_()
        network.get_parameter("blocks.0.second.bias").zero_()
    image = torch.rand(2, 1, 28, 28)
    stem = network.get_submodule("stem")(image)
    torch.testing.assert_close(network(image), network.get_submodule("out")(stem.mean((-2, -1))))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("transformer", {}),
        ("mlp", {"hidden": 0}),
        ("mlp", {"hidden": -1}),
        ("mlp", {"hidden": "many"}),
        ("mlp", {"hidden": 2.5}),
        ("mlp", {"hidden": 10**30}),
        ("mlp", {"width": 3}),
        ("mlp", {"classes": 3}),
        ("cnn", {"channels": [4]}),
        ("cnn", {"channels": [4, 0]}),
        ("cnn", {"channels": 4}),
        ("cnn", {"channels": ["a", "b"]}),
        ("vgg", {"channels": [4, 4]}),
        ("vgg", {"channels": [4, 4, 0]}),
        ("resnet", {"channels": []}),
        ("resnet", {"channels": [4, 0]}),
        ("resnet", {"channels": "ab"}),
        ("resnet", {"channels": [4, 4, 4, 4]}),
        ("resnet", {"channels": [4] * 1000}),
    ],
)
def test_impossible_options_are_named_in_one_line(name: str, options: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=rf"^[^\n]*{name}[^\n]*\.$"):
        build_network(name, options, DIGITS)


class Normed(nn.Sequential):
    def __init__(self, *, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.Linear(6, classes))


class Tied(nn.Module):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, 784), nn.Linear(784, 784)
        self.second.weight = self.first.weight
        self.out = nn.Linear(784, classes)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Normed, "has a buffer, '2.running_mean'"),
        (Tied, "a weight twice, the second time as 'second.weight'"),
    ],
)
def test_what_no_posterior_describes_is_refused(
    network: type[nn.Module], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "own", network)
    with pytest.raises(InputError, match=rf"^the network 'own' [^\n]*{why}[^\n]*\.$"):
        build_network("own", {}, DIGITS)


class Named(nn.Sequential):
    features_before = "hidden"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten()), r"needs a linear layer\.$"),
        (lambda: Named(nn.Flatten(), nn.Linear(784, 10)), r"needs a linear layer called 'hidden'\.$"),
    ],
)
def test_without_a_linear_layer_no_image_is_described(make: Callable[[], nn.Module], why: str) -> None:
    with pytest.raises(InputError, match=rf"^the network \w+ describes no image: it {why}"):
        feature_layer(make())


def test_a_network_added_at_run_time_is_built_for_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(nn.Sequential):
        def __init__(self, width: int, *, classes: int) -> None:
            super().__init__(nn.Flatten(), nn.Linear(784, width, bias=False), nn.Linear(width, classes))

    monkeypatch.setitem(NETWORKS, "plain", Plain)
    network = build_network("plain", {"width": 5}, THREE)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 3)
