"""Calibrating anew: other promises of the same network, and `bnn calibrate` as its user runs it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnn.checkpoint import Checkpoint, load, save, shipped
from bnn.cli import main
from bnn.decide import CalibratedRule, Classifier, EntropyRule, Evidence
from bnn.decide.abstention import Calibration
from bnn.decide.recalibration import calibration_on, measured, recalibrated
from bnn.decide.rules import rule_from_dict
from bnn.errors import InputError
from bnn.wishes import Wishes

MakeCheckpoint = Callable[..., Checkpoint]
RandomEvidence = Callable[[int, int], Evidence]
EASY = Wishes(risk=0.1, delta=0.1, alpha=0.05, refuse=0.1)
ASKED = ["--risk=0.1", "--delta=0.1", "--alpha=0.05"]


@pytest.fixture(scope="module")
def sound(make_checkpoint: MakeCheckpoint, random_evidence: RandomEvidence) -> Checkpoint:
    """A checkpoint whose 300 calibration digits are all right, so that it can promise something."""
    evidence = random_evidence(300, 0)
    return make_checkpoint(
        calibration=Calibration(evidence, evidence.mean.argmax(-1), evidence.total).tensors(),
        rule=EntropyRule(0.7, 0.3).to_dict(),
    )


@pytest.fixture
def path(sound: Checkpoint, tmp_path: Path) -> Path:
    save(sound, tmp_path / "sound.safetensors")
    return tmp_path / "sound.safetensors"


def assert_only_these_changed(before: Checkpoint, after: Checkpoint, changed: set[str]) -> None:
    for field in fields(Checkpoint):
        old, new = getattr(before, field.name), getattr(after, field.name)
        tensors = field.name in ("loc", "scale", "familiarity", "calibration")
        same = same_tensors(old, new) if tensors else old == new
        assert same == (field.name not in changed), field.name


def same_tensors(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in one.items())


def test_other_wishes_change_the_rule_and_what_is_recorded_of_it(sound: Checkpoint) -> None:
    after = recalibrated(sound, "calibrated", EASY)
    assert_only_these_changed(sound, after, {"rule", "record"})
    rule = rule_from_dict(after.rule)
    assert isinstance(rule, CalibratedRule)
    assert (rule.risk, rule.delta, rule.alpha) == (0.1, 0.1, 0.05)
    assert after.record["calibration"] == measured(rule, Classifier(sound).calibration)
    assert {**after.record, "calibration": None} == {**sound.record, "calibration": None}


def test_what_was_evaluated_was_another_rule(
    sound: Checkpoint, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = replace(sound, record={**sound.record, "evaluation": {"familiar": {"n": 1}}})
    assert recalibrated(evaluated, "calibrated", EASY).record.keys() == {*sound.record, "calibration"}
    assert "evaluation" in evaluated.record
    save(evaluated, path)
    assert main(["calibrate", str(path), "--refuse=0.1", "--overwrite"]) == 0
    assert "evaluation" not in load(path).record
    assert load(path).record["epochs"] == sound.record["epochs"]


def test_the_same_wishes_give_the_same_checkpoint_again(sound: Checkpoint, tmp_path: Path) -> None:
    once = recalibrated(sound, "calibrated", EASY)
    between = recalibrated(once, "entropy", Wishes(refuse=0.2))
    assert between.rule != once.rule
    save(once, tmp_path / "once")
    save(recalibrated(between, "calibrated", EASY), tmp_path / "again")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


def test_what_is_measured_by_hand() -> None:
    mean = torch.full((4, 10), 0.04)
    mean[torch.arange(4), [1, 2, 3, 4]] = 0.64
    total = torch.tensor([0.1, 0.9, 0.2, 0.3])
    surprises = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 9.0]])
    evidence = Evidence(mean, mean, total, total, torch.zeros(4), *surprises)
    calibration = Calibration(evidence, torch.tensor([1, 2, 7, 4]), total)
    found = measured(CalibratedRule(20.0, 0.5, 0.1, 0.1, 0.1), calibration)
    assert found == {
        "digits": 4,
        "accuracy": 0.75,
        "nll": pytest.approx(-(3 * math.log(0.64) + math.log(0.04)) / 4),
        "coverage": 0.5,
        "errors_among_answered": 1,
        "refused_as_unfamiliar": 0.25,
    }
    # To the entropy rule the last is surprising but answered, and the second refused but not surprising.
    assert measured(EntropyRule(0.5, 0.1), calibration)["refused_as_unfamiliar"] == 0


def test_digits_of_ones_own_take_the_place_of_the_checkpoints(sound: Checkpoint) -> None:
    classifier = Classifier(sound)
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = np.arange(40) % 10
    calibration = calibration_on(classifier, images, labels)
    # A fifth of them says which thresholds to try, and the rest is calibrated on.
    everything = classifier.evidence(images)
    assert len(calibration) == 32
    assert len(calibration.entropies) == 8
    together = torch.cat([calibration.evidence.total, calibration.entropies])
    assert together.sort().values.equal(everything.total.sort().values)
    place = dict(zip(everything.total.tolist(), labels.tolist(), strict=True))
    assert [place[total] for total in calibration.evidence.total.tolist()] == calibration.labels.tolist()
    after = recalibrated(sound, "entropy", EASY, calibration)
    assert_only_these_changed(sound, after, {"rule", "record", "calibration"})
    assert after.record["calibration"]["digits"] == 32
    again = Classifier(after)
    assert same_tensors(again.calibration.tensors(), calibration.tensors())
    refused = again.rule.refuses(calibration.evidence).double().mean().item()
    assert 0.05 < refused <= EASY.refuse


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(4), "5 images need as many labels"),
        (np.arange(6), "5 images need as many labels"),
        (np.zeros((5, 1), np.int64), "5 images need as many labels"),
        (np.int64(3), "5 images need as many labels"),
        (np.array([0, 1, 2, 3, 10]), "from 0 to 9, and 10 is not"),
        (np.array([0, 1, -1, 3, 9]), "from 0 to 9, and -1 is not"),
    ],
)
def test_labels_that_do_not_fit_are_refused(sound: Checkpoint, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*\.$"):
        calibration_on(Classifier(sound), torch.rand(5, 1, 28, 28), labels)


@pytest.mark.parametrize("rule", ["calibrated", "entropy", "confidence"])
def test_no_digits_calibrate_nothing(sound: Checkpoint, rule: str) -> None:
    classifier = Classifier(sound)
    with pytest.raises(InputError, match="no digits to calibrate on"):
        calibration_on(classifier, torch.zeros(0, 1, 28, 28), np.zeros(0, np.int64))
    none = replace(
        classifier.calibration, evidence=classifier.calibration.evidence[:0], labels=torch.zeros(0)
    )
    with pytest.raises(InputError, match="0 calibration digits cannot promise"):
        recalibrated(sound, rule, EASY, none)  # and not silently the checkpoint's own


def test_a_checkpoint_without_evidence_is_refused(sound: Checkpoint, make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(InputError, match="no usable calibration evidence"):
        recalibrated(make_checkpoint(calibration={}), "entropy", EASY)


def test_digits_that_show_too_much_error_name_a_risk_that_they_do_show(sound: Checkpoint) -> None:
    labels = sound.calibration["labels"].clone()
    labels[::8] = (labels[::8] + 1) % 10
    spoilt = replace(sound, calibration={**sound.calibration, "labels": labels})
    with pytest.raises(InputError, match=r"^[^\n]+: ask for a risk of") as caught:
        recalibrated(spoilt, "calibrated", EASY)
    risk = float(str(caught.value).rpartition(" ")[2].rstrip("."))
    after = recalibrated(spoilt, "calibrated", replace(EASY, risk=risk))
    assert after.rule["risk"] == risk
    assert after.record["calibration"]["errors_among_answered"] > 0


def digit_folder(folder: Path, digits: int) -> Path:
    """So many images of strokes in sub-folders 0 to 9, and one file that is no image."""
    for index in range(digits):
        pixels = np.zeros((28, 28), np.uint8)
        pixels[4:24, 6 + index % 7 : 11 + index % 9] = 255
        (folder / str(index % 10)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / str(index % 10) / f"{index}.png")
    (folder / "0" / "bad.png").touch()
    return folder


def test_the_command_writes_what_was_asked_over_the_checkpoint_where_it_may(
    path: Path, sound: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(path), "--overwrite", "--rule=calibrated", *ASKED]) == 0
    after = load(path)
    assert_only_these_changed(sound, after, {"rule", "record"})
    assert after.rule == recalibrated(sound, "calibrated", EASY).rule
    printed = capsys.readouterr().out
    assert f"Wrote {path}." in printed
    assert "300 digits" in printed
    assert f"{after.record['calibration']['coverage']:.2%}" in printed
    assert Classifier.load(path).rule == rule_from_dict(after.rule)


def test_wishes_that_are_left_out_stay_as_they_were(path: Path) -> None:
    assert main(["calibrate", str(path), "--overwrite", "--rule=calibrated", *ASKED]) == 0
    before = load(path).rule
    assert main(["calibrate", str(path), "--overwrite", "--alpha=0.2"]) == 0
    after = load(path).rule
    assert after["name"] == "calibrated"
    assert (after["risk"], after["delta"], after["alpha"]) == (0.1, 0.1, 0.2)
    assert after["unfamiliar_threshold"] < before["unfamiliar_threshold"]
    assert main(["calibrate", str(path), "--overwrite", "--alpha=0.05"]) == 0
    assert load(path).rule == before


def test_out_leaves_the_checkpoint_alone(path: Path, tmp_path: Path) -> None:
    before, out = path.read_bytes(), tmp_path / "new" / "other.safetensors"
    assert main(["calibrate", str(path), "--refuse=0.1", "--out", str(out)]) == 0
    assert path.read_bytes() == before
    assert load(out).rule["refuse"] == 0.1
    assert Classifier.load(out).rule.name == "entropy"


def test_nothing_is_overwritten_unasked(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = path.read_bytes(), tmp_path / "other.safetensors"
    for words in ([str(path), "--refuse=0.1"], ["--risk=0.005", "--out", str(path)]):
        assert main(["calibrate", *words]) == 2
        assert f"{path} is there already" in capsys.readouterr().err
    assert path.read_bytes() == before
    for _ in range(2):
        assert main(["calibrate", str(path), "--refuse=0.1", "--out", str(out), "--overwrite"]) == 0


def test_the_checkpoint_that_ships_is_calibrated_but_never_in_its_own_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shipped().read_bytes()
    for words in ([], ["--overwrite"]):
        assert main(["calibrate", "--risk=0.005", *words]) == 2
        assert "--out" in capsys.readouterr().err
    out = tmp_path / "other.safetensors"
    assert main(["calibrate", "--risk=0.005", "--out", str(out)]) == 0
    assert load(out).rule["risk"] == 0.005
    assert shipped().read_bytes() == before


def test_the_command_takes_digits_of_ones_own_and_tells_the_unreadable(
    path: Path, sound: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = digit_folder(tmp_path / "mine", 30)
    assert main(["calibrate", str(path), "--overwrite", "--refuse=0.1", "--digits", str(digits)]) == 1
    assert "bad.png" in capsys.readouterr().err
    after = load(path)
    assert_only_these_changed(sound, after, {"rule", "record", "calibration"})
    assert (len(after.calibration["labels"]), len(after.calibration["entropies"])) == (24, 6)
    prediction = Classifier.load(path).predict(sorted(digits.rglob("[0-9]*.png")))
    assert (prediction.labels == -1).mean() <= 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule=calibrated", "--risk=0.0001"], "cannot show a risk"),
        (["--rule=calibrated", *ASKED, "--alpha=0.0001"], "cannot promise a share"),
        (["--refuse=0.001"], "cannot promise a share"),
        (["--risk=nan"], "--risk must lie between 0 and 1, and nan does not"),
        (["--alpha=1"], "--alpha must lie between 0 and 1"),
        (["--delta=-0.1"], "--delta must lie between 0 and 1"),
        (["--rule=oracle"], "no abstention rule 'oracle'"),
        (["--digits=nowhere"], "no folder nowhere"),
        (["--out=."], "is a folder"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = path.read_bytes()
    assert main(["calibrate", str(path), "--overwrite", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert message in error
    assert error.count("\n") == 1
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_too_few_digits_of_ones_own_change_nothing(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, digits = path.read_bytes(), digit_folder(tmp_path / "mine", 5)
    assert main(["calibrate", str(path), "--overwrite", "--refuse=0.1", "--digits", str(digits)]) == 2
    assert "4 calibration digits cannot promise" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("group", ["calibration", "familiarity"])
def test_a_file_without_evidence_is_refused_and_left_as_it_was(
    path: Path, make_checkpoint: MakeCheckpoint, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    save(make_checkpoint(**{group: {}}), path)
    before = path.read_bytes()
    assert main(["calibrate", str(path), "--overwrite", "--refuse=0.2"]) == 2
    assert "make it again with `bnn train`" in capsys.readouterr().err
    assert path.read_bytes() == before
