"""What an out-of-distribution (OOD) score is.

A new score is one class and one name in `bnn.ood.scores.SCORES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from bnn.core.features import Features
from bnn.core.task import Task
from bnn.core.uncertainty import Predictive
from bnn.errors import InputError


@dataclass(frozen=True)
class Observed:
    """What a score may look at, of N images.

    Attributes:
        images: (N, 1, 28, 28) float32 in [0, 1].
        predictive: what the ensemble says of them.
        extractor: computes `features` where a score asks for them.

    Example:
        >>> import torch
        >>> from bnn import Classifier, Observed
        >>> clf, images = Classifier.load(draws=5), torch.zeros(2, 1, 28, 28)
        >>> observed = Observed(images, clf.ensemble.predictive(images), clf.detector.features)
        >>> observed.predictive.mean.shape, observed.features.shape
        (torch.Size([2, 10]), torch.Size([6, 2, 1024]))
    """

    images: Tensor
    predictive: Predictive
    extractor: Features
    _known: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def features(self) -> Tensor:
        """The mean networks' features, (M, N, D)."""
        return self.extractor(self.images)

    def known(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What the images alone say, (N, …): computed once, whatever predictions go `again` with them.

        Args:
            name: of the score that asks.
            compute: gives it.
        """
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def again(self, predictive: Predictive) -> "Observed":
        """The same N images with other predictions, R·N, where they come R times one after another."""
        times = len(predictive) // len(self.images)
        known = {name: torch.cat([value] * times) for name, value in self._known.items()}
        return Observed(torch.cat([self.images] * times), predictive, self.extractor, known)

    def __getitem__(self, chosen: Tensor) -> "Observed":
        known = {name: value[chosen] for name, value in self._known.items()}
        return Observed(self.images[chosen], self.predictive[chosen], self.extractor, known)


class OODScore(ABC):
    """How little an image is like the training images: higher means more out-of-distribution.

    A score that is fitted to nothing overrides `score` alone.

    Example:
        >>> import torch
        >>> import bnn
        >>> class Ink(bnn.OODScore):
        ...     name = "ink"
        ...     def score(self, observed):
        ...         return observed.images.sum((1, 2, 3))
        >>> Ink().score(bnn.Observed(torch.ones(1, 1, 28, 28), None, None))
        tensor([784.])
    """

    name: ClassVar[str]
    sees_image: ClassVar[bool] = True  # else it looks at nothing but what the ensemble says
    # Of an image it is least where the ensemble is certain of some class; if it does not see the image, most
    # where all classes are as likely.
    has_bounds: ClassVar[bool] = False
    says: ClassVar[str] = "it is unlike what it has learnt"  # of an image that is refused for a high score
    quality: ClassVar[str] = ""  # in a word, what is wrong with an image that is refused for it alone

    @abstractmethod
    def score(self, observed: Observed) -> Tensor:
        """The scores (N,) of N images; an image's must have the same bits alone and in any batch."""

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, features: Features, seed: int) -> Self:
        """The score fitted to training `images` (N, 1, 28, 28) and their `labels` (N,).

        Args:
            images, labels: to be learnt.
            features: the mean networks' descriptions of images.
            seed: of all that is random in the fit.
        """
        return cls()

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted by name, as a checkpoint stores it."""
        return {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], task: Task, features: Features) -> Self:
        """The score whose `tensors` these are, which anyone may have made.

        Raises:
            InputError: they are not those of such a score.
        """
        if tensors:
            raise InputError(
                f"the OOD score {cls.name!r} is fitted to nothing, and tensors are given for it."
            )
        return cls()
