"""The contrast: how much likelier an image is as a drawing of any kind than as one of its class."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from bnn.core.features import Features
from bnn.core.networks import VGG, constructed
from bnn.core.posterior import MeanField, Posterior
from bnn.core.stacked import StackedNetwork, inference
from bnn.core.task import Task
from bnn.errors import InputError
from bnn.ood.score import Observed, OODScore

DRAWS = 2  # sampled networks: more tell no more (docs/model-card.md), and take longer
BEFORE = 5  # of a checkpoint that does not say how many
MOST_DRAWS = 50
SEED = 0  # of the draws
DEFAULTS: Mapping[str, Any] = {"channels": (12, 24, 48), "hidden": 64}  # of a network that is trained
_DRAWS = "draws"
LEAST = 1e-6  # probability of a class below which the ensemble does not speak for it


class Contrast(OODScore):
    """log p(background | x) − log Σ_c p(c | ensemble) p(c | x), in nats.

    The probabilities p(· | x) are a small Bayesian network's, means over draws of its weights. It has learnt
    the task's classes and, as one class more, a broad background of generated drawings: so their ratio is
    that of the densities of the two, but for a constant (noise-contrastive estimation, Gutmann & Hyvärinen
    2010, "Noise-contrastive estimation: a new estimation principle for unnormalized statistical models";
    likelihood ratios against a background, Ren et al. 2019, "Likelihood ratios for out-of-distribution
    detection"). The classes c count as far as the ensemble takes the image for one of them.

    `bnn.training.contrast.fit_contrast` fits it.

    Args:
        posterior: over the weights of `contrast_network`.
        classes: of the task, C.
        draws: of networks, S.
    """

    name = "contrast"
    has_bounds = True
    says = "it looks more like some other drawing"

    def __init__(self, posterior: Posterior, classes: int, draws: int = DRAWS) -> None:
        self._posterior, self._draws = posterior, draws
        network = _network_of(posterior.tensors(), classes)
        self._networks = StackedNetwork(network, posterior.sample(draws, SEED))

    def score(self, observed: Observed) -> Tensor:
        with inference(observed.images):
            # In double precision, and in logarithms throughout: no ratio is rounded to 0 or to infinity.
            log_probs = observed.known(self.name, lambda: self._log_probs(observed.images))
            expected = observed.predictive.mean.double().clamp_min(LEAST).log()
            return (log_probs[:, -1] - (expected + log_probs[:, :-1]).logsumexp(-1)).float()

    def _log_probs(self, images: Tensor) -> Tensor:
        """log p(· | x), but for log S, of images (N, 1, 28, 28): (N, C + 1)."""
        return self._networks(images).double().log_softmax(-1).logsumexp(0)

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, features: Features, seed: int) -> Self:
        raise InputError("the contrast is trained: bnn.training.contrast.fit_contrast does it.")

    def tensors(self) -> dict[str, Tensor]:
        return self._posterior.tensors() | {_DRAWS: torch.tensor(self._draws)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], task: Task, features: Features) -> Self:
        weights = {name: value for name, value in tensors.items() if name != _DRAWS}
        network = _network_of(weights, task.classes)
        shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
        return cls(MeanField.from_tensors(weights, shapes), task.classes, _draws_of(tensors))


class Turned(Contrast):
    """As `Contrast`, the background being images of the classes turned by quarters, mirrored, or both.

    So it is no general view of what is upright: a 3 that the ensemble takes for an 8 because it is mirrored
    is likelier as a turned image than as an upright 8.

    `bnn.training.contrast.fit_turned` fits it.
    """

    name = "turned"
    says = "it looks as if it were seen in a mirror, or from another side"
    quality = "mirrored or turned?"


def contrast_network(classes: int, options: Mapping[str, Any]) -> nn.Module:
    """The network that tells `classes` from one another and from the background, its last output.

    Args:
        classes: of the task.
        options: arguments of `VGG` that are not as in `DEFAULTS`.

    Raises:
        InputError: the options do not fit it.
    """
    return constructed("the contrast's network", partial(VGG, **DEFAULTS), options, classes + 1)


def _draws_of(tensors: Mapping[str, Tensor]) -> int:
    draws = tensors.get(_DRAWS, torch.tensor(BEFORE))
    if draws.dtype != torch.int64 or draws.shape != () or not 1 <= draws.item() <= MOST_DRAWS:
        raise InputError(f"the contrast's draws must be a whole number from 1 to {MOST_DRAWS}.")
    return int(draws)


def _network_of(tensors: Mapping[str, Tensor], classes: int) -> nn.Module:
    """The network whose posterior's `tensors` these are by the number of its units, in no memory."""
    biases = [tensors.get(f"loc/{layer}.bias") for layer in ("conv1", "conv2", "conv4", "hidden")]
    *channels, hidden = (0 if bias is None else bias.numel() for bias in biases)
    if min(*channels, hidden) < 1:
        raise InputError("the contrast's network has a layer without units.")
    with torch.device("meta"):
        return contrast_network(classes, {"channels": channels, "hidden": hidden})
