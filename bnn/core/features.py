"""Features: how the networks themselves describe an image, just before they classify it."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.networks import feature_layer
from bnn.core.posterior import MeanField, Posterior
from bnn.core.stacked import StackedNetwork, bare, in_blocks, inference, is_row, layers_of
from bnn.errors import InputError, cause_in

BATCH = 500  # images whose features are computed at once where no ensemble's promise of equal bits is needed


class Features:
    """Descriptions of images by the mean network of each of a posterior's M components.

    An image's features have the same bits alone and in any batch. Safe under threads.

    Args:
        network: gives the computation; its own weights are not used.
        posterior: gives the mean networks.

    Attributes:
        count: components, M.
        size: numbers that describe an image, D.

    Raises:
        InputError: the network has no linear layer before which it could be asked.
    """

    def __init__(self, network: nn.Module, posterior: Posterior) -> None:
        layer = feature_layer(network)
        described = network.get_submodule(layer)
        assert isinstance(described, nn.Linear)  # noqa: S101
        means = [component.mean() for component in posterior.components]
        self.count, self.size = len(means), described.in_features
        self._trunk, prefix = _trunk(network, layer)
        self._means = [_under(prefix, mean, self._trunk) for mean in means]
        stacked = {name: torch.stack([mean[name] for mean in self._means]) for name in self._means[0]}
        self._networks = StackedNetwork(self._trunk, stacked) if stacked else None

    def __call__(self, images: Tensor) -> Tensor:
        """Features (M, N, D) of `images` (N, 1, 28, 28)."""
        if self._networks is not None:
            return self._networks(images)
        with inference(images):
            return in_blocks(self._trunk, images, 1).expand(
                self.count, -1, -1
            )  # without weights all are alike

    @torch.no_grad()
    def of_component(self, component: int, images: Tensor) -> Tensor:
        """Features (N, D) of `images` (N, 1, 28, 28) by one of the M mean networks, in large batches."""
        trunk, weights = bare(self._trunk), self._means[component]  # a copy, for while it runs it is changed
        batches = [functional_call(trunk, weights, (batch,)) for batch in images.split(BATCH)]
        return torch.cat(batches)


def require_described(network: nn.Module, image_shape: tuple[int, ...]) -> None:
    """Checks, before long work, that `network` describes images of `image_shape`, such as (1, 28, 28).

    Raises:
        InputError: it has no linear layer, or the last does not get one vector of an image.
    """
    weights = {name: value.detach() for name, value in network.named_parameters()}
    features = Features(network, MeanField(weights, weights))
    try:
        described = features(torch.zeros(3, *image_shape)).shape
    except Exception as error:  # a network may raise anything
        raise InputError(_not_described(network, cause_in(error))) from error
    if described != (1, 3, features.size):
        raise InputError(
            _not_described(network, f"it gets {tuple(described[2:])} of an image, not {(features.size,)}")
        )


def _not_described(network: nn.Module, cause: str) -> str:
    return (
        f"the network {type(network).__name__} describes no image before its layer "
        f"{feature_layer(network)!r}: {cause}."
    )


def _trunk(network: nn.Module, layer: str) -> tuple[nn.Module, str]:
    """`network` up to the input of `layer`, and what precedes its parameters' names there."""
    network = bare(network)
    layers = layers_of(network)
    if is_row(network) and layer in layers:
        kept = list(layers)[: list(layers).index(layer)]
        return nn.Sequential(OrderedDict((name, layers[name]) for name in kept)), ""
    return _Described(network, layer), "network."


def _under(prefix: str, weights: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    return {name: weights[name.removeprefix(prefix)] for name, _ in trunk.named_parameters()}


class _Reached(Exception):  # noqa: N818
    """Carries a layer's input out of the network, whose rest need not be computed."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


class _Tap(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        raise _Reached(features)


class _Described(nn.Module):
    """Any network up to the input of `layer`, which it then lacks: images to features (N, D)."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.network.set_submodule(layer, _Tap())

    def forward(self, images: Tensor) -> Tensor:
        try:
            self.network(images)
        except _Reached as reached:
            return reached.features.flatten(1)
        raise RuntimeError("the network did not come to the layer that describes an image")
