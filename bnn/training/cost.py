"""What a training costs, so that several can be compared at an equal one."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import nn

from bnn.core.networks import build_network
from bnn.core.posterior import Mixture
from bnn.errors import InputError
from bnn.training.config import TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.guide import Guide, MixtureGuide
from bnn.training.module import DivergedError, SVIModule
from bnn.training.unlogged import fit_unlogged

ROUNDS = 3  # in which all guides are measured, one after another
WARM, TIMED = 5, 20  # steps that are not measured, and those that are
FEWEST = 20  # steps that make a schedule
SEVERAL = r"(?P<components>[2-9]|[1-9][0-9])x(?P<guide>.+)"  # as in 5xmap


class Cost(NamedTuple):
    """What the training of a guide takes, of all its components together, in seconds of the processor.

    Attributes:
        step: one step, batch and augmentation included: the least, over `ROUNDS`, of the lower quartile of
            `TIMED` steps, for what else runs on the machine makes steps slower, and none faster.
        finish: what the guide does after the last step.
    """

    step: float
    finish: float

    def steps(self, seconds: float) -> int:
        """How many steps so many `seconds` are enough for."""
        return max(0, math.floor((seconds - self.finish) / self.step))


class Fitted(NamedTuple):
    """A posterior, the network it is of, and what it took in seconds of the processor."""

    posterior: Mixture
    network: nn.Module
    seconds: float


def configured_as(guide: str, config: TrainConfig) -> TrainConfig:
    """`config` with `guide`, such as map, or as 5xmap of five components that are mixed in equal parts."""
    several = re.fullmatch(SEVERAL, guide)
    if several is None:
        return replace(config, guide=guide)
    return replace(config, guide=several["guide"], components=int(several["components"]))


class _Watch(pl.Callback):
    """Writes down the processor's time after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.process_time())


def costs_of(configs: Sequence[TrainConfig], data: TrainingData) -> list[Cost]:
    """What the trainings that `configs` ask for cost here, by a few steps of each, which are thrown away.

    They take turns, so that what else runs on the machine for a while disturbs all of them.

    Raises:
        InputError: a training diverges, or a guide cannot be fitted so.
        KeyboardInterrupt: it was interrupted.
    """
    first = [_cost(config, data, with_finish=True) for config in configs]
    others = [[_cost(config, data) for config in configs] for _ in range(ROUNDS - 1)]
    return [
        Cost(min(cost.step for cost in of_one), of_one[0].finish)
        for of_one in zip(first, *others, strict=True)
    ]


def _cost(config: TrainConfig, data: TrainingData, *, with_finish: bool = False) -> Cost:
    """Of one component, for as many as there are; of a step that trains all, not of one of a warm start."""
    watch, config = _Watch(), replace(config, warm_start=0.0)
    module, network = _module(config, 0, data)
    _fit(config, 0, module, data, WARM + TIMED, f"measuring {config.guide}", (watch,))
    before = time.process_time()
    if with_finish:
        module.guide.finish(config, module.model, network, data.train_images)
    finish = time.process_time() - before
    return Cost(config.components * undisturbed(watch.times), config.components * finish)


def undisturbed(times: Sequence[float]) -> float:
    """The lower quartile of what lies between two of `times`, of which the first `WARM` do not count."""
    steps = sorted(after - before for before, after in pairwise(times[WARM - 1 :]))
    return steps[len(steps) // 4]


def fit_in_steps(config: TrainConfig, data: TrainingData, steps: int) -> Fitted:
    """Trains each component in so many `steps`, which its schedule is made for, and writes nothing.

    Raises:
        InputError: the training diverges, or the guide cannot be fitted so.
        KeyboardInterrupt: it was interrupted.
    """
    before = time.process_time()
    guides = [_fitted(config, component, data, steps) for component in range(config.components)]
    posterior = MixtureGuide(guides).posterior()
    network = build_network(config.network, config.network_options, data.task)
    return Fitted(posterior, network, time.process_time() - before)


def _fitted(config: TrainConfig, component: int, data: TrainingData, steps: int) -> Guide:
    module, network = _module(config, component, data)
    which = f", {component + 1} of {config.components}" * (config.components > 1)
    _fit(config, component, module, data, steps, f"{config.guide}, seed {config.seed}{which}")
    pl.seed_everything(config.seed_of(component), verbose=False)
    module.guide.finish(config, module.model, network, data.train_images)
    return module.guide


def _module(config: TrainConfig, component: int, data: TrainingData) -> tuple[SVIModule, nn.Module]:
    pl.seed_everything(config.seed_of(component), verbose=False)
    network = build_network(config.network, config.network_options, data.task)
    return SVIModule(config, network, len(data.train_images)), network


def _fit(
    config: TrainConfig,
    component: int,
    module: SVIModule,
    data: TrainingData,
    steps: int,
    what: str,
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    batches = data.with_noise(config.seed_of(component))
    epochs = math.ceil(steps / len(batches.train_dataloader()))
    try:
        done = fit_unlogged(module, batches, epochs, what, steps=steps, callbacks=callbacks)
    except DivergedError as error:
        raise InputError(f"{config.guide}, seed {config.seed}: {error}") from error
    if not done:
        raise KeyboardInterrupt


def planned(guide: str, cost: Cost, seconds: float) -> int:
    """The steps that `guide`, of this `cost`, gets for so many `seconds` of the processor.

    Raises:
        InputError: they are too few to train anything.
    """
    steps = cost.steps(seconds)
    if steps < FEWEST:
        raise InputError(
            f"{seconds:g} seconds are enough for {steps} steps of {guide}, and {FEWEST} are the fewest: "
            f"give it {math.ceil(cost.finish + FEWEST * cost.step)} or more (--seconds)."
        )
    return steps
