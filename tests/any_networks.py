"""Networks of one's own, as a person may write them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn.core.networks import CNN, MLP, VGG, ResNet


def require_close(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest value: sums are rounded by their largest terms, however small they are."""
    assert found.shape == expected.shape
    error = (found - expected).abs().max()
    assert error <= 1e-5 * expected.abs().max(), error


class Unbiased(nn.Module):
    """Convolution, GELU, and a head without biases."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=3, bias=False)
        self.out = nn.Linear(4 * 8 * 8, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(F.gelu(self.conv(images)).flatten(1))
        return logits


class Doubling(nn.Sequential):
    """A row of layers that does something more."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 2 * super().forward(images)
        return logits


class Tripling(nn.Linear):
    """A linear layer that does something more."""

    def forward(self, images: Tensor) -> Tensor:
        return 3 * super().forward(images)


class Twice(nn.Module):
    """A layer's weights at work in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(28, 28), nn.Linear(28, 28), nn.Linear(784, 10)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(self.second(torch.tanh(self.first(images))).flatten(1))
        return logits


def row(*layers: nn.Module) -> nn.Sequential:
    """Layers one after another, the first being a flattening one."""
    return nn.Sequential(nn.Flatten(), *layers)


def one_relu_twice() -> nn.Sequential:
    """A row of layers in which one module stands in two places."""
    relu = nn.ReLU()
    return row(nn.Linear(784, 9), relu, nn.Linear(9, 16), relu, nn.Linear(16, 10))


STACKED: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: VGG((2, 3, 4), 16, classes=10),
    "cnn": lambda: CNN((4, 6), 16, classes=10),
    "cnn-odd": lambda: CNN((3, 5), 7, classes=3),
    "mlp-64": lambda: MLP(64, classes=10),
    "mlp-50": lambda: MLP(50, classes=2),
    "mlp-33": lambda: MLP(33, classes=10),
    "linear": lambda: row(nn.Linear(784, 10)),
    "unbiased": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 5, bias=False), nn.MaxPool2d(3), *row(nn.ReLU(), nn.Linear(192, 10, bias=False))
    ),
    "relu-twice": one_relu_twice,
    "strided": lambda: nn.Sequential(nn.Conv2d(1, 3, 5, stride=2), *row(nn.Linear(432, 10))),
    "vgg-wide": lambda: VGG((16, 32, 64), 128, classes=10),
    "vgg-24": lambda: VGG((24, 48, 96), 128, classes=11),
    "cnn-8": lambda: CNN((8, 16), 16, classes=10),
}
MAPPED: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResNet((3, 4), classes=10),
    "unbiased-gelu": Unbiased,
    "gelu-row": lambda: row(nn.Linear(784, 16), nn.GELU(), nn.Linear(16, 10)),
    "dropout": lambda: row(nn.Linear(784, 16), nn.Dropout(), nn.Linear(16, 10)),
    "ceiled": lambda: nn.Sequential(nn.MaxPool2d(3, ceil_mode=True), *row(nn.Linear(100, 10))),
    "reflected": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), *row(nn.Linear(1568, 10))
    ),
    "nested": lambda: nn.Sequential(row(nn.Linear(784, 8), nn.ReLU()), nn.Linear(8, 10)),
    "rows-of-pixels": lambda: nn.Sequential(nn.Linear(28, 4), *row(nn.Linear(112, 10))),
    "doubling": lambda: Doubling(nn.Flatten(), nn.Linear(784, 10)),
    "tripling": lambda: row(Tripling(784, 10)),
    "weights-twice": Twice,
}
