"""Two commands that change one checkpoint at once: each change is kept, or refused in one sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bnn.classifier import Classifier
from bnn.cli.calibrate import calibrate_command
from bnn.core.checkpoint import Checkpoint, load, save, update
from bnn.errors import InputError
from bnn.rules.thresholds import EntropyRule

MakeCheckpoint = Callable[..., Checkpoint]
OTHER = EntropyRule(0.1, 0.4).to_dict()


@pytest.fixture
def path(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> Path:
    save(make_checkpoint(), tmp_path / "some.safetensors")
    return tmp_path / "some.safetensors"


def noted(note: str, text: str) -> Callable[[Checkpoint], Checkpoint]:
    return lambda present: replace(present, record={**present.record, note: text})


def test_of_two_records_none_is_lost(path: Path) -> None:
    seen = load(path)
    for note in ("evaluation", "other"):
        update(path, seen, noted(note, "measured"))
    assert load(path).record == {**seen.record, "evaluation": "measured", "other": "measured"}


@pytest.mark.parametrize("changed", [{"rule": OTHER}, {"draws": 9}, {"seed": 3}])
def test_what_was_measured_of_another_rule_is_not_recorded(path: Path, changed: dict[str, object]) -> None:
    seen = load(path)
    save(replace(seen, **changed), path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"was changed by another command meanwhile, and is left as it is"):
        update(path, seen, noted("evaluation", "measured"))
    assert "evaluation" not in load(path).record
    assert list(path.parent.iterdir()) == [path]


def test_calibrating_beside_another_calibration_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Classifier.with_promise

    def meanwhile(classifier: Classifier, **asked: object) -> Classifier:
        save(replace(load(path), rule=OTHER), path)
        return fitted(classifier, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "with_promise", meanwhile)
    with pytest.raises(InputError, match="was changed by another command meanwhile"):
        calibrate_command(path, {"refuse": 0.3}, overwrite=True)
    assert load(path).rule == OTHER
    monkeypatch.undo()
    assert not calibrate_command(path, {"refuse": 0.3}, overwrite=True)
    assert load(path).rule["refuse"] == 0.3
