"""The checkpoint that ships: what it was trained on and how, and that it does its work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bnn.classifier import Classifier
from bnn.core.checkpoint import load, shipped
from bnn.core.task import DIGITS
from bnn.data.digits import Labelled
from bnn.data.imageset import ImageSet
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.table import fit_rule
from bnn.training.config import PRESETS, TrainConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def as_shipped() -> Classifier:
    return Classifier.load()


def test_it_was_trained_by_the_best_preset_to_the_end() -> None:
    best, shipped_one = PRESETS["best"], load()
    record, parts = shipped_one.record, shipped_one.parts
    assert TrainConfig().plain() | record["config"] == best.plain()  # before an option was, all was so
    assert (parts.network, dict(parts.network_options)) == (best.network, dict(best.network_options))
    assert shipped_one.task == DIGITS
    assert record["training"] == {
        "interrupted": False,
        "epochs_done": best.epochs,
        "components_done": best.components,
    }


def test_it_is_small() -> None:
    assert shipped().stat().st_size < 12_000_000


def test_it_was_trained_on_mnists_training_digits(mnist_root: Path) -> None:
    data = load().record["data"]
    assert (data["trained_on"], data["calibrated_on"]) == (55_000, 5_000)
    learnt = ImageSet.from_name("mnist", mnist_root, part="train")
    assert data["fingerprint"] == learnt.fingerprint()


def test_its_evidence_is_what_it_says_of_the_digits_held_out(
    as_shipped: Classifier, mnist_root: Path
) -> None:
    learnt = ImageSet.from_name("mnist", mnist_root, part="train")
    _, held_out = learnt.split_calibration(as_shipped.seed)
    again, stored = as_shipped.evidence(held_out.images[:20]), as_shipped.calibration
    for name, tensor in again.tensors().items():
        torch.testing.assert_close(tensor, stored.evidence.tensors()[name][:20], atol=1e-3, rtol=1e-3)
    assert torch.equal(held_out.truth(), stored.labels)


def test_its_rule_is_the_calibrated_one_as_anyone_can_fit_it_again(as_shipped: Classifier) -> None:
    assert isinstance(as_shipped.rule, CalibratedRule)
    assert fit_rule("calibrated", as_shipped.calibration, as_shipped.promise) == as_shipped.rule
    assert as_shipped.with_promise().rule == as_shipped.rule


def test_it_says_what_it_promises_and_keeps_to_the_ensemble_that_was_calibrated(
    as_shipped: Classifier,
) -> None:
    assert as_shipped.is_as_calibrated
    said = as_shipped.describe()
    for number in (as_shipped.promise.risk, 1 - as_shipped.promise.delta, as_shipped.promise.alpha):
        assert f"{100 * number:g}\N{NO-BREAK SPACE}%" in said
    assert "promises nothing" not in said
    assert (
        "calibrated with 50 networks of seed 0: of these it promises nothing"
        in Classifier.load(draws=10).describe()
    )


def test_it_reads_digits_and_is_hardly_ever_wrong_when_it_answers(
    as_shipped: Classifier, mnist_test: Labelled
) -> None:
    prediction = as_shipped.predict(mnist_test.images[::25, 0].numpy())
    labels = mnist_test.labels[::25].numpy()
    answered = prediction.labels >= 0
    assert (prediction.probs.argmax(1) == labels).mean() > 0.98
    assert (prediction.labels[answered] == labels[answered]).mean() > 0.99
    assert answered.mean() > 0.9


@pytest.mark.parametrize("kind", ["noise", "gaussian-noise", "salt-and-pepper", "stripes", "blankish"])
def test_it_refuses_noise_as_unfamiliar(as_shipped: Classifier, kind: str) -> None:
    noise = ImageSet.from_name(kind, seed=1, limit=60).images[:, 0].numpy()
    reasons = as_shipped.predict(noise).reasons
    assert np.mean(reasons != "answered") > 0.95
    assert np.mean(reasons == "unfamiliar") > 0.8
