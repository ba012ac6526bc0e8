"""Posteriors compared: equal cost, tables, and the command `bnn compare` with what it keeps."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnn.cli import main
from bnn.errors import InputError
from bnn.evaluation import comparison
from bnn.evaluation.comparison import (
    COST,
    JOINED,
    QUALITY,
    Row,
    Spread,
    baselines_table,
    plot,
    report,
    scores_table,
    separations,
    spread,
    table,
    verdict,
    written,
)
from bnn.training.config import TrainConfig
from bnn.training.cost import (
    FEWEST,
    WARM,
    Cost,
    configured_as,
    costs_of,
    fit_in_steps,
    planned,
    undisturbed,
)
from bnn.training.datamodule import TrainingData
from bnn.training.train import lesson_of

INTERRUPTED, BAD_INPUT = 130, 2
COMPARE = (
    *("compare", "--data", "digits", "--network", "mlp", "--network-options", '{"hidden": 16}'),
    *(
        "--no-augment",
        "--batch-size",
        "32",
        "--lr",
        "0.01",
        "--risk",
        "0.1",
        "--alpha",
        "0.05",
        "--draws",
        "3",
        "--ood",
        "noise",
        "--limit",
        "20",
    ),
    *("--guides", "map", "mean-field", "--seeds", "1"),
)


SMALL = TrainConfig(data="digits", network="mlp", network_options={"hidden": 16}, augment=False)
PROMISED = {
    "mean_coverage": 0.8,
    "risk": 0.002,
    "delta": 0.05,
    "alpha": 0.005,
    "splits": 200,
    "infeasible": 50,
}


def small_data() -> TrainingData:
    return lesson_of("digits", SMALL).split(SMALL)


def row(guide: str, seed: int, **replaced: Any) -> Row:
    """A row whose numbers depend on guide and seed."""
    number = 1 + len(guide) / 10 + seed
    held_out = {"accuracy": 0.9 + number / 100, "nll": 0.1 * number, "brier": 0.2, "ece": 0.01, "aurc": 0.002}
    noise = {"noise": {"auroc": 0.9, "fpr95": 0.1}, "strokes": {"auroc": 0.7, "fpr95": number / 10}}
    values: dict[str, Any] = {
        "guide": guide,
        "seed": seed,
        "steps": 100,
        "train_seconds": 60.0,
        "step_seconds": 0.1,
        "thousand_seconds": 1.5,
        "megabytes": 3.25,
        "draws": 20,
        "held_out": held_out,
        "promise": dict(PROMISED),
        "scores": {JOINED: noise, "energy": noise},
    }
    return Row(**values | replaced)


ROWS = [row(guide, seed) for guide in ("mean-field", "map") for seed in (0, 1, 2)]


@given(
    step=st.floats(1e-4, 1),
    finish=st.floats(0, 100),
    seconds=st.floats(0.1, 1000),
)
def test_the_steps_of_a_guide_are_the_most_that_its_seconds_are_enough_for(
    step: float, finish: float, seconds: float
) -> None:
    steps = Cost(step, finish).steps(seconds)
    assert steps == 0 or finish + steps * step <= seconds * (1 + 1e-9)
    assert finish + (steps + 1) * step > seconds * (1 - 1e-9)


@given(step=st.floats(1e-3, 1), finish=st.floats(0, 50))
def test_too_few_seconds_are_refused_with_what_would_be_enough(step: float, finish: float) -> None:
    cost = Cost(step, finish)
    with pytest.raises(InputError, match=f"{FEWEST} are the fewest") as refused:
        planned("laplace", cost, 0.9 * (finish + (FEWEST - 1) * step))
    enough = float(str(refused.value).split("give it ")[1].split()[0])
    assert planned("laplace", cost, enough) >= FEWEST
    assert enough < finish + FEWEST * step + 1


def test_what_disturbs_a_few_steps_does_not_count() -> None:
    taken = [9.0] * WARM + [0.5] * 20 + [3.0] * 10
    times = np.cumsum(taken).tolist()
    assert undisturbed(times) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("asked", "guide", "components"),
    [
        ("map", "map", 1),
        ("5xmap", "map", 5),
        ("12xmean-field", "mean-field", 12),
        ("1xmap", "1xmap", 1),  # no guide, and refused as such
        ("0xmap", "0xmap", 1),
        ("xmap", "xmap", 1),
    ],
)
def test_a_guide_may_have_several_components(asked: str, guide: str, components: int) -> None:
    configured = configured_as(asked, SMALL)
    assert configured == replace(SMALL, guide=guide, components=components)


def test_a_step_of_several_components_costs_one_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.training.cost.undisturbed", lambda _: 0.25)
    monkeypatch.setattr("bnn.training.cost.ROUNDS", 1)
    one, three = costs_of([configured_as(guide, SMALL) for guide in ("map", "3xmap")], small_data())
    assert (one.step, three.step) == (0.25, 0.75)
    assert Cost(0.75, 3 * 0.5).steps(60) == Cost(0.25, 0.5).steps(20)


def test_each_component_is_trained_as_one_alone_from_a_start_of_its_own() -> None:
    alone, several = (
        fit_in_steps(configured_as(guide, SMALL), small_data(), 30) for guide in ("map", "3xmap")
    )
    first, *others = several.posterior.components
    (only,) = alone.posterior.components
    assert all(torch.equal(value, only.mean()[name]) for name, value in first.mean().items())
    assert len({float(one.mean()["hidden.weight"].sum()) for one in (first, *others)}) == 3


def test_a_spread_is_the_mean_and_the_sample_s_deviation() -> None:
    assert spread([1.0, 2.0, 6.0]) == Spread(3.0, math.sqrt(7))
    assert written(spread([1.0, 2.0, 6.0]), ".2f") == "3.00 ± 2.65"
    assert written(spread([4.0]), ".1f") == "4.0"


def cells(markdown: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in markdown.splitlines()]


def test_a_table_says_the_means_and_deviations_of_its_rows() -> None:
    kept = [Row.from_plain(json.loads(json.dumps(one.plain())), "here") for one in ROWS]
    assert kept == ROWS
    for columns in (QUALITY, COST):
        head, rule, *body = cells(table(kept, columns))
        assert head == ["guide", *(column.head for column in columns)]
        assert rule == ["---", *["---:"] * len(columns)]
        assert [line[0] for line in body] == ["mean-field", "map"]
        for line, of_guide in zip(body, (ROWS[:3], ROWS[3:]), strict=True):
            for cell, column in zip(line[1:], columns, strict=True):
                mean, deviation = map(float, cell.split(" ± "))
                values = [column.of(one) for one in of_guide]
                tolerance = 0.51 * 10.0 ** -int(column.form[1:-1])
                assert mean == pytest.approx(np.mean(values), abs=tolerance)
                assert deviation == pytest.approx(np.std(values, ddof=1), abs=tolerance)
    assert cells(scores_table(kept))[2] == ["mean-field", "0.8000 ± 0.0000", "0.8000 ± 0.0000"]
    assert cells(baselines_table(kept[:1]))[3] == ["energy", "0.900 / 0.100", "0.700 / 0.200"]


def test_a_page_holds_every_table_and_a_plot_every_guide() -> None:
    page = report(ROWS, "Three seeds.")
    for part in ("Three seeds.", table(ROWS, QUALITY), table(ROWS, COST), scores_table(ROWS), verdict(ROWS)):
        assert part in page
    assert "<svg" in plot(ROWS)


def test_where_a_half_cannot_show_the_promise_nothing_is_answered() -> None:
    answered = QUALITY[-1].of
    assert answered(ROWS[0]) == pytest.approx(60)
    never = row("map", 0, promise={**PROMISED, "mean_coverage": None, "infeasible": 200})
    assert answered(never) == 0


@pytest.mark.parametrize("damage", [{}, [], None, {"guide": "map"}, {**ROWS[0].plain(), "held_out": {}}])
def test_what_is_no_row_is_refused(damage: Any) -> None:
    with pytest.raises(InputError, match="here holds no row of a comparison: remove it"):
        Row.from_plain(damage, "here")


def measured(guide: str, *pairs: tuple[float, float]) -> list[Row]:
    """Rows of seeds 0, 1, … with these accuracies and NLLs."""
    return [
        row(guide, seed, held_out={**ROWS[0].held_out, "accuracy": accuracy, "nll": nll})
        for seed, (accuracy, nll) in enumerate(pairs)
    ]


def test_the_verdict_names_what_is_better_in_both() -> None:
    rows = [
        *measured("mean-field", (0.9, 0.3), (0.9, 0.3)),
        *measured("map", (0.95, 0.4), (0.95, 0.4)),  # in accuracy alone
        *measured("swag", (0.99, 0.1), (0.89, 0.4)),  # on average
        *measured("laplace", (0.91, 0.2), (0.91, 0.29)),  # always
        *measured("sghmc", (0.9, 0.3), (0.9, 0.3)),  # alike
    ]
    assert verdict(rows) == (
        "Better than mean-field in accuracy and NLL: on average over 2 seeds, swag, laplace; with every "
        "seed, laplace."
    )
    assert "over 2 seeds, none; with every seed, none." in verdict(
        [one for one in rows if one.guide == "sghmc"] + rows[:2]
    )
    assert verdict(rows[2:]) == ""


def test_strange_images_are_the_positive_class() -> None:
    familiar = {"energy": torch.tensor([0.0, 1.0, 2.0]), "vim": torch.tensor([5.0, 6.0, 7.0])}
    strange = {"noise": {"energy": torch.tensor([3.0, 4.0]), "vim": torch.tensor([1.0, 2.0])}}
    assert separations(familiar, strange) == {
        "energy": {"noise": {"auroc": 1.0, "fpr95": 0.0}},
        "vim": {"noise": {"auroc": 0.0, "fpr95": 1.0}},
    }


@pytest.fixture
def planned_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a folder to compare in, where a step costs what it always does, so that all plan alike."""
    monkeypatch.setattr("bnn.cli.compare.costs_of", lambda configs, _: [Cost(0.01, 0.1)] * len(configs))
    monkeypatch.chdir(tmp_path)
    return lambda name: tmp_path / name


def without_times(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(path.read_text()) for path in sorted((folder / "rows").iterdir())]
    return [{name: value for name, value in one.items() if "seconds" not in name} for one in rows]


@pytest.mark.slow
def test_a_comparison_that_was_interrupted_goes_on_to_the_same_result(
    planned_at: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = planned_at("whole"), planned_at("parts")
    assert main([*COMPARE, "--seconds", "0.5", "--out", str(whole)]) == 0
    made: list[Any] = []

    def measure_once(*given: Any) -> Any:
        if made:
            raise KeyboardInterrupt
        made.append(given)
        return comparison.measure(*given)

    with monkeypatch.context() as patch:
        patch.setattr("bnn.cli.compare.measure", measure_once)
        assert main([*COMPARE, "--seconds", "0.5", "--out", str(parts)]) == INTERRUPTED
    (first,) = (parts / "rows").iterdir()
    before = first.read_bytes()
    plan = json.loads((parts / "plan.json").read_text())
    del plan["options"]["pens"]  # as of a version that had no such option
    (parts / "plan.json").write_text(json.dumps(plan))
    assert not (parts / "comparison.json").exists()
    assert main([*COMPARE, "--seconds", "0.5", "--out", str(parts)]) == 0
    assert first.read_bytes() == before
    assert without_times(parts) == without_times(whole)
    for one in without_times(whole):
        assert one["steps"] == 40
        assert one["held_out"]["accuracy"] > 0.5
        assert one["scores"][JOINED]["noise"]["auroc"] > 0.9
    numbers = json.loads((whole / "comparison.json").read_text())
    assert [(one["guide"], one["seed"], one["draws"]) for one in numbers["rows"]] == [
        ("map", 1, 1),
        ("mean-field", 1, 3),
    ]
    assert numbers["options"]["ood"] == ["noise"]
    assert "<svg" in (whole / "comparison.svg").read_text()
    assert "| map |" in (whole / "comparison.md").read_text()

    capsys.readouterr()
    assert main([*COMPARE, "--seconds", "0.5", "--lr", "0.02", "--out", str(whole)]) == BAD_INPUT
    told = capsys.readouterr().err
    assert "holds a comparison with lr 0.01: give the same" in told
    assert told.count("\n") == 1
    more = ("--guides", "map", "3xmap", "--seeds", "1", "2")
    assert main([*COMPARE, *more, "--seconds", "0.5", "--out", str(whole)]) == 0
    assert len(list((whole / "rows").iterdir())) == 5
    rows = json.loads((whole / "comparison.json").read_text())["rows"]
    assert [(one["guide"], one["seed"], one["draws"]) for one in rows] == [
        ("map", 1, 1),
        ("map", 2, 1),
        ("3xmap", 1, 3),
        ("3xmap", 2, 3),
    ]
    sizes = {one["guide"]: one["megabytes"] for one in rows}
    assert sizes["3xmap"] == pytest.approx(3 * sizes["map"])
    disagreement = rows[2]["scores"]["mutual-information"]["noise"]["auroc"]
    assert disagreement > rows[0]["scores"]["mutual-information"]["noise"]["auroc"] == 0.5


@pytest.mark.slow
def test_what_a_step_costs_is_measured_where_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.training.cost.ROUNDS", 2)
    options = ["--seconds", "1", "--out", str(tmp_path / "c"), "--guides", "laplace"]
    assert main([*COMPARE, *options]) == 0
    plan = json.loads((tmp_path / "c" / "plan.json").read_text())["guides"]["laplace"]
    (made,) = json.loads((tmp_path / "c" / "comparison.json").read_text())["rows"]
    assert plan["steps"] == made["steps"] == Cost(plan["step"], plan["finish"]).steps(1)
    assert plan["finish"] > 1e-4  # laplace measures a curvature


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--guides", "map", "maps"], "there is no guide 'maps'"),
        (["--guides", "map", "map"], "each once, not map, map"),
        (["--guides", "3xmaps"], "there is no guide 'maps'"),
        (["--guides", "1xmap"], "there is no guide '1xmap'"),
        (["--seeds", "1", "1"], "each once, not 1, 1"),
        (["--ood", "noise"], "each once, not noise, noise"),
        (["--risk", "0.0001"], "cannot show a risk of at most 0.0001"),
        (["--ood", "nowhere"], "there is no folder nowhere"),
        (["--seconds", "0.2"], "0.2 seconds are enough for 10 steps of map, and 20 are the fewest"),
        (["--seconds", "0.5", "--guides", "sghmc"], "40 steps are too few for sghmc: give more --seconds"),
        (["--seconds", "nan"], "--seconds must be a number above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    options: list[str],
    said: str,
    planned_at: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*COMPARE, "--out", "refused", *options]) == BAD_INPUT
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (planned_at("refused") / "rows").exists()


def test_a_folder_with_something_else_is_refused(
    planned_at: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planned_at("other")
    folder.mkdir()
    (folder / "plan.json").write_text("[1, 2]")
    assert main([*COMPARE, "--out", str(folder)]) == BAD_INPUT
    assert "is no plan of a comparison" in capsys.readouterr().err
    (folder / "plan.json").write_text("{")
    assert main([*COMPARE, "--out", str(folder)]) == BAD_INPUT
    assert "cannot be read" in capsys.readouterr().err
