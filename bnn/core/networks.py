"""Plain networks for 28×28 digits. The Bayesian part is laid over them elsewhere.

A new network is one class here and one name in `NETWORKS`. Its constructor's arguments are plain
values, so that a checkpoint can rebuild it.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from bnn.errors import InputError, choose

NUM_CLASSES = 10
IMAGE_SIZE = 28


class DigitNetwork(nn.Sequential):
    """Layers one after another: images (N, 1, 28, 28) to logits (N, 10).

    `features_before` names the layer whose input is the network's description of an image.
    """

    features_before: ClassVar[str]

    @property
    def feature_size(self) -> int:
        """How many numbers describe an image."""
        layer = self.get_submodule(self.features_before)
        assert isinstance(layer, nn.Linear)  # noqa: S101
        return layer.in_features

    def trunk(self) -> nn.Sequential:
        """The layers before `features_before`, under their own names: images to features (N, D)."""
        layers = OrderedDict(self.named_children())
        names = list(layers)
        kept = names[: names.index(self.features_before)]
        return nn.Sequential(OrderedDict((name, layers[name]) for name in kept))


class MLP(DigitNetwork):
    """784 → `hidden` → 10 with ReLU: the network of the 2018 notebook.

    Images (N, 1, 28, 28) to logits (N, 10).
    """

    features_before = "out"

    def __init__(self, hidden: int = 1024) -> None:
        _require_units(hidden)
        super().__init__(
            OrderedDict(
                flatten=nn.Flatten(),
                hidden=nn.Linear(IMAGE_SIZE * IMAGE_SIZE, hidden),
                relu=nn.ReLU(),
                out=nn.Linear(hidden, NUM_CLASSES),
            )
        )


class CNN(DigitNetwork):
    """Two 5×5 convolutions, each followed by ReLU and 2×2 max pooling, then one hidden layer.

    Images (N, 1, 28, 28) to logits (N, 10). `channels` are the filters of the two convolutions,
    `hidden` the units of the layer after them.
    """

    features_before = "hidden"

    def __init__(self, channels: Sequence[int] = (16, 32), hidden: int = 128) -> None:
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
                out=nn.Linear(hidden, NUM_CLASSES),
            )
        )


class VGG(DigitNetwork):
    """A 5×5 convolution, then pairs of 3×3 ones, 2×2 max pooling between, and one hidden layer.

    Images (N, 1, 28, 28) to logits (N, 10). `channels` are the filters before the first pooling, between
    the two, and after the second; `hidden` the units of the layer after them. After Simonyan & Zisserman
    2015, "Very deep convolutional networks for large-scale image recognition".
    """

    features_before = "hidden"

    def __init__(self, channels: Sequence[int] = (16, 32, 64), hidden: int = 128) -> None:
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
                out=nn.Linear(hidden, NUM_CLASSES),
            )
        )


def _require_units(*counts: int) -> None:
    if min(counts) < 1:
        raise ValueError(f"every layer needs at least 1 unit, not {min(counts)}")


NETWORKS: Mapping[str, type[DigitNetwork]] = {"vgg": VGG, "cnn": CNN, "mlp": MLP}


def build_network(name: str, options: Mapping[str, Any] | None = None) -> DigitNetwork:
    """The network called `name`, built with `options` (its constructor's arguments).

    Raises:
        InputError: no network has that name, or it does not take those options.
    """
    network = choose(NETWORKS, name, "network")
    try:
        return network(**(options or {}))
    except (TypeError, ValueError, RuntimeError) as error:
        cause = str(error).partition("\n")[0]  # PyTorch may add a stack
        raise InputError(f"the network {name!r} cannot be built from {options}: {cause}.") from error
