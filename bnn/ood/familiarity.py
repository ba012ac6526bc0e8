"""Familiarity: how much an image is like the digits that were learnt. Nothing but digits is needed for it.

Three kinds of evidence are joined: how unsure the ensemble is, how likely the pixels are, and how likely
the networks' features are, each as a p-value against training digits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from bnn.core.networks import DigitNetwork
from bnn.core.stacked import StackedNetwork, in_blocks
from bnn.core.uncertainty import Predictive
from bnn.ood.density import ClassDensity

BLUR = 0.7  # standard deviation in pixels: a density of pixels should not mind where a stroke's edge falls
BLOCK = 8  # images whose density is computed at once; see `in_blocks`
TAIL = 0.01  # share of reference scores beyond which survival is extrapolated


@dataclass(frozen=True)
class Evidence(Predictive):
    """What is known of N images: what the ensemble says, and how familiar they are.

    Attributes:
        entropy_surprise, pixel_surprise, feature_surprise: (N,) nats, −log of the share of training digits
            with as high a predictive entropy, or as low a density of the pixels or of the networks' features,
            given the digit that the ensemble takes it for. 0 is as familiar as can be; higher is stranger.
    """

    entropy_surprise: Tensor
    pixel_surprise: Tensor
    feature_surprise: Tensor

    @property
    def unfamiliarity(self) -> Tensor:
        """Fisher's statistic −2 Σ log p of the three p-values, (N,): higher is stranger (Fisher 1932)."""
        return 2 * (self.entropy_surprise + self.image_surprise)

    @property
    def image_surprise(self) -> Tensor:
        """The part of the surprise that lies in the image, not in its label: pixels and features, (N,)."""
        return self.pixel_surprise + self.feature_surprise


class Survival:
    """The share of reference scores at or above a score, with an exponential tail beyond the `TAIL` highest.

    Without the tail, all that is stranger than the strangest reference would look equally strange. The
    tail's scale is the mean excess of the scores in it (its maximum likelihood).

    Args:
        reference: (R,) scores, higher meaning stranger, R ≥ 2.
    """

    def __init__(self, reference: Tensor) -> None:
        self._sorted = reference.double().sort().values
        count = len(reference)
        self._start = count - max(1, round(TAIL * count))
        self._threshold = self._sorted[self._start - 1]
        self._scale = (self._sorted[self._start :] - self._threshold).mean().clamp_min(1e-12)
        self._empirical = -torch.log1p(-torch.arange(self._start + 1, dtype=torch.float64) / count)

    def surprise(self, scores: Tensor) -> Tensor:
        """−log of the survival function at `scores` (N,), in nats: (N,) float32, 0 or more."""
        below = torch.searchsorted(self._sorted, scores.double()).clamp_max(self._start)
        tail = (scores.double() - self._threshold).clamp_min(0) / self._scale
        return (self._empirical[below] + tail).float()


@dataclass(frozen=True)
class Scores:
    """Raw scores of N images, higher meaning stranger, each (N,), in nats.

    Attributes:
        entropy: of the predictive mean.
        pixel, feature: −E log p(x | c), the digit c being distributed as the predictive mean; of the features
            the mean over the components' networks.
    """

    entropy: Tensor
    pixel: Tensor
    feature: Tensor

    def tensors(self) -> Mapping[str, Tensor]:
        """The attributes by name, as a checkpoint stores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Scorer:
    """The raw scores of images: a density of pixels, and one of each component's features.

    An image's scores have the same bits alone and in any batch. Safe under threads.

    Args:
        network: gives the features' computation; its own weights are not used.
        loc: the weights of each component's mean network by parameter name, (M, *shape).
        pixels: density of digits blurred by `blurred`.
        features: M densities, of each component's features of digits.
    """

    def __init__(
        self,
        network: DigitNetwork,
        loc: Mapping[str, Tensor],
        pixels: ClassDensity,
        features: Sequence[ClassDensity],
    ) -> None:
        self._trunks = StackedNetwork(network.trunk(), loc)
        self._pixels, self._features = pixels, features

    @torch.inference_mode()
    def scores(self, images: Tensor, predictive: Predictive) -> Scores:
        """Scores of `images` (N, 1, 28, 28) of which the ensemble says `predictive`."""
        described = self._trunks(images)
        log_pixels = in_blocks(lambda block: self._pixels.log_prob(blurred(block).flatten(1)), images, BLOCK)
        # Where the features do not fill the processor's vectors, they are rounded by their place in a block.
        size = BLOCK if described.shape[-1] % 16 == 0 else 1
        log_features = [
            in_blocks(density.log_prob, features, size)
            for density, features in zip(self._features, described, strict=True)
        ]
        expected = [-(predictive.mean * log_prob).sum(-1) for log_prob in (log_pixels, *log_features)]
        return Scores(predictive.total, expected[0], torch.stack(expected[1:]).mean(0))


class Familiarity:
    """Turns images, and what the ensemble says of them, into `Evidence`; safe under threads.

    Args:
        scorer: gives the raw scores.
        reference: scores of training digits.
    """

    def __init__(self, scorer: Scorer, reference: Scores) -> None:
        self._scorer = scorer
        self._survival = {name: Survival(scores) for name, scores in reference.tensors().items()}

    def evidence(self, images: Tensor, predictive: Predictive) -> Evidence:
        """What is known of `images` (N, 1, 28, 28) of which the ensemble says `predictive`."""
        scores = self._scorer.scores(images, predictive).tensors()
        surprises = {f"{name}_surprise": self._survival[name].surprise(scores[name]) for name in scores}
        return Evidence(**predictive.tensors(), **surprises)


def blurred(images: Tensor) -> Tensor:
    """`images` (N, 1, H, W) under a Gaussian blur of `BLUR` pixels, black beyond their edges."""
    reach = math.ceil(3 * BLUR)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / BLUR).square())
    weights = weights / weights.sum()
    across = F.conv2d(images, weights.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(across, weights.view(1, 1, -1, 1), padding=(reach, 0))
