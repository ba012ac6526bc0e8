"""A report in short, on the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from bnn.evaluation.results import Report
from bnn.evaluation.words import percent, shown, shown_interval, summary

MEASURES = ("accuracy", "nll", "ece", "brier", "aurc", "aurc_ensemble")


def print_short(report: Report, out: Path) -> None:
    """Prints the numbers of `report`, which was written to the folder `out`."""
    numbers, console = report.numbers, Console()
    console.print(Text(summary(numbers)))
    console.print(_familiar_table(numbers["familiar"]))
    if numbers["unfamiliar"]:
        console.print(_unfamiliar_table(numbers))
    if numbers["elsewhere"]:
        console.print(_elsewhere_table(numbers))
    if report.unreadable:
        console.print(f"{len(report.unreadable)} files could not be read; the report lists them.")
    console.print(Text(f"The report is in {out / 'report.html'}."), soft_wrap=True)


def _familiar_table(digits: Mapping[str, Any]) -> Table:
    table = Table(Column(Text(digits["name"])), "value", "95 % interval")
    for name in MEASURES:
        label = name.replace("_ensemble", ", ensemble alone")
        table.add_row(label, shown(digits[name]), shown_interval(digits["intervals"][name]).strip("()"))
    return table


def _unfamiliar_table(numbers: Mapping[str, Any]) -> Table:
    """One row a set; the ensemble's numbers are in brackets."""
    table = Table("unfamiliar set", "images", "refused", "AUROC (ensemble)", "FPR95 (ensemble)", "unreadable")
    for row in numbers["unfamiliar"]:
        auroc, fpr95 = (
            f"{shown(row[name])} ({shown(row[f'{name}_ensemble'])})" for name in ("auroc", "fpr95")
        )
        refused = percent(row["refused"])
        table.add_row(Text(row["name"]), str(row["n"]), refused, auroc, fpr95, str(row["unreadable"]))
    return table


def _elsewhere_table(numbers: Mapping[str, Any]) -> Table:
    table = Table("digits from elsewhere", "digits", "accuracy", "answered", "right when answered")
    for row in numbers["elsewhere"]:
        cells = (percent(row[name]) for name in ("accuracy", "coverage", "right_when_answered"))
        table.add_row(Text(row["name"]), str(row["n"]), *cells)
    return table
