"""Beta-Binomial in Pyro and in PyMC: one model, two libraries, one workflow of checks.

Forty groups each made n_i trials and counted y_i successes. Every group has a success rate of its own, the
rates are Beta(alpha, beta), and we ask what that Beta is. With the rates integrated out (that is what
"Beta-Binomial" means) two unknowns are left:

    alpha ~ Gamma(2, 0.25)
    beta  ~ Gamma(2, 0.25)
    y_i   ~ BetaBinomial(n_i, alpha, beta)

The data tell alpha / (alpha + beta), the population mean, well, and alpha + beta, the concentration (how
alike the groups are), less well. Before an answer by sampling is believed:

- R-hat near 1: the chains, started apart, agree. The effective sample size (ESS) says how many independent
  draws they are worth, and from it comes the Monte Carlo error of every number.
- No divergences: NUTS met no place too curved for its steps.
- Posterior predictive check: data simulated from the fitted model look like the data. Here: do the simulated
  groups differ among themselves as much as the observed? Far from 0 and 1, the p-value says yes.

With only two unknowns there is also a reference that hardly anybody has: the posterior on a fine grid.

    python examples/beta_binomial.py
"""

from dataclasses import dataclass

import arviz
import numpy as np
import pymc as pm
import pyro
import pyro.distributions as dist
import torch
from coin import Numbers, of_draws
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyro.infer import MCMC, NUTS, Predictive
from scipy.special import betaln, logsumexp
from scipy.stats import gamma
from shown import Estimate, options, save, show, show_estimates
from torch import Tensor

SHAPE, RATE = 2.0, 0.25
ALPHA, BETA = 2.0, 6.0
CHAINS = 4
QUANTITIES = {"mean": "Population mean alpha / (alpha + beta)", "concentration": "Concentration alpha + beta"}


@dataclass(frozen=True)
class Counts:
    """Successes among trials.

    Attributes:
        trials, successes: (groups,).
    """

    trials: NDArray[np.int64]
    successes: NDArray[np.int64]


def simulate(groups: int, seed: int) -> Counts:
    """Counts of groups whose rates are Beta(ALPHA, BETA)."""
    random = np.random.default_rng(seed)
    trials = random.integers(10, 50, groups)
    return Counts(trials, random.binomial(trials, random.beta(ALPHA, BETA, groups)))


def grid(counts: Counts, points: int = 300) -> dict[str, Estimate]:
    """The exact posterior mean and sd of each quantity, by integration over log alpha and log beta.

    On the log scale the posterior is smooth and dies out at the edges, where an even grid is very accurate.
    The binomial coefficients are left out: they do not depend on alpha and beta.
    """
    axis = np.linspace(-7.0, 6.0, points)
    alpha, beta = np.exp(axis)[:, None], np.exp(axis)[None, :]
    log_density = sum(gamma.logpdf(x, SHAPE, scale=1 / RATE) + np.log(x) for x in (alpha, beta))
    for n, y in zip(counts.trials, counts.successes, strict=True):
        log_density = log_density + betaln(alpha + y, beta + n - y) - betaln(alpha, beta)
    weights = np.exp(log_density - logsumexp(log_density))
    values = {"mean": alpha / (alpha + beta), "concentration": alpha + beta}
    return {name: _weighted(value, weights) for name, value in values.items()}


def _weighted(value: Numbers, weights: Numbers) -> Estimate:
    mean = float((weights * value).sum())
    return Estimate("grid", mean, float(np.sqrt((weights * (value - mean) ** 2).sum())))


def pyro_model(trials: Tensor, successes: Tensor | None = None) -> None:
    """The model in Pyro; without `successes` it simulates them."""
    alpha = pyro.sample("alpha", dist.Gamma(SHAPE, RATE))
    beta = pyro.sample("beta", dist.Gamma(SHAPE, RATE))
    with pyro.plate("groups", len(trials)):
        pyro.sample("y", dist.BetaBinomial(alpha, beta, trials), obs=successes)


def in_pyro(counts: Counts, draws: int, seed: int) -> arviz.InferenceData:
    """Draws of NUTS in Pyro, with simulated counts for the predictive check.

    Each chain runs from its own seed, one after the other, so that every machine draws the same.
    """
    chains = [_pyro_chain(counts, draws, CHAINS * seed + chain) for chain in range(CHAINS)]
    return arviz.concat(chains, dim="chain")


def _pyro_chain(counts: Counts, draws: int, seed: int) -> arviz.InferenceData:
    """One chain.

    alpha and beta rise and fall together, so a full mass matrix, which learns that in the warm-up, takes
    about half the steps of Pyro's default, a diagonal one, to draws that are worth more. PyMC is left at
    its own default, which is diagonal too: hence its smaller ESS.
    """
    pyro.set_rng_seed(seed)
    trials, successes = (torch.tensor(x, dtype=torch.float) for x in (counts.trials, counts.successes))
    mcmc = MCMC(NUTS(pyro_model, full_mass=True), num_samples=draws, warmup_steps=draws)
    mcmc.run(trials, successes)
    simulated = Predictive(pyro_model, mcmc.get_samples(), parallel=True)(trials)
    return arviz.from_pyro(mcmc, posterior_predictive={"y": simulated["y"].int()})


def in_pymc(counts: Counts, draws: int, seed: int) -> arviz.InferenceData:
    """The model in PyMC, and draws of NUTS, with simulated counts for the predictive check."""
    with pm.Model():
        alpha = pm.Gamma("alpha", SHAPE, RATE)
        beta = pm.Gamma("beta", SHAPE, RATE)
        pm.BetaBinomial("y", n=counts.trials, alpha=alpha, beta=beta, observed=counts.successes)
        found = pm.sample(draws, tune=draws, chains=CHAINS, cores=1, random_seed=seed)
        pm.sample_posterior_predictive(found, extend_inferencedata=True, random_seed=seed)
    return found


def estimates(method: str, found: arviz.InferenceData) -> dict[str, Estimate]:
    """The posterior mean and sd of each quantity, with Monte Carlo errors."""
    alpha, beta = found["posterior"]["alpha"], found["posterior"]["beta"]
    values = {"mean": alpha / (alpha + beta), "concentration": alpha + beta}
    return {name: of_draws(method, np.asarray(value, dtype=float)) for name, value in values.items()}


def spread(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> Numbers:
    """How much the groups' success rates differ: their sd; (..., groups) to (...)."""
    return np.asarray((successes / trials).std(axis=-1))


def predictive_check(counts: Counts, found: arviz.InferenceData) -> Estimate:
    """How often simulated groups differ at most as much as the observed.

    The `mean` of the estimate is that share: a posterior predictive p-value.
    """
    simulated = spread(np.asarray(found["posterior_predictive"]["y"]), counts.trials)
    observed = spread(counts.successes, counts.trials)
    return of_draws("check", (simulated <= observed).astype(float))


def diagnostics(method: str, counts: Counts, found: arviz.InferenceData) -> tuple[str, ...]:
    """A row of what should be looked at before an answer is believed; of alpha and beta, the worse one."""
    rhat, ess = arviz.rhat(found["posterior"]), arviz.ess(found["posterior"])
    check = predictive_check(counts, found)
    return (
        method,
        f"{max(float(rhat[name]) for name in ('alpha', 'beta')):.3f}",
        f"{min(float(ess[name]) for name in ('alpha', 'beta')):.0f}",
        f"{int(found['sample_stats']['diverging'].sum())}",
        f"{check.mean:.4f}",
        f"{check.mean_error:.4f}",
    )


def plot(counts: Counts, found: dict[str, arviz.InferenceData]) -> Figure:
    """Two predictive checks by ArviZ, a column for each library.

    Above, the observed counts' cumulative distribution among fifty simulated ones. Below, the spread of the
    simulated groups, the observed one as a dot, and the p-value, which ArviZ calls bpv.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    rows = figure.subplots(2, len(found), sharex="row", sharey="row")
    for above, below, (method, one) in zip(*rows, found.items(), strict=True):
        arviz.plot_ppc(one, kind="cumulative", num_pp_samples=50, random_seed=0, ax=above, textsize=9)
        above.set(title=method, xlabel="successes in a group")
        arviz.plot_bpv(one, kind="t_stat", t_stat=lambda y: spread(y, counts.trials), ax=below, textsize=9)
        below.set(title="", xlabel="sd of the groups' success rates")
        below.tick_params(labelsize="medium")
    rows[0, 0].set_ylabel("share of groups with at most as many")
    rows[1, 0].set_ylabel("posterior predictive density")
    return figure


def main() -> None:
    """Samples in both libraries and shows them beside the grid."""
    chosen = options("Beta-Binomial in Pyro and PyMC, beside a grid.")
    counts = simulate(40, chosen.seed)
    draws = 20 if chosen.tiny else 1000
    found = {
        "Pyro": in_pyro(counts, draws, chosen.seed),
        "PyMC": in_pymc(counts, draws, chosen.seed),
    }
    answers = [grid(counts), *(estimates(method, one) for method, one in found.items())]
    for name, title in QUANTITIES.items():
        show_estimates(title, [answer[name] for answer in answers])
    show(
        "Can they be believed?",
        ("library", "R-hat", "ESS", "divergences", "predictive p", "± Monte Carlo"),
        [diagnostics(method, counts, one) for method, one in found.items()],
    )
    save(plot(counts, found), chosen.out, "beta_binomial")


if __name__ == "__main__":
    main()
