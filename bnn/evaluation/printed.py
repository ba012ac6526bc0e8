"""A report in short, on the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnn.evaluation.numbers import METRICS
from bnn.evaluation.results import Report
from bnn.evaluation.words import by_kind, noun, summary
from bnn.numerals import percent, shown, shown_interval
from bnn.tables import table


def print_short(report: Report, out: Path) -> None:
    """Prints the numbers of `report`, which was written to the folder `out`."""
    numbers, console = report.numbers, Console()
    console.print(Text(summary(numbers)))
    console.print(_in_distribution_table(numbers["in_distribution"]))
    if numbers["out_of_distribution"]:
        console.print(_ood_table(numbers))
    if numbers["shifted"]:
        console.print(_shifted_table(numbers))
    for sentence in by_kind(numbers):
        console.print(Text(sentence))
    if report.unreadable:
        console.print(f"{len(report.unreadable)} files could not be read; the report lists them.")
    console.print(Text(f"The report is in {out / 'report.html'}."), soft_wrap=True)


def _in_distribution_table(digits: Mapping[str, Any]) -> Table:
    rows = table(digits["name"], "value", "95 % interval")
    for name in ("accuracy", *METRICS):
        label = name.replace("_ensemble", ", ensemble alone")
        rows.add_row(label, shown(digits[name]), shown_interval(digits["intervals"][name]).strip("()"))
    return rows


def _ood_table(numbers: Mapping[str, Any]) -> Table:
    """One row a set; the ensemble's numbers are in brackets."""
    heads = "images", "refused", "AUROC\n(ensemble)", "FPR95\n(ensemble)", "unreadable"
    rows = table("out-of-distribution set", *heads)
    for row in numbers["out_of_distribution"]:
        auroc, fpr95 = (
            f"{shown(row[name])}\n({shown(row[f'{name}_ensemble'])})" for name in ("auroc", "fpr95")
        )
        refused = percent(row["refused"])
        rows.add_row(Text(row["name"]), str(row["n"]), refused, auroc, fpr95, str(row["unreadable"]))
    return rows


def _shifted_table(numbers: Mapping[str, Any]) -> Table:
    rows = table("shifted set", f"{noun(numbers)}s", "accuracy", "answered", "right when\nanswered")
    for row in numbers["shifted"]:
        cells = (percent(row[name]) for name in ("accuracy", "coverage", "right_when_answered"))
        rows.add_row(Text(row["name"]), str(row["n"]), *cells)
    return rows
