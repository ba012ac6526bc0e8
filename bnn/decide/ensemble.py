"""The predictive ensemble: S networks drawn once from the posterior, run without Pyro."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn.decide.uncertainty import Predictive
from bnn.networks import NUM_CLASSES


def draw_weights(loc: Mapping[str, Tensor], scale: Mapping[str, Tensor], draws: int, seed: int) -> dict[str, Tensor]:
    """`draws` networks' weights from a mixture of mean-field Normals, stacked: (S, *shape) by name.

    Args:
        loc, scale: the M equally weighted components' parameters by name, each (M, *shape). Draw s
            comes from component s mod M, so that every component is drawn equally often.
        draws: how many networks, S.
        seed: of the draws; the same seed gives the same networks.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(loc):
        component = torch.arange(draws) % len(loc[name])
        noise = torch.randn(draws, *loc[name].shape[1:], generator=generator)
        weights[name] = loc[name][component] + scale[name][component] * noise
    return weights


class PredictiveEnsemble:
    """S sampled networks as one function of images, safe under threads.

    Every image is computed by itself, always in the same shapes, so that its result has the same bits
    alone and in a batch: a batched matrix product may round otherwise.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked draws by parameter name, (S, *shape).
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)
        self._network = network.eval()
        self._run = vmap(self._one_draw, in_dims=(0, None))

    def __len__(self) -> int:
        return len(next(iter(self._weights.values())))

    def _one_draw(self, weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(self._network, weights, (image,)).softmax(-1)

    @torch.inference_mode()
    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, C) of `images` (N, 1, 28, 28) under each draw."""
        if len(images) == 0:
            return torch.empty(len(self), 0, NUM_CLASSES)
        return torch.cat([self._run(self._weights, image) for image in images.split(1)], dim=1)

    def predictive(self, images: Tensor) -> Predictive:
        """What the ensemble says of `images` (N, 1, 28, 28), without keeping every draw's answer."""
        if len(images) == 0:
            return self.predictive(torch.zeros(1, *images.shape[1:]))[:0]
        return Predictive.joined([Predictive.of(self.probs(image)) for image in images.split(1)])
