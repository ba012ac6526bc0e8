"""NUTS in Pyro against NUTS in PyMC, on the models of the examples: ratios within one run.

    python benchmarks/bench_pyro_pymc.py

For each model a new process with an empty compile cache samples in both libraries, on one core and one chain
after the other. The first run of each is shown by itself, because it is when PyTensor compiles C code; after
it PyTensor finds that code in its cache. Three more runs follow, each with a seed of its own, Pyro and PyMC
in turn. Everything from the model to its draws counts, compilation too; imports do not.

Every ratio is PyMC's number over Pyro's. Seconds tell how long one waits, and effective draws per second
(ArviZ's bulk effective sample size, that of the worst quantity) how much one gets for it.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # its scripts import one another as scripts do

Sampler = Callable[[int], Any]
"""From a seed to the draws of each quantity, (chains, draws, ...), in any form that ArviZ takes."""


@dataclass(frozen=True)
class Run:
    """What one run took and gave.

    Attributes:
        seconds: from the model to its draws.
        effective: bulk effective sample size, the least of all quantities.
    """

    seconds: float
    effective: float


@dataclass(frozen=True)
class Round:
    """One run of each library, of the same model and seed."""

    pyro: Run
    pymc: Run

    @property
    def seconds(self) -> float:
        """PyMC's seconds over Pyro's."""
        return self.pymc.seconds / self.pyro.seconds

    @property
    def yields(self) -> float:
        """PyMC's effective draws per second over Pyro's."""
        return self.pymc.effective / self.pyro.effective / self.seconds


def coin(draws: int) -> tuple[Sampler, Sampler]:
    """One unknown, six tosses; four chains."""
    import first_pymc
    import first_pyro

    return (
        lambda seed: {"z": first_pyro.run_nuts(draws, seed)},
        lambda seed: {"z": first_pymc.run_nuts(draws, seed)},
    )


def beta_binomial(draws: int) -> tuple[Sampler, Sampler]:
    """Two unknowns, forty groups; four chains, and simulated counts for the predictive check."""
    import beta_binomial as example

    counts = example.simulate(40, 0)
    return (
        lambda seed: example.in_pyro(counts, draws, seed)["posterior"][["alpha", "beta"]],
        lambda seed: example.in_pymc(counts, draws, seed)["posterior"][["alpha", "beta"]],
    )


def softmax_regression(draws: int) -> tuple[Sampler, Sampler]:
    """170 unknowns, 200 digits; two chains."""
    import classification as example

    size = example.Size(train=200, chains=2, warmup=draws, draws=draws)
    data = example.digits(size, 0)
    in_pyro, in_pymc = (example.METHODS[f"NUTS in {library}"] for library in ("Pyro", "PyMC"))
    return (
        lambda seed: {"weights": in_pyro(data, size, seed)},
        lambda seed: {"weights": in_pymc(data, size, seed)},
    )


MODELS = {
    "Coin": (coin, 1000),
    "Beta-Binomial": (beta_binomial, 500),
    "Softmax regression": (softmax_regression, 200),
}
"""Each model with the draws of a chain."""


def timed(sampler: Sampler, seed: int) -> Run:
    """Samples once."""
    import arviz

    start = perf_counter()
    draws = sampler(seed)
    seconds = perf_counter() - start
    effective = arviz.ess(arviz.convert_to_dataset(draws))
    return Run(seconds, min(float(values.min()) for values in effective.data_vars.values()))


def rounds(model: str, tiny: bool) -> list[Round]:
    """The first round of `model`, and then the repeats."""
    samplers, draws = MODELS[model]
    in_pyro, in_pymc = samplers(20 if tiny else draws)
    # Seeds are far apart because a chain takes the seed that follows that of the chain before it.
    seeds = range(0, 200 if tiny else 400, 100)
    return [Round(timed(in_pyro, seed), timed(in_pymc, seed)) for seed in seeds]


def in_a_new_process(model: str, tiny: bool) -> list[Round]:
    """`rounds`, on one core, with a compile cache that is empty at first."""
    with TemporaryDirectory() as cache:
        os.environ |= {"OMP_NUM_THREADS": "1", "PYTENSOR_FLAGS": f"base_compiledir={cache}"}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(rounds, model, tiny).result()


def row(model: str, first: Round, repeats: list[Round]) -> str:
    """The ratios of one model, as a row of a table in Markdown."""
    seconds, yields = ([getattr(one, name) for one in repeats] for name in ("seconds", "yields"))
    return f"| {model} | {short(first.seconds)} | {spread(seconds)} | {spread(yields)} |"


def spread(ratios: list[float]) -> str:
    """Median, least and most."""
    return f"{short(median(ratios))} ({short(min(ratios))} to {short(max(ratios))})"


def short(ratio: float) -> str:
    """Two digits, and never an exponent for a large one."""
    return f"{float(f'{ratio:.2g}'):g}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a short run of the first model, for tests")
    tiny = parser.parse_args().tiny
    print("| PyMC / Pyro | Seconds, first run | Seconds, next runs | Effective draws per second, next runs |")
    print("| --- | --- | --- | --- |")
    for model in list(MODELS)[: 1 if tiny else None]:
        first, *repeats = in_a_new_process(model, tiny)
        print(row(model, first, repeats), flush=True)


if __name__ == "__main__":
    main()
