"""Plain networks for 28×28 images. The Bayesian part is laid over them elsewhere.

A new network is one class and one name in `NETWORKS`: any `nn.Module` that maps images (N, 1, 28, 28) to
logits (N, C), whose constructor takes `classes` and otherwise plain values, so that a checkpoint can rebuild
it. `features_before`, where a class has it, names the linear layer whose input is the network's description
of an image; else that is the last linear layer.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bnn.core.task import Task
from bnn.errors import InputError, cause_in, choose

IMAGE_SIZE = 28
MOST_BLOCKS = 3  # each halves what the first convolution leaves, 14 pixels a side


class MLP(nn.Sequential):
    """784 → `hidden` → C with ReLU: the network of the 2018 notebook.

    Images (N, 1, 28, 28) to logits (N, C); of another number of `inputs`, anything (N, …) of so many numbers.
    """

    features_before = "out"

    def __init__(self, hidden: int = 1024, inputs: int = IMAGE_SIZE * IMAGE_SIZE, *, classes: int) -> None:
        _require_units(hidden, inputs)
        super().__init__(
            OrderedDict(
                flatten=nn.Flatten(),
                hidden=nn.Linear(inputs, hidden),
                relu=nn.ReLU(),
                out=nn.Linear(hidden, classes),
            )
        )


class CNN(nn.Sequential):
    """Two 5×5 convolutions, each followed by ReLU and 2×2 max pooling, then one hidden layer.

    Images (N, 1, 28, 28) to logits (N, C). `channels` are the filters of the two convolutions,
    `hidden` the units of the layer after them.
    """

    features_before = "hidden"

    def __init__(self, channels: Sequence[int] = (16, 32), hidden: int = 128, *, classes: int) -> None:
        first, second = channels
        _require_units(first, second, hidden)
        pooled = ((IMAGE_SIZE - 4) // 2 - 4) // 2
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, first, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(first, second, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                hidden=nn.Linear(second * pooled * pooled, hidden),
                relu3=nn.ReLU(),
                out=nn.Linear(hidden, classes),
            )
        )


class VGG(nn.Sequential):
    """A 5×5 convolution, then pairs of 3×3 ones, 2×2 max pooling between, and one hidden layer.

    Images (N, 1, 28, 28) to logits (N, C). `channels` are the filters before the first pooling, between
    the two, and after the second; `hidden` the units of the layer after them. After Simonyan & Zisserman
    2015, "Very deep convolutional networks for large-scale image recognition".
    """

    features_before = "hidden"

    def __init__(self, channels: Sequence[int] = (16, 32, 64), hidden: int = 128, *, classes: int) -> None:
        first, second, third = channels
        _require_units(first, second, third, hidden)
        rest = (IMAGE_SIZE - 4) // 2 // 2 - 2
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, first, 5),
                pool1=nn.MaxPool2d(2),  # before the ReLU, which so has a quarter to do
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(first, second, 3, padding=1),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(second, second, 3, padding=1),
                pool2=nn.MaxPool2d(2),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(second, third, 3, padding=1),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(third, third, 3),
                relu5=nn.ReLU(),
                flatten=nn.Flatten(),
                hidden=nn.Linear(third * rest * rest, hidden),
                relu6=nn.ReLU(),
                out=nn.Linear(hidden, classes),
            )
        )


class ResNet(nn.Module):
    """A 5×5 convolution, then residual blocks of two 3×3 convolutions, halving the image between them.

    Images (N, 1, 28, 28) to logits (N, C). `channels` are the filters of the convolution and of its block,
    and of each further block. After He et al. 2016, "Identity mappings in deep residual networks", with GELU
    and without batch normalisation, whose statistics no posterior describes.
    """

    def __init__(self, channels: Sequence[int] = (16, 32), *, classes: int) -> None:
        super().__init__()
        _require_units(*channels)
        if len(channels) > MOST_BLOCKS:
            raise ValueError(f"so many blocks leave nothing of an image: at most {MOST_BLOCKS} can be")
        self.stem = nn.Conv2d(1, channels[0], 5, padding=2, stride=2)
        before = (channels[0], *channels[:-1])
        self.blocks = nn.Sequential(*map(_ResidualBlock, before, channels))
        self.out = nn.Linear(channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        described: Tensor = self.blocks(self.stem(images))
        logits: Tensor = self.out(described.mean((-2, -1)))
        return logits


class _ResidualBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(F.gelu(self.first(F.gelu(x))))
        pooled: Tensor = self.pool(self.skip(x) + inner)
        return pooled


def _require_units(*counts: int) -> None:
    if min(counts) < 1:
        raise ValueError(f"every layer needs at least 1 unit, not {min(counts)}")


NETWORKS: MutableMapping[str, type[nn.Module]] = {"vgg": VGG, "cnn": CNN, "mlp": MLP, "resnet": ResNet}


def build_network(name: str, options: Mapping[str, Any] | None, task: Task) -> nn.Module:
    """The network called `name` for `task`, built with `options` (its constructor's other arguments).

    Raises:
        InputError: no network has that name, it does not take those options, or it cannot be Bayesian here.
    """
    built = constructed(f"the network {name!r}", choose(NETWORKS, name, "network"), options, task.classes)
    if buffer := next((key for key, _ in built.named_buffers()), None):
        raise InputError(
            f"the network {name!r} has a buffer, {buffer!r}, which no posterior describes: use layers "
            "without running statistics, such as GroupNorm in place of BatchNorm."
        )
    every, once = (
        [key for key, _ in built.named_parameters(remove_duplicate=alike)] for alike in (False, True)
    )
    if shared := next((key for key in every if key not in once), None):
        raise InputError(
            f"the network {name!r} has a weight twice, the second time as {shared!r}, which would get "
            "two priors: give every layer weights of its own."
        )
    return built


def constructed(
    what: str, network: Callable[..., nn.Module], options: Mapping[str, Any] | None, classes: int
) -> nn.Module:
    """A `network` for so many `classes`, built with `options`; an error calls it `what`.

    Raises:
        InputError: it does not take those options.
    """
    try:
        return network(**(options or {}), classes=classes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} cannot be built from {options}: {cause_in(error)}.") from error


def feature_layer(network: nn.Module) -> str:
    """The name of the linear layer whose input is the network's description of an image.

    Raises:
        InputError: the network has no linear layer.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    named = getattr(network, "features_before", None)
    if named in linear:
        return str(named)
    if named is not None or not linear:
        raise InputError(
            f"the network {type(network).__name__} describes no image: it needs a linear layer"
            f"{'' if named is None else f' called {named!r}'}."
        )
    return linear[-1]


def last_layer(network: nn.Module) -> str:
    """The name of the last linear layer of a `network` that has one."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
