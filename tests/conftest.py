"""Fixtures that several test files share."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from bnn.checkpoint import Checkpoint
from bnn.data import Digits, data_dir, load_mnist
from bnn.decide import Classifier, Predictive
from bnn.errors import InputError
from bnn.networks import MLP

torch.set_num_threads(1)  # everything here is small, and other work may share the machine
# Where the tests run in the background, Ctrl-C is ignored, and so it would be in the programs they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("bnn", deadline=None, max_examples=40, database=None)
settings.load_profile("bnn")

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST; without one the test is skipped."""
    root = data_dir()
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not under {root}: set BNN_DATA_DIR to run this test")
    return root


@pytest.fixture(scope="session")
def mnist_test(mnist_root: Path) -> Digits:
    """MNIST's 10,000 test digits."""
    try:
        return load_mnist(mnist_root, train=False)
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """The classifier that ships, with few draws."""
    return Classifier.load(draws=8)


@pytest.fixture(scope="session")
def make_checkpoint() -> MakeCheckpoint:
    """Makes a small sound checkpoint (an MLP of 16 units, untrained), with the given fields replaced."""
    generator = torch.Generator().manual_seed(0)
    loc = {
        name: torch.randn(2, *value.shape, generator=generator) * 0.2
        for name, value in MLP(16).named_parameters()
    }
    calibration = Predictive.of(torch.rand(5, 60, 10, generator=generator).mul(4).softmax(-1))
    sound: dict[str, Any] = {
        "network": "mlp",
        "network_options": {"hidden": 16},
        "loc": loc,
        "scale": {name: torch.full_like(value, 0.1) for name, value in loc.items()},
        "draws": 4,
        "seed": 7,
        "calibration": {**calibration.tensors(), "labels": torch.arange(60) % 10},
        "rule": {"name": "entropy", "threshold": 2.2, "refuse": 0.05},
        "record": {"epochs": 3, "note": "π"},
    }
    return lambda **replaced: Checkpoint(**{**sound, **replaced})
