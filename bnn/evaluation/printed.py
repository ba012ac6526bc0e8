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
    console.print(_in_distribution_table(numbers["in_distribution"]))
    if numbers["out_of_distribution"]:
        console.print(_ood_table(numbers))
    if numbers["shifted"]:
        console.print(_shifted_table(numbers))
    if report.unreadable:
        console.print(f"{len(report.unreadable)} files could not be read; the report lists them.")
    console.print(Text(f"The report is in {out / 'report.html'}."), soft_wrap=True)


def _in_distribution_table(digits: Mapping[str, Any]) -> Table:
    table = Table(Column(Text(digits["name"])), "value", "95 % interval")
    for name in MEASURES:
        label = name.replace("_ensemble", ", ensemble alone")
        table.add_row(label, shown(digits[name]), shown_interval(digits["intervals"][name]).strip("()"))
    return table


def _ood_table(numbers: Mapping[str, Any]) -> Table:
    """One row a set; the ensemble's numbers are in brackets."""
    table = Table(
        "out-of-distribution set", "images", "refused", "AUROC (ensemble)", "FPR95 (ensemble)", "unreadable"
    )
    for row in numbers["out_of_distribution"]:
        auroc, fpr95 = (
            f"{shown(row[name])} ({shown(row[f'{name}_ensemble'])})" for name in ("auroc", "fpr95")
        )
        refused = percent(row["refused"])
        table.add_row(Text(row["name"]), str(row["n"]), refused, auroc, fpr95, str(row["unreadable"]))
    return table


def _shifted_table(numbers: Mapping[str, Any]) -> Table:
    table = Table("shifted set", "digits", "accuracy", "answered", "right when answered")
    for row in numbers["shifted"]:
        cells = (percent(row[name]) for name in ("accuracy", "coverage", "right_when_answered"))
        table.add_row(Text(row["name"]), str(row["n"]), *cells)
    return table
