"""Fixtures that several test files share."""

import math
import os
import runpy
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from programs import PATIENCE
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint, Parts
from bnn.core.evidence import Evidence
from bnn.core.networks import build_network, feature_layer
from bnn.core.posterior import MeanField, Mixture
from bnn.core.task import DIGITS, Task
from bnn.core.tensors import under
from bnn.core.uncertainty import Predictive
from bnn.data.digits import Labelled, data_dir, load_mnist
from bnn.errors import InputError
from bnn.rules.abstention import Calibration

# What PyMC compiles is kept for the next run, and in no one's home directory.
COMPILED = Path(__file__).parents[1] / ".pytensor"
os.environ.setdefault("PYTENSOR_FLAGS", f"base_compiledir={COMPILED},compile__timeout={PATIENCE:.0f}")
torch.set_num_threads(1)  # everything here is small, and other work may share the machine
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same in the programs that tests start
# Where the tests run in the background, Ctrl-C is ignored, and so it would be in the programs they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile(
    "bnn",
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # by the clock, hence on a busy machine
)
settings.load_profile("bnn")

MakeCheckpoint = Callable[..., Checkpoint]
COMPONENTS, CALIBRATED_ON = 2, 60
LONG = ("examples", "browser", "slow")  # markers of tests that take long, the longest first
MOST_PROCESSES = 4


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The processes that run the tests: one more than there are cores, for many tests wait for others."""
    return min(MOST_PROCESSES, 1 + (os.cpu_count() or 1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first: at the end no worker has much to do while others have nothing."""
    ranks = {
        item.path: rank
        for rank, marker in reversed(list(enumerate(LONG)))
        for item in items
        if item.get_closest_marker(marker)
    }
    items.sort(key=lambda item: ranks.get(item.path, len(LONG)))


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a script as `python SCRIPT ARGUMENT...` does, and gives what it prints.

    It runs in this process, where what it imports is loaded already: for PyMC that is most of a short run.
    """

    def run(script: Path, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [str(script), *arguments])
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # other libraries' are printed, as Python does, and end nothing
            runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST; without one the test is skipped."""
    root = data_dir()
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"MNIST is not under {root}: set BNN_DATA_DIR to run this test")
    return root


@pytest.fixture(scope="session")
def mnist_test(mnist_root: Path) -> Labelled:
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
    sound = _sound("mlp", {"hidden": 16}, DIGITS)
    return lambda **replaced: Checkpoint(**{**sound, **replaced})


@pytest.fixture(scope="session")
def untrained() -> Callable[..., Classifier]:
    """Makes the classifier of a small sound checkpoint of any network, by its name, options and task."""
    return lambda network, options, task=DIGITS: Classifier(Checkpoint(**_sound(network, options, task)))


@pytest.fixture(scope="session")
def random_evidence() -> Callable[..., Evidence]:
    """Makes evidence on n images from a seed, of which some are sure and some are not."""
    return lambda n, seed, classes=10: _evidence(n, classes, torch.Generator().manual_seed(seed))


def _sound(network: str, options: Mapping[str, Any], task: Task) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    built = build_network(network, options, task)
    components = []
    for _ in range(COMPONENTS):
        loc = {
            name: 0.2 * torch.randn(value.shape, generator=generator)
            for name, value in built.named_parameters()
        }
        components.append(MeanField(loc, {name: torch.full_like(value, 0.1) for name, value in loc.items()}))
    described = built.get_submodule(feature_layer(built))
    assert isinstance(described, torch.nn.Linear)
    reference = {
        # Mostly below the scores of any image, so that surprises, in the tail, tell images apart.
        "pixels": torch.randn(200, generator=generator) * 300 - 1000,
        "features": torch.randn(200, generator=generator) * 30 - 150,
        "entropy": _evidence(200, task.classes, generator).total,
    }
    scores = {
        **under("pixels", _density((task.classes, 2, 3, 28 * 28), generator)),
        **under("features", _density((COMPONENTS, task.classes, 1, 2, described.in_features), generator)),
    }
    calibration = Calibration(
        _evidence(CALIBRATED_ON, task.classes, generator),
        torch.arange(CALIBRATED_ON) % task.classes,
        reference["entropy"],
    )
    return {
        "task": task,
        "parts": Parts(network, dict(options), "mixture", tuple(reference)),
        "posterior": Mixture(components).tensors(),
        "detector": under("score", scores) | under("combination", reference),
        "calibration": calibration.tensors(),
        "draws": 4,
        "seed": 7,
        "rule": {"name": "entropy", "threshold": 0.95 * math.log(task.classes), "refuse": 0.05},
        "record": {"epochs": 3, "note": "π"},
    }


def _density(shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """A `ClassDensity`'s tensors as a checkpoint holds them; `shape` is its basis's, (…, K, q, D)."""
    *leading, rank, size = shape
    directions = torch.linalg.qr(torch.randn(*leading, size, rank, generator=generator)).Q
    return {
        "log_weight": torch.randn(*leading, generator=generator).log_softmax(-1),
        "mean": torch.rand(*leading, size, generator=generator).half(),
        "basis": directions.mT.contiguous().half(),
        "variance": 1 + torch.rand(*leading, rank, generator=generator),
        "noise": 0.1 + 0.1 * torch.rand(*leading, generator=generator),
    }


def _evidence(n: int, classes: int, generator: torch.Generator) -> Evidence:
    logits = 3 * torch.randn(5, n, classes, generator=generator)
    sureness = 4 * torch.rand(n, 1, generator=generator)
    entropy, pixels, features = torch.empty(3, n).exponential_(generator=generator)
    return Evidence(
        Predictive.of((logits * sureness).softmax(-1)),
        {"pixels": pixels, "features": features, "entropy": entropy},
        ood=2 * (pixels + features + entropy),
        novelty=pixels + features - entropy,
    )
