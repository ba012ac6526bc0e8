"""NUTS: the posterior itself, by Hamiltonian Monte Carlo, of networks small enough."""

import sys
from collections.abc import Mapping

import pyro
from pyro import poutine
from pyro.infer import MCMC, NUTS
from torch import Tensor, nn

from bnn.core.posterior import Samples
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.progress import progress
from bnn.training.config import TrainConfig
from bnn.training.guide import PointGuide
from bnn.training.model import BayesianNeuralNetwork

WARMUP, SAMPLES = 100, 100  # of a chain: those in which it finds its step and scales, and those that are kept
DEEPEST = 7  # so that no sample takes more than 2⁷ gradients, each of all images
MOST_WEIGHTS, MOST_IMAGES = 20_000, 5_000


class NUTSGuide(PointGuide):
    """Networks that a No-U-Turn sampler keeps, of the posterior given the training images (not augmented).

    Samples of p(weights) · p(labels | images, weights)^(1 / beta): for beta = 1 of Bayes' posterior, with
    no error but that of a chain of finite length, which starts at the most probable network. That is what the
    training finds; the chain comes after it, and is run anew where a run is resumed. Hoffman & Gelman 2014,
    "The No-U-Turn sampler", by Pyro's; Izmailov et al. 2021, "What are Bayesian neural network posteriors
    really like?".
    """

    _samples: Samples | None = None

    @classmethod
    def require(cls, config: TrainConfig, network: nn.Module, images: ImageSet) -> None:
        """Checks that the network and the images are small enough, and the posterior of a width."""
        weights = sum(value.numel() for value in network.parameters())
        if weights > MOST_WEIGHTS or len(images) > MOST_IMAGES:
            raise InputError(
                f"nuts is for networks of at most {MOST_WEIGHTS:,} weights and {MOST_IMAGES:,} images to "
                f"learn, and these are {weights:,} and {len(images):,}: take a smaller network and fewer "
                "images, or the guide sghmc."
            )
        if config.beta == 0:
            raise InputError("nuts has nothing to sample if beta is 0: take more, or the guide map.")

    def finish(
        self, config: TrainConfig, model: BayesianNeuralNetwork, network: nn.Module, images: ImageSet
    ) -> None:
        """Runs the chain."""
        start = self._fitted("loc")
        target = Target(model.cpu(), images.images, images.truth(), config.beta)
        with pyro.validation_enabled(False):
            self._samples = Samples(run_chain(target, start, WARMUP, SAMPLES))

    def posterior(self) -> Samples:  # type: ignore[override]
        """What was kept."""
        assert self._samples is not None  # noqa: S101
        return self._samples


class Target:
    """The potential energy of weights by name: −log prior − log likelihood / beta, in nats, a scalar."""

    def __init__(self, model: BayesianNeuralNetwork, images: Tensor, labels: Tensor, beta: float) -> None:
        self._model, self._data, self._beta = model, (images, labels), beta

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        sites = {f"network.{name}": value for name, value in weights.items()}
        trace = poutine.trace(poutine.condition(self._model, data=sites)).get_trace(*self._data)
        trace.compute_log_prob(lambda name, _: name in sites or name == "label")
        energy: Tensor = -trace.nodes["label"]["log_prob_sum"] / self._beta
        for name in sites:
            energy = energy - trace.nodes[name]["log_prob_sum"]
        return energy


def run_chain(target: Target, start: Mapping[str, Tensor], warmup: int, samples: int) -> dict[str, Tensor]:
    """Weights (K, *shape) by name that a chain keeps, drawn by the global generator."""
    kernel = NUTS(potential_fn=target, max_tree_depth=DEEPEST)
    with progress(warmup + samples) as advance:
        chain = MCMC(
            kernel,
            num_samples=samples,
            warmup_steps=warmup,
            initial_params={name: value.clone() for name, value in start.items()},
            hook_fn=lambda *_: advance(1, "sampling"),
            disable_progbar=True,
        )
        chain.run()
    if diverged := len(chain.diagnostics()["divergences"]["chain 0"]):
        print(
            f"bnn: {diverged} of {samples} samples diverged, so that some of the posterior is missing.",
            file=sys.stderr,
        )
    return dict(chain.get_samples())
