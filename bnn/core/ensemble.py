"""The predictive ensemble: S networks drawn once from the posterior, run without Pyro."""

from collections.abc import Mapping

from torch import Tensor, nn

from bnn.core.stacked import StackedNetwork, bare, inference
from bnn.core.uncertainty import Predictive


class PredictiveEnsemble:
    """S sampled networks as one function of images, safe under threads.

    An image's result has the same bits alone and in any batch.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked draws by parameter name, (S, *shape).
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._network, self._weights = bare(network), dict(weights)
        self._networks = StackedNetwork(network, weights)
        self._draws = len(next(iter(weights.values())))
        self._parts: dict[int, list[PredictiveEnsemble]] = {}

    def __len__(self) -> int:
        return self._draws

    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, C) of `images` (N, 1, 28, 28) under each draw."""
        return self._networks(images).softmax(-1)

    def in_parts(self, size: int) -> "list[PredictiveEnsemble]":
        """The same draws in their order, `size` at a time; they are made when they are first asked for."""
        if size not in self._parts:
            self._parts[size] = [
                PredictiveEnsemble(
                    self._network, {name: value[at : at + size] for name, value in self._weights.items()}
                )
                for at in range(0, self._draws, size)
            ]
        return self._parts[size]

    def predictive(self, images: Tensor) -> Predictive:
        """What the ensemble says of `images` (N, 1, 28, 28), N ≥ 1."""
        return summary(self.probs(images))


def summary(probs: Tensor) -> Predictive:
    """`Predictive.of` an ensemble's `probs` (S, N, C), N ≥ 1, each image by itself: alike in any batch."""
    with inference(probs):
        return Predictive.joined([Predictive.of(image.contiguous()) for image in probs.split(1, dim=1)])
