"""The estimator for scikit-learn: its manners, its refusals, and that it is the project's own posterior."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import bnn
from bnn.core.networks import build_network
from bnn.core.posterior import MeanField, Mixture
from bnn.core.task import Task
from bnn.errors import InputError
from bnn.training.sklearn import BayesianClassifier

FEW: dict[str, Any] = {"steps": 40, "draws": 8, "lr": 2e-2}
EASY: dict[str, Any] = {"rule": "entropy", "refuse": 0.2}


@pytest.mark.slow
@parametrize_with_checks([BayesianClassifier(**FEW)])  # type: ignore[untyped-decorator]  # none may fail
def test_it_passes_scikit_learn_s_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def blobs() -> tuple[Any, Any]:
    """Rows of three clouds, one of them apart, and names for labels."""
    rows, labels = make_blobs(240, centers=[[0, 0], [1.5, 0], [8, 8]], cluster_std=1, random_state=0)
    return rows, np.array(["left", "right", "far"])[labels]


@pytest.fixture(scope="module")
def fitted(blobs: tuple[Any, Any]) -> BayesianClassifier:
    return BayesianClassifier(**FEW | EASY, random_state=0).fit(*blobs)


def test_what_it_says_is_the_mean_over_networks_drawn_from_its_posterior(fitted: Any, blobs: Any) -> None:
    rows = blobs[0][:5]
    assert isinstance(fitted.posterior_, Mixture)
    network = build_network("mlp", {"hidden": 64, "inputs": 2}, Task(("0", "1", "2")))
    seed = np.random.RandomState(0).randint(2**31)
    drawn = fitted.posterior_.sample(FEW["draws"], int(seed))
    seen = torch.from_numpy(fitted.scaler_.transform(rows).astype(np.float32))
    each = []
    for draw in range(FEW["draws"]):
        network.load_state_dict({name: value[draw] for name, value in drawn.items()})
        each.append(network(seen).softmax(-1).detach())
    np.testing.assert_allclose(fitted.predict_proba(rows), torch.stack(each).mean(0), atol=1e-5)
    assert fitted.predict(rows).tolist() == fitted.classes_[torch.stack(each).mean(0).argmax(1)].tolist()


def test_uncertainty_is_the_sum_of_its_parts(fitted: Any, blobs: Any) -> None:
    said = fitted.predict_uncertainty(blobs[0])
    np.testing.assert_allclose(said.total, said.aleatoric + said.epistemic, atol=1e-5)
    assert (said.aleatoric >= 0).all()
    assert (said.epistemic >= 0).all()
    probs = fitted.predict_proba(blobs[0]).astype(float)
    np.testing.assert_allclose(said.total, -(probs * np.log(probs)).sum(1), atol=1e-4)


def test_it_refuses_where_classes_overlap_and_answers_where_they_do_not(fitted: Any, blobs: Any) -> None:
    rows, labels = blobs
    decided = fitted.decide(rows)
    refused = decided.reasons != "answered"
    assert all(
        (label is None) == is_refused for label, is_refused in zip(decided.labels, refused, strict=True)
    )
    assert (decided.labels[~refused] == fitted.predict(rows)[~refused]).all()
    assert refused[labels != "far"].mean() > refused[labels == "far"].mean()
    assert decided.scores[refused].min() >= decided.scores[~refused].max()


def test_what_is_like_nothing_it_learnt_is_unfamiliar(blobs: Any) -> None:
    clf = BayesianClassifier(**FEW, risk=0.4, random_state=0).fit(*blobs)
    assert clf.decide([[100.0, -100.0], [1e308, 0.0]]).reasons.tolist() == ["unfamiliar"] * 2
    assert np.isfinite(clf.predict_proba([[1e308, -1e308]])).all()  # and yet it answers if it is made to
    assert (clf.decide(blobs[0]).reasons == "unfamiliar").mean() < 0.1


def test_a_promise_that_few_rows_cannot_keep_refuses_all_and_another_can_be_asked_for(blobs: Any) -> None:
    few = (blobs[0][:60], blobs[1][:60])
    clf = BayesianClassifier(**FEW, risk=0.001, random_state=0).fit(*few)
    assert set(clf.decide(few[0]).labels) == {None}
    assert "could not be fitted" in clf.rule_.describe()
    assert clf.score(*few) > 0.5  # which always answers
    with pytest.raises(InputError, match="calibration"):
        clf.with_promise(risk=0.002)
    asked = clf.with_promise(**EASY)
    assert {"left", "right", "far"} >= set(asked.decide(few[0]).labels) - {None} != set()
    assert asked.refuse == 0.2
    assert clf.rule == "calibrated"
    with pytest.raises(InputError, match="steps is no part of a promise"):
        clf.with_promise(steps=3)


def test_rows_held_out_are_of_each_class_and_not_learnt(fitted: Any, blobs: Any) -> None:
    assert len(fitted.calibration_) == 48  # a fifth of 240
    assert fitted.scaler_.n_samples_seen_ == 240 - 48  # nor do they say what is far
    assert sorted(fitted.calibration_.labels.unique().tolist()) == [0, 1, 2]


def test_a_class_with_a_single_row_is_learnt(blobs: Any) -> None:
    rows, labels = np.append(blobs[0], [[-30.0, 30.0]], 0), np.append(blobs[1], "alone")
    clf = BayesianClassifier(**FEW, random_state=0).fit(rows, labels)
    assert clf.predict([[-30.0, 30.0]]).tolist() == ["alone"]


def test_the_seed_says_all_and_global_generators_are_left_alone(fitted: Any, blobs: Any) -> None:
    np.random.seed(5)  # noqa: NPY002  # the global one
    torch.manual_seed(5)
    expected = np.random.rand(), torch.rand(())  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    again = clone(fitted).fit(*blobs)
    assert (np.random.rand(), torch.rand(())) == expected  # noqa: NPY002
    assert np.array_equal(again.predict_proba(blobs[0]), fitted.predict_proba(blobs[0]))
    other = clone(fitted).set_params(random_state=1).fit(*blobs)
    assert not np.array_equal(other.predict_proba(blobs[0]), fitted.predict_proba(blobs[0]))


def test_it_is_pickled_whole(fitted: Any, blobs: Any) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    before, after = fitted.decide(blobs[0]), again.decide(blobs[0])
    assert before.labels.tolist() == after.labels.tolist()
    assert np.array_equal(before.scores, after.scores)


@pytest.mark.parametrize("guide", ["low-rank", "swag", "laplace", "mc-dropout"])
def test_it_takes_the_posteriors_there_are(guide: str, blobs: Any) -> None:
    clf = BayesianClassifier(**FEW | {"steps": 120}, guide=guide, random_state=0).fit(*blobs)
    kind = type(clf.posterior_.components[0])
    assert kind is not MeanField
    assert clf.score(*blobs) > 0.8


def test_images_are_learnt_by_networks_of_images() -> None:
    images, labels = bnn.ImageSet.from_name("digits", part="train", limit=300), None
    pixels = (images.images[:, 0].numpy() * 255).round()
    labels = images.truth().numpy()
    clf = BayesianClassifier("cnn", **FEW | {"steps": 60, "lr": 5e-3}, random_state=0).fit(pixels, labels)
    assert clf.n_features_in_ == 784
    assert clf.score(pixels, labels) > 0.8
    flat = pixels.reshape(len(pixels), -1)
    assert np.array_equal(clf.predict_proba(flat[:3]), clf.predict_proba(pixels[:3]))
    again = pickle.loads(pickle.dumps(clf))  # though oneDNN's weights cannot be
    assert np.array_equal(again.predict_proba(flat[:3]), clf.predict_proba(flat[:3]))


def test_a_search_goes_through_its_parameters() -> None:
    rows, labels = load_digits(n_class=3, return_X_y=True)
    search = GridSearchCV(BayesianClassifier(**FEW, random_state=0), {"prior": ["normal", "laplace"]}, cv=2)
    assert search.fit(rows[:150], labels[:150]).best_score_ > 0.8


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"held_out": 1.0}, "held_out must lie between 0 and 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"guide": "nothing"}, "there is no guide 'nothing'"),
        ({"rule": "nothing"}, "there is no abstention rule 'nothing'"),
        ({"scores": ("pixels",)}, "'pixels' is of images"),
        ({"network": "cnn"}, "sees images of 28×28 pixels, and X has 2 features"),
        ({"network_options": {"units": 3}}, "cannot be built"),
        ({"risk": 2}, "risk must lie between 0 and 1"),
        ({"guide": "swag", "steps": 3}, "swag takes 20 snapshots"),
    ],
)
def test_parameters_that_cannot_be_used_are_told(parameters: Any, match: str, blobs: Any) -> None:
    with pytest.raises(InputError, match=match):
        BayesianClassifier(**FEW | parameters).fit(*blobs)


def test_every_class_of_one_row_is_told() -> None:
    with pytest.raises(InputError, match="every class has one row"):
        BayesianClassifier(**FEW).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.slow
def test_the_page_s_programs_run_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, as somebody who reads from top to bottom does."""
    page = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
    programs = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for program in programs:
        exec(program, names)
    folds = names["folds"]
    assert len(folds) == 3
    assert folds.mean() > 0.85
    printed = capsys.readouterr().out
    assert "answered" in printed
    assert names["strange"].reasons.tolist() == ["unfamiliar"] * len(names["strange"].labels)
    assert names["stricter"].risk < names["clf"].risk
