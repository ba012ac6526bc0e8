"""The predictive ensemble: S networks drawn once from the posterior, run without Pyro."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bnn.core.stacked import GROUP, StackedNetwork, bare, in_groups, inference
from bnn.core.uncertainty import Predictive


class PredictiveEnsemble:
    """S sampled networks as one function of images, safe under threads.

    An image's result has the same bits alone and in any batch.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked draws by parameter name, (S, *shape).
        at_once: draws that are run together; of more, the ensemble consists of parts.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor], at_once: int = GROUP) -> None:
        self._network, self._weights, self._at_once = bare(network), dict(weights), at_once
        self._draws = len(next(iter(weights.values())))
        self._parts: dict[int, list[PredictiveEnsemble]] = {}
        self._networks = StackedNetwork(network, weights) if self._draws <= at_once else None

    def __len__(self) -> int:
        return self._draws

    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, C) of `images` (N, 1, 28, 28) under each draw."""
        if self._networks is not None:
            return self._networks(images).softmax(-1)
        return torch.cat([part.probs(images) for part in self.in_parts(self._at_once)])

    def in_parts(self, size: int) -> "list[PredictiveEnsemble]":
        """The same draws in their order, `size` at a time; they are made when they are first asked for.

        Those of as many as are run at once are what the ensemble consists of, and take no further memory.
        """
        if size >= self._draws:
            return [self]
        if size not in self._parts:
            groups = in_groups(self._weights, size)
            self._parts[size] = [PredictiveEnsemble(self._network, group, size) for group in groups]
        return self._parts[size]

    def predictive(self, images: Tensor) -> Predictive:
        """What the ensemble says of `images` (N, 1, 28, 28), N ≥ 1."""
        return summary(self.probs(images))


def summary(probs: Tensor) -> Predictive:
    """`Predictive.of` an ensemble's `probs` (S, N, C), N ≥ 1, each image by itself: alike in any batch."""
    with inference(probs):
        return Predictive.joined([Predictive.of(image.contiguous()) for image in probs.split(1, dim=1)])
