"""Features: what a forward hook sees of a mean network, whatever the network, and the same in any batch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from any_networks import MAPPED, STACKED, Unbiased, require_close, row
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.features import Features, require_described
from bnn.core.networks import feature_layer
from bnn.core.posterior import MeanField, Mixture
from bnn.errors import InputError

IMAGES = torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
ALL = STACKED | MAPPED
Make = Callable[[], nn.Module]


def posterior_of(network: nn.Module, components: int, seed: int = 1) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    each = [
        {
            name: value.detach() + 0.3 * torch.randn(value.shape, generator=generator)
            for name, value in network.named_parameters()
        }
        for _ in range(components)
    ]
    return Mixture([MeanField(loc, loc) for loc in each])


def hooked(network: nn.Module, weights: dict[str, Tensor]) -> Tensor:
    """What the linear layer that describes an image is given, by a hook of PyTorch's."""
    seen: list[Tensor] = []
    layer = network.get_submodule(feature_layer(network))
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        functional_call(network.eval(), weights, (IMAGES,))
    handle.remove()
    (features,) = seen
    return features


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_they_are_what_a_forward_hook_gives(make: Make) -> None:
    network = make()
    posterior = posterior_of(network, 3)
    expected = torch.stack([hooked(network, component.mean()) for component in posterior.components])
    features = Features(network.train(), posterior)
    assert (features.count, features.size) == (3, expected.shape[2])
    require_close(features(IMAGES), expected)
    for m in range(3):
        require_close(features.of_component(m, IMAGES), expected[m])
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_an_image_has_the_same_bits_alone_and_anywhere_in_a_batch(make: Make) -> None:
    network = make()
    features = Features(network, posterior_of(network, 2))
    together = features(IMAGES)
    assert features(IMAGES.flip(0)).flip(1).equal(together)
    assert all(features(IMAGES[i : i + 1])[:, 0].equal(together[:, i]) for i in range(len(IMAGES)))
    assert features(IMAGES[:0]).shape == (2, 0, features.size)


@pytest.mark.parametrize("name", ["cnn", "resnet", "unbiased-gelu"])
def test_eight_threads_at_once_see_the_serial_features(name: str) -> None:
    network = ALL[name]()
    features = Features(network, posterior_of(network, 2))
    alone = [features(IMAGES[i : i + 1]) for i in range(len(IMAGES))]
    whole = features.of_component(1, IMAGES)
    with ThreadPoolExecutor(8) as pool:
        one_by_one = pool.map(lambda i: features(IMAGES[i : i + 1]), list(range(len(IMAGES))) * 4)
        wholes = pool.map(lambda _: features.of_component(1, IMAGES), range(20))
        assert all(one.equal(alone[i % len(IMAGES)]) for i, one in enumerate(one_by_one))
        assert all(one.equal(whole) for one in wholes)


@pytest.mark.parametrize("name", ["cnn", "resnet", "linear"])
def test_the_network_may_lie_in_no_memory(name: str) -> None:
    network = ALL[name]()
    posterior = posterior_of(network, 2)
    with torch.device("meta"):
        hollow = ALL[name]()
    assert Features(hollow, posterior)(IMAGES).equal(Features(network, posterior)(IMAGES))


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ALL.items()])
def test_what_describes_images_is_let_through(make: Make) -> None:
    require_described(make(), (1, 28, 28))


class Unused(Unbiased):
    """Its last linear layer is never reached."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)


class Sequences(nn.Module):
    """Its last linear layer gets 28 vectors of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(28, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(images.squeeze(1))
        return logits.mean(1)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (
            Unused(),
            r"the network Unused describes no image before its layer 'idle': the network did not come",
        ),
        (Sequences(), r"the network Sequences [^\n]* layer 'out': it gets \(784,\) of an image, not \(28,\)"),
        (row(nn.ReLU()), r"the network Sequential describes no image: it needs a linear layer"),
        (row(nn.Linear(783, 9), nn.Linear(9, 3)), r"the network Sequential [^\n]* layer '2': "),
    ],
    ids=["unused", "sequences", "none", "misfit"],
)
def test_what_describes_no_image_is_refused_in_one_sentence(network: nn.Module, why: str) -> None:
    with pytest.raises(InputError, match=rf"^{why}[^\n]*\.$"):
        require_described(network, (1, 28, 28))
