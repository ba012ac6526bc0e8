"""The monitor of a stream, what it keeps, and `bnn monitor`."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bnn import Classifier, ImageSet
from bnn.cli.command import main
from bnn.errors import InputError
from bnn.monitoring import TESTS, Monitor, _uniform
from bnn.prediction import Prediction

ALARM = 4
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tiny(untrained: Callable[..., Classifier]) -> Classifier:
    return untrained("mlp", {"hidden": 16})


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="module")
def strokes() -> torch.Tensor:
    return ImageSet.from_name("strokes", limit=12).images


def calibration_of(classifier: Classifier) -> Prediction:
    """The decisions on the calibration images."""
    evidence = classifier.calibration.evidence
    return classifier.decide(evidence, np.full(len(evidence), ""))


def same(one: Monitor, other: Monitor) -> bool:
    pairs = zip(one._tensors().values(), other._tensors().values(), strict=True)
    return one.alarm == other.alarm and all(torch.equal(a, b) for a, b in pairs)


def test_digits_like_the_calibration_digits_raise_no_alarm_and_the_strangest_do(shipped: Classifier) -> None:
    digits = calibration_of(shipped)
    usual, strange = Monitor(shipped), Monitor(shipped)
    usual.see(digits[:300])
    assert usual.alarm is None
    steps = strange.see(digits[np.argsort(-digits.total)[:20]])
    assert strange.alarm is not None
    assert strange.alarm < 10
    assert [step.alarm for step in steps] == [n >= strange.alarm for n in range(1, 21)]
    assert max(steps[strange.alarm - 1].log_wealth) >= math.log(2 / 0.01)


def test_how_the_decisions_are_handed_over_does_not_matter(tiny: Classifier) -> None:
    stream = calibration_of(tiny)
    together, alone = Monitor(tiny), Monitor(tiny)
    steps = together.see(stream)
    assert steps == [step for image in stream for step in alone.see(image)]
    assert same(together, alone)


def test_two_runs_are_as_one(tiny: Classifier, tmp_path: Path) -> None:
    stream = calibration_of(tiny)
    whole, first = Monitor(tiny, seed=5), Monitor(tiny, seed=5)
    whole.see(stream)
    first.see(stream[:23])
    first.save(tmp_path / "state")
    second = Monitor.resume(tmp_path / "state", tiny)
    assert same(second, first)
    second.see(stream[23:])
    assert same(second, whole)
    assert second.reasons.tolist() == stream.reasons.tolist()


def test_an_alarm_of_an_earlier_run_stays_one(shipped: Classifier, tmp_path: Path) -> None:
    digits = calibration_of(shipped)
    monitor = Monitor(shipped)
    monitor.see(digits[np.argsort(-digits.total)[:20]])
    monitor.save(tmp_path / "state")
    again = Monitor.resume(tmp_path / "state", shipped)
    assert again.alarm == monitor.alarm
    assert again.see(digits[:1])[0].alarm
    assert Monitor.resume(tmp_path / "state", shipped, false_alarms=1e-300).alarm is None


def test_what_is_not_a_number_is_the_strangest(tiny: Classifier) -> None:
    one = calibration_of(tiny)[:1]
    lost = replace(one, total=np.array([np.nan], np.float32), ood_score=np.array([np.inf], np.float32))
    (step,) = Monitor(tiny).see(lost)
    assert max(step.p) <= 1 / (len(tiny.calibration) + 1)


def test_numbers_that_break_ties_are_of_the_seed_the_image_and_the_test() -> None:
    drawn = np.array([_uniform(seed, image) for seed in (0, 1) for image in range(200)])
    assert len(np.unique(drawn)) == drawn.size
    assert drawn.min() > 0
    assert drawn.max() <= 1
    assert abs(drawn.mean() - 0.5) < 0.05
    assert _uniform(0, 10**12) == _uniform(0, 10**12)


def test_what_counts_against_the_promise_is_what_the_rule_promises(
    shipped: Classifier, tiny: Classifier
) -> None:
    monitor = Monitor(shipped)
    assert monitor.promised == ("refused as unfamiliar", shipped.promise.alpha)
    monitor.see(calibration_of(shipped)[:500])
    assert np.array_equal(monitor.refused, monitor.reasons == "unfamiliar")
    entropy = Monitor(tiny)
    entropy.see(calibration_of(tiny))
    assert entropy.promised == ("refused", tiny.promise.refuse)
    assert np.array_equal(entropy.refused, entropy.reasons != "answered")


def test_the_share_refused_is_that_of_all_images_so_far_within_its_limits(tiny: Classifier) -> None:
    monitor = Monitor(tiny)
    monitor.see(calibration_of(tiny))
    told = monitor.refusals(np.array([1, 10, len(monitor)]))
    assert told.shares.tolist() == [monitor.refused[:n].mean() for n in told.images]
    low, high = told.limits.T
    assert (low <= told.shares).all()
    assert (told.shares <= high).all()
    assert (np.diff(high - low) < 0).all()
    assert told.height >= max(told.shares[-1], tiny.promise.refuse)


def test_another_ensemble_than_the_calibrated_one_is_not_monitored(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="own draws and seed"):
        Monitor(classifier)


@pytest.mark.parametrize("given", [{"false_alarms": 0.0}, {"false_alarms": math.nan}, {"seed": -1}])
def test_what_is_out_of_its_range_is_refused(tiny: Classifier, given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must"):
        Monitor(tiny, **given)  # type: ignore[arg-type]


def test_nothing_is_kept_of_nothing(tiny: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image"):
        Monitor(tiny).save(tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_another_checkpoint_or_rule_is_not_gone_on_with(
    tiny: Classifier, untrained: Callable[..., Classifier], tmp_path: Path
) -> None:
    monitor = Monitor(tiny)
    monitor.see(calibration_of(tiny)[:3])
    monitor.save(tmp_path / "state")
    for other in (tiny.with_promise(refuse=0.2), Classifier.load()):
        with pytest.raises(InputError, match="another checkpoint or rule"):
            Monitor.resume(tmp_path / "state", other)


SPOILT: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "missing": lambda tensors: tensors.pop("scores"),
    "too many": lambda tensors: tensors.update(more=torch.zeros(1)),
    "not finite": lambda tensors: tensors["capital"].fill_(torch.nan),
    "of another kind": lambda tensors: tensors.update(scores=tensors["scores"].double()),
    "of another length": lambda tensors: tensors.update(log_wealth=tensors["log_wealth"][:2].clone()),
    "no such reason": lambda tensors: tensors["reasons"].fill_(7),
    "no reasons": lambda tensors: tensors.pop("reasons"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_file_is_told_in_one_sentence(tiny: Classifier, tmp_path: Path, how: str) -> None:
    path = tmp_path / "state"
    monitor = Monitor(tiny)
    monitor.see(calibration_of(tiny)[:3])
    monitor.save(path)
    tensors = load_file(path)
    SPOILT[how](tensors)
    header = {"format": 1, "identity": monitor._identity, "seed": 0}
    save_file(tensors, path, metadata={"monitor": json.dumps(header)})
    with pytest.raises(InputError, match=r"^\S*state is damaged: [^.]*\.$"):
        Monitor.resume(path, tiny)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "nothing"), (b"\x80\x04N.", "nothing"), (None, "nothing"), ({"format": 2}, "version")],
)
def test_a_file_of_another_kind_is_told_in_one_sentence(
    tiny: Classifier, tmp_path: Path, content: object, said: str
) -> None:
    path = tmp_path / "state"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        metadata = None if content is None else {"monitor": json.dumps(content)}
        save_file({"scores": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(InputError, match=said):
        Monitor.resume(path, tiny)


def as_files(images: torch.Tensor, folder: Path) -> Path:
    folder.mkdir()
    for number, image in enumerate(images[:, 0].mul(255).round().byte().numpy()):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.slow
def test_the_command_tells_of_strokes_and_goes_on_where_it_stood(
    strokes: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, begun, rest = (
        as_files(images, tmp_path / name)
        for name, images in (("whole", strokes), ("first", strokes[:1]), ("rest", strokes[1:]))
    )
    out = tmp_path / "drift.png"
    assert (
        main(["monitor", str(whole), "--json", "--out", str(out), "--state", str(tmp_path / "one")]) == ALARM
    )
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["image"] for line in lines] == list(range(1, 13))
    assert Path(lines[3]["file"]).name == "003.png"
    first = [line["alarm"] for line in lines].index(True) + 1
    assert all(line["p"].keys() == line["log10_wealth"].keys() == TESTS.keys() for line in lines)
    assert f"ALARM at image {first} (" in printed.err
    with Image.open(out) as plot:
        assert plot.format == "PNG"

    (begun / "none.png").write_bytes(b"no image")
    state = ["--state", str(tmp_path / "two")]
    assert main(["monitor", str(begun), *state]) == 1
    told = capsys.readouterr()
    assert "none.png" in told.err
    assert "No alarm" in told.out
    assert main(["monitor", str(rest), *state]) == ALARM
    told = capsys.readouterr()
    assert f"ALARM at image {first} (" in told.out
    assert "of 12 images refused as unfamiliar" in told.out
    one, two = (load_file(tmp_path / name) for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png"], "could be used"),
        (["docs/four.png", "--out", "plot.svg"], "end in .png"),
        (["docs/four.png", "--out", "docs/four.png"], "is there already"),
        (["docs/four.png", "--state", "README.md"], "nothing that a monitor could go on from"),
        (["docs/four.png", "--false-alarms", "1"], "between 0 and 1"),
    ],
)
def test_mistakes_are_told_in_one_sentence_and_write_nothing(
    tiny: Classifier,
    tmp_path: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    tiny.save(tmp_path / "tiny.safetensors")
    before = Path("README.md").read_bytes()
    assert main(["monitor", *arguments, "--checkpoint", str(tmp_path / "tiny.safetensors")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert Path("README.md").read_bytes() == before
    assert not Path("plot.svg").exists()
