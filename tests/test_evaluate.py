"""Batch evaluation from end to end: the report's numbers, files and page, and the printed decisions."""

import base64
import csv
import itertools
import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import log_loss, roc_auc_score

from bnn.classifier import Classifier
from bnn.cli.evaluate import evaluate_command
from bnn.cli.predict import predict_command
from bnn.core.checkpoint import load
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.evaluation.evaluate import ANGLES, RECORDED, evaluate, recorded
from bnn.evaluation.plots import plots
from bnn.evaluation.report import write_report
from bnn.evaluation.resplits import resplit
from bnn.evaluation.results import Report
from bnn.evaluation.words import summary
from bnn.numerals import percent
from bnn.prediction import Prediction
from bnn.progress import Advance
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.thresholds import MedianRule
from bnn.training.train import train

pytestmark = pytest.mark.slow

LIMIT = 40
HOSTILE = "<script>alert(1)<!--$x_$.png"
CORRUPTED = 4  # digits that are spoilt
SPLITS = 20
SHARES = {"n", "accuracy", "coverage", "answered", "errors", "selective_risk", "intervals"}
IN_DISTRIBUTION = SHARES | {"name", "nll", "ece", "brier", "aurc", "aurc_ensemble", "by_class"}
OUT_OF_DISTRIBUTION = {
    *("name", "n", "refused", "auroc", "auroc_ensemble", "fpr95", "fpr95_ensemble"),
    *("intervals", "unreadable", "kinds"),
}
SHIFTED = SHARES | {"name", "right_when_answered", "unreadable", "kinds"}
FILES = {
    *("report.json", "report.html", "decisions.csv"),
    *("risk_coverage.svg", "reliability.svg", "uncertainty.svg", "rotation.svg", "robustness.svg"),
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """A small classifier of scikit-learn's digits, trained in seconds, which refuses some and not others."""
    trained = train(
        "digits", network="mlp", network_options={"hidden": 32}, epochs=6, draws=8, rule="entropy"
    )
    rule = CalibratedRule(unfamiliar_threshold=20, ambiguous_threshold=1.5, risk=0.2, delta=0.1, alpha=0.1)
    return trained.with_rule(rule)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strokes, one of a hostile name, and two files that are no images, also one of a hostile name."""
    folder = tmp_path_factory.mktemp("images") / "<b>$strokes"
    folder.mkdir()
    pixels = np.zeros((40, 40), np.uint8)
    pixels[5:35, 18:23] = 255
    Image.fromarray(pixels).save(folder / "good.png")
    Image.fromarray(pixels.T).save(folder / HOSTILE)
    (folder / "empty.png").touch()
    (folder / "<img src=x>.png").write_text("words")
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 labelled digits, and one file that is none."""
    folder = tmp_path_factory.mktemp("theirs") / "theirs"
    source = ImageSet.from_name("digits", seed=5, limit=12)
    for index, (image, label) in enumerate(zip(source.images[:, 0], source.truth().tolist(), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).byte().numpy()).save(folder / str(label) / f"{index}.png")
    (folder / str(int(source.truth()[0])) / "bad.png").touch()
    return folder


@pytest.fixture(scope="module")
def report(classifier: Classifier, folder: Path) -> Report:
    return evaluate(
        classifier.with_rule(MedianRule(0.0)),  # answers nearly all, so that the page shows thumbnails
        ImageSet.from_name("digits", limit=LIMIT),
        [ImageSet.from_spec(spec, labelled=False, limit=LIMIT) for spec in ("noise", str(folder))],
        robustness=0,
        settings={"odd": float("nan")},
    )


@pytest.fixture(scope="module")
def out(classifier: Classifier, folder: Path, theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command wrote."""
    out = tmp_path_factory.mktemp("out") / "new" / "report"
    options: dict[str, Any] = {"shifted": [str(theirs)], "robustness": CORRUPTED, "seed": 0, "limit": LIMIT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bnn.evaluation.evaluate.resplit", partial(resplit, splits=SPLITS))
        assert evaluate_command(classifier, "digits", ["noise", str(folder)], out, **options)
    return out


@pytest.fixture(scope="module")
def numbers(out: Path) -> Any:
    return json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, str]]:
    with (out / "decisions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str, of: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(row[name]) for row in rows if row["set"] == of])


def test_schema(out: Path, numbers: Any, folder: Path, classifier: Classifier) -> None:
    assert {path.name for path in out.iterdir()} == FILES
    assert set(numbers) == {
        *(
            "classes",
            "in_distribution",
            "out_of_distribution",
            "shifted",
            "robustness",
            "resplits",
            "settings",
            "unreadable",
        ),
    }
    assert set(numbers["in_distribution"]) == IN_DISTRIBUTION
    assert [set(row) for row in numbers["out_of_distribution"]] == [OUT_OF_DISTRIBUTION] * 2
    assert [(row["name"], row["n"], row["unreadable"]) for row in numbers["out_of_distribution"]] == [
        ("noise", LIMIT, 0),
        (folder.name, 2, 2),
    ]
    assert [set(row) for row in numbers["shifted"]] == [SHIFTED]
    assert [set(row) for row in numbers["robustness"]] == [SHARES | {"corruption", "strength", "amount"}] * 35
    settings = numbers["settings"]
    assert settings["draws"] == 8
    assert settings["rule"] == classifier.rule.to_dict()
    assert settings["checkpoint"]["record"] == classifier.record
    assert settings["sets"]["in_distribution"] == "digits"
    (bad,) = (row["file"] for row in numbers["unreadable"] if row["file"].endswith("/bad.png"))
    assert {(row["set"], row["file"]) for row in numbers["unreadable"]} == {
        (folder.name, "empty.png"),
        (folder.name, "<img src=x>.png"),
        ("theirs", bad),
    }


def test_a_row_an_image(rows: list[dict[str, str]], folder: Path) -> None:
    assert Counter(row["set"] for row in rows) == {
        "digits": LIMIT,
        "noise": LIMIT,
        folder.name: 2,
        "theirs": 12,
    }
    assert {row["source"] for row in rows if row["set"] == folder.name} == {"good.png", HOSTILE}
    for row in rows:
        assert (row["decision"] == "refused") == (row["reason"] != "answered")
        assert (row["label"] == "") == (row["set"] not in ("digits", "theirs"))
        probs = [float(row[f"p_{digit}"]) for digit in range(10)]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert int(row["candidates"].split()[0]) == int(np.argmax(probs))
        parts = float(row["aleatoric"]) + float(row["epistemic"])
        assert float(row["total"]) == pytest.approx(parts, abs=1e-4)


def test_in_distribution_numbers_follow_from_the_decisions(numbers: Any, rows: list[dict[str, str]]) -> None:
    digits = numbers["in_distribution"]
    labels = column(rows, "label", "digits").astype(int)
    probs = np.stack([column(rows, f"p_{digit}", "digits") for digit in range(10)], axis=1)
    errors = probs.argmax(1) != labels
    assert digits["n"] == len(labels)
    assert digits["accuracy"] == pytest.approx(1 - errors.mean())
    normal = probs / probs.sum(1, keepdims=True)
    assert digits["nll"] == pytest.approx(log_loss(labels, normal, labels=range(10)), abs=1e-5)
    assert digits["brier"] == pytest.approx(
        np.mean([((p - np.eye(10)[y]) ** 2).sum() for p, y in zip(probs, labels, strict=True)])
    )
    for name, score in (("aurc", "refusal_score"), ("aurc_ensemble", "total")):
        order = column(rows, score, "digits").argsort()
        assert digits[name] == pytest.approx(np.mean(errors[order].cumsum() / np.arange(1, LIMIT + 1)))
    answered = [row for row in rows if row["set"] == "digits" and row["decision"] != "refused"]
    assert digits["coverage"] == pytest.approx(len(answered) / LIMIT)
    wrong = np.mean([row["decision"] != row["label"] for row in answered])
    assert digits["selective_risk"] == pytest.approx(wrong)
    assert (digits["answered"], digits["errors"]) == (len(answered), round(wrong * len(answered)))


def test_out_of_distribution_numbers_follow_from_the_decisions(
    numbers: Any, rows: list[dict[str, str]]
) -> None:
    for found, (end, score) in itertools.product(
        numbers["out_of_distribution"], (("", "refusal_score"), ("_ensemble", "total"))
    ):
        known, scores = column(rows, score, "digits"), column(rows, score, found["name"])
        truth = [0] * len(known) + [1] * len(scores)
        refused = [row["decision"] == "refused" for row in rows if row["set"] == found["name"]]
        assert found["refused"] == pytest.approx(np.mean(refused))
        assert found[f"auroc{end}"] == pytest.approx(roc_auc_score(truth, [*known, *scores]))
        threshold = max(t for t in scores if (scores >= t).mean() >= 0.95)
        assert found[f"fpr95{end}"] == pytest.approx((known >= threshold).mean())


def test_numbers_of_shifted_digits_follow_from_the_decisions(
    numbers: Any, rows: list[dict[str, str]]
) -> None:
    (found,) = numbers["shifted"]
    of_set = [row for row in rows if row["set"] == "theirs"]
    answered = [row for row in of_set if row["decision"] != "refused"]
    likeliest = [max(range(10), key=lambda digit: float(row[f"p_{digit}"])) for row in of_set]
    right = [str(digit) == row["label"] for digit, row in zip(likeliest, of_set, strict=True)]
    assert (found["n"], found["unreadable"]) == (12, 1)
    assert found["accuracy"] == pytest.approx(np.mean(right))
    assert found["coverage"] == pytest.approx(len(answered) / 12)
    assert found["right_when_answered"] == pytest.approx(
        np.mean([row["decision"] == row["label"] for row in answered])
    )


def test_what_is_drawn_is_told_by_kind_the_hardest_first(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"shifted": ["drawn"], "robustness": 0, "limit": 100}
    evaluate_command(
        classifier.with_rule(MedianRule(0.9)), "digits", ["capitals", "noise"], tmp_path, **options
    )
    numbers = json.loads((tmp_path / "report.json").read_text())
    with (tmp_path / "decisions.csv").open(newline="", encoding="utf-8") as file:
        of_kind: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in csv.DictReader(file):
            of_kind.setdefault((row["set"], row["source"].rpartition("/")[0]), []).append(row)
    letters, noise = numbers["out_of_distribution"]
    (drawn,) = numbers["shifted"]
    assert {one["kind"] for one in letters["kinds"]} <= set(string.ascii_uppercase)
    assert sum(one["n"] for one in letters["kinds"]) == sum(one["n"] for one in drawn["kinds"]) == 100
    assert noise["kinds"] == []
    for one in letters["kinds"]:
        refused = [row["decision"] == "refused" for row in of_kind["capitals", one["kind"]]]
        assert (one["n"], one["refused"]) == (len(refused), pytest.approx(np.mean(refused)))
        assert one["intervals"]["refused"][0] <= one["refused"] <= one["intervals"]["refused"][1]
    right = {}
    for one in drawn["kinds"]:
        rows = of_kind["drawn", one["kind"]]
        assert {row["label"] for row in rows} == {one["kind"][0]}
        assert one["answered"] == sum(row["decision"] != "refused" for row in rows)
        right[one["kind"]] = sum(row["decision"] == row["label"] for row in rows) / len(rows)
        assert one["answered"] - one["errors"] == pytest.approx(right[one["kind"]] * one["n"])
    shares = [one["refused"] for one in letters["kinds"]]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert list(right.values()) == sorted(right.values())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("by kind, ") == 2
    assert all(f"<td>{kind}</td>" in page for _, kind in of_kind if kind)
    printed = " ".join(capsys.readouterr().out.split())
    least = f"{letters['kinds'][0]['kind']} {percent(shares[0])}".replace("\N{NO-BREAK SPACE}", " ")
    assert f"Refused least of capitals: {least}" in printed
    assert f"Answered rightly least of drawn: {drawn['kinds'][0]['kind']} " in printed


def test_every_interval_is_there_and_sensible(numbers: Any) -> None:
    shares = {"accuracy", "coverage", "selective_risk"}
    assert set(numbers["in_distribution"]["intervals"]) == shares | {
        "nll",
        "ece",
        "brier",
        "aurc",
        "aurc_ensemble",
    }
    for row in numbers["out_of_distribution"]:
        assert set(row["intervals"]) == {"refused", "auroc", "auroc_ensemble"}
    for row in numbers["shifted"]:
        assert set(row["intervals"]) == shares | {"right_when_answered"}
    for row in numbers["robustness"]:
        assert set(row["intervals"]) == shares
    for row in (
        numbers["in_distribution"],
        *numbers["out_of_distribution"],
        *numbers["shifted"],
        *numbers["robustness"],
    ):
        for name, interval in row["intervals"].items():
            assert (interval is None) == (row[name] is None)
            if interval is not None and name != "ece":  # resampling raises the ECE
                assert 0 <= interval[0] <= row[name] + 1e-9
                assert row[name] <= interval[1] + 1e-9


def test_robustness_is_of_as_many_digits_as_asked(numbers: Any) -> None:
    assert {row["n"] for row in numbers["robustness"]} == {CORRUPTED}
    assert len({(row["corruption"], row["strength"]) for row in numbers["robustness"]}) == 35


def test_promises_are_checked_for_the_calibrated_rule_alone(
    numbers: Any, report: Report, classifier: Classifier
) -> None:
    found = numbers["resplits"]
    assert (found["splits"], found["fitted_on"], found["measured_on"]) == (SPLITS, LIMIT // 2, LIMIT // 2)
    assert (found["risk"], found["delta"], found["alpha"]) == (0.2, 0.1, 0.1)
    assert report.resplits is None
    assert report.numbers["resplits"] is None


def test_robustness_may_be_left_out(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"robustness.svg"}
    assert report.numbers["robustness"] == []
    assert "Corrupted digits" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_digits_not_trained_on_are_taken_whole(classifier: Classifier, theirs: Path, tmp_path: Path) -> None:
    """The training part of a set comes before its test part, of 359 digits."""
    largest = {}
    for learnt in ("digits", "mnist"):
        checkpoint = replace(classifier.checkpoint(), record={"data": {"name": learnt}})
        options: Any = {"shifted": ["digits"], "robustness": 0, "limit": 8, "overwrite": True}
        evaluate_command(Classifier(checkpoint), str(theirs), [], tmp_path, **options)
        with (tmp_path / "decisions.csv").open(newline="", encoding="utf-8") as file:
            sources = [row["source"] for row in csv.DictReader(file) if row["set"] == "digits"]
        assert len(sources) == 8
        largest[learnt] = max(int(source[len("digits[") : -1]) for source in sources)
    assert largest["digits"] < 359 <= largest["mnist"]


def test_decisions_are_the_classifiers(
    classifier: Classifier, rows: list[dict[str, str]], folder: Path
) -> None:
    row = next(row for row in rows if row["source"] == "good.png")
    alone = classifier.predict(folder / "good.png")
    assert [np.float32(row[f"p_{digit}"]) for digit in range(10)] == alone.probs[0].tolist()
    assert row["reason"] == alone.reasons[0]


def test_page_holds_every_plot_and_nothing_outside(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    for plot in out.glob("*.svg"):
        assert base64.b64encode(plot.read_bytes()).decode() in page
    assert len(list(out.glob("*.svg"))) == 5
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert "<link" not in page


def test_page_escapes_hostile_names(report: Report, folder: Path, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page  # as a thumbnail's caption
    assert "&lt;img src=x&gt;.png" in page  # in the list of unreadable files
    assert "<script" not in page
    assert "<b>$" not in page
    assert "<img src=x" not in page


def test_no_nan_in_json(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["settings"]["odd"] is None


def test_nothing_answered_gives_null(classifier: Classifier, tmp_path: Path) -> None:
    never = classifier.with_rule(MedianRule(1 - 1e-12))
    assert not evaluate_command(never, "digits", [], tmp_path, robustness=2, limit=6)
    numbers = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert numbers["in_distribution"]["coverage"] == 0
    assert numbers["in_distribution"]["selective_risk"] is None
    assert numbers["in_distribution"]["intervals"]["selective_risk"] is None
    assert numbers["out_of_distribution"] == numbers["shifted"] == []
    assert "it answered none" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_equal_reports_have_equal_plots(report: Report) -> None:
    first, again = plots(report), plots(report)
    assert {name: plot.svg for name, plot in first.items()} == {
        name: plot.svg for name, plot in again.items()
    }


def test_axes_have_titles_and_names_are_no_formulas(report: Report) -> None:
    from bnn.evaluation import plots as drawings

    for draw in (drawings.risk_coverage, drawings.reliability, drawings.uncertainty, drawings.rotation):
        for axes in draw(report).axes:
            assert axes.get_ylabel() or axes.get_xlabel()
    assert "mathdefault" not in "".join(plot.svg for plot in plots(report).values())


@pytest.fixture
def kept(classifier: Classifier, tmp_path: Path) -> Path:
    """The classifier's checkpoint as a file."""
    classifier.save(tmp_path / "kept.safetensors")
    return tmp_path / "kept.safetensors"


def test_recorded_numbers_are_the_reports_and_change_nothing_else(
    classifier: Classifier, kept: Path, theirs: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"shifted": [str(theirs)], "robustness": 1, "limit": 20}
    options |= {"record": kept, "overwrite": True}
    for _ in range(2):  # the second time over the first
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bnn.evaluation.evaluate.resplit", partial(resplit, splits=2))
            evaluate_command(Classifier.load(kept), "digits", ["noise"], tmp_path / "out", **options)
    written, before = load(kept), classifier.checkpoint()
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written.record == {**before.record, "evaluation": {name: numbers[name] for name in RECORDED}}
    assert "evaluation" not in numbers["settings"]["checkpoint"]["record"]
    assert (written.rule, written.draws, written.seed) == (before.rule, before.draws, before.seed)
    for name in ("posterior", "detector", "calibration"):
        old, new = getattr(before, name), getattr(written, name)
        assert all(new[key].equal(tensor) for key, tensor in old.items())


def test_recorded_numbers_are_those_of_the_report_in_a_copy(classifier: Classifier, report: Report) -> None:
    before = dict(classifier.record)
    found = recorded(classifier.checkpoint(), report).record["evaluation"]
    assert found == {name: report.numbers[name] for name in RECORDED}
    assert classifier.record == before


@pytest.mark.parametrize("other", ["draws", "seed", "rule"])
def test_only_the_checkpoint_as_it_is_can_be_recorded(
    classifier: Classifier, kept: Path, tmp_path: Path, other: str
) -> None:
    checkpoint, before = classifier.checkpoint(), kept.read_bytes()
    changed = {
        "draws": Classifier(checkpoint, draws=checkpoint.draws + 1),
        "seed": Classifier(checkpoint, seed=checkpoint.seed + 1),
        "rule": classifier.with_rule(MedianRule(0.2)),
    }
    with pytest.raises(InputError, match="only what the checkpoint does as it is can be recorded"):
        evaluate_command(changed[other], "no such set", [], tmp_path / "out", record=kept)
    assert kept.read_bytes() == before


def test_of_few_draws_nothing_is_recorded(classifier: Classifier, kept: Path, tmp_path: Path) -> None:
    before = kept.read_bytes()
    with pytest.raises(InputError, match="only what the checkpoint does as it is can be recorded"):
        evaluate_command(classifier, "no such set", [], tmp_path / "out", draws="adaptive", record=kept)
    assert kept.read_bytes() == before


def test_a_place_to_record_in_is_checked_before_the_work(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        evaluate_command(classifier, "no such set", [], tmp_path / "out", record=tmp_path)


def test_failed_write_leaves_nothing_half_written(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()  # a file cannot be moved onto a folder
    with pytest.raises(InputError, match=r"report\.html cannot be written"):
        write_report(report, tmp_path)
    assert not (tmp_path / "report.json").exists()  # written last: it is there only if all is
    assert {path.name for path in tmp_path.iterdir()} < FILES
    for plot in tmp_path.glob("*.svg"):
        assert plot.read_text().rstrip().endswith("</svg>")


def test_failure_while_drawing_writes_nothing(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.evaluation.report._page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_place_is_told_before_the_work(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        evaluate_command(classifier, "no such set", [], tmp_path / "file")


def test_a_report_is_not_replaced_unasked(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(InputError, match=r"report\.json is there already: .*--overwrite"):
        evaluate_command(classifier, "no such set", [], tmp_path)
    assert (tmp_path / "report.json").read_text() == "mine"


def test_by_few_draws_a_report_has_the_same_decisions_and_says_how_many_these_were() -> None:
    shipped, digits = Classifier.load(), ImageSet.from_name("digits", limit=300)
    noise = ImageSet.from_name("noise", limit=30)
    by_all, by_few = (
        evaluate(shipped, digits, noise, robustness=2, draws=each) for each in ("all", "adaptive")
    )
    for one, other in zip(judged_of(by_all), judged_of(by_few), strict=True):
        assert one.reasons.tolist() == other.reasons.tolist()
        assert one.labels.tolist() == other.labels.tolist()
    few = by_few.out_of_distribution[0].prediction
    assert few.probs.std(1).min() > 0.01  # it has draws, though it is refused whatever they say
    assert abs(by_few.numbers["in_distribution"]["nll"] - by_all.numbers["in_distribution"]["nll"]) < 0.01
    assert 6 <= by_few.settings["draws_used"] < 15
    assert f"An image had {by_few.settings['draws_used']:.1f} of 50 draws" in summary(by_few.numbers)
    assert "draws_used" not in by_all.settings
    assert by_few.resplits is None
    with pytest.raises(InputError, match="draws are 'all' or 'adaptive', not 'some'"):
        evaluate(shipped, digits, draws="some")


def judged_of(report: Report) -> list[Prediction]:
    cells = [cell.prediction for cell in report.robustness]
    return [report.in_distribution.prediction, report.out_of_distribution[0].prediction, *cells]


@pytest.mark.parametrize("draws", ["all", "adaptive"])
def test_every_image_is_a_step_of_one_count(
    classifier: Classifier, theirs: Path, monkeypatch: pytest.MonkeyPatch, draws: str
) -> None:
    counts: list[tuple[int, list[int]]] = []

    @contextmanager
    def counting(total: int, first: float) -> Iterator[Advance]:
        counts.append((total, []))
        yield lambda steps, _: counts[-1][1].append(steps)

    monkeypatch.setattr("bnn.evaluation.evaluate.progress", counting)
    digits = ImageSet.from_name("digits", limit=40)
    noise = ImageSet.from_name("noise", limit=33)
    others = ImageSet.from_folder(theirs, labelled=True)
    evaluate(classifier.with_rule(MedianRule(0.0)), digits, [noise], [others], robustness=2, draws=draws)
    ((total, steps),) = counts
    assert sum(steps) == total == 40 + 33 + 12 + 35 * 2 + len(ANGLES)


def test_unlabelled_or_repeated_sets_are_refused(classifier: Classifier) -> None:
    digits, noise = (
        ImageSet.from_name("digits", limit=3),
        ImageSet.from_name("noise", limit=3),
    )
    with pytest.raises(InputError, match="no labels"):
        evaluate(classifier, noise, [])
    with pytest.raises(InputError, match="no labels"):
        evaluate(classifier, digits, [], [noise])
    with pytest.raises(InputError, match="the same name"):
        evaluate(classifier, digits, [noise, noise])
    with pytest.raises(InputError, match="the same name"):
        evaluate(classifier, digits, [], [digits])
    with pytest.raises(InputError, match="at least 1"):
        evaluate(classifier, digits, robustness=-1)


def test_predict_prints_json_lines(
    classifier: Classifier, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = folder / "missing.png"
    assert predict_command(classifier, [folder, missing], as_json=True)
    printed = capsys.readouterr()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in printed.out.splitlines()]
    assert [Path(line["file"]).name for line in lines] == [HOSTILE, "good.png"]
    for line in lines:
        alone = classifier.predict(Path(line["file"]))
        assert line["probs"] == alone.probs[0].tolist()
        assert line["label"] == (None if alone.labels[0] < 0 else alone.labels[0])
        assert line["candidates"] == list(alone.candidates[0])
        assert line["quality"] == alone.quality[0]
        assert set(line) == {
            *("file", "label", "reason", "probs", "total", "aleatoric", "epistemic"),
            *("ood_score", "refusal_score", "candidates", "quality"),
        }
    complaints = printed.err.splitlines()
    assert len(complaints) == 3
    assert f"bnn: there is no file {missing}." in complaints


@pytest.mark.parametrize("width", [80, 160])
def test_predict_prints_a_table(
    width: int,
    classifier: Classifier,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bnn.cli.predict.PIPED_WIDTH", width)
    monkeypatch.chdir(tmp_path)
    name = "[red]blank-with-a-long-name.png"
    Image.new("L", (30, 30), 255).save(name)
    assert not predict_command(classifier, [Path(name)])
    text = capsys.readouterr().out
    assert "I don't know  blank" in text
    files = [line.rstrip().split("  ")[-1] for line in text.splitlines()[2:]]
    assert name in "".join("".join(line.split()) for line in files)  # folded whole, not taken for a colour
    assert max(map(len, text.splitlines())) <= width


def test_predict_of_an_empty_folder_says_so(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict_command(classifier, [tmp_path])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "holds no images" in printed.err
