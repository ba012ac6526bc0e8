"""Every table that is printed is whole in 80 columns: no head and no name is cut, however long names are."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bnn.checkpoint import Checkpoint
from bnn.judge.calibrate import _print_short
from bnn.judge.printed import MEASURES, _elsewhere_table, _familiar_table, _unfamiliar_table
from bnn.learn.summary import print_summary
from bnn.tables import table

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


def familiar() -> Table:
    return _familiar_table(
        {"name": NAME}
        | dict.fromkeys(MEASURES, SMALL)
        | {"intervals": dict.fromkeys(MEASURES, (SMALL, SMALL))}
    )


def unfamiliar() -> Table:
    numbers = dict.fromkeys(("refused", "auroc", "auroc_ensemble", "fpr95", "fpr95_ensemble"), SMALL)
    return _unfamiliar_table(
        {"unfamiliar": [{"name": NAME, "n": 1_000_000, "unreadable": 1_000_000} | numbers]}
    )


def elsewhere() -> Table:
    numbers = dict.fromkeys(("accuracy", "coverage", "right_when_answered"), SMALL)
    return _elsewhere_table({"elsewhere": [{"name": NAME, "n": 1_000_000} | numbers]})


@pytest.mark.parametrize(
    ("made", "heads"),
    [
        (familiar, ["value", "95%interval"]),
        (unfamiliar, ["images", "refused", "AUROC(ensemble)", "FPR95(ensemble)", "unreadable"]),
        (elsewhere, ["digits", "accuracy", "answered", "rightwhenanswered"]),
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
    measured = {"accuracy": 0.9, "nll": 0.1, "coverage": 0.9, "errors_among_answered": 3, "infeasible": None}
    record = {
        "config": {"beta": 0.05, "seed": 0},
        "data": {"trained_on": 55_000, "calibrated_on": 5_000},
        "training": {"components_done": 6, "interrupted": False},
        "calibration": measured | {"digits": 5_000, "refused_as_unfamiliar": 0.004},
    }
    checkpoint = make_checkpoint(record=record)
    for show in (_print_short, lambda one: print_summary(one, Path("out.safetensors"))):
        show(checkpoint)
        printed = capsys.readouterr().out
        assert "…" not in printed
        assert [column[:5] for column in columns(printed)] == ["what" + columns(printed)[0][4], "value"]
