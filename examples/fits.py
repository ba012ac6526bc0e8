"""Approximations of a small network's posterior: mean-field guides, mixtures of them, MAP, deep ensembles."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from digits import FULL_SIDE, Array, Digits
from reference import PRIOR_SCALE, Length, Weights, potential
from rich.progress import track
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn.core.task import DIGITS
from bnn.training.elbo import MeanFieldELBO
from bnn.training.guide import MeanFieldGuide, MixtureGuide
from bnn.training.model import BayesianNeuralNetwork

TEMPERED = 0.1  # the beta of the checkpoint that ships
LEARNING_RATE = 0.1  # Adam's highest


@dataclass(frozen=True)
class Size:
    """How much work is done.

    Attributes:
        train: digits to learn from.
        hidden: units of the network.
        length: of HMC.
        fits: of every other method, each from a start of its own; a mixture is of all of them.
        steps: of each fit.
        draws: networks from a guide or a mixture.
    """

    train: int = 300
    hidden: int = 10
    length: Length = field(default_factory=Length)
    fits: int = 5
    steps: int = 2000
    draws: int = 1000


TINY = Size(train=60, hidden=3, length=Length(2, 10, 10), fits=2, steps=20, draws=20)


def small_network(hidden: int) -> nn.Sequential:
    """8×8 images (N, 1, 8, 8) to logits (N, 10), by one hidden layer."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden=nn.Linear(FULL_SIDE**2, hidden),
            relu=nn.ReLU(),
            out=nn.Linear(hidden, DIGITS.classes),
        )
    )


def as_input(images: Array) -> Tensor:
    """(N, 8, 8) to float32 (N, 1, 8, 8)."""
    return torch.tensor(images, dtype=torch.float32)[:, None]


def probabilities(weights: Weights, images: Tensor) -> Tensor:
    """Class probabilities (S, N, 10) of images (N, 1, 8, 8) under each of S networks."""
    network = small_network(weights["hidden.bias"].shape[1])
    logits: Tensor = vmap(lambda one: functional_call(network, one, (images,)))(dict(weights))
    return logits.softmax(-1)


def descend(loss: Callable[[], Tensor], parameters: Iterable[Tensor], steps: int, what: str) -> None:
    """Minimises `loss` by Adam, with a learning rate that rises shortly and falls to nothing."""
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    for _ in track(range(steps), what):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def fit_guide(data: Digits, size: Size, beta: float, seed: int) -> MeanFieldGuide:
    """A mean-field guide that minimises NLL + beta · KL over all the training digits."""
    torch.manual_seed(seed)
    network = small_network(size.hidden)
    model, guide = BayesianNeuralNetwork(network, len(data.train), PRIOR_SCALE), MeanFieldGuide(network)
    images, labels = as_input(data.train), torch.tensor(data.train_labels)
    elbo = MeanFieldELBO()

    def loss() -> Tensor:
        misfit, divergence = elbo.terms(model, guide, images, labels)
        return misfit + beta * divergence

    descend(loss, guide.parameters(), size.steps, f"guide, beta {beta:g}, start {seed}")
    return guide


def fit_map(data: Digits, size: Size, seed: int) -> dict[str, Tensor]:
    """The likeliest weights by name, each (1, *shape): an ensemble of one."""
    torch.manual_seed(seed)
    network = small_network(size.hidden)
    weights = dict(network.named_parameters())
    images, labels = as_input(data.train), torch.tensor(data.train_labels)
    descend(
        lambda: potential(weights, network, images, labels),
        weights.values(),
        size.steps,
        f"MAP, start {seed}",
    )
    return {name: value.detach()[None] for name, value in weights.items()}


def drawn(guides: Sequence[MeanFieldGuide], draws: int, seed: int) -> dict[str, Tensor]:
    """Networks drawn from the guides in equal parts, (draws, *shape) by name."""
    return MixtureGuide(guides).posterior().sample(draws, seed)


def joined(ensembles: Sequence[Weights]) -> dict[str, Tensor]:
    """The networks of all ensembles as one."""
    return {name: torch.cat([weights[name] for weights in ensembles]) for name in ensembles[0]}


def fit_all(data: Digits, size: Size, seed: int) -> dict[str, list[Weights]]:
    """Every method's ensembles: of those fitted from several starts one each, else one of all."""
    seeds = range(seed, seed + size.fits)
    found: dict[str, list[Weights]] = {}
    for beta in (1.0, TEMPERED):
        guides = [fit_guide(data, size, beta, start) for start in seeds]
        found[f"guide, beta {beta:g}"] = [drawn([guide], size.draws, seed) for guide in guides]
        found[f"{size.fits} guides, beta {beta:g}"] = [drawn(guides, size.draws, seed)]
    points = [fit_map(data, size, start) for start in seeds]
    found["MAP"] = list(points)
    found[f"{size.fits} MAPs"] = [joined(points)]
    return found
