"""Tasks: what they refuse, what they are kept as, and one of three classes through all that decides."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.classifier import Classifier
from bnn.core.task import DIGITS, MOST_CLASSES, MOST_NAME, Task
from bnn.errors import InputError
from bnn.rules.table import RULES

_SIZED = "a class's name has 1 to 100 printable characters: rename the empty, long or strange one"
THREE = Task((" cat", "dog ", "\tfish\n"), augmentation="none")


def test_names_are_trimmed_and_counted() -> None:
    assert THREE.names == ("cat", "dog", "fish")
    assert THREE.classes == 3
    assert DIGITS.names == tuple("0123456789")
    assert Task(("a" * MOST_NAME, "b")).classes == 2
    assert Task(tuple(map(str, range(MOST_CLASSES)))).classes == MOST_CLASSES


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ((), r"a task has 2 to 100 classes, and 0 were given"),
        (("a",), r"a task has 2 to 100 classes, and 1 were given"),
        (tuple(map(str, range(MOST_CLASSES + 1))), r"a task has 2 to 100 classes, and 101 were given"),
        (("a", ""), _SIZED),
        (("a", " \t\n"), _SIZED),
        (("a", "b" * (MOST_NAME + 1)), _SIZED),
        (("a", "b\x1b[2Jc"), _SIZED),
        (("a", "b\nc"), _SIZED),
        (("cat", "dog", " cat "), r"two classes are called 'cat' \(spaces [^\n]*\): rename one"),
        ((1, "1"), r"two classes are called '1' \(spaces [^\n]*\): rename one"),
    ],
)
def test_impossible_names_are_refused_in_one_sentence(names: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=rf"^{why}\.$"):
        Task(names)


@given(st.integers(-5, 5), st.integers(2, 5))
def test_a_label_outside_the_task_is_named(label: int, classes: int) -> None:
    task = Task(tuple("abcde"[:classes]))
    if 0 <= label < classes:
        task.require_labels([0, label])
        return
    known = f"from 0 to {classes - 1}, one of this task's {classes} classes"
    with pytest.raises(InputError, match=rf"^a label must be {known}, and {label} is not\.$"):
        task.require_labels([0, label])


def test_a_task_comes_back_from_its_plain_values() -> None:
    assert Task.from_dict(THREE.to_dict()) == THREE
    assert type(THREE.to_dict()["names"]) is list  # as JSON has it


@pytest.mark.parametrize(
    "values",
    [
        *(None, [], "digits", 7, {}),
        THREE.to_dict() | {"names": "cat"},
        THREE.to_dict() | {"names": ["cat", 7]},
        THREE.to_dict() | {"names": ["cat", ["dog"]]},
        THREE.to_dict() | {"names": ["cat"]},
        THREE.to_dict() | {"names": ["cat", " cat"]},
        THREE.to_dict() | {"names": ["x"] * 10_000},
        THREE.to_dict() | {"layout": None},
        THREE.to_dict() | {"names": ["x"] * 10_000, "layout": None},
        THREE.to_dict() | {"layout": None, "augmentation": "x" * 10_000},
        THREE.to_dict() | {"augmentation": 3},
        THREE.to_dict() | {"extra": "x"},
        {"names": ["cat", "dog"], "layout": "mnist"},
    ],
)
def test_hostile_values_stand_for_no_task(values: Any) -> None:
    with pytest.raises(InputError, match=r"^[^\n]{1,300}\.$"):
        Task.from_dict(values)


@pytest.mark.parametrize("network", [("mlp", {"hidden": 16}), ("resnet", {"channels": [2, 3]})])
def test_nothing_between_images_and_decisions_says_ten(
    untrained: Callable[..., Classifier], network: tuple[str, dict[str, Any]]
) -> None:
    classifier = untrained(*network, THREE)
    images = np.random.default_rng(0).random((7, 28, 28), np.float32)
    prediction = classifier.predict(images)
    assert prediction.votes is not None
    assert prediction.votes.shape == (4, 7, 3)
    assert prediction.probs.shape == (7, 3)
    np.testing.assert_allclose(prediction.probs.sum(1), 1, atol=1e-6)
    assert (prediction.total <= math.log(3) + 1e-6).all()
    assert set(prediction.labels.tolist()) <= {-1, 0, 1, 2}
    assert {prediction.decision(i) for i in range(7)} <= {*THREE.names, "refused"}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_fitted_to_three_classes_and_comes_back(
    untrained: Callable[..., Classifier], rule: str, tmp_path: Path
) -> None:
    easy = {"risk": 0.9, "delta": 0.9, "alpha": 0.3, "refuse": 0.3}
    classifier = untrained("mlp", {"hidden": 16}, THREE).with_promise(rule=rule, **easy)
    images = np.random.default_rng(1).random((7, 28, 28), np.float32)
    classifier.save(tmp_path / "three.safetensors")
    again = Classifier.load(tmp_path / "three.safetensors")
    assert again.task == THREE
    assert again.rule == classifier.rule
    before, after = classifier.predict(images), again.predict(images)
    assert before.plain() == after.plain()
