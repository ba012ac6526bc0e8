"""Stochastic-gradient Hamiltonian Monte Carlo: the steps of a training as a sampler of the posterior."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bnn.core.posterior import Samples
from bnn.core.tensors import cut, joined
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.guide import PointGuide

CYCLES = 4  # of the learning rate
SAMPLED = 0.25  # of a cycle: its last part, from which samples are kept
EACH = 12  # samples kept of each cycle
FRICTION = 0.1  # the share of its velocity that a weight loses in a step
STEP = 10  # times the learning rate: those of Adam, whose steps do not shrink with the gradient, are smaller


class SGHMC(torch.optim.Optimizer):
    """v ← (1 − α) v − l ∇U + √(2 α l T) ε, w ← w + v: draws from exp(−U(w) / T) as the step size l goes to 0.

    ε is standard Normal, and ∇U may be of a mini-batch, whose own noise is not subtracted. Chen, Fox &
    Guestrin 2014, "Stochastic gradient Hamiltonian Monte Carlo", eq. 15. ε depends on the seed and the step
    alone, so that all ranks of a distributed training draw the same.

    Args:
        parameters: w.
        lr: l.
        temperature: T.
        seed: of the noise.
        friction: α.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        temperature: float,
        seed: int,
        friction: float = FRICTION,
    ) -> None:
        options = {"lr": lr, "temperature": temperature, "seed": seed, "friction": friction, "steps": 0}
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step, of the gradients that `closure`, which is called first, leaves."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            kept, size = 1 - group["friction"], 2 * group["friction"] * group["lr"] * group["temperature"]
            generator = torch.Generator().manual_seed(hash((group["seed"], group["steps"])) % 2**63)
            group["steps"] += 1
            for weight in group["params"]:
                state = self.state[weight]
                velocity = state.setdefault("velocity", torch.zeros_like(weight))
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                velocity.mul_(kept).sub_(weight.grad, alpha=group["lr"])
                velocity.add_(noise.to(weight.device), alpha=math.sqrt(size))
                weight.add_(velocity)
        return loss


class SGHMCGuide(PointGuide):
    """Networks that the training passes through, of `CYCLES` cycles of the learning rate `EACH`.

    Samples of exp(−(NLL + beta · (−log prior)) / beta), which for beta = 1 is Bayes' posterior, by steps of
    `SGHMC`. In each cycle the rate falls from `STEP` · `lr` to nothing along a cosine: high, it leaves the
    mode it is in; from the last quarter, where it is low, samples are kept at equal distances. Zhang et al.
    2020, "Cyclical stochastic gradient MCMC for Bayesian deep learning", eq. 1. The noise of mini-batches
    makes them wider than the posterior is, as far as it exceeds the noise that is added.
    """

    taken: Tensor
    kept: Tensor

    def __init__(self, network: nn.Module, prefix: str = "network") -> None:
        super().__init__(network, prefix)
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))
        size = len(joined(self._fitted("loc")))
        self.register_buffer("kept", torch.zeros(CYCLES * EACH, size, dtype=torch.float16))
        self._seed = torch.initial_seed() % 2**63  # the component's, alike on all ranks

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks that there are steps enough for the cycles."""
        steps = config.epochs * max(1, len(images) // config.batch_size)
        if SAMPLED * (steps // CYCLES) < EACH:
            raise InputError(
                f"sghmc keeps {EACH} networks in the last quarter of each of {CYCLES} cycles, for which "
                f"{steps} steps are too few: train for more epochs, or in smaller batches."
            )

    def optimizer(
        self, parameters: Iterable[nn.Parameter], config: TrainConfig, n_train: int
    ) -> torch.optim.Optimizer:
        """`SGHMC`: of a loss per datum the temperature is one per datum too."""
        return SGHMC(parameters, STEP * config.lr, config.beta / n_train, self._seed)

    def schedule(
        self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """`CYCLES` cosines, each from the highest rate to nothing."""
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Keeps the network where it is time to."""
        if step in kept_at(steps):
            self.kept[self.taken % len(self.kept)] = joined(self._fitted("loc")).to(self.kept)
            self.taken += 1

    def posterior(self) -> Samples:  # type: ignore[override]
        """What was kept.

        Raises:
            InputError: nothing was, the training having ended early.
        """
        taken = int(self.taken)
        if taken == 0:
            raise InputError(
                "sghmc keeps nothing of a training that ends before the last quarter of its first cycle: "
                "resume it."
            )
        return Samples(cut(self.kept[:taken].cpu(), self._fitted("loc")))


def rate(progress: float) -> float:
    """The share of the highest learning rate after a share of the steps."""
    return (1 + math.cos(math.pi * (progress * CYCLES % 1))) / 2


def kept_at(steps: int) -> set[int]:
    """The steps, of so many counted from 1, after which the network is kept."""
    every = max(1, int(SAMPLED * (steps // CYCLES)) // EACH)
    ends = [steps * cycle // CYCLES for cycle in range(1, CYCLES + 1)]
    return {end - every * back for end in ends for back in range(EACH)}
