"""Why an image is refused: which evidence spoke, and what would have to be other for it to be answered."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from bnn.classifier import ADAPTIVE, Classifier
from bnn.core.evidence import Evidence
from bnn.core.networks import IMAGE_SIZE
from bnn.core.task import DIGITS
from bnn.data.geometry import laid_out
from bnn.data.preprocess import AS_IS, Images, Prepared, read_images
from bnn.data.quality import QUALITIES
from bnn.ood.scores import PixelDensity, blurred
from bnn.prediction import Prediction

MOST_NAMED = 3  # candidates that are listed one by one
_NO_VOWELS = ("one", "uni", "eu")  # what words begin with that are spelt with a vowel and spoken without
_NOTHING_LIKE = math.log(3_000)  # nats of every score of the image: fewer than one in so many is as strange
_OFF = 0.3  # of full ink, by which a pixel differs from an ordinary image's
_TURNS: Mapping[str, Callable[[Tensor], Tensor]] = {  # what a camera or a hand does to a whole image
    "turned by a quarter": lambda image: image.rot90(1, (-2, -1)),
    "turned by a quarter the other way": lambda image: image.rot90(-1, (-2, -1)),
    "turned upside down": lambda image: image.rot90(2, (-2, -1)),
    "mirrored": lambda image: image.flip(-1),
}
_MOST_INK = 0.5  # of an image's, that is a stroke too many, or missing, and not most of it


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one image is answered or refused.

    Attributes:
        words: half a sentence.
        change: (28, 28) float32, by what its ink would have to change to be answered: below 0 where there
            is too much, above 0 where some is missing; 0 everywhere where no such change was found.

    Example:
        >>> import bnn
        >>> (why,) = bnn.explain("docs/four.png", bnn.Classifier.load(draws=10))
        >>> print(why, why.change.shape)
        a probability of 1.000 (28, 28)
    """

    words: str
    change: NDArray[np.float32]

    def __str__(self) -> str:
        return self.words


class _Change(NamedTuple):
    """A change of an image that would have it answered."""

    words: str
    image: Tensor  # as it would be, before it is laid out anew


def explain(images: Images, classifier: Classifier | None = None) -> list[Explanation]:
    """Why images are answered or refused, one by one.

    Of an image that is refused as unfamiliar, a stroke too many, a way to turn it, or a part that is missing
    is looked for: the first of a few changes after which it would be answered (a counterfactual explanation;
    Wachter, Mittelstadt & Russell 2017, "Counterfactual explanations without opening the black box"). What is
    said to help was tried, by the same rule and as many draws as that needs. Else the score of the highest
    surprise speaks.

    Args:
        images: of the kinds that `Classifier.predict` takes.
        classifier: decides; by default the one that ships, loaded anew.

    Raises:
        InputError: an image cannot be used.

    Example:
        >>> import bnn
        >>> print(*bnn.explain("docs/star.png", bnn.Classifier.load(draws=10)))
        it looks more like some other drawing
    """
    classifier = classifier or Classifier.load()
    read = read_images(images, classifier.task.layout)
    evidence = classifier.evidence(read.images)
    return explained(classifier, read, evidence, classifier.decide(evidence, read.quality))


def explained(
    classifier: Classifier, read: Prepared, evidence: Evidence, prediction: Prediction
) -> list[Explanation]:
    """`explain`, of images of which all is known that `classifier` decides on."""
    return [
        _explained(classifier, read.images[i : i + 1], evidence[i : i + 1], prediction[i])
        for i in range(len(prediction))
    ]


def _explained(
    classifier: Classifier, image: Tensor, evidence: Evidence, prediction: Prediction
) -> Explanation:
    found = None
    if prediction.reasons[0] == "answered":
        words = f"a probability of {prediction.probs.max():.3f}"
    elif (quality := str(prediction.quality[0])) in QUALITIES:
        words = QUALITIES[quality]
    elif prediction.reasons[0] == "ambiguous":
        words = doubt(prediction)
    else:
        found = next(_changes(classifier, image, evidence, quality), None)
        words = found.words if found else _strangeness(classifier, evidence, quality)
    change = found.image - image[0, 0] if found else torch.zeros(IMAGE_SIZE, IMAGE_SIZE)
    return Explanation(words, change.numpy())


def doubt(prediction: Prediction) -> str:
    """What one image may be, and whether the networks contradict each other or each doubts by itself."""
    disagree = prediction.epistemic[0] > prediction.aleatoric[0]
    why = "the networks disagree" if disagree else "each network wavers by itself"
    named = [a(prediction.names[label]) for label in prediction.candidates[0]]
    return f"{_listed(named)}: {why}"


def a(name: str) -> str:
    """A class by its `name`, with the article before it: a 7, an 8, an eel, a one."""
    is_vowel = name.lower().startswith(tuple("aeiou8")) and not name.lower().startswith(_NO_VOWELS)
    return f"{'an' if is_vowel else 'a'} {name}"


def _listed(named: Sequence[str]) -> str:
    if len(named) == 1:
        return f"perhaps {named[0]}, but not surely enough"
    if len(named) > MOST_NAMED:
        return f"any of {len(named)}, such as {named[0]} or {named[1]}"
    return f"{', '.join(named[:-1])} or {named[-1]}"


def _strangeness(classifier: Classifier, evidence: Evidence, quality: str) -> str:
    """What the OOD scores of that `quality` say of one image, in words; those of none speak in general."""
    scores = classifier.detector.scores
    asked = [score for score in scores if score.quality == quality] or scores
    surprises = {score: float(evidence.surprises[score.name]) for score in asked}
    of_image = [surprise for score, surprise in surprises.items() if score.sees_image]
    if of_image and not quality and not min(of_image) < _NOTHING_LIKE:
        kind = "a digit" if classifier.task == DIGITS else "what it has learnt"
        return f"nothing like {kind}"
    loudest = max(surprises, key=lambda score: surprises[score])
    return loudest.says


def _changes(classifier: Classifier, image: Tensor, evidence: Evidence, quality: str) -> Iterator[_Change]:
    """Changes of an `image` (1, 1, 28, 28) that would have it answered, those first that are seen at once.

    Of one that is refused for its `quality` alone, only ways to turn it.
    """
    if classifier.task.layout == AS_IS:
        return
    if not quality:
        yield from _inked(classifier, image, evidence, less=True)
    yield from _turned(classifier, image)
    if not quality:
        yield from _inked(classifier, image, evidence, less=False)


def _inked(classifier: Classifier, image: Tensor, evidence: Evidence, *, less: bool) -> Iterator[_Change]:
    """With less ink or more, where that is unlike an ordinary image of a likely class."""
    densities = [score for score in classifier.detector.scores if isinstance(score, PixelDensity)]
    if not densities or not image.any():
        return
    for label in sorted({int(evidence.mean.argmax(-1)), int(densities[0].likeliest(image))}):
        changed, share = _towards(image, densities[0].typical(image, torch.tensor([label])), less)
        if not 0 < share <= _MOST_INK:
            continue
        if _decided(classifier, laid_out(changed)[:, None]).labels[0] == label:
            lack = "a stroke too many: without it" if less else "a part is missing: with it"
            yield _Change(f"{lack}, it would be {a(classifier.task.names[label])}", changed[0])


def _turned(classifier: Classifier, image: Tensor) -> Iterator[_Change]:
    """By each of `_TURNS`, the most familiar first."""
    turned = torch.cat([laid_out(turn(image)[0])[:, None] for turn in _TURNS.values()])
    then = _decided(classifier, turned)
    for index in then.ood_score.argsort(kind="stable").tolist():
        if (label := then.labels[index]) >= 0:
            name = a(classifier.task.names[label])
            yield _Change(f"{list(_TURNS)[index]}, it would be {name}", image[0, 0])


def _decided(classifier: Classifier, images: Tensor) -> Prediction:
    """What is decided on `images` (N, 1, 28, 28), by as many draws as that needs."""
    return classifier.predict(Prepared.as_given(images), draws=ADAPTIVE)


def _towards(image: Tensor, typical: Tensor, less: bool) -> tuple[Tensor, float]:
    """The `image` (1, 1, 28, 28) with less ink, or more, where it is far from a `typical` one: (1, 28, 28).

    Also the share of its ink by which it was changed.
    """
    off = (blurred(image) - typical) * (1 if less else -1) > _OFF
    bounded = torch.minimum(image, typical) if less else torch.maximum(image, typical)
    changed = torch.where(max_pool2d(off.float(), 3, 1, 1) > 0, bounded, image).clamp(0, 1)
    return changed[0], float((changed - image).abs().sum() / image.sum())
