"""Why an image is refused: what is said of it was tried, and each kind of fault gets its own words."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn.app.examples import DIGITS, DOODLES, DOUBTFUL
from bnn.classifier import Classifier
from bnn.core.task import Task
from bnn.data.background import added, erased
from bnn.data.digits import Labelled
from bnn.data.geometry import laid_out
from bnn.data.pen import render
from bnn.data.quality import QUALITIES
from bnn.explanation import Explanation, a, explain
from bnn.ood.density import ClassDensity
from bnn.ood.score import Observed, OODScore

NOTHING_LIKE, TOO_MANY, MISSING = "nothing like a digit", "a stroke too many", "a part is missing"

FEW = torch.zeros(40, 1, 28, 28)
FEW[:, :, 10:12, 10:12] = torch.linspace(0.5, 1, 40)[:, None, None, None]


def refused(classifier: Classifier, images: Tensor) -> Tensor:
    """Those of `images` (N, 28, 28) that are refused as unfamiliar, (n, 1, 28, 28)."""
    laid = laid_out(images)[:, None].clamp(0, 1)
    return laid[torch.from_numpy(classifier.predict(laid).reasons == "unfamiliar")]


def changed(image: Tensor, explanation: Explanation) -> Tensor:
    return laid_out(image + torch.from_numpy(explanation.change))[:, None]


@pytest.fixture(scope="module")
def spoilt(classifier: Classifier, mnist_test: Labelled) -> dict[str, Tensor]:
    """Refused images, each of digits with a fault of one kind."""
    images, rng = mnist_test.images[:160, 0], np.random.default_rng(0)
    return {
        "added": refused(classifier, added(images[:80], images[80:], rng)),
        "erased": refused(classifier, erased(images[80:], images[:80], rng)),
        "noise": torch.from_numpy(rng.random((20, 1, 28, 28), np.float32)),
    }


@pytest.fixture(scope="module")
def explained(classifier: Classifier, spoilt: dict[str, Tensor]) -> dict[str, Sequence[Explanation]]:
    """Why each of `spoilt` is refused."""
    return {kind: explain(images, classifier) for kind, images in spoilt.items()}


def test_each_fault_has_its_own_words(explained: dict[str, Sequence[Explanation]]) -> None:
    said = {kind: [str(why) for why in whys] for kind, whys in explained.items()}

    def share(kind: str, words: str) -> float:
        return float(np.mean([why.startswith(words) for why in said[kind]]))

    assert min(len(said["added"]), len(said["erased"])) >= 20
    assert share("noise", NOTHING_LIKE) == 1
    assert share("added", TOO_MANY) > 0.2 > share("erased", TOO_MANY)
    assert share("added", NOTHING_LIKE) < 0.1


def test_what_is_said_to_help_does(
    classifier: Classifier, spoilt: dict[str, Tensor], explained: dict[str, Sequence[Explanation]]
) -> None:
    helped = 0
    for kind in ("added", "erased"):
        for image, why in zip(spoilt[kind], explained[kind], strict=True):
            assert why.change.any() == why.words.startswith((TOO_MANY, MISSING))
            assert ("it would be" in why.words) == why.words.startswith(
                (TOO_MANY, MISSING, "turned", "mirrored")
            )
            assert not (why.change > 0).any() or why.words.startswith(MISSING)
            assert not (why.change < 0).any() or why.words.startswith(TOO_MANY)
            if why.change.any():
                answer = classifier.predict(changed(image, why)).decision(0)
                assert why.words.endswith(f"it would be {a(answer)}")
                helped += 1
    assert helped >= 10


@pytest.mark.parametrize(
    ("turn", "back"),
    [
        ("turned by a quarter", lambda image: image.rot90(1, (-2, -1))),
        ("turned by a quarter the other way", lambda image: image.rot90(-1, (-2, -1))),
        ("mirrored", lambda image: image.flip(-1)),
    ],
)
def test_what_is_turned_or_mirrored_is_told(
    classifier: Classifier, mnist_test: Labelled, turn: str, back: Callable[[Tensor], Tensor]
) -> None:
    undo = {"turned by a quarter": -1, "turned by a quarter the other way": 1}.get(turn, 0)
    whole = mnist_test.images[:60, 0]
    seen = refused(classifier, whole.rot90(undo, (-2, -1)) if undo else whole.flip(-1))
    told = 0
    for image, why in zip(seen, explain(seen, classifier), strict=True):
        if why.words.startswith(f"{turn}, "):
            answer = classifier.predict(laid_out(back(image))[:, None]).decision(0)
            assert why.words == f"{turn}, it would be {a(answer)}"
            told += 1
    assert len(seen) >= 20
    assert told > 0.5 * len(seen)


def test_an_upside_down_four_is_told(classifier: Classifier) -> None:
    upside_down = [[(1 - x, 1 - y) for x, y in stroke] for stroke in DIGITS["4"]]
    (why,) = explain(render(upside_down), classifier)
    assert why.words == "turned upside down, it would be a 4"


def test_a_face_is_a_nought_with_something_in_it(classifier: Classifier) -> None:
    (why,) = explain(render(DOODLES["a face"]), classifier)
    assert why.words == f"{TOO_MANY}: without it, it would be a 0"
    middle = why.change[8:20, 8:20]
    assert middle.sum() == pytest.approx(why.change.sum(), rel=0.2)  # and not its outline


def test_what_may_be_two_digits_names_both(classifier: Classifier) -> None:
    for name, strokes in DOUBTFUL.items():
        if classifier.predict(render(strokes)).reasons[0] == "ambiguous":
            (why,) = explain(render(strokes), classifier)
            first, second = name.split(" or ")
            assert {a(first), a(second)} == {*why.words.partition(":")[0].split(" or ")}
            assert not why.change.any()


def test_what_cannot_be_judged_is_explained_by_its_quality(classifier: Classifier) -> None:
    pale, blank = render(DIGITS["7"]).point(lambda level: 255 - (255 - level) // 60), render([])
    four, two = (
        [(x / 2 + shift, y / 2) for x, y in DIGITS[digit][0]] for digit, shift in (("4", 0), ("2", 0.5))
    )
    beside = render([four, two])
    for image in (pale, blank, beside):
        quality = str(classifier.predict(image).quality[0])
        assert [str(why) for why in explain(image, classifier)] == [QUALITIES[quality]]


def test_an_answer_needs_no_change(classifier: Classifier) -> None:
    whys = explain([render(strokes) for strokes in DIGITS.values()], classifier)
    assert all(why.words.startswith("a probability of 0.9") or "1.000" in why.words for why in whys)
    assert not any(why.change.any() for why in whys)


class Ink(OODScore):
    """A score of one's own, under which nothing is familiar."""

    name: ClassVar[str] = "ink"
    says: ClassVar[str] = "there is so much of it"

    def score(self, observed: Observed) -> Tensor:
        return observed.images.sum((1, 2, 3))


def of_ink(classifier: Classifier) -> Classifier:
    """The classifier, but only `Ink` says what is familiar: four pixels of it."""
    return classifier.with_scores(Ink(), reference=FEW)


def test_a_score_of_ones_own_speaks_for_itself(classifier: Classifier) -> None:
    assert [str(why) for why in explain(FEW[:2], of_ink(classifier))] == [Ink.says, Ink.says]


def test_only_of_digits_it_speaks_of_digits(
    classifier: Classifier, untrained: Callable[..., Classifier]
) -> None:
    letters = untrained("mlp", {"hidden": 16}, Task(("a", "b")))
    noise = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for known, words in ((classifier, NOTHING_LIKE), (letters, "nothing like what it has learnt")):
        assert [str(why) for why in explain(noise, of_ink(known))] == [words]


def test_articles() -> None:
    assert [a(name) for name in ("8", "7", "A", "coat", "ankle boot", "B", "one", "unicorn")] == [
        *("an 8", "a 7", "an A", "a coat", "an ankle boot", "a B", "a one", "a unicorn")
    ]


def test_an_ordinary_vector_of_a_class_is_the_posterior_mean_of_ppca() -> None:
    density = ClassDensity(
        log_weight=torch.zeros(1, 1),
        mean=torch.tensor([[[1.0, 2.0, 3.0]]]),
        basis=torch.tensor([[[[1.0, 0.0, 0.0]]]]),
        variance=torch.tensor([[[4.0]]]),
        noise=torch.tensor([[1.0]]),
    )
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 5.0, 3.0], [1e6, 2.0, -9.0]])
    expected = torch.tensor([[1.0, 2.0, 3.0], [1 + 2 * 0.75, 2.0, 3.0], [1 + 2.5 * 2, 2.0, 3.0]])
    torch.testing.assert_close(density.typical(x, torch.zeros(3, dtype=torch.int64)), expected)


def test_of_two_components_the_likelier_says_what_is_ordinary() -> None:
    density = ClassDensity(
        log_weight=torch.full((1, 2), 0.5).log(),
        mean=torch.tensor([[[0.0, 0.0], [10.0, 10.0]]]),
        basis=torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]),
        variance=torch.full((1, 2, 1), 4.0),
        noise=torch.full((1, 2), 1.0),
    )
    found = density.typical(torch.tensor([[0.0, 1.0], [10.0, 11.0]]), torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [10.0, 10.75]]))
