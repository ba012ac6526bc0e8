"""Calibrating anew: other promises of the same networks, other images, and the command `bnn calibrate`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnn.classifier import Classifier, measured
from bnn.cli import main
from bnn.core.checkpoint import Checkpoint, load, save, shipped
from bnn.core.evidence import Evidence
from bnn.core.tensors import grouped
from bnn.core.uncertainty import Predictive
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.numerals import percent
from bnn.ood.score import Observed, OODScore
from bnn.ood.scores import SCORES
from bnn.rules.abstention import Calibration, RefuseAll
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import Promise
from bnn.rules.table import rule_from_dict
from bnn.rules.thresholds import EntropyRule, MedianRule

MakeCheckpoint = Callable[..., Checkpoint]
RandomEvidence = Callable[..., Evidence]
EASY: dict[str, Any] = {"risk": 0.1, "delta": 0.1, "alpha": 0.05}
ASKED = ["--risk=0.1", "--delta=0.1", "--alpha=0.05"]
RULE = EntropyRule(0.7, 0.3)


@pytest.fixture(scope="module")
def sound(make_checkpoint: MakeCheckpoint, random_evidence: RandomEvidence) -> Checkpoint:
    """A checkpoint whose 300 calibration images are all right, so that it can promise something."""
    evidence = random_evidence(300, 0)
    return make_checkpoint(
        calibration=Calibration(evidence, evidence.mean.argmax(-1), evidence.total).tensors(),
        rule=RULE.to_dict(),
    )


@pytest.fixture(scope="module")
def classifier(sound: Checkpoint) -> Classifier:
    return Classifier(sound)


@pytest.fixture
def path(sound: Checkpoint, tmp_path: Path) -> Path:
    save(sound, tmp_path / "sound.safetensors")
    return tmp_path / "sound.safetensors"


@pytest.fixture(scope="module")
def own() -> ImageSet:
    """Forty images of one's own."""
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return ImageSet.from_arrays(images, np.arange(40) % 10, name="own")


def assert_only_these_changed(before: Checkpoint, after: Checkpoint, changed: set[str]) -> None:
    for field in fields(Checkpoint):
        old, new = getattr(before, field.name), getattr(after, field.name)
        tensors = field.name in ("posterior", "detector", "calibration")
        same = same_tensors(old, new) if tensors else old == new
        assert same == (field.name not in changed), field.name


def same_tensors(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in one.items())


def assert_same_decisions(one: Classifier, other: Classifier, images: torch.Tensor) -> None:
    assert one.predict(images).plain() == other.predict(images).plain()


def test_what_nothing_is_asked_of_is_saved_as_it_was_loaded(
    sound: Checkpoint, classifier: Classifier
) -> None:
    assert_only_these_changed(sound, classifier.checkpoint(), set())


def test_another_promise_changes_the_rule_and_what_is_recorded_of_it(
    sound: Checkpoint, classifier: Classifier
) -> None:
    after = classifier.with_promise(rule="calibrated", **EASY)
    assert classifier.rule == RULE  # and it stays as it is
    assert_only_these_changed(sound, classifier.checkpoint(), set())
    assert_only_these_changed(sound, after.checkpoint(), {"rule", "record"})
    assert isinstance(after.rule, CalibratedRule)
    assert after.promise == Promise(**EASY)
    assert after.ensemble is classifier.ensemble
    assert after.record["calibration"] == measured(after.rule, classifier.calibration)
    assert {**after.record, "calibration": None} == {**sound.record, "calibration": None}


def test_what_is_left_out_of_a_promise_stays_as_it_was(classifier: Classifier) -> None:
    first = classifier.with_promise(rule="calibrated", **EASY)
    changes: dict[str, Any] = {"risk": 0.2, "delta": 0.05, "alpha": 0.2}
    for name, share in changes.items():
        changed = first.with_promise(**{name: share})
        assert changed.rule.name == "calibrated"
        assert changed.promise == replace(Promise(**EASY), **{name: share})
        assert changed.with_promise(**{name: EASY[name]}).rule == first.rule
    assert first.with_promise().rule == first.rule
    assert classifier.with_promise(refuse=0.2).rule.name == "entropy"


@pytest.mark.parametrize("change", ["promise", "rule", "images", "loading"])
def test_what_was_measured_of_one_rule_is_told_of_no_other(
    sound: Checkpoint, own: ImageSet, change: str
) -> None:
    told = {"evaluation": {"in_distribution": {"n": 1}}, "calibration": {"digits": 7}}
    evaluated = Classifier(replace(sound, record={**sound.record, **told}))
    other = {
        "promise": lambda: evaluated.with_promise(refuse=0.2),
        "rule": lambda: evaluated.with_rule(MedianRule(0.2)),
        "images": lambda: evaluated.calibrate(own, own.labels),
        "loading": lambda: Classifier(evaluated.checkpoint(), rule=MedianRule(0.2)),
    }[change]()
    assert "evaluation" not in other.record
    assert other.record.get("calibration") != told["calibration"]
    assert other.record["epochs"] == sound.record["epochs"]
    assert {name: evaluated.record[name] for name in told} == told
    assert evaluated.with_rule(RULE).record == evaluated.record  # for that is the very same
    assert Classifier(evaluated.checkpoint(), rule=RULE, draws=2).record == evaluated.record


def test_the_command_tells_no_rule_what_was_evaluated_of_another(
    sound: Checkpoint, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(replace(sound, record={**sound.record, "evaluation": {"in_distribution": {"n": 1}}}), path)
    assert main(["calibrate", str(path), "--refuse=0.1", "--overwrite"]) == 0
    assert "evaluation" not in load(path).record
    assert load(path).record["epochs"] == sound.record["epochs"]


def test_the_same_promise_gives_the_same_checkpoint_again(classifier: Classifier, tmp_path: Path) -> None:
    once = classifier.with_promise(rule="calibrated", **EASY)
    between = once.with_promise(rule="entropy", refuse=0.2)
    assert between.rule != once.rule
    once.save(tmp_path / "once")
    between.with_promise(rule="calibrated", **EASY).save(tmp_path / "again")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "again").read_bytes()


def test_what_is_measured_by_hand() -> None:
    mean = torch.full((4, 10), 0.04)
    mean[torch.arange(4), [1, 2, 3, 4]] = 0.64
    total = torch.tensor([0.1, 0.9, 0.2, 0.3])
    strange = torch.tensor([0.0, 0.0, 0.0, 18.0])
    predictive = Predictive(mean, mean, total, total, torch.zeros(4))
    evidence = Evidence(predictive, {"pixels": strange}, ood=2 * strange, novelty=strange)
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


def test_images_of_ones_own_take_the_place_of_the_checkpoints(
    sound: Checkpoint, classifier: Classifier, own: ImageSet
) -> None:
    after = classifier.calibrate(own, own.labels, refuse=0.1)
    calibration, labels = after.calibration, own.truth()
    # A fifth of them says which thresholds to try, and the rest is calibrated on.
    everything = classifier.evidence(own.images)
    assert len(calibration) == 32
    assert len(calibration.grid) == 8
    together = torch.cat([calibration.evidence.total, calibration.grid])
    assert together.sort().values.equal(everything.total.sort().values)
    place = dict(zip(everything.total.tolist(), labels.tolist(), strict=True))
    assert [place[total] for total in calibration.evidence.total.tolist()] == calibration.labels.tolist()
    written = after.checkpoint()
    assert_only_these_changed(sound, written, {"rule", "record", "calibration"})
    assert written.record["calibration"]["digits"] == 32
    again = Classifier(written)
    assert same_tensors(again.calibration.tensors(), calibration.tensors())
    refused = again.rule.refuses(calibration.evidence).double().mean().item()
    assert 0.05 < refused <= 0.1
    assert same_tensors(classifier.calibration.tensors(), Classifier(sound).calibration.tensors())


def test_calibrating_on_images_of_ones_own_keeps_the_promise_unless_told(
    classifier: Classifier, own: ImageSet
) -> None:
    as_before = classifier.calibrate(own, own.labels)
    assert (as_before.rule.name, as_before.promise) == ("entropy", Promise(refuse=0.3))
    confident = classifier.calibrate(own.images.numpy(), own.labels, rule="confidence", refuse=0.2)
    assert (confident.rule.name, confident.promise) == ("confidence", Promise(refuse=0.2))
    # Of all that it is fitted anew: the candidates too follow from the new images.
    images = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert [len(one) for one in as_before.predict(images).candidates] != [
        len(one) for one in classifier.predict(images).candidates
    ]


def test_what_is_calibrated_and_saved_decides_alike_when_it_is_loaded(
    classifier: Classifier, own: ImageSet, tmp_path: Path
) -> None:
    images = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for name, other in {
        "promise": classifier.with_promise(refuse=0.2),
        "images": classifier.calibrate(own, own.labels),
        "rule": classifier.with_rule(MedianRule(0.15)),
        "nothing": classifier.with_rule(RefuseAll("for a test.", "confidence", Promise(refuse=0.2))),
        "size": classifier.with_draws(3).calibrate(own, own.labels),
    }.items():
        other.save(tmp_path / name)
        again = Classifier.load(tmp_path / name)
        assert again.rule == other.rule
        assert again.describe() == other.describe()
        assert_same_decisions(again, other, images)


def test_an_ensemble_that_was_not_calibrated_says_so_until_it_is(
    sound: Checkpoint, classifier: Classifier, own: ImageSet
) -> None:
    said = classifier.describe()
    assert said.startswith(f"{sound.draws} sampled networks. Of images like those it learnt, it promises")
    assert "promises nothing" not in said
    warned = f"calibrated with {sound.draws} networks of seed {sound.seed}: of these it promises nothing."
    for other in (Classifier(sound, draws=9), Classifier(sound, seed=3), classifier.with_draws(9)):
        assert other.describe().startswith(f"{len(other.ensemble)} sampled networks.")
        assert other.describe().endswith(warned)
        assert not other.is_as_calibrated
        assert other.with_promise(refuse=0.2).describe().endswith(warned)  # on the same calibration
        assert "promises nothing" not in other.calibrate(own, own.labels).describe()
        assert warned not in other.with_rule(MedianRule(0.2)).describe()  # which promises nothing anyway
    assert Classifier(sound, draws=sound.draws, seed=sound.seed).describe() == said


def test_what_is_saved_is_the_ensemble_that_the_rule_was_fitted_with(
    sound: Checkpoint, own: ImageSet
) -> None:
    other = Classifier(sound, draws=9, seed=3)
    kept = other.checkpoint()
    assert (kept.draws, kept.seed) == (sound.draws, sound.seed)
    kept = other.calibrate(own, own.labels).checkpoint()
    assert (kept.draws, kept.seed) == (9, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(4), "5 images need as many labels"),
        (np.arange(6), "5 images need as many labels"),
        (np.zeros((5, 1), np.int64), "5 images need as many labels"),
        (np.int64(3), "5 images need as many labels"),
        (np.array([0, 1, 2, 3, 10]), "from 0 to 9, [^\n]*, and 10 is not"),
        (np.array([0, 1, -1, 3, 9]), "from 0 to 9, [^\n]*, and -1 is not"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_any_image_is_judged(
    classifier: Classifier, labels: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*\.$"):
        classifier.calibrate(torch.rand(5, 1, 28, 28), labels, progress=unwanted)


def unwanted(_: Any) -> Any:
    raise AssertionError("work began")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"refuse": 0.001}, "32 calibration images cannot promise a share of at most 0.001"),
        ({"rule": "calibrated"}, "32 calibration images cannot promise a share of at most 0.005"),
        ({"rule": "oracle"}, "no abstention rule 'oracle'"),
        ({"refuse": 1.5}, "refuse must lie between 0 and 1, and 1.5 does not"),
    ],
)
def test_what_own_images_cannot_promise_is_told_before_any_is_judged(
    classifier: Classifier, own: ImageSet, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*\.$"):
        classifier.calibrate(own, own.labels, progress=unwanted, **asked)


@pytest.mark.parametrize("rule", ["calibrated", "entropy", "confidence", "median"])
def test_no_images_calibrate_nothing(classifier: Classifier, rule: str) -> None:
    with pytest.raises(InputError, match=r"^there are no images: give some, each with its label\.$"):
        classifier.calibrate(torch.zeros(0, 1, 28, 28), np.zeros(0, np.int64), rule=rule)


@pytest.mark.parametrize("group", ["evidence", "truth"])
def test_a_checkpoint_without_evidence_is_refused(make_checkpoint: MakeCheckpoint, group: str) -> None:
    whole = grouped(make_checkpoint().calibration)
    rest = {f"{other}/{name}": t for other, ts in whole.items() if other != group for name, t in ts.items()}
    for calibration in ({}, rest):
        with pytest.raises(InputError, match=r"^[^\n]* are missing, damaged, or do not fit the rest\.$"):
            Classifier(make_checkpoint(calibration=calibration))


def test_digits_that_show_too_much_error_name_a_risk_that_they_do_show(sound: Checkpoint) -> None:
    labels = sound.calibration["truth/labels"].clone()
    labels[::8] = (labels[::8] + 1) % 10
    mislabelled = Classifier(replace(sound, calibration={**sound.calibration, "truth/labels": labels}))
    with pytest.raises(InputError, match=r"^[^\n]+: ask for a risk of") as caught:
        mislabelled.with_promise(rule="calibrated", **EASY)
    risk = float(str(caught.value).rpartition(" ")[2].rstrip("."))
    after = mislabelled.with_promise(rule="calibrated", **{**EASY, "risk": risk})
    assert after.promise.risk == risk
    assert after.record["calibration"]["errors_among_answered"] > 0


# A rule that refuses everything, for want of another


def test_a_rule_that_refuses_everything_says_why_and_gives_way_to_what_was_asked(
    sound: Checkpoint, own: ImageSet
) -> None:
    rule = RefuseAll("the calibrated rule could not be fitted: too few.", "calibrated", Promise(**EASY))
    refusing = Classifier(replace(sound, rule=rule.to_dict()))
    assert refusing.rule == rule
    assert (refusing.predict(own).labels == -1).all()
    assert "Refuses every image: the calibrated rule could not be fitted: too few." in refusing.describe()
    eased = refusing.with_promise(risk=0.2)
    assert eased.rule.name == "calibrated"
    assert eased.promise == Promise(**{**EASY, "risk": 0.2})
    assert refusing.with_promise(rule="entropy", refuse=0.2).rule.name == "entropy"
    entropy = RefuseAll("too few.", "entropy", Promise(refuse=0.2))
    anew = Classifier(replace(sound, rule=entropy.to_dict())).calibrate(own, own.labels)
    assert (anew.rule.name, anew.promise.refuse) == ("entropy", 0.2)


@pytest.mark.parametrize(
    "values",
    [
        {"why": 3},
        {"why": "x", "instead_of": 3},
        {"why": "x", "wanted": {"risk": 2}},
        {"why": "x", "wanted": {"risk": "0.1"}},
        {"why": "x", "wanted": {"luck": 0.1}},
        {"why": "x", "wanted": 3},
        {},
    ],
)
def test_a_refusing_rule_that_anyone_made_is_checked(values: dict[str, Any]) -> None:
    sound = RefuseAll("x", "entropy", Promise(refuse=0.2))
    assert rule_from_dict(sound.to_dict()) == sound
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        rule_from_dict({"name": "refuse-all", **values})


# Scores of one's own


class Ink(OODScore):
    name = "ink"

    def score(self, observed: Observed) -> torch.Tensor:
        return observed.images.mean((1, 2, 3))


def test_with_other_scores_it_refuses_everything_until_it_is_calibrated(
    sound: Checkpoint, classifier: Classifier, own: ImageSet, tmp_path: Path
) -> None:
    other = classifier.with_scores(Ink(), reference=own)
    images = torch.cat([own.images[:5], own.images[:5] * 0.1, torch.ones(1, 1, 28, 28)])
    assert (other.predict(images).labels == -1).all()
    assert "call calibrate with images of your own" in other.describe()
    for ask in (other.with_promise, other.checkpoint, lambda: other.save(tmp_path / "x")):
        with pytest.raises(InputError, match=r"^the classifier has not been calibrated: call calibrate"):
            ask()
    assert not list(tmp_path.iterdir())
    assert classifier.rule == RULE
    calibrated = other.calibrate(own, own.labels)
    assert (calibrated.rule.name, calibrated.promise) == ("entropy", Promise(refuse=0.3))
    prediction = calibrated.predict(images)
    assert list(calibrated.evidence(images).surprises) == ["ink"]
    assert prediction.ood_score[-1] > prediction.ood_score[:5].max() > prediction.ood_score[5:10].max()
    assert np.array_equal(prediction.probs, classifier.predict(images).probs)


def test_a_score_that_no_one_could_load_is_not_saved(
    classifier: Classifier, own: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = classifier.with_scores(Ink(), reference=own).calibrate(own, own.labels)
    with pytest.raises(InputError, match=r"^no checkpoint with the OOD score 'ink' could be loaded: put its"):
        scored.save(tmp_path / "ink")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(SCORES, "ink", Ink)
    scored.save(tmp_path / "ink")
    assert_same_decisions(Classifier.load(tmp_path / "ink"), scored, own.images)
    monkeypatch.setitem(SCORES, "ink", SCORES["entropy"])  # of another score's class
    with pytest.raises(InputError, match="could be loaded"):
        scored.checkpoint()


@pytest.mark.parametrize(
    ("scores", "count", "message"),
    [
        ([], 40, "name at least one OOD score, each once, not none"),
        ([Ink(), Ink()], 40, "name at least one OOD score, each once, not ink, ink"),
        ([Ink()], 1, "reference needs at least two images"),
        ([Ink()], 0, "reference needs at least two images"),
    ],
)
def test_scores_that_cannot_be_joined_are_refused(
    classifier: Classifier, own: ImageSet, scores: list[OODScore], count: int, message: str
) -> None:
    with pytest.raises(InputError, match=rf"^{message}[^\n]*\.$"):
        classifier.with_scores(*scores, reference=own.images[:count])


@pytest.mark.parametrize("result", [torch.zeros(3), torch.zeros(40, 1), np.zeros(40), 1.0])
def test_a_score_that_is_no_number_an_image_is_refused(
    classifier: Classifier, own: ImageSet, result: Any
) -> None:
    class Strange(Ink):
        def score(self, observed: Observed) -> Any:
            return result

    with pytest.raises(InputError, match=r"^the OOD score 'ink' must give one number an image, \(N,\)\.$"):
        classifier.with_scores(Strange(), reference=own)


# The command


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
    assert main(["calibrate", str(path), "--rule=calibrated", *ASKED, "--overwrite"]) == 0
    after = load(path)
    assert_only_these_changed(sound, after, {"rule", "record"})
    assert after.rule == Classifier(sound).with_promise(rule="calibrated", **EASY).rule.to_dict()
    printed = capsys.readouterr().out
    assert f"Wrote {path}." in printed
    assert "300 images" in printed
    assert percent(after.record["calibration"]["coverage"]) in printed
    assert Classifier.load(path).rule == rule_from_dict(after.rule)


def test_promises_that_the_command_is_not_given_stay_as_they_were(path: Path) -> None:
    assert main(["calibrate", str(path), "--rule=calibrated", *ASKED, "--overwrite"]) == 0
    before = load(path).rule
    assert main(["calibrate", str(path), "--alpha=0.2", "--overwrite"]) == 0
    after = load(path).rule
    assert after["name"] == "calibrated"
    assert (after["risk"], after["delta"], after["alpha"]) == (0.1, 0.1, 0.2)
    assert after["unfamiliar_threshold"] < before["unfamiliar_threshold"]
    assert main(["calibrate", str(path), "--alpha=0.05", "--overwrite"]) == 0
    assert load(path).rule == before


def test_out_leaves_the_checkpoint_alone(path: Path, tmp_path: Path) -> None:
    before, out = path.read_bytes(), tmp_path / "new" / "other.safetensors"
    assert main(["calibrate", str(path), "--refuse=0.1", "--out", str(out)]) == 0
    assert path.read_bytes() == before
    assert load(out).rule["refuse"] == 0.1
    assert Classifier.load(out).rule.name == "entropy"
    for taken in (path, out):
        assert main(["calibrate", str(path), "--refuse=0.2", "--out", str(taken)]) == 2
    assert path.read_bytes() == before
    assert load(out).rule["refuse"] == 0.1


def test_a_rule_without_numbers_is_told_too(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(path), "--rule=refuse-all", "--overwrite"]) == 0
    assert "refuse-all" in capsys.readouterr().out
    assert Classifier.load(path).rule == RefuseAll("it was asked to.", wanted=Promise(refuse=0.3))


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
    command = ["calibrate", str(path), "--refuse=0.1", "--digits", str(digits), "--overwrite"]
    assert main(command) == 1
    assert "bad.png" in capsys.readouterr().err
    after = load(path)
    assert_only_these_changed(sound, after, {"rule", "record", "calibration"})
    truth = grouped(after.calibration)["truth"]
    assert (len(truth["labels"]), len(truth["grid"])) == (24, 6)
    prediction = Classifier.load(path).predict(sorted(digits.rglob("[0-9]*.png")))
    assert (prediction.labels == -1).mean() <= 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule=calibrated", "--risk=0.0001"], "cannot show a risk"),
        (["--rule=calibrated", *ASKED, "--alpha=0.0001"], "cannot promise a share"),
        (["--refuse=0.001"], "cannot promise a share"),
        (["--risk=nan"], "risk must lie between 0 and 1, and nan does not"),
        (["--alpha=1"], "alpha must lie between 0 and 1"),
        (["--delta=-0.1"], "delta must lie between 0 and 1"),
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
    command = ["calibrate", str(path), "--refuse=0.1", "--digits", str(digits), "--overwrite"]
    assert main(command) == 2
    assert "4 calibration images cannot promise" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("group", ["calibration", "detector", "posterior"])
def test_a_file_without_evidence_is_refused_and_left_as_it_was(
    path: Path, make_checkpoint: MakeCheckpoint, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    save(make_checkpoint(**{group: {}}), path)
    before = path.read_bytes()
    assert main(["calibrate", str(path), "--refuse=0.2", "--overwrite"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    assert path.read_bytes() == before
