"""The checkpoint that ships: what it was trained on and how, and that it does its work."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from bnn.checkpoint import load, shipped
from bnn.data import Digits, load_mnist
from bnn.decide import Classifier
from bnn.decide.rules import fit_rule
from bnn.learn.config import PRESETS
from bnn.sources import unfamiliar_source


@pytest.fixture(scope="module")
def as_shipped() -> Classifier:
    return Classifier.load()


def test_it_was_trained_by_the_defaults_to_the_end() -> None:
    record = load().record
    assert record["config"] == asdict(PRESETS["default"])
    assert record["training"] == {"interrupted": False, "epochs_done": PRESETS["default"].epochs}


def test_it_is_small() -> None:
    assert shipped().stat().st_size < 8_000_000


def test_it_was_trained_on_mnists_training_digits(mnist_root: Path) -> None:
    data = load().record["data"]
    assert (data["trained_on"], data["calibrated_on"]) == (55_000, 5_000)
    assert data["fingerprint"] == load_mnist(mnist_root, train=True).fingerprint()


def test_its_evidence_is_what_its_ensemble_says(as_shipped: Classifier, mnist_root: Path) -> None:
    from bnn.data import split_calibration

    _, held_out = split_calibration(load_mnist(mnist_root, train=True), as_shipped.checkpoint.seed)
    again = as_shipped.predictive(held_out.images[:20])
    assert torch.allclose(again.mean, as_shipped.calibration.mean[:20], atol=1e-4)
    assert torch.equal(held_out.labels, as_shipped.calibration_labels)


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


def test_at_the_notebooks_coverage_it_refuses_noise(as_shipped: Classifier) -> None:
    rule = fit_rule("entropy", as_shipped.calibration, 0.125)
    noise = unfamiliar_source("noise", None, seed=1, limit=100).images[:, 0].numpy()
    refused = as_shipped.with_rule(rule).predict(noise).labels == -1
    assert np.mean(refused) > 0.95
