"""The predictive ensemble: S networks drawn once from the posterior, run without Pyro."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn.decide.uncertainty import Predictive

Run = Callable[[Tensor], Tensor]
Progress = Callable[[Sequence[Tensor]], Iterable[Tensor]]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def draw_weights(
    loc: Mapping[str, Tensor], scale: Mapping[str, Tensor], draws: int, seed: int
) -> dict[str, Tensor]:
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

    Images are computed in blocks of a fixed size, the last one filled up, so that an image's result has
    the same bits alone and in any batch: other shapes may be rounded otherwise.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked draws by parameter name, (S, *shape).
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)
        self._network = network.eval()
        # A convolution's work grows with the images; a linear layer's is mostly reading its weights,
        # for which a few images cost hardly more than one. But where its inputs do not fill the
        # processor's vectors, an image is rounded by its place in the block.
        modules = list(network.modules())
        convolutional = any(isinstance(module, _CONVOLUTIONS) for module in modules)
        filled = all(module.in_features % 16 == 0 for module in modules if isinstance(module, nn.Linear))
        self._block = 8 if filled and not convolutional else 1

    def __len__(self) -> int:
        return len(next(iter(self._weights.values())))

    def _runner(self) -> Run:
        """All draws as one function of a block, to be used by one thread.

        `functional_call` puts the weights into the network while it runs, so each call has its own copy.
        """
        parameters = {id(parameter): parameter for parameter in self._network.parameters()}
        network = copy.deepcopy(self._network, parameters)  # the modules only

        def one_draw(weights: dict[str, Tensor], block: Tensor) -> Tensor:
            return functional_call(network, weights, (block,)).softmax(-1)

        return partial(vmap(one_draw, in_dims=(0, None)), self._weights)

    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (S, N, C) of `images` (N, 1, 28, 28) under each draw."""
        return self._probs(self._runner(), images)

    @torch.inference_mode()
    def _probs(self, run: Run, images: Tensor) -> Tensor:
        missing = -len(images) % self._block if len(images) else self._block
        blocks = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]).split(self._block)
        return torch.cat([run(block) for block in blocks], dim=1)[:, : len(images)]

    def predictive(self, images: Tensor, progress: Progress = iter) -> Predictive:
        """What the ensemble says of `images` (N, 1, 28, 28), without keeping every draw's answer.

        Args:
            images: to be judged.
            progress: goes through the blocks of images one by one, and may show how far it is.
        """
        if len(images) == 0:
            return self.predictive(images.new_zeros(1, *images.shape[1:]))[:0]
        run = self._runner()
        summaries = [
            Predictive.of(image.contiguous())
            for block in progress(images.split(self._block))
            for image in self._probs(run, block).split(1, dim=1)
        ]
        return Predictive.joined(summaries)
