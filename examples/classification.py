"""Bayesian softmax regression on handwritten digits: one model, three ways to its posterior.

The model is the smallest classifier there is. An image's pixels x (a 1 for the bias among them) and a weight
matrix W give ten logits, and the softmax makes probabilities of them:

    W[j, c] ~ Normal(0, 1),        label | x ~ Categorical(softmax(x W)).

Being Bayesian means to keep every W that fits, each as far as it fits, and to average what they predict:
p(label | x, data) = E[softmax(x W)] over the posterior. Three programs find that posterior:

- **SVI in Pyro** fits one independent Normal to each weight (a mean-field guide). Fast, and wrong in a known
  way.
- **NUTS in Pyro** and **NUTS in PyMC** draw from the posterior itself. Slow, and right up to a Monte Carlo
  error that can be computed. Two programs written apart that agree are good evidence for both.

**What the data cannot say.** Adding one number to all ten weights of a pixel adds the same to every logit,
and the softmax does not change. A maximum-likelihood fit would have to fix one class's weights at 0. Here the
prior suffices, and along these directions, one a pixel, the posterior *is* the prior: the sum of a pixel's
ten weights over √10 is Normal(0, 1) whatever the data. So there is a known value to hold every method to.
The guide meets the mean and misses the sd: each of its Normals must be narrow enough for the directions that
the data do pin down, and so is too narrow along those that they do not.

The digits are scikit-learn's, averaged from 8×8 to 4×4 pixels, and 600 are learnt from, which keeps NUTS to
a few minutes. That costs accuracy, and it costs all three methods alike.

    python examples/classification.py
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pymc
import pyro
import torch
from coin import chain_error, of_draws
from digits import Array, Digits, Labels
from matplotlib.figure import Figure
from pyro import distributions as dist
from pyro.distributions import constraints
from pyro.infer import MCMC, NUTS, SVI, TraceMeanField_ELBO
from pyro.optim import ExponentialLR
from rich.progress import track
from scipy.special import softmax
from shown import Estimate, Options, options, save, show, show_estimates
from torch import Tensor

from bnn.evaluation.metrics import accuracy, ece, nll
from bnn.rules.curves import reliability

CLASSES = 10
SIDE = 4  # pixels along an image's side, averaged from 8
LEARNING_RATE, LAST_RATE = 0.05, 0.0005  # Adam's first step size, and its last: the noise must die down


@dataclass(frozen=True)
class Size:
    """How much work is done.

    Attributes:
        train: how many digits to learn from; the rest are the test digits.
        steps: of SVI.
        chains, warmup, draws: of either NUTS; SVI's guide is drawn from as often.
    """

    train: int = 600
    steps: int = 2000
    chains: int = 4
    warmup: int = 200
    draws: int = 200


TINY = Size(train=50, steps=50, chains=2, warmup=10, draws=10)


@dataclass(frozen=True)
class Fit:
    """What one method found.

    Attributes:
        probs: (chains, draws, N, 10) each drawn network's probabilities of the test digits.
        ignored: (chains · D, draws) along the directions that the data say nothing about, standardised.
        seconds: how long it took, compilation included.
    """

    probs: Array
    ignored: Array
    seconds: float

    @property
    def predictive(self) -> Array:
        """The mean over all draws: p(label | image, data), (N, 10)."""
        return self.probs.mean((0, 1))


Method = Callable[[Digits, Size, int], Array]


def digits(size: Size, seed: int) -> Digits:
    """scikit-learn's digits, averaged to 4×4 pixels and split by `seed`."""
    return Digits.split(size.train, seed, SIDE)


def columns(images: Array) -> Array:
    """Images (N, side, side) as rows (N, D) of pixels and a last 1, whose weights are the biases."""
    return np.column_stack((images.reshape(len(images), -1), np.ones(len(images))))


def model(images: Tensor, labels: Tensor) -> None:
    """The model in Pyro. `images` are (N, D), `labels` (N,)."""
    prior = dist.Normal(images.new_zeros(images.shape[1], CLASSES), 1.0)
    weights = pyro.sample("weights", prior.to_event(2))
    with pyro.plate("data", len(images)):
        pyro.sample("labels", dist.Categorical(logits=images @ weights), obs=labels)


def guide(images: Tensor, labels: Tensor) -> None:
    """One Normal for each weight, starting narrow at 0. It takes what the model takes."""
    shape = images.shape[1], CLASSES
    loc = pyro.param("loc", images.new_zeros(shape))
    scale = pyro.param("scale", images.new_full(shape, 0.1), constraint=constraints.positive)
    pyro.sample("weights", dist.Normal(loc, scale).to_event(2))


def svi(data: Digits, size: Size, seed: int) -> Array:
    """Draws (chains, draws, D, 10) from a mean-field Normal guide that Pyro fitted.

    The guide's draws are independent, and so its chains are only a way to count them. The optimiser is Adam,
    and not Pyro's `ClippedAdam`: that clips each weight's gradient by itself, often on one side of 0 alone,
    and with gradients as large as these the fit ends elsewhere than at the optimum.
    """
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    given = torch.tensor(columns(data.train)), torch.tensor(data.train_labels)
    decay = (LAST_RATE / LEARNING_RATE) ** (1 / size.steps)
    schedule = ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": LEARNING_RATE}, "gamma": decay}
    )
    fitting = SVI(model, guide, schedule, TraceMeanField_ELBO())
    for _ in track(range(size.steps), "SVI in Pyro"):
        fitting.step(*given)
        schedule.step()
    loc, scale = (pyro.param(name).detach() for name in ("loc", "scale"))
    return dist.Normal(loc, scale).sample((size.chains, size.draws)).numpy()


def nuts_in_pyro(data: Digits, size: Size, seed: int) -> Array:
    """Draws (chains, draws, D, 10) from the posterior by Pyro's No-U-Turn sampler, chain after chain."""
    given = torch.tensor(columns(data.train)), torch.tensor(data.train_labels)
    chains = []
    for chain in range(size.chains):
        pyro.set_rng_seed(size.chains * seed + chain)
        sampler = MCMC(NUTS(model), num_samples=size.draws, warmup_steps=size.warmup)
        sampler.run(*given)
        chains.append(sampler.get_samples()["weights"].numpy())
    return np.stack(chains)


def nuts_in_pymc(data: Digits, size: Size, seed: int) -> Array:
    """Draws (chains, draws, D, 10) from the posterior by PyMC's No-U-Turn sampler, chain after chain."""
    images = columns(data.train)
    with pymc.Model():
        weights = pymc.Normal("weights", 0, 1, shape=(images.shape[1], CLASSES))
        pymc.Categorical("labels", logit_p=images @ weights, observed=data.train_labels)
        found = pymc.sample(size.draws, tune=size.warmup, chains=size.chains, cores=1, random_seed=seed)
    return found.posterior["weights"].to_numpy()


METHODS: Mapping[str, Method] = {
    "SVI in Pyro": svi,
    "NUTS in Pyro": nuts_in_pyro,
    "NUTS in PyMC": nuts_in_pymc,
}


def fit(method: Method, data: Digits, size: Size, seed: int) -> Fit:
    """Runs `method` and lets its draws predict the test digits."""
    began = perf_counter()
    weights = method(data, size, seed)
    seconds = perf_counter() - began
    return Fit(softmax(columns(data.test) @ weights, axis=-1), ignored_directions(weights), seconds)


def ignored_directions(weights: Array) -> Array:
    """The sum of each pixel's weights over √10, (chains, draws, D, 10) to (chains · D, draws).

    Each pixel counts as a chain of its own, and is Normal(0, 1) in the posterior, whatever the data.
    """
    sums = weights.sum(-1) / np.sqrt(CLASSES)
    return sums.transpose(0, 2, 1).reshape(-1, weights.shape[1])


def nll_error(fitted: Fit, labels: Labels) -> float:
    """The Monte Carlo standard error of the predictive's test NLL, by the delta method.

    The NLL is −mean_i log p̄_i, with p̄_i the mean over draws s of p_si, the probability of image i's true
    digit. To first order its error is that of the mean over draws of mean_i p_si / p̄_i: one number a draw.
    """
    of_truth = fitted.probs[..., np.arange(len(labels)), labels]
    return float(chain_error((of_truth / of_truth.mean((0, 1))).mean(-1)))


def class_frequencies(data: Digits) -> Array:
    """What to beat: for every test digit the share of each class among the training digits, (N, 10)."""
    shares = np.bincount(data.train_labels, minlength=CLASSES) / len(data.train_labels)
    return np.tile(shares, (len(data.test_labels), 1))


def run(size: Size, seed: int) -> tuple[Digits, dict[str, Fit]]:
    """The digits, and every method's fit by name."""
    data = digits(size, seed)
    return data, {name: fit(method, data, size, seed) for name, method in METHODS.items()}


def show_scores(data: Digits, fits: Mapping[str, Fit]) -> None:
    """Prints how well each method predicts the test digits, and how long it took."""
    labels = data.test_labels
    baseline = class_frequencies(data)
    first = next(iter(fits.values())).seconds
    rows = [("class frequencies", *_scores(baseline, labels), "exact", "")]
    rows += [
        (
            name,
            *_scores(one.predictive, labels),
            f"{nll_error(one, labels):.4f}",
            f"{one.seconds / first:.1f}",
        )
        for name, one in fits.items()
    ]
    title = f"{len(labels)} test digits, learnt from {len(data.train)}; ± is the NLL's Monte Carlo error"
    show(title, ("method", "accuracy", "ECE", "NLL", "±", "time, SVI = 1"), rows)


def _scores(probs: Array, labels: Labels) -> tuple[str, str, str]:
    return f"{accuracy(probs, labels):.2%}", f"{ece(probs, labels):.2%}", f"{nll(probs, labels):.4f}"


def plot(fits: Mapping[str, Fit], labels: Labels) -> Figure:
    """How often each method is right, by how sure it is; a marker's area grows with the share of digits."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", label="as sure as it is right")
    for name, one in fits.items():
        sure, right, share = reliability(one.predictive, labels)
        (line,) = axes.plot(sure, right, label=name)
        axes.scatter(sure, right, 10 + 300 * share, color=line.get_color(), alpha=0.6)
    axes.set(xlabel="mean confidence", ylabel="share right", title="Reliability on the test digits")
    axes.legend()
    return figure


def main(chosen: Options) -> None:
    """Fits the model three ways, compares them, and draws their reliability."""
    data, fits = run(TINY if chosen.tiny else Size(), chosen.seed)
    show_scores(data, fits)
    exact = Estimate("exact", 0.0, 1.0)
    found = [of_draws(name, one.ignored) for name, one in fits.items()]
    show_estimates("The directions that the data say nothing about", [exact, *found])
    save(plot(fits, data.test_labels), chosen.out, "classification")


if __name__ == "__main__":
    main(options(str(__doc__)))
