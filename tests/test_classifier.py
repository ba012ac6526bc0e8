"""The classifier: from any image to a decision that fits together."""

import dataclasses
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, save
from bnn.core.evidence import Evidence
from bnn.core.task import Task
from bnn.core.uncertainty import Predictive
from bnn.data.digits import Labelled
from bnn.errors import InputError
from bnn.prediction import Prediction
from bnn.rules.abstention import AbstentionRule, Calibration, RefuseAll
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import Promise
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

MakeCheckpoint = Callable[..., Checkpoint]
Untrained = Callable[..., Classifier]
NEVER, ALWAYS = EntropyRule(10.0, 0.5), EntropyRule(-1.0, 0.5)
CALIBRATED = CalibratedRule(30.0, 0.6, 0.01, 0.05, 0.01)
RULES = [
    CALIBRATED,
    EntropyRule(0.6, 0.02),
    ConfidenceRule(0.2, 0.02),
    MedianRule(0.2),
    NEVER,
    ALWAYS,
    RefuseAll("for a test."),
]
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("cnn", {"channels": [4, 6], "hidden": 16}),
    ("cnn", {"channels": [3, 5], "hidden": 7}),
    ("vgg", {"channels": [2, 3, 4], "hidden": 16}),
    ("mlp", {"hidden": 64}),
    ("mlp", {"hidden": 33}),
    ("resnet", {"channels": [2, 3]}),
]

SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "labels": ("int64", ()),
    "reasons": ("str", ()),
    "probs": ("float32", (10,)),
    "total": ("float32", ()),
    "aleatoric": ("float32", ()),
    "epistemic": ("float32", ()),
    "ood_score": ("float32", ()),
    "refusal_score": ("float32", ()),
    "quality": ("str", ()),
}


def drawing() -> Image.Image:
    """A one, black on white."""
    image = Image.new("L", (60, 80), 255)
    ImageDraw.Draw(image).line([(33, 8), (27, 70)], fill=0, width=7)
    return image


def mixed() -> np.ndarray[Any, np.dtype[np.float32]]:
    """A blank image, noise, and strokes: (7, 28, 28)."""
    images = np.zeros((7, 28, 28), np.float32)
    images[1:3] = np.random.default_rng(0).random((2, 28, 28))
    for i in range(3, 7):
        images[i, 4:24, 4 * i - 8 : 4 * i - 5] = 1
    return images


def unsurprising(probs: torch.Tensor) -> Evidence:
    """Evidence on images of which the draws say `probs` (S, N, C), none of them surprising."""
    none = torch.zeros(probs.shape[1])
    return Evidence(
        Predictive.of(probs), dict.fromkeys(("pixels", "features", "entropy"), none), ood=none, novelty=none
    )


def assert_same(one: Prediction, other: Prediction) -> None:
    assert list(one.candidates) == list(other.candidates)
    assert one.names == other.names
    for name in SHAPES:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def assert_fits_together(prediction: Prediction, count: int) -> None:
    assert len(prediction) == count
    fields = {field.name for field in dataclasses.fields(prediction)}
    assert fields == {*SHAPES, "candidates", "names", "votes", "draws_used"}
    assert prediction.names == tuple("0123456789")
    assert prediction.votes is not None
    assert prediction.votes.shape[1:] == (count, 10)
    assert prediction.votes.dtype == np.float32
    assert prediction.draws_used is not None
    assert prediction.draws_used.tolist() == count * [len(prediction.votes)]
    if count:
        np.testing.assert_allclose(prediction.votes.mean(0), prediction.probs, atol=1e-6)
        np.testing.assert_allclose(prediction.votes.sum(2), 1, atol=1e-5)
    for name, (dtype, shape) in SHAPES.items():
        values = getattr(prediction, name)
        assert values.shape == (count, *shape), name
        assert values.dtype.kind == "U" if dtype == "str" else values.dtype == dtype, name
    refused = prediction.labels == -1
    assert ((prediction.labels >= -1) & (prediction.labels <= 9)).all()
    assert np.array_equal(refused, prediction.reasons != "answered")
    assert set(prediction.reasons) <= {"answered", "ambiguous", "unfamiliar"}
    assert np.allclose(prediction.probs.sum(1), 1, atol=1e-5)
    assert np.allclose(prediction.total, prediction.aleatoric + prediction.epistemic, atol=1e-5)
    assert refused[prediction.quality != ""].all()
    assert (prediction.reasons[prediction.quality != ""] == "unfamiliar").all()
    assert len(prediction.candidates) == count
    for label, probs, candidates in zip(
        prediction.labels, prediction.probs, prediction.candidates, strict=True
    ):
        assert len(set(candidates)) == len(candidates) >= 1
        assert label == -1 or label in candidates
        assert (np.diff(probs[list(candidates)]) <= 0).all()
        assert probs[candidates[0]] == probs.max()
        assert all(type(digit) is int for digit in candidates)


@pytest.mark.parametrize("rule", RULES)
def test_a_prediction_fits_together(classifier: Classifier, rule: AbstentionRule) -> None:
    images = mixed()
    prediction = classifier.with_rule(rule).predict(images)
    assert_fits_together(prediction, len(images))
    refused = prediction.labels == -1
    if refused.any() and not refused.all():
        assert prediction.refusal_score[refused].min() >= prediction.refusal_score[~refused].max()


def test_all_or_nothing_is_answered(classifier: Classifier) -> None:
    images = mixed()[1:]
    answered = classifier.with_rule(NEVER).predict(images)
    assert np.array_equal(answered.labels, answered.probs.argmax(1))
    refused = classifier.with_rule(ALWAYS).predict(images)
    assert (refused.labels == -1).all()
    evidence = classifier.evidence(torch.from_numpy(images)[:, None])
    surprises = evidence.surprises
    by_itself = surprises["contrast"] + surprises["turned"] + surprises["pixels"]
    anything = evidence.total.exp() > 5  # more than half of the digits
    surprising = (by_itself > surprises["entropy"]) | anything
    assert np.array_equal(refused.reasons == "unfamiliar", surprising.numpy())
    assert np.array_equal(refused.ood_score, evidence.ood.numpy())
    assert evidence.ood.equal(classifier.detector.combination.joined(surprises))


@pytest.mark.parametrize("rule", RULES)
def test_plain_decisions_go_through_json_and_come_back_to_the_bit(
    classifier: Classifier, rule: AbstentionRule
) -> None:
    prediction = classifier.with_rule(rule).predict(mixed())
    plain = json.loads(json.dumps(prediction.plain(), allow_nan=False))
    assert len(plain) == len(prediction)
    again = Prediction(
        names=prediction.names,
        candidates=[tuple(one["candidates"]) for one in plain],
        labels=np.array([-1 if one["label"] is None else one["label"] for one in plain]),
        reasons=np.array([one["reason"] for one in plain]),
        quality=np.array([one["quality"] for one in plain]),
        votes=None,
        draws_used=None,
        **{
            name: np.array([one[name] for one in plain], np.float32)
            for name, (dtype, _) in SHAPES.items()
            if dtype == "float32"
        },
    )
    assert_same(again, prediction)
    assert set(plain[0]) == {*SHAPES, "candidates"} - {"labels", "reasons"} | {"label", "reason"}


def test_plain_decisions_are_the_same_whether_votes_are_kept_or_not(classifier: Classifier) -> None:
    prediction = classifier.predict(mixed())
    assert dataclasses.replace(prediction, votes=None).plain() == prediction.plain()


def test_no_images_have_no_plain_decisions(classifier: Classifier) -> None:
    assert classifier.predict([]).plain() == []


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 28, 28), np.uint8)])
def test_no_images_have_no_decisions(classifier: Classifier, images: Any) -> None:
    assert_fits_together(classifier.predict(images), 0)


def test_images_paths_and_arrays_in_any_mixture_get_the_same_decisions(
    classifier: Classifier, tmp_path: Path
) -> None:
    drawing().save(tmp_path / "one.png")
    array = np.asarray(drawing())
    alone = classifier.predict(drawing())
    assert_fits_together(alone, 1)
    for images in (tmp_path / "one.png", str(tmp_path / "one.png"), array, [drawing()]):
        assert_same(classifier.predict(images), alone)
    both = classifier.predict([drawing(), mixed(), str(tmp_path / "one.png")])
    assert_fits_together(both, 9)
    assert np.array_equal(both.probs[[0, 8]], alone.probs[[0, 0]])
    assert np.array_equal(both.labels[1:8], classifier.predict(mixed()).labels)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("grey", [0, 100, 255])
def test_blank_images_are_refused_whatever_the_rule(
    classifier: Classifier, rule: AbstentionRule, grey: int
) -> None:
    blank = classifier.with_rule(rule).predict(Image.new("L", (100, 50), grey))
    assert blank.quality.tolist() == ["blank"]
    assert blank.labels.tolist() == [-1]
    assert blank.reasons.tolist() == ["unfamiliar"]
    assert blank.refusal_score[0] == pytest.approx(rule.highest_score(10))


def test_the_answer_of_the_median_is_a_candidate_even_where_the_mean_has_another_favourite(
    make_checkpoint: MakeCheckpoint,
) -> None:
    evidence = unsurprising(torch.eye(10)[torch.arange(60) % 10][None])
    calibration = Calibration(evidence, torch.arange(60) % 10, evidence.total)
    classifier = Classifier(make_checkpoint(calibration=calibration.tensors()), rule=MedianRule(0.2))
    draws = torch.zeros(3, 1, 10)
    draws[:, 0, 3] = torch.tensor([0.5, 0.5, 0.0])
    draws[:, 0, 8] = torch.tensor([0.45, 0.45, 1.0])
    draws[:, 0, 1] = torch.tensor([0.05, 0.05, 0.0])
    prediction = classifier.decide(unsurprising(draws), np.array([""]))
    assert prediction.labels.tolist() == [3]
    assert prediction.candidates == [(8, 3)]


def test_candidates_are_the_digits_that_calibration_leaves_possible(classifier: Classifier) -> None:
    calibration, labels = classifier.calibration, classifier.calibration.labels
    decided = classifier.with_rule(NEVER).decide(calibration.evidence, np.full(len(labels), ""))
    missed = sum(label not in set_ for label, set_ in zip(labels.tolist(), decided.candidates, strict=True))
    assert missed <= max(0.001 * (len(labels) + 1) - 1, 0)
    assert np.mean([len(candidates) for candidates in decided.candidates]) < 10  # and not just all ten


@pytest.fixture(params=NETWORKS, ids=lambda network: f"{network[0]}-{network[1].get('hidden')}")
def one_of_each(request: pytest.FixtureRequest, untrained: Untrained) -> Classifier:
    return untrained(*request.param)


def test_an_image_has_the_same_evidence_to_the_bit_alone_and_in_any_batch(one_of_each: Classifier) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([torch.from_numpy(mixed())[:, None], torch.rand(34, 1, 28, 28, generator=generator)])
    together = one_of_each.evidence(images)
    assert len(together) == len(images)
    assert together.surprises["pixels"].unique().numel() > 30  # not all at one end of the scale
    assert together.surprises["features"].unique().numel() > 15
    backwards = one_of_each.evidence(images.flip(0))
    strided = one_of_each.evidence(images.repeat(1, 2, 1, 1)[:, :1])
    for name, tensor in together.tensors().items():
        assert backwards.tensors()[name].flip(0).equal(tensor), name
        assert strided.tensors()[name].equal(tensor), name
    votes = one_of_each.predict(images).votes
    assert votes is not None
    assert np.array_equal(one_of_each.votes(images), votes)
    for i in (*range(0, 12), 31, 32, 40):
        for name, tensor in one_of_each.evidence(images[i : i + 1]).tensors().items():
            assert tensor[0].equal(together.tensors()[name][i]), (i, name)
        assert np.array_equal(one_of_each.votes(images[i])[:, 0], votes[:, i])


def test_eight_threads_at_once_get_the_serial_evidence(one_of_each: Classifier) -> None:
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    serial = one_of_each.evidence(images).tensors()
    tasks = list(range(12)) * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: one_of_each.evidence(images[i : i + 1]).tensors(), tasks))
    for i, answer in zip(tasks, answers, strict=True):
        assert all(answer[name][0].equal(tensor[i]) for name, tensor in serial.items())


def test_no_images_have_no_evidence(one_of_each: Classifier) -> None:
    whole = one_of_each.evidence(torch.rand(2, 1, 28, 28)).tensors()
    empty = one_of_each.evidence(torch.zeros(0, 1, 28, 28)).tensors()
    for name, tensor in whole.items():
        assert empty[name].shape == (0, *tensor.shape[1:])
        assert empty[name].dtype == tensor.dtype


def test_a_progress_bar_sees_every_image_once_and_changes_nothing(untrained: Untrained) -> None:
    classifier, seen = untrained("mlp", {"hidden": 16}), []

    def counted(chunks: Any) -> Any:
        for chunk in chunks:
            yield chunk
            seen.append(len(chunk))

    images = torch.rand(70, 1, 28, 28)
    counted_evidence = classifier.evidence(images, counted)
    assert sum(seen) == 70
    assert len(seen) > 1
    again = classifier.evidence(images).tensors()
    assert all(tensor.equal(again[name]) for name, tensor in counted_evidence.tensors().items())


def test_what_a_rule_was_fitted_for_is_known_and_the_rest_are_the_defaults(classifier: Classifier) -> None:
    defaults = Promise()
    assert classifier.with_rule(CALIBRATED).promise == Promise(0.01, 0.05, 0.01, defaults.refuse)
    assert classifier.with_rule(EntropyRule(0.5, 0.3)).promise == Promise(refuse=0.3)
    assert classifier.with_rule(MedianRule(0.2)).promise == defaults


def test_saving_and_loading_changes_no_bit_of_any_decision(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    save(checkpoint, tmp_path / "again.safetensors")
    assert_same(
        Classifier.load(tmp_path / "again.safetensors").predict(mixed()),
        Classifier(checkpoint).predict(mixed()),
    )


def test_draws_and_seed_can_be_chosen(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    assert len(Classifier(checkpoint).ensemble) == checkpoint.draws
    assert len(Classifier(checkpoint, draws=9).ensemble) == 9
    probs = [Classifier(checkpoint, seed=seed).predict(mixed()).probs for seed in (checkpoint.seed, 5)]
    assert np.array_equal(probs[0], Classifier(checkpoint).predict(mixed()).probs)
    assert not np.array_equal(probs[0], probs[1])
    assert_same(
        Classifier(checkpoint).with_draws(9).predict(mixed()),
        Classifier(checkpoint, draws=9).predict(mixed()),
    )


@pytest.mark.parametrize("count", [4, 1, 6])
def test_networks_are_plain_modules_that_vote_as_the_ensemble_does(
    one_of_each: Classifier, count: int
) -> None:
    images = torch.cat([torch.from_numpy(mixed())[:, None], torch.zeros(1, 1, 28, 28)])
    networks = one_of_each.networks(count)
    assert len(networks) == count
    assert all(isinstance(network, torch.nn.Module) and not network.training for network in networks)
    votes = torch.stack([network(images).softmax(1) for network in networks])
    ensemble = one_of_each.with_draws(count)
    assert len(one_of_each.ensemble) == 4  # so that the first of these counts asks for its own networks
    np.testing.assert_allclose(votes.detach().numpy(), ensemble.votes(images), atol=1e-5)
    assert len(votes.unique(dim=0)) == count  # each its own
    votes.sum().backward()  # weights as any others: they can be trained on
    assert all(weight.grad is not None for weight in networks[0].parameters())


@pytest.mark.parametrize("count", [0, -1, 10**12])
def test_impossible_counts_of_networks_are_refused(one_of_each: Classifier, count: int) -> None:
    for ask in (one_of_each.networks, one_of_each.with_draws):
        with pytest.raises(InputError, match=str(count)):
            ask(count)


def test_another_rule_leaves_the_first_classifier_as_it_was(classifier: Classifier) -> None:
    before = classifier.rule
    other = classifier.with_rule(NEVER)
    assert other.rule == NEVER
    assert classifier.rule == before
    assert other.ensemble is classifier.ensemble


@pytest.mark.parametrize(
    "options", [{"draws": 0}, {"draws": -1}, {"draws": 10**12}, {"seed": -1}, {"seed": 2**70}]
)
def test_impossible_draws_and_seeds_are_refused(options: dict[str, int]) -> None:
    (value,) = options.values()
    with pytest.raises(InputError, match=str(value)):
        Classifier.load(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
def test_every_number_is_finite_on_images_far_from_any_digit(
    classifier: Classifier, rule: AbstentionRule
) -> None:
    images = np.stack([np.indices((28, 28)).sum(0) % 2, np.eye(28), np.tri(28)]).astype(np.float32)
    prediction = classifier.with_rule(rule).predict(images)
    for name in ("probs", "total", "aleatoric", "epistemic", "ood_score", "refusal_score"):
        assert np.isfinite(getattr(prediction, name)).all(), name
    assert prediction.total.max() <= math.log(10) + 1e-5


def test_a_task_of_other_classes_is_told_by_their_names(untrained: Untrained) -> None:
    classifier = untrained("mlp", {"hidden": 16}, Task(("ant", "bee", "cat")))
    prediction = classifier.with_rule(NEVER).predict(mixed()[1:])
    assert prediction.names == ("ant", "bee", "cat")
    assert prediction.probs.shape == (6, 3)
    assert [prediction.decision(i) for i in range(6)] == [prediction.names[i] for i in prediction.labels]
    assert {name for name in prediction.to_pandas() if name.startswith("p_")} == {"p_ant", "p_bee", "p_cat"}


def test_nine_of_ten_real_digits_are_right_when_forced(classifier: Classifier, mnist_test: Labelled) -> None:
    prediction = classifier.with_rule(NEVER).predict(mnist_test.images[:100, 0].numpy())
    assert (prediction.labels == mnist_test.labels[:100].numpy()).mean() >= 0.9
