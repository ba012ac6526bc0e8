"""What every example has in common: its options, its table, its plot."""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Options:
    """How an example is run.

    Attributes:
        tiny: only as much as shows that it works, for tests.
        seed: of everything random.
        out: folder of the plots.
    """

    tiny: bool = False
    seed: int = 0
    out: Path = Path("examples/out")


@dataclass(frozen=True)
class Estimate:
    """What one method says of one number.

    Attributes:
        method: how it was found.
        mean, sd: of the posterior.
        mean_error, sd_error: their Monte Carlo standard errors; 0 for a number that is exact.
    """

    method: str
    mean: float
    sd: float
    mean_error: float = 0.0
    sd_error: float = 0.0


def options(description: str) -> Options:
    """The command line's options. Torch is told to use one thread: for what is so small more cost time."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="a short run that shows it works")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("examples/out"), help="folder of the plots (default: %(default)s)"
    )
    return Options(**vars(parser.parse_args()))


def show(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints a table."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(str, row))
    _console().print(table)


def show_estimates(title: str, estimates: Iterable[Estimate]) -> None:
    """Prints a table of estimates of the same number."""
    show(
        title,
        ("method", "mean", "± Monte Carlo", "sd", "± Monte Carlo"),
        (
            (one.method, f"{one.mean:.4f}", _error(one.mean_error), f"{one.sd:.4f}", _error(one.sd_error))
            for one in estimates
        ),
    )


def save(figure: Figure, out: Path, name: str) -> None:
    """Writes the plot `name` to the folder `out` and says where."""
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", dpi=120)
    _console().print(f"The plot is in {out / name}.png.")


def _error(error: float) -> str:
    return f"{error:.4f}" if error else "exact"


def _console() -> Console:
    """The terminal, or a file wide enough for every table."""
    return Console(width=None if sys.stdout.isatty() else 120)
