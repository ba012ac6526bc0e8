"""Every table that is printed is whole in 80 columns: no head and no name is cut, however long names are."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bnn.classifier import Classifier
from bnn.cli.calibrate import _print_short
from bnn.core.checkpoint import Checkpoint
from bnn.evaluation.numbers import METRICS
from bnn.evaluation.printed import _in_distribution_table, _ood_table, _shifted_table
from bnn.tables import table
from bnn.training.summary import print_summary

NAME = "[red]a_folder_with_a_name_of_more_than_forty_letters"
SMALL = 0.00012345  # of four digits, and as wide as they become


def columns(printed: str) -> list[str]:
    """What stands in each column of the tables in `printed`, lines joined, without spaces."""
    rows = [line.replace("┃", "│").strip("│").split("│") for line in printed.splitlines() if line[:1] in "┃│"]
    return ["".join("".join(cells).split()) for cells in zip(*rows, strict=True)]


def drawn(shown: Table) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def in_distribution() -> Table:
    names = ("accuracy", *METRICS)
    return _in_distribution_table(
        {"name": NAME} | dict.fromkeys(names, SMALL) | {"intervals": dict.fromkeys(names, (SMALL, SMALL))}
    )


def out_of_distribution() -> Table:
    numbers = dict.fromkeys(("refused", "auroc", "auroc_ensemble", "fpr95", "fpr95_ensemble"), SMALL)
    return _ood_table(
        {"out_of_distribution": [{"name": NAME, "n": 1_000_000, "unreadable": 1_000_000} | numbers]}
    )


def shifted() -> Table:
    numbers = dict.fromkeys(("accuracy", "coverage", "right_when_answered"), SMALL)
    return _shifted_table({"shifted": [{"name": NAME, "n": 1_000_000} | numbers]})


@pytest.mark.parametrize(
    ("made", "heads"),
    [
        (in_distribution, ["value", "95%interval"]),
        (out_of_distribution, ["images", "refused", "AUROC(ensemble)", "FPR95(ensemble)", "unreadable"]),
        (shifted, ["digits", "accuracy", "answered", "rightwhenanswered"]),
        (
            lambda: _row(table("measured on the test digits", "2018 notebook", "here")),
            ["2018notebook", "here"],
        ),
    ],
)
def test_heads_and_names_are_whole(made: Callable[[], Table], heads: list[str]) -> None:
    printed = drawn(made())
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    first, *others = columns(printed)
    assert NAME in first
    for column, head in zip(others, heads, strict=True):
        assert column.startswith(head)


def _row(shown: Table) -> Table:
    shown.add_row(NAME.replace("[", r"\["), "87.5 % / 96 %", "95.4 % / 97.7 %")
    return shown


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("narrow")
def test_what_training_and_calibration_print_is_whole(
    make_checkpoint: Callable[..., Checkpoint], capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"accuracy": 0.9, "nll": 0.1, "coverage": 0.9, "errors_among_answered": 3}
    record = {
        "config": {"beta": 0.05, "seed": 0},
        "data": {"trained_on": 55_000, "calibrated_on": 5_000},
        "training": {"components_done": 6, "interrupted": False},
        "calibration": measured | {"digits": 5_000, "refused_as_unfamiliar": 0.004},
    }
    classifier = Classifier(make_checkpoint(record=record))
    for show in (_print_short, lambda one: print_summary(one, Path("out.safetensors"))):
        show(classifier)
        printed = capsys.readouterr().out
        assert "…" not in printed
        assert [column[:5] for column in columns(printed)] == ["what" + columns(printed)[0][4], "value"]
