"""The scores there are: how unsure the ensemble is, how likely pixels and features are, and the contrast.

A new score is one class and one name in `SCORES`.
"""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Self

import torch
from torch import Tensor

from bnn.core.blur import gaussian_blur
from bnn.core.features import Features
from bnn.core.networks import IMAGE_SIZE
from bnn.core.stacked import in_blocks
from bnn.core.task import Task
from bnn.errors import InputError
from bnn.ood.contrast import Contrast, Turned
from bnn.ood.density import ClassDensity
from bnn.ood.fitting import fit_density
from bnn.ood.score import Observed, OODScore
from bnn.progress import tracked

BLUR = 0.7  # standard deviation in pixels: a density of pixels should not mind where a stroke's edge falls
BLOCK = 8  # images whose density is computed at once; see `in_blocks`
PIXEL_COMPONENTS, PIXEL_RANK = 8, 16
FEATURE_COMPONENTS, FEATURE_RANK = 1, 30


class EntropyScore(OODScore):
    """The predictive entropy in nats (the baseline of Hendrycks & Gimpel 2017, entropy for confidence)."""

    name = "entropy"
    sees_image = False
    has_bounds = True
    says = "the networks make nothing of it"

    def score(self, observed: Observed) -> Tensor:
        return observed.predictive.total


class PixelDensity(OODScore):
    """−E log p(blurred pixels | class) in nats, the class being distributed as the predictive mean.

    Args:
        density: of the training images under `blurred`.
    """

    name = "pixels"
    has_bounds = True
    says = "some of its ink lies where none belongs"

    def __init__(self, density: ClassDensity) -> None:
        self._density = density

    def score(self, observed: Observed) -> Tensor:
        log_prob = observed.known(self.name, lambda: self._log_prob(observed.images))
        return _expected(log_prob, observed)

    def _log_prob(self, images: Tensor) -> Tensor:
        return in_blocks(lambda block: self._density.log_prob(_flat(block)), images, BLOCK)

    def typical(self, images: Tensor, labels: Tensor) -> Tensor:
        """Each of the `blurred` `images` (N, 1, 28, 28) as an ordinary one of its class, of `labels` (N,)."""
        return self._density.typical(_flat(images), labels).view_as(images)

    def likeliest(self, images: Tensor) -> Tensor:
        """The class (N,) under which the `images` (N, 1, 28, 28) are likeliest."""
        return self._density.log_prob(_flat(images)).argmax(-1)

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, features: Features, seed: int) -> Self:
        return cls(fit_density(_flat(images), labels, PIXEL_COMPONENTS, PIXEL_RANK, seed).rounded())

    def tensors(self) -> dict[str, Tensor]:
        return self._density.tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], task: Task, features: Features) -> Self:
        return cls(ClassDensity.from_tensors(tensors, task.classes, IMAGE_SIZE * IMAGE_SIZE))


class FeatureDensity(OODScore):
    """As `PixelDensity`, of the mean networks' features; the mean over the posterior's components.

    Densities of features: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
    samples"; here mixtures of PCAs within each class.

    Args:
        densities: of each component's features of the training images.
    """

    name = "features"
    has_bounds = True
    says = "its parts do not belong together"

    def __init__(self, densities: Sequence[ClassDensity]) -> None:
        self._densities = densities

    def score(self, observed: Observed) -> Tensor:
        log_probs = observed.known(self.name, lambda: self._log_probs(observed.features))
        return torch.stack([_expected(log_prob, observed) for log_prob in log_probs.unbind(1)]).mean(0)

    def _log_probs(self, described: Tensor) -> Tensor:
        """(N, M, C) of features (M, N, D)."""
        # Where the features do not fill the processor's vectors, they are rounded by their place in a block.
        size = BLOCK if described.shape[-1] % 16 == 0 else 1
        each = zip(self._densities, described, strict=True)
        return torch.stack([in_blocks(density.log_prob, features, size) for density, features in each], 1)

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, features: Features, seed: int) -> Self:
        bar = tracked(range(features.count), "learning how features look", features.count)
        densities = (
            fit_density(features.of_component(m, images), labels, FEATURE_COMPONENTS, FEATURE_RANK, seed)
            for m in bar
        )
        return cls([density.rounded() for density in densities])

    def tensors(self) -> dict[str, Tensor]:
        each = [density.tensors() for density in self._densities]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], task: Task, features: Features) -> Self:
        if any(part.shape[:1] != (features.count,) for part in tensors.values()):
            raise InputError(
                "the checkpoint's densities of features must be as many as its posterior has components, "
                f"{features.count}."
            )
        parts = [{name: part[m] for name, part in tensors.items()} for m in range(features.count)]
        return cls([ClassDensity.from_tensors(part, task.classes, features.size) for part in parts])


SCORES: MutableMapping[str, type[OODScore]] = {
    score.name: score for score in (PixelDensity, FeatureDensity, EntropyScore, Contrast, Turned)
}


def blurred(images: Tensor) -> Tensor:
    """`images` (N, 1, H, W) under a Gaussian blur of `BLUR` pixels, black beyond their edges."""
    return gaussian_blur(images, torch.tensor([BLUR]), math.ceil(3 * BLUR))


def _flat(images: Tensor) -> Tensor:
    return blurred(images).flatten(1)


def _expected(log_prob: Tensor, observed: Observed) -> Tensor:
    """−E log p(x | c), (N,), of `log_prob` (N, C), the class c being distributed as the predictive mean."""
    return -(observed.predictive.mean * log_prob).sum(-1)
