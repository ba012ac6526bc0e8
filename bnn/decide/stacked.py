"""One network run with many sets of weights at once."""

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

Run = Callable[[Tensor], Tensor]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class StackedNetwork:
    """S networks of one kind as one function of images, safe under threads.

    Images are computed in blocks of a fixed size, the last one filled up, so that an image's result has
    the same bits alone and in any batch: other shapes may be rounded otherwise.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked by parameter name, (S, *shape); more than the network has are left out.

    Attributes:
        block: how many images are computed at once.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self._network = network.eval()
        self._weights = {name: weights[name] for name, _ in network.named_parameters()}
        # A convolution's work grows with the images; a linear layer's is mostly reading its weights,
        # for which a few images cost hardly more than one. But where its inputs do not fill the
        # processor's vectors, an image is rounded by its place in the block.
        modules = list(network.modules())
        convolutional = any(isinstance(module, _CONVOLUTIONS) for module in modules)
        filled = all(module.in_features % 16 == 0 for module in modules if isinstance(module, nn.Linear))
        self.block = 8 if filled and not convolutional else 1

    def runner(self) -> Run:
        """Images (N, 1, 28, 28) to outputs (S, N, D), to be used by one thread.

        `functional_call` puts the weights into the network while it runs, so each call has its own copy.
        """
        parameters = {id(parameter): parameter for parameter in self._network.parameters()}
        network = copy.deepcopy(self._network, parameters)  # the modules only

        def one(weights: dict[str, Tensor], block: Tensor) -> Tensor:
            return functional_call(network, weights, (block,))

        stacked = partial(vmap(one, in_dims=(0, None)), self._weights)

        @torch.inference_mode()
        def run(images: Tensor) -> Tensor:
            return in_blocks(stacked, images, self.block, dim=1)

        return run


def in_blocks(run: Run, images: Tensor, size: int, dim: int = 0) -> Tensor:
    """`run` on `images` (N, …), always `size` at once, joined along `dim`, where its result has them.

    The last block is filled up, so that an image's result has the same bits alone and in any batch.
    """
    missing = -len(images) % size if len(images) else size
    blocks = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]).split(size)
    return torch.cat([run(block) for block in blocks], dim).narrow(dim, 0, len(images))
