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
    """A change of an image that might have it answered.

    Attributes:
        words: what is done, such as "mirrored".
        image: (28, 28), what of it is shown as changed.
        tried: (1, 1, 28, 28), laid out anew, to be decided on.
        label: the class that it must be answered with; None where any will do.
    """

    words: str
    image: Tensor
    tried: Tensor
    label: int | None = None


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
        nothing_helps = _strangeness(classifier, evidence, quality), None
        words, found = next(_changes(classifier, image, evidence, quality), nothing_helps)
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


def _changes(
    classifier: Classifier, image: Tensor, evidence: Evidence, quality: str
) -> Iterator[tuple[str, _Change]]:
    """Changes that have an `image` (1, 1, 28, 28) answered, in words: those first that are seen at once.

    Of one that is refused for its `quality` alone, only ways to turn it.
    """
    if classifier.task.layout == AS_IS:
        return
    ordinary = {} if quality else _ordinary(classifier, image, evidence)
    yield from _answered(classifier, _inked(image, ordinary, less=True))
    yield from _answered(classifier, [*_turned(image), *_inked(image, ordinary, less=False)])


def _answered(classifier: Classifier, changes: Sequence[_Change]) -> Iterator[tuple[str, _Change]]:
    """Those of `changes` that have the image answered, and what they say; of those for any class, the most
    familiar first.

    All are decided on together, which takes hardly longer than one.
    """
    if not changes:
        return
    then = classifier.predict(Prepared.as_given(torch.cat([one.tried for one in changes])), draws=ADAPTIVE)

    def place(index: int) -> tuple[bool, float]:
        wanted = changes[index].label is not None
        return wanted, 0.0 if wanted else float(then.ood_score[index])

    for index in sorted(range(len(changes)), key=place):
        change, label = changes[index], int(then.labels[index])
        if label >= 0 and change.label in (None, label):
            yield f"{change.words}, it would be {a(classifier.task.names[label])}", change


def _ordinary(classifier: Classifier, image: Tensor, evidence: Evidence) -> dict[int, Tensor]:
    """What the `blurred` image would be as an ordinary one of its likely classes, by class."""
    densities = [score for score in classifier.detector.scores if isinstance(score, PixelDensity)]
    if not densities or not image.any():
        return {}
    likely = {int(evidence.mean.argmax(-1)), int(densities[0].likeliest(image))}
    return {label: densities[0].typical(image, torch.tensor([label])) for label in sorted(likely)}


def _inked(image: Tensor, ordinary: Mapping[int, Tensor], *, less: bool) -> list[_Change]:
    """With less ink or more, where that is unlike an `ordinary` image of a likely class."""
    lack = "a stroke too many: without it" if less else "a part is missing: with it"
    changed = {label: _towards(image, typical, less) for label, typical in ordinary.items()}
    return [
        _Change(lack, towards[0], laid_out(towards)[:, None], label)
        for label, (towards, share) in changed.items()
        if 0 < share <= _MOST_INK
    ]


def _turned(image: Tensor) -> list[_Change]:
    """By each of `_TURNS`."""
    return [_Change(words, image[0, 0], laid_out(turn(image)[0])[:, None]) for words, turn in _TURNS.items()]


def _towards(image: Tensor, typical: Tensor, less: bool) -> tuple[Tensor, float]:
    """The `image` (1, 1, 28, 28) with less ink, or more, where it is far from a `typical` one: (1, 28, 28).

    Also the share of its ink by which it was changed.
    """
    off = (blurred(image) - typical) * (1 if less else -1) > _OFF
    bounded = torch.minimum(image, typical) if less else torch.maximum(image, typical)
    changed = torch.where(max_pool2d(off.float(), 3, 1, 1) > 0, bounded, image).clamp(0, 1)
    return changed[0], float((changed - image).abs().sum() / image.sum())
