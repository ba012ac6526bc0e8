"""The posterior of a small network by Hamiltonian Monte Carlo: the reference of `posterior_quality.py`.

HMC moves through weight space as a ball rolls over a landscape, whose height is the potential energy
-log p(weights, labels | images). Its draws are the posterior's, whatever the posterior's shape. It needs the
gradient of all the data at every step, and very many steps: large networks are hardly ever fitted so.

A network's chains need not agree on single weights: to swap two hidden units changes nothing that the
network computes, and so the posterior has as many copies of every mode as there are orders of the units,
between which a chain seldom moves. What must agree, and is all that we want, is what the chains *predict*
(Izmailov et al. 2021, "What are Bayesian neural network posteriors really like?", sec. 5).
"""

import os
import time
from collections.abc import Mapping, MutableSequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import Manager, get_context

import pyro
import torch
import torch.nn.functional as F
from pyro.infer import HMC, MCMC
from rich.progress import Progress
from torch import Tensor, nn
from torch.func import functional_call

Weights = Mapping[str, Tensor]
PRIOR_SCALE = 1.0  # of every weight, as in the 2018 notebook
TRAJECTORY = 1.5  # how far one draw rolls, in posterior standard deviations, about


@dataclass(frozen=True)
class Length:
    """How long is sampled.

    Attributes:
        chains: started apart, each from a draw of the prior.
        warmup, draws: of each chain; the warm-up tunes step size and mass matrix, and is thrown away.
    """

    chains: int = 4
    warmup: int = 300
    draws: int = 1200


def potential(weights: Weights, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """-log p(weights, labels | images) in nats, but for a constant: a scalar.

    It is that of Pyro's model, `bnn.training.model.BayesianNeuralNetwork`, written out: Pyro would trace the
    model anew for every gradient, which takes several times as long as a small network's gradient itself.
    """
    logits = functional_call(network, dict(weights), images)
    misfit = F.cross_entropy(logits, labels, reduction="sum")
    squares = torch.stack([value.square().sum() for value in weights.values()]).sum()
    return misfit + squares / (2 * PRIOR_SCALE**2)


def from_prior(network: nn.Module) -> dict[str, Tensor]:
    """One draw of all weights from their prior."""
    return {name: PRIOR_SCALE * torch.randn_like(value) for name, value in network.named_parameters()}


@dataclass(frozen=True)
class Chain:
    """One chain's draws: `weights` by name, each (draws, *shape), and how many of them diverged."""

    weights: Weights
    divergences: int


def run_chain(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    length: Length,
    seed: int,
    done: MutableSequence[int],
    number: int,
) -> Chain:
    """Chain `number`, which says in `done[number]` how far it is."""
    divergences = 0

    def report(kernel: HMC, params: object, stage: str, iteration: int) -> None:
        nonlocal divergences
        if stage == "Sample":
            divergences = len(kernel.diagnostics()["divergences"])
        done[number] += 1

    torch.set_num_threads(1)
    pyro.set_rng_seed(length.chains * seed + number)
    energy = partial(potential, network=network, images=images, labels=labels)
    mcmc = MCMC(
        HMC(potential_fn=energy, trajectory_length=TRAJECTORY),
        num_samples=length.draws,
        warmup_steps=length.warmup,
        initial_params=from_prior(network),
        disable_progbar=True,
        hook_fn=report,
    )
    mcmc.run()
    # Copies, for Pyro's draws are parts of one tensor, and each part would take all of it to another process.
    return Chain({name: value.clone() for name, value in mcmc.get_samples().items()}, divergences)


def sample(network: nn.Module, images: Tensor, labels: Tensor, length: Length, seed: int) -> list[Chain]:
    """All chains, as many at once as there are cores; the draws are the same with any number of them."""
    workers = min(length.chains, os.cpu_count() or 1)
    total = length.chains * (length.warmup + length.draws)
    with (
        Manager() as manager,
        ProcessPoolExecutor(workers, get_context("spawn")) as pool,
        Progress() as bar,
    ):
        done = manager.list([0] * length.chains)
        chains = [
            pool.submit(run_chain, network, images, labels, length, seed, done, number)
            for number in range(length.chains)
        ]
        task = bar.add_task("HMC in Pyro", total=total)
        while not all(chain.done() for chain in chains):
            bar.update(task, completed=sum(done))
            time.sleep(0.2)
        bar.update(task, completed=total)
        return [chain.result() for chain in chains]


def stacked(chains: list[Chain]) -> dict[str, Tensor]:
    """All chains' draws one after another: (chains · draws, *shape) by name."""
    return {name: torch.cat([chain.weights[name] for chain in chains]) for name in chains[0].weights}
