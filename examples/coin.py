"""A coin that fell heads six times in six: the model of `first_pyro.py` and `first_pymc.py`, and its answers.

How far does the coin lean to heads? Let z be the log-odds of heads. Before the first toss z is anything near
0, and given z each toss is heads with probability 1 / (1 + exp(-z)):

    z ~ Normal(0, 1.5)
    y ~ Bernoulli(logits=z)     for each toss

The posterior of z has no name, but z is one number, so ordinary numerical integration finds the posterior as
exactly as one likes, and also the best answer that a Normal guide can give. That makes the coin a good first
model: whatever a library says of it can be checked.
"""

from collections.abc import Iterable

import arviz
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm
from shown import Estimate

Numbers = NDArray[np.float64]

TOSSES = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
PRIOR_MEAN = 0.0
PRIOR_SD = 1.5


def log_joint(z: Numbers, tosses: Iterable[float] = TOSSES) -> Numbers:
    """log p(z) + log p(y | z): the log-posterior of z, but for a constant."""
    log_likelihood = sum((np.logaddexp(0.0, z) * -1 + toss * z for toss in tosses), start=np.zeros_like(z))
    return np.asarray(norm.logpdf(z, PRIOR_MEAN, PRIOR_SD) + log_likelihood)


def moment(power: int, tosses: Iterable[float] = TOSSES) -> float:
    """The integral of z ** power · p(z) · p(y | z) over z; power 0 gives the evidence p(y)."""
    known = tuple(tosses)
    return float(quad(lambda z: z**power * np.exp(log_joint(z, known)), -np.inf, np.inf, epsabs=1e-12)[0])


def exact(tosses: Iterable[float] = TOSSES) -> Estimate:
    """The posterior mean and sd of z, by numerical integration."""
    known = tuple(tosses)
    evidence, first, second = (moment(power, known) for power in range(3))
    mean = first / evidence
    return Estimate("exact", mean, float(np.sqrt(second / evidence - mean**2)))


def elbo(mean: float, sd: float, tosses: Iterable[float] = TOSSES) -> float:
    """The evidence lower bound of the guide Normal(mean, sd): E[log joint] + the guide's entropy.

    The expectation is by Gauss-Hermite quadrature: a weighted sum over 100 well-chosen values of z,
    exact for polynomials up to degree 199 and very nearly so for this smooth function.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    expected = weights @ log_joint(mean + sd * nodes, tosses) / weights.sum()
    return float(expected + norm.entropy(mean, sd))


def best_normal(tosses: Iterable[float] = TOSSES) -> Estimate:
    """The Normal that maximises the ELBO: what variational inference with a Normal guide should find.

    It is not the exact posterior, and its mean and sd are not quite the posterior's: it is the Normal
    of least KL divergence *from* itself *to* the posterior.
    """
    known = tuple(tosses)
    found = minimize(
        lambda at: -elbo(at[0], np.exp(at[1]), known),
        x0=(PRIOR_MEAN, np.log(PRIOR_SD)),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-14},
    )
    return Estimate("best Normal", float(found.x[0]), float(np.exp(found.x[1])))


def of_draws(method: str, draws: Numbers) -> Estimate:
    """The mean and sd of `draws`, (chains, draws), with standard errors that allow for their correlation.

    The sd is the root of the mean squared distance from the mean; its error is the error of that mean,
    divided by 2 sd, the slope of the square there.
    """
    mean, sd = float(draws.mean()), float(draws.std())
    squares = (draws - mean) ** 2
    # ArviZ has mcse(method="sd") too, which takes the same way, but under NumPy 2.4 ArviZ 0.23 fails there.
    return Estimate(method, mean, sd, float(chain_error(draws)), float(chain_error(squares)) / (2 * sd))


def chain_error(draws: Numbers) -> Numbers:
    """The Monte Carlo standard error of the mean of `draws`, (chains, draws, …) to (…).

    The sd over the square root of ArviZ's effective sample size, because draws within a chain are correlated.
    """
    return np.asarray(arviz.mcse({"draws": draws}, method="mean")["draws"])


def of_iterates(method: str, means: Numbers, sds: Numbers, batches: int = 20) -> Estimate:
    """The mean and sd of a Normal guide, averaged over the last iterates of its fit.

    A stochastic fit never settles: it goes on to jitter about the optimum, and the average over many steps is
    far nearer to it than the last step. Neighbouring iterates resemble each other, so the standard error is
    that of the means of long batches, which hardly do. That holds only where a batch is long beside the time
    in which the fit forgets where it was: the smaller its learning rate, the longer.
    """
    return Estimate(
        method,
        float(means.mean()),
        float(sds.mean()),
        batch_error(means, batches),
        batch_error(sds, batches),
    )


def batch_error(series: Numbers, batches: int) -> float:
    """The standard error of the mean of a correlated series, from the means of consecutive batches."""
    means = np.array([batch.mean() for batch in np.array_split(series, batches)])
    return float(means.std(ddof=1) / np.sqrt(batches))


def densities(exactly: Estimate, guide: Estimate, draws: Numbers, chains: str) -> Figure:
    """The three posteriors of z: exact, fitted Normal, and a histogram of draws."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    z = np.linspace(exactly.mean - 4 * exactly.sd, exactly.mean + 4 * exactly.sd, 400)
    axes.hist(draws.ravel(), bins=60, density=True, color="0.8", label=chains)
    axes.plot(z, np.exp(log_joint(z)) / moment(0), color="black", label="exact")
    axes.plot(z, norm.pdf(z, guide.mean, guide.sd), "--", color="tab:red", label=guide.method)
    axes.set(xlabel="z, the log-odds of heads", ylabel="posterior density", xlim=(z[0], z[-1]))
    axes.legend()
    return figure
