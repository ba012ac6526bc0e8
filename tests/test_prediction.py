"""What can be done with a prediction: chosen from, gone through, shown, made a table, plotted."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from bnn.classifier import Classifier
from bnn.core.task import Task
from bnn.errors import InputError
from bnn.evaluation.votes import MOST_IMAGES, plot_votes
from bnn.prediction import MEASURES, Prediction

ARRAYS = (
    "labels",
    "reasons",
    "probs",
    "total",
    "aleatoric",
    "epistemic",
    "ood_score",
    "refusal_score",
    "quality",
)


def digits() -> np.ndarray[Any, np.dtype[np.float32]]:
    """A blank image, noise, and strokes: (6, 28, 28)."""
    images = np.zeros((6, 28, 28), np.float32)
    images[1:3] = np.random.default_rng(0).random((2, 28, 28))
    for i in range(3, 6):
        images[i, 4:24, 4 * i : 4 * i + 3] = 1
    return images


@pytest.fixture(scope="module")
def prediction(classifier: Classifier) -> Prediction:
    return classifier.predict(digits())


def assert_rows(chosen: Prediction, whole: Prediction, rows: list[int]) -> None:
    assert len(chosen) == len(rows)
    for name in ARRAYS:
        assert np.array_equal(getattr(chosen, name), getattr(whole, name)[rows]), name
    assert list(chosen.candidates) == [whole.candidates[row] for row in rows]
    assert chosen.names == whole.names
    assert chosen.votes is not None
    assert whole.votes is not None
    assert np.array_equal(chosen.votes, whole.votes[:, rows])


CHOICES: list[tuple[Any, list[int]]] = [
    (0, [0]),
    (np.int64(4), [4]),
    (-1, [5]),
    (slice(2), [0, 1]),
    (slice(1, None, 2), [1, 3, 5]),
    (slice(None, None, -1), [5, 4, 3, 2, 1, 0]),
    (slice(3, 3), []),
    ([5, 0, 0], [5, 0, 0]),
    ([], []),
    (np.array([1, 4]), [1, 4]),
    (np.array([True, False, False, True, True, False]), [0, 3, 4]),
    (torch.tensor([True, False, False, True, True, False]), [0, 3, 4]),
    (torch.tensor([2, 1]), [2, 1]),
]


@pytest.mark.parametrize(("index", "rows"), CHOICES)
def test_choosing_images_keeps_all_that_is_said_of_them(
    prediction: Prediction, index: Any, rows: list[int]
) -> None:
    assert_rows(prediction[index], prediction, rows)
    assert_rows(prediction[index][:], prediction, rows)


@pytest.mark.parametrize("index", [6, -7, [0, 6], [True, False], [[0, 1], [2, 3]], None, "a", 1.5])
def test_what_chooses_no_images_is_refused(prediction: Prediction, index: Any) -> None:
    with pytest.raises(IndexError):
        prediction[index]


def test_a_mask_of_what_was_decided_chooses_it(prediction: Prediction) -> None:
    refused = prediction[prediction.labels == -1]
    assert len(refused) > 0
    assert (refused.labels == -1).all()
    assert len(refused) + len(prediction[prediction.reasons == "answered"]) == len(prediction)


def test_it_goes_through_its_images_one_by_one_as_often_as_is_wished(prediction: Prediction) -> None:
    for _ in range(2):
        each = list(prediction)
        assert len(each) == len(prediction)
        for row, one in enumerate(each):
            assert_rows(one, prediction, [row])


def test_an_image_alone_is_the_same_as_among_others(classifier: Classifier, prediction: Prediction) -> None:
    for row, image in enumerate(digits()):
        assert_rows(classifier.predict(image), prediction, [row])


def test_votes_are_each_draws_and_their_mean_is_the_probability(
    classifier: Classifier, prediction: Prediction
) -> None:
    votes = prediction.votes
    assert votes is not None
    assert votes.shape == (len(classifier.ensemble), len(prediction), 10)
    assert np.array_equal(votes, classifier.votes(digits()))
    np.testing.assert_allclose(votes.mean(0), prediction.probs, atol=1e-6)
    entropy = -(votes * np.log(votes.clip(1e-30))).sum(2)
    np.testing.assert_allclose(entropy.mean(0), prediction.aleatoric, atol=1e-4)


@pytest.mark.parametrize(
    "nothing", [[], np.zeros((0, 28, 28)), torch.zeros(0, 1, 28, 28), np.zeros((0, 784))]
)
def test_nothing_gives_an_empty_prediction(
    classifier: Classifier, prediction: Prediction, nothing: Any
) -> None:
    empty = classifier.predict(nothing)
    assert_rows(empty, prediction, [])
    assert [getattr(empty, name).dtype.kind for name in ARRAYS] == [
        getattr(prediction, name).dtype.kind for name in ARRAYS
    ]
    assert classifier.votes(nothing).shape == (len(classifier.ensemble), 0, 10)
    assert repr(empty) == "Prediction of 0 images: 0 answered, 0 ambiguous, 0 unfamiliar"
    assert (empty.plain(), list(empty), len(empty.to_pandas())) == ([], [], 0)
    assert list(empty.to_pandas()) == list(prediction.to_pandas())


def test_it_shows_what_was_decided_and_how_often(prediction: Prediction) -> None:
    head, *lines = repr(prediction).splitlines()
    counts = [int((prediction.reasons == reason).sum()) for reason in ("answered", "ambiguous", "unfamiliar")]
    assert head == "Prediction of 6 images: {} answered, {} ambiguous, {} unfamiliar".format(*counts)
    assert counts[0] < 6  # some are refused
    assert len(lines) == 6
    for row, line in enumerate(lines):
        answer = prediction.decision(row)
        assert answer == ("refused" if prediction.labels[row] == -1 else str(prediction.labels[row]))
        probability = f"{prediction.probs[row].max():.3f}"
        quality = prediction.quality[row]
        why = f"{prediction.reasons[row]}: {quality}" if quality else prediction.reasons[row]
        assert line == f"  [{row}] {answer} ({why}, probability {probability})"
    assert repr(prediction[0]).startswith("Prediction of 1 image: 0 answered")


def test_of_many_images_it_shows_the_first(prediction: Prediction) -> None:
    many = prediction[np.zeros(1234, np.int64)]
    lines = repr(many).splitlines()
    assert lines[0].startswith("Prediction of 1,234 images: ")
    assert lines[-1] == "  …"
    assert len(lines) == 12


def test_a_table_has_a_row_an_image(prediction: Prediction) -> None:
    pytest.importorskip("pandas", reason="pandas, which is optional, is not installed")
    table = prediction.to_pandas()
    classes = [f"p_{digit}" for digit in range(10)]
    assert list(table) == ["decision", "reason", "quality", *classes, *MEASURES, "candidates"]
    assert table["decision"].tolist() == [prediction.decision(row) for row in range(len(prediction))]
    assert table["reason"].tolist() == prediction.reasons.tolist()
    assert np.array_equal(table[classes].to_numpy(), prediction.probs)
    for name in MEASURES:
        assert np.array_equal(table[name].to_numpy(), getattr(prediction, name))
    assert table["candidates"].tolist() == list(prediction.candidates)


def test_without_pandas_it_says_what_to_install(
    prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # Python's own sign for: cannot be imported
    with pytest.raises(InputError, match=r"^pandas is not installed: get it by `pip install pandas`\.$"):
        prediction.to_pandas()


def test_two_predictions_are_never_taken_for_one(prediction: Prediction) -> None:
    assert prediction == prediction
    assert prediction[:2] != prediction[:2]  # told apart without looking at arrays, which have no one answer


# The plot of votes


def test_the_plot_has_a_panel_an_image_with_each_networks_probability_of_each_class(
    prediction: Prediction,
) -> None:
    figure = plot_votes(prediction)
    assert len(figure.axes) == len(prediction)
    assert prediction.votes is not None
    for row, axes in enumerate(figure.axes):
        (dots,) = (artist for artist in axes.collections if len(np.asarray(artist.get_offsets())) > 10)
        offsets = np.asarray(dots.get_offsets())
        shown, rows = offsets[:, 0], offsets[:, 1].round().astype(int)
        for label in range(10):  # each dot on its class's row, at its probability
            assert sorted(shown[rows == label]) == pytest.approx(sorted(prediction.votes[:, row, label]))
        assert [tick.get_text() for tick in axes.get_yticklabels()] == list(prediction.names)
        assert prediction.decision(row).split()[0] in axes.get_title()
        assert f"of {len(prediction.votes)}" in axes.get_title()


def test_the_plot_names_the_classes_of_any_task(untrained: Any) -> None:
    classifier = untrained("mlp", {"hidden": 16}, Task(("ant", "bee", "cat")))
    (axes,) = plot_votes(classifier.predict(digits()[1])).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["ant", "bee", "cat"]


@pytest.mark.parametrize("count", [0, MOST_IMAGES + 1])
def test_no_images_and_too_many_are_not_plotted(prediction: Prediction, count: int) -> None:
    with pytest.raises(InputError, match=rf"^1 to {MOST_IMAGES} images can be plotted, not {count}: slice"):
        plot_votes(prediction[np.zeros(count, np.int64)])


def test_without_votes_there_is_no_plot(classifier: Classifier) -> None:
    prepared = torch.from_numpy(digits())[:, None]
    decided = classifier.decide(classifier.evidence(prepared), np.full(6, ""))
    assert decided.votes is None
    assert decided[1:].votes is None
    with pytest.raises(InputError, match=r"^prediction holds no votes: take it from Classifier\.predict\.$"):
        plot_votes(decided)
