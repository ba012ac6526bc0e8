"""The checkpoint that ships: what it was trained on and how, and that it does its work."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from bnn.checkpoint import load, shipped
from bnn.data import Digits, load_mnist, split_calibration
from bnn.decide import CalibratedRule, Classifier
from bnn.decide.rules import fit_rule
from bnn.learn.config import PRESETS
from bnn.sources import unfamiliar_source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def as_shipped() -> Classifier:
    return Classifier.load()


def test_it_was_trained_by_the_best_preset_to_the_end() -> None:
    best, record = PRESETS["best"], load().record
    assert record["config"] == asdict(best)
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
    assert data["fingerprint"] == load_mnist(mnist_root, train=True).fingerprint()


def test_its_evidence_is_what_it_says_of_the_digits_held_out(
    as_shipped: Classifier, mnist_root: Path
) -> None:
    _, held_out = split_calibration(load_mnist(mnist_root, train=True), as_shipped.checkpoint.seed)
    again, stored = as_shipped.evidence(held_out.images[:20]), as_shipped.calibration
    for name, tensor in again.tensors().items():
        torch.testing.assert_close(tensor, stored.evidence.tensors()[name][:20], atol=1e-3, rtol=1e-3)
    assert torch.equal(held_out.labels, stored.labels)


def test_its_rule_is_the_calibrated_one_as_anyone_can_fit_it_again(as_shipped: Classifier) -> None:
    assert isinstance(as_shipped.rule, CalibratedRule)
    assert fit_rule("calibrated", as_shipped.calibration, as_shipped.wishes) == as_shipped.rule


def test_it_reads_digits_and_is_hardly_ever_wrong_when_it_answers(
    as_shipped: Classifier, mnist_test: Digits
) -> None:
    chosen = mnist_test[torch.arange(0, 10_000, 25)]
    prediction = as_shipped.predict(chosen.images[:, 0].numpy())
    labels = chosen.labels.numpy()
    answered = prediction.labels >= 0
    assert (prediction.probs.argmax(1) == labels).mean() > 0.98
    assert (prediction.labels[answered] == labels[answered]).mean() > 0.99
    assert answered.mean() > 0.9


@pytest.mark.parametrize("kind", ["noise", "gaussian-noise", "salt-and-pepper", "stripes", "blankish"])
def test_it_refuses_noise_as_unfamiliar(as_shipped: Classifier, kind: str) -> None:
    noise = unfamiliar_source(kind, None, seed=1, limit=60).images[:, 0].numpy()
    reasons = as_shipped.predict(noise).reasons
    assert np.mean(reasons != "answered") > 0.95
    assert np.mean(reasons == "unfamiliar") > 0.8
