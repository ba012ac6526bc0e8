"""One network run with many sets of weights at once."""

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn.errors import InputError, cause_in

GROUP = 10  # networks run at once: what lies between their layers stays in the processor's cache

Run = Callable[[Tensor], Tensor]


class StackedNetwork:
    """S networks of one kind as one function of images, safe under threads.

    Images are computed in blocks of a fixed size, the last one filled up, so that an image's result has
    the same bits alone and in any batch: other shapes may be rounded otherwise.

    Where the network is a row of layers that `_stacked` knows, every layer is a multiplication of some
    networks' matrices at once, on activations with their channels last: on one image faster than
    `torch.func.vmap` over the network, which makes grouped convolutions of it. Any other network runs by
    that.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked by parameter name, (S, *shape); more than the network has are left out.

    Attributes:
        block: how many images are computed at once.

    Raises:
        InputError: the network cannot be run for many sets of weights at once.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        named = {name: weights[name] for name, _ in network.named_parameters()}
        draws = len(next(iter(weights.values())))
        groups = [
            {name: value[at : at + GROUP] for name, value in named.items()} for at in range(0, draws, GROUP)
        ]
        if is_stackable(network):
            self._groups = [partial(_run_layers, _layers(network, group)) for group in groups]
        else:
            mapped = _Mapped(network)
            self._groups = [partial(mapped, group) for group in groups]
        # A convolution's work grows with the images; a linear layer's is mostly reading its weights,
        # for which a few images cost hardly more than one. But where its inputs do not fill the
        # processor's vectors, an image is rounded by its place in the block.
        modules = list(network.modules())
        convolutional = any(isinstance(module, nn.Conv2d) for module in modules)
        filled = all(module.in_features % 16 == 0 for module in modules if isinstance(module, nn.Linear))
        self.block = 8 if is_stackable(network) and filled and not convolutional else 1

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Outputs (S, N, D) of images (N, 1, 28, 28)."""
        return in_blocks(self._run, images, self.block, dim=1)

    def _run(self, block: Tensor) -> Tensor:
        return torch.cat([run(block) for run in self._groups])


def in_blocks(run: Run, images: Tensor, size: int, dim: int = 0) -> Tensor:
    """`run` on `images` (N, …), always `size` at once, joined along `dim`, where its result has them.

    The last block is filled up, so that an image's result has the same bits alone and in any batch.
    """
    missing = -len(images) % size if len(images) else size
    blocks = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]).split(size)
    # A copy is aligned to the processor's vectors, wherever in the batch its block lay.
    return torch.cat([run(block.clone()) for block in blocks], dim).narrow(dim, 0, len(images))


def is_stackable(network: nn.Module) -> bool:
    """Whether `network` is a row of layers that can be multiplied for many networks at once."""
    if not is_row(network):
        return False
    layers = list(layers_of(network).values())
    before = list(takewhile(lambda layer: not isinstance(layer, nn.Flatten), layers))
    return all(map(_is_known_on_images, before)) and all(map(_is_known_on_rows, layers[len(before) :]))


def is_row(network: nn.Module) -> bool:
    """Whether `network` does what its layers do one after another, and nothing else."""
    return isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The modules right in `network` by name, as often as they stand there."""
    named = network.named_modules(remove_duplicate=False)
    return {name: module for name, module in named if name and "." not in name}


def require_runnable(network: nn.Module, image_shape: tuple[int, ...], outputs: int) -> None:
    """Checks, before long work, that `network` can be run for many sets of weights at once.

    Args:
        network: whose own weights are used, twice.
        image_shape: of one image, such as (1, 28, 28).
        outputs: logits that it should give for each.

    Raises:
        InputError: it cannot, or gives something else.
    """
    twice = {
        name: torch.stack([value.detach(), value.detach()]) for name, value in network.named_parameters()
    }
    if not twice:
        raise InputError(f"the network {type(network).__name__} has no weights to put a posterior on.")
    try:
        logits = StackedNetwork(network, twice)(torch.zeros(3, *image_shape))
    except Exception as error:  # a network may raise anything
        raise InputError(
            f"the network {type(network).__name__} cannot be run for many sets of weights at once: "
            f"{cause_in(error)}."
        ) from error
    if logits.shape != (2, 3, outputs):
        raise InputError(
            f"the network {type(network).__name__} gives {tuple(logits.shape[2:])} for an image, and should "
            f"give {(outputs,)}, its logits."
        )


def _run_layers(layers: Iterable[Run], block: Tensor) -> Tensor:
    return reduce(lambda x, layer: layer(x), layers, block.movedim(1, -1)[None])


class _Mapped:
    """A network's computation, with many sets of weights (S, *shape) at once, by `torch.func.vmap`.

    While it runs, `functional_call` puts the weights into the module: so each thread has a module of its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._of_thread = bare(network), threading.local()

    def __call__(self, weights: Mapping[str, Tensor], block: Tensor) -> Tensor:
        if not hasattr(self._of_thread, "network"):
            self._of_thread.network = bare(self._network)
        network = self._of_thread.network
        outputs: Tensor = vmap(lambda drawn: functional_call(network, drawn, (block,)))(dict(weights))
        return outputs


def bare(network: nn.Module) -> nn.Module:
    """A copy of `network` as computation alone, its weights in no memory, as it is when not in training."""
    shapes = {id(value): nn.Parameter(value.to("meta")) for value in network.parameters()}
    return copy.deepcopy(network, shapes).eval()  # what shares a parameter goes on sharing it


def _layers(network: nn.Module, weights: Mapping[str, Tensor]) -> list[Run]:
    return [
        _stacked(layer, {name: weights[f"{key}.{name}"] for name, _ in layer.named_parameters()})
        for key, layer in layers_of(network).items()
    ]


def _is_known_on_images(layer: nn.Module) -> bool:
    if type(layer) not in (nn.Conv2d, nn.MaxPool2d, nn.ReLU):  # a class derived from them may do more
        return False
    match layer:
        case nn.Conv2d(
            kernel_size=(height, width),
            padding=(down, right),
            stride=(1, 1),
            dilation=(1, 1),
            groups=1,
            padding_mode="zeros",
        ):
            return bool(height == width and down == right)
        case nn.MaxPool2d(kernel_size=int(side), stride=stride, padding=0, dilation=1, ceil_mode=False):
            return bool(side == stride)
    return isinstance(layer, nn.ReLU)


def _is_known_on_rows(layer: nn.Module) -> bool:
    match layer:
        case nn.Flatten(start_dim=start, end_dim=end):
            return bool((start, end) == (1, -1))
    return type(layer) in (nn.Linear, nn.ReLU)


def _stacked(layer: nn.Module, weights: Mapping[str, Tensor]) -> Run:
    """`layer` on activations (S, N, H, W, C) or (S, N, D), where S may still be 1: alike for all networks."""
    match layer:
        case nn.Conv2d(kernel_size=(side, _), padding=(padding, _)):
            matrices = weights["weight"].permute(0, 3, 4, 2, 1).flatten(1, 3).contiguous()
            return partial(
                _convolved, side=side, padding=padding, matrices=matrices, bias=weights.get("bias")
            )
        case nn.Linear():
            return partial(_multiplied, matrices=weights["weight"].mT, bias=weights.get("bias"))
        case nn.MaxPool2d(kernel_size=int(side)):
            return partial(_pooled, side=side)
        case nn.ReLU():
            return torch.relu
    return _flattened


def _convolved(x: Tensor, side: int, padding: int, matrices: Tensor, bias: Tensor | None) -> Tensor:
    """Each `side` × `side` window of `x` as a row, times `matrices` (S, side·side·C, O)."""
    padded = F.pad(x, (0, 0, padding, padding, padding, padding)).contiguous()
    s, n, height, width, channels = padded.shape
    down, right = height - side + 1, width - side + 1
    strides = padded.stride()
    windows = padded.as_strided(
        (s, n, down, right, side, side, channels), (*strides[:4], strides[2], strides[3], 1)
    )
    rows = windows.reshape(s, n * down * right, side * side * channels)
    return _multiplied(rows, matrices, bias).view(len(matrices), n, down, right, -1)


def _multiplied(x: Tensor, matrices: Tensor, bias: Tensor | None) -> Tensor:
    """`x` (S or 1, N, D) times `matrices` (S, D, O) plus `bias` (S, O), where there is one."""
    rows = x.expand(len(matrices), -1, -1)
    return rows.bmm(matrices) if bias is None else torch.baddbmm(bias[:, None], rows, matrices)


def _pooled(x: Tensor, side: int) -> Tensor:
    height, width = (size // side * side for size in x.shape[2:4])
    rows = _largest(x[:, :, i:height:side] for i in range(side))
    return _largest(rows[:, :, :, i:width:side] for i in range(side))


def _largest(tensors: Iterable[Tensor]) -> Tensor:
    return reduce(torch.maximum, tensors)


def _flattened(x: Tensor) -> Tensor:
    """In the order of `nn.Flatten` on channels first."""
    return x.movedim(-1, 2).flatten(2)
