"""One network run with many sets of weights at once."""

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn.core.torch_private import packed_convolution, packed_filters
from bnn.errors import InputError, cause_in

GROUP = 6  # networks run at once: what they make of a block of images stays in the processor's cache
BLOCK = 32  # images run at once, at most: a network's weights are read once for all of them
VECTOR = 16  # numbers that a processor multiplies at once: with other channels, groups would be slow
TRIED = ("AVX2", "AVX512")  # processors on which oneDNN was seen to round an image alike in any batch

Run = Callable[[Tensor], Tensor]


class StackedNetwork:
    """S networks of one kind as one function of images, safe under threads.

    An image's result has the same bits alone and in any batch. Where a computation's rounding may depend on
    how many images it gets, each runs by itself.

    Where the network is a row of layers that `_stacked` knows, each of its layers runs for some networks at
    once, as the groups of one of oneDNN's convolutions, channels last: a linear layer is one of 1×1 pixels,
    the images of a block being the pixels. So every number is a sum in one order, however many images there
    are. Any other network runs by `torch.func.vmap`.

    Args:
        network: gives the computation; its own weights are not used.
        weights: stacked by parameter name, (S, *shape); more than the network has are left out.

    Attributes:
        block: how many images are computed at once, at most.

    Raises:
        InputError: the network cannot be run for many sets of weights at once.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        named = {name: weights[name] for name, _ in network.named_parameters()}
        self._made_of = bare(network), named
        groups = in_groups(named, GROUP)
        stacked = is_stackable(network)
        if stacked:
            self._groups = [_stacked_row(network, group) for group in groups]
        else:
            mapped = _Mapped(network)
            self._groups = [partial(mapped, group) for group in groups]
        is_alike = torch.backends.cpu.get_cpu_capability() in TRIED
        self.block = BLOCK if stacked and is_alike else 1

    def __reduce__(self) -> tuple[Any, ...]:
        """It is copied and pickled as what it is made of: oneDNN's weights cannot be."""
        return type(self), self._made_of

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs (S, N, D) of images (N, 1, 28, 28).

        Where the images require a gradient they carry one, and may differ in their last bits.
        """
        if torch.compiler.is_exporting():
            return self._exported(images)
        if images.requires_grad:
            network, weights = self._made_of
            return _Mapped(network)(weights, images)
        if len(images) == 0:
            return self(images.new_zeros(1, *images.shape[1:]))[:, :0]
        with torch.inference_mode():
            # A copy is aligned to the processor's vectors, wherever in the batch its block lay.
            return torch.cat([self._run(block.clone()) for block in images.split(self.block)], 1)

    def _run(self, block: Tensor) -> Tensor:
        return torch.cat([run(block) for run in self._groups])

    def _exported(self, images: Tensor) -> Tensor:
        """The same, but for rounding, of any number of images, in operations that other programs have too."""
        network, weights = self._made_of
        draws = range(len(next(iter(weights.values()))))
        drawn = ({name: value[s] for name, value in weights.items()} for s in draws)
        return torch.stack([functional_call(network, one, (images,)) for one in drawn])


def inference(of: Tensor) -> torch.inference_mode:
    """What works out numbers `of` a tensor without a gradient, unless that requires one."""
    return torch.inference_mode(not of.requires_grad)


def in_groups(weights: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """`weights` (S, *shape) in their order, of `size` networks each, the last of what is left."""
    draws = len(next(iter(weights.values())))
    return [{name: value[at : at + size] for name, value in weights.items()} for at in range(0, draws, size)]


def in_blocks(run: Run, images: Tensor, size: int) -> Tensor:
    """`run` on `images` (N, …), always `size` at once, its results (N, …) joined.

    The last block is filled up, so that an image's result has the same bits alone and in any batch. Where
    `run` is traced by `torch.export`, it gets all at once.
    """
    if torch.compiler.is_exporting():
        return run(images)
    missing = -len(images) % size if len(images) else size
    blocks = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]).split(size)
    # A copy is aligned to the processor's vectors, wherever in the batch its block lay.
    return torch.cat([run(block.clone()) for block in blocks])[: len(images)]


def is_stackable(network: nn.Module) -> bool:
    """Whether `network` is a row of layers that can be run for many networks at once."""
    if not is_row(network) or not torch.backends.mkldnn.is_available():
        return False
    on_images, on_rows = _parts(network)
    return all(map(_is_known_on_images, on_images.values())) and all(map(_is_known_on_rows, on_rows.values()))


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


def _parts(network: nn.Module) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The layers of a row by name: those before the first `nn.Flatten`, and the others."""
    layers = list(layers_of(network).items())
    before = list(takewhile(lambda named: not isinstance(named[1], nn.Flatten), layers))
    return dict(before), dict(layers[len(before) :])


def _is_known_on_images(layer: nn.Module) -> bool:
    if type(layer) not in (nn.Conv2d, nn.MaxPool2d, nn.ReLU):  # a class derived from them may do more
        return False
    match layer:
        case nn.Conv2d(groups=1, padding=(_, _), padding_mode="zeros"):
            return True
        case nn.MaxPool2d(kernel_size=int(side), stride=stride, padding=0, dilation=1, ceil_mode=False):
            return bool(side == stride)
    return isinstance(layer, nn.ReLU)


def _is_known_on_rows(layer: nn.Module) -> bool:
    match layer:
        case nn.Flatten(start_dim=start, end_dim=end):
            return bool((start, end) == (1, -1))
    return type(layer) in (nn.Linear, nn.ReLU)


def _stacked_row(network: nn.Module, weights: Mapping[str, Tensor]) -> Run:
    """The row of layers `network` with S sets of `weights`, from images (n, 1, 28, 28) to (S, n, D)."""
    layers, draws = layers_of(network), len(next(iter(weights.values())))
    weighted = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    runs = {
        name: _stacked(
            layer,
            {of: weights[f"{name}.{of}"] for of, _ in layer.named_parameters()},
            shared=name == weighted[0],
        )
        for name, layer in layers.items()
    }
    maps, rows = ([runs[name] for name in part] for part in _parts(network))
    channels = [layer.out_channels for layer in layers.values() if isinstance(layer, nn.Conv2d)]

    def run(images: Tensor) -> Tensor:
        x = _one_after_another(images, maps)
        if channels:  # without those that were added
            x = x.unflatten(1, (draws, -1))[:, :, : channels[-1]]
        # As one image of n×1 pixels, channels last.
        pixels = x.reshape(1, len(images), 1, -1).permute(0, 3, 1, 2)
        outputs = _one_after_another(pixels, rows).permute(0, 2, 3, 1)
        return outputs.reshape(len(images), draws, -1).transpose(0, 1)

    return run


def _one_after_another(x: Tensor, layers: Iterable[Run]) -> Tensor:
    return reduce(lambda before, layer: layer(before), layers, x)


def _stacked(layer: nn.Module, weights: Mapping[str, Tensor], shared: bool) -> Run:
    """`layer` with S sets of `weights`, whose input may be `shared` by all networks.

    On images it takes and gives (n, S·C, H, W), or (n, C, H, W) before the first convolution, alike for all
    networks; on rows (1, S·D, n, 1), or (1, D, n, 1), alike for all.
    """
    match layer:
        case nn.Conv2d():
            return _convolution(layer, weights["weight"], weights.get("bias"), shared)
        case nn.Linear():
            weight = weights["weight"][..., None, None]
            return _convolved(weight, weights.get("bias"), ((0, 0), (1, 1), (1, 1)), shared)
        case nn.MaxPool2d(kernel_size=int(side)):
            return partial(_pooled, side=side)
        case nn.ReLU():
            return torch.relu_  # of what no other layer sees
    return nn.Identity()  # rows are flat


def _convolution(layer: nn.Conv2d, weights: Tensor, bias: Tensor | None, shared: bool) -> Run:
    """`layer` with `weights` (S, O, C, H, W) and `bias` (S, O).

    Channels of zeros are added up to a multiple of `VECTOR`.
    """
    more_in = 0 if shared else -layer.in_channels % VECTOR
    more_out = -layer.out_channels % VECTOR
    filters = F.pad(weights, (0, 0, 0, 0, 0, more_in, 0, more_out))
    added = None if bias is None else F.pad(bias, (0, more_out))
    return _convolved(filters, added, (layer.padding, layer.stride, layer.dilation), shared)


def _convolved(filters: Tensor, bias: Tensor | None, how: tuple[Any, ...], shared: bool) -> Run:
    """A convolution with S sets of `filters` (S, O, C, H, W) and `bias` (S, O), one group where `shared`.

    `how` are padding, stride and dilation. The filters are brought once into the layout in which oneDNN
    multiplies them.
    """
    groups = 1 if shared else len(filters)
    packed = packed_filters(filters.flatten(0, 1).contiguous(), *how, groups)
    added = None if bias is None else bias.flatten()

    def convolved(x: Tensor) -> Tensor:
        return packed_convolution(x, packed, added, *how, groups)

    return convolved


def _pooled(x: Tensor, side: int) -> Tensor:
    """Maxima of squares of `side` pixels; torch's own also finds where they are, in twice the time."""
    height, width = (pixels // side * side for pixels in x.shape[2:])
    columns = reduce(torch.maximum, [x[:, :, :, i:width:side] for i in range(side)])
    return reduce(torch.maximum, [columns[:, :, i:height:side] for i in range(side)])
