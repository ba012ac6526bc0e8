"""Images as they come: decided on as by `predict`, and in the same memory however many they are."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bnn import Classifier, ImageSet
from bnn.classifier import STREAMED
from bnn.errors import InputError

MEASURED = """
import resource, sys
import numpy as np, torch
from conftest import _sound
from bnn import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.core.task import DIGITS

torch.set_num_threads(1)
classifier = Classifier(Checkpoint(**_sound("mlp", {"hidden": 16}, DIGITS)), draws=2)
images = np.random.default_rng(0).random((100, 28, 28), np.float32)

def peak(batches):
    count = sum(len(p) for p in classifier.predict_stream(images for _ in range(batches)))
    assert count == 100 * batches
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak(20)
print((peak(200) - before) / 1024)
"""


@pytest.mark.parametrize("draws", ["all", "adaptive"])
def test_a_stream_is_decided_on_as_one_batch(classifier: Classifier, draws: str) -> None:
    images = torch.cat([ImageSet.from_name(name, limit=STREAMED).images for name in ("digits", "noise")])[
        : STREAMED + 30
    ]
    sizes = [1, 0, 5, STREAMED, 3, 21]
    items = images.split(sizes)
    found = list(classifier.predict_stream(iter(items), draws=draws))
    assert [len(one) for one in found] == sizes
    whole = classifier.predict(images, draws=draws)
    for name in ("labels", "reasons", "probs", "ood_score", "draws_used"):
        assert np.array_equal(np.concatenate([getattr(one, name) for one in found]), getattr(whole, name))


def test_no_more_is_taken_than_is_decided_on(untrained: Callable[..., Classifier]) -> None:
    taken: list[int] = []

    def images() -> Iterator[NDArray[np.float32]]:
        for i in range(3 * STREAMED):
            taken.append(i)
            yield np.full((28, 28), i / 1000, np.float32)

    stream = untrained("mlp", {"hidden": 4}).predict_stream(images())
    assert taken == []
    next(stream)
    assert len(taken) == STREAMED


def test_an_image_that_cannot_be_used_ends_it_in_one_sentence(untrained: Callable[..., Classifier]) -> None:
    items = [np.zeros((28, 28), np.float32), np.full((28, 28), np.nan, np.float32)]
    with pytest.raises(InputError):
        list(untrained("mlp", {"hidden": 4}).predict_stream(items))


@pytest.mark.slow
def test_ten_times_the_images_take_no_more_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kept = 18_000 * 28 * 28 * 4 / 2**20  # MiB that the further images would take
    assert float(done.stdout) < kept / 4
