"""OOD scores that others use, as baselines beside our own: higher means more out-of-distribution.

The first three look at what the ensemble says, the others at one network: its logits, and the features that
its last layer gets. `pytorch-ood` has all of them for one network; the tests hold ours against formulas
written in another way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnn.core.networks import last_layer
from bnn.core.posterior import Weights
from bnn.core.uncertainty import Predictive
from bnn.errors import InputError

BATCH = 500  # images that run through the network, or are compared with the training images, at once
NOTHING = 1e-10  # of the largest variance: below, a direction is one in which nothing varies
EXACT = "donot_use_mm_for_euclid_dist"  # as `torch.cdist` calls it
NEIGHBOURS = 10  # one in a thousand of 10,000 training images, the share that Sun et al. take


@dataclass(frozen=True)
class Described:
    """How one network describes N images, all float64.

    Attributes:
        features: what its last layer gets, (N, D).
        logits: what that gives, (N, C).
    """

    features: Tensor
    logits: Tensor

    @classmethod
    @torch.no_grad()
    def by(cls, network: nn.Module, weights: Weights, images: Tensor) -> Self:
        """How `network`, with these `weights` by parameter name, describes `images` (N, 1, 28, 28).

        Raises:
            InputError: the network's last linear layer does not give its logits.
        """
        got: list[tuple[Tensor, Tensor]] = []
        layer = network.get_submodule(last_layer(network))
        with layer.register_forward_hook(lambda _, given, gives: got.append((given[0], gives))):
            logits = [functional_call(network, dict(weights), (batch,)) for batch in images.split(BATCH)]
        features, outputs = (torch.cat(parts).double() for parts in zip(*got, strict=True))
        if not torch.equal(outputs, torch.cat(logits).double()):
            raise InputError(
                f"the last linear layer of {type(network).__name__} does not give its logits, which the "
                "baselines need: take another network."
            )
        return cls(features.flatten(1), outputs)


Baseline = Callable[[Predictive, Described], Tensor]  # (N,) scores of N images


def fit_baselines(
    network: nn.Module, weights: Weights, images: Tensor, labels: Tensor
) -> dict[str, Baseline]:
    """The baselines by name, those of features fitted to training images.

    Args:
        network: ends in a linear layer.
        weights: of it, by parameter name.
        images: (N, 1, 28, 28), of the training.
        labels: their classes, (N,); each has some.

    Raises:
        InputError: see `Described.by`.
    """
    known = Described.by(network, weights, images)
    layer = last_layer(network)
    shared, relative = gaussians(known.features, labels)
    return {
        "max-softmax": lambda said, _: max_softmax(said),
        "entropy": lambda said, _: said.total,
        "mutual-information": lambda said, _: said.epistemic,
        "energy": lambda _, seen: energy(seen.logits),
        "mahalanobis": lambda _, seen: shared(seen.features),
        "relative-mahalanobis": lambda _, seen: relative(seen.features),
        "nearest-neighbours": neighbours(known.features),
        "vim": vim(known, weights[f"{layer}.weight"], weights.get(f"{layer}.bias")),
    }


def max_softmax(said: Predictive) -> Tensor:
    """Minus the largest class probability, (N,), in [−1, 0].

    Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and out-of-distribution examples".
    """
    return -said.mean.amax(-1)


def energy(logits: Tensor) -> Tensor:
    """−log Σ exp(logits) in nats: (N, C) to (N,).

    Liu et al. 2020, "Energy-based out-of-distribution detection", at temperature 1.
    """
    return -logits.logsumexp(-1)


def gaussians(
    features: Tensor, labels: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The (Mahalanobis, relative Mahalanobis) scores fitted to training `features` (N, D) and `labels` (N,).

    The first is the squared distance to the nearest class's mean under the covariance that all classes share
    (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial
    attacks", of the last features alone). The second takes from it the squared distance under one Normal of
    all classes (Ren et al. 2021, "A simple fix to Mahalanobis distance for improving near-OOD detection").
    Directions in which nothing varies do not count.
    """
    means = torch.stack([features[labels == label].mean(0) for label in labels.unique()])
    within = features - means[torch.searchsorted(labels.unique(), labels)]
    centre = features.mean(0, keepdim=True)
    of_class, of_all = _whitening(within), _whitening(features - centre)

    def nearest(seen: Tensor) -> Tensor:
        return torch.cdist(seen @ of_class, means @ of_class, compute_mode=EXACT).square().amin(-1)

    def relative(seen: Tensor) -> Tensor:
        return nearest(seen) - ((seen - centre) @ of_all).square().sum(-1)

    return nearest, relative


def neighbours(known: Tensor, count: int = NEIGHBOURS) -> Baseline:
    """The distance of the normalised features to those of the `count`-th nearest training image, (N,).

    Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors".
    """
    bank, nth = nn.functional.normalize(known), min(count, len(known))

    def score(_: Predictive, seen: Described) -> Tensor:
        parts = nn.functional.normalize(seen.features).split(BATCH)
        return torch.cat([torch.cdist(part, bank).kthvalue(nth).values for part in parts])

    return score


def vim(known: Described, weight: Tensor, bias: Tensor | None) -> Baseline:
    """The virtual logit less log Σ exp(logits), (N,).

    The virtual logit is α times the length of what a feature has outside the principal subspace of the
    training features, with α such that it is on average as large as their largest logit. The origin is
    where the last layer, of `weight` (C, D) and `bias` (C,), gives logits of 0, or as near as can be; the
    subspace has half of the D dimensions. Wang et al. 2022, "ViM: out-of-distribution with virtual-logit
    matching".
    """
    offset = torch.zeros(len(weight)) if bias is None else bias
    origin = -torch.linalg.pinv(weight.double()) @ offset.double()
    centred = known.features - origin
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors  # from the least to the most
    outside = axes[:, : weight.shape[1] - weight.shape[1] // 2]

    def residual(features: Tensor) -> Tensor:
        return ((features - origin) @ outside).norm(dim=-1)

    alpha = known.logits.amax(-1).mean() / residual(known.features).mean().clamp_min(1e-12)
    return lambda _, seen: alpha * residual(seen.features) + energy(seen.logits)


def scored(baselines: Mapping[str, Baseline], said: Predictive, seen: Described) -> dict[str, Tensor]:
    """Each baseline's scores (N,) of N images, by its name."""
    return {name: score(said, seen) for name, score in baselines.items()}


def _whitening(deviations: Tensor) -> Tensor:
    """W (D, R) such that W Wᵀ is the pseudo-inverse of the covariance of `deviations` (N, D) from a mean."""
    variances, axes = torch.linalg.eigh(deviations.T @ deviations / len(deviations))
    varies = variances > NOTHING * variances.amax()
    return axes[:, varies] * variances[varies].rsqrt()
