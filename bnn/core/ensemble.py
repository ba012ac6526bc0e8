"""The predictive ensemble: S networks drawn once from the posterior, run without Pyro."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bnn.core.stacked import StackedNetwork
from bnn.core.uncertainty import Predictive


def draw_weights(
    loc: Mapping[str, Tensor], scale: Mapping[str, Tensor], draws: int, seed: int
) -> dict[str, Tensor]:
    """`draws` networks' weights from a mixture of mean-field Normals, stacked: (S, *shape) by name.

    Args:
        loc, scale: the M equally weighted components' parameters by name, each (M, *shape), of any
            floating type; the draws are float32. Draw s
            comes from component s mod M, so that every component is drawn equally often.
        draws: how many networks, S.
        seed: of the draws; the same seed gives the same networks.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(loc):
        component = torch.arange(draws) % len(loc[name])
        noise = torch.randn(draws, *loc[name].shape[1:], generator=generator)
        weights[name] = loc[name].float()[component] + scale[name].float()[component] * noise
    return weights


class PredictiveEnsemble:
    """S sampled networks as one function of images, safe under threads.

    An image's result has the same bits alone and in any batch.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked draws by parameter name, (S, *shape).
    """

    def __init__(self, network: nn.Sequential, weights: Mapping[str, Tensor]) -> None:
        self._networks = StackedNetwork(network, weights)
        self._draws = len(next(iter(weights.values())))

    def __len__(self) -> int:
        return self._draws

    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, C) of `images` (N, 1, 28, 28) under each draw."""
        return self._networks(images).softmax(-1)

    @torch.inference_mode()
    def predictive(self, images: Tensor) -> Predictive:
        """What the ensemble says of `images` (N, 1, 28, 28), N ≥ 1, without keeping every draw's answer."""
        summaries = [
            Predictive.of(image.contiguous())
            for block in images.split(self._networks.block)
            for image in self._networks(block).softmax(-1).split(1, dim=1)
        ]
        return Predictive.joined(summaries)
