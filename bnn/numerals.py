"""Numbers for people to read."""

from collections.abc import Sequence


def shown(number: float | None) -> str:
    """A number: four digits, or a dash where there is none."""
    return "–" if number is None else f"{number:.4g}"


def shown_interval(interval: Sequence[float] | None) -> str:
    """An interval, such as (0.012 to 0.034); nothing where there is none."""
    return "" if interval is None else f"({interval[0]:.4g} to {interval[1]:.4g})"


def percent(share: float | None, digits: str = ".4g") -> str:
    """A share, such as 97.15 %, of so many `digits` (a format specification); a dash where there is none."""
    return "–" if share is None else f"{100 * share:{digits}}\N{NO-BREAK SPACE}%"


def percent_interval(interval: Sequence[float] | None, digits: str = ".4g") -> str:
    """An interval of shares, such as (96.8 to 97.4 %); nothing where there is none."""
    return "" if interval is None else f"({100 * interval[0]:{digits}} to {percent(interval[1], digits)})"
