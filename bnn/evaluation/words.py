"""Findings for people to read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnn.core.task import DIGITS, worded
from bnn.numerals import percent

HARDEST = 10  # kinds of a set that are named


def summary(numbers: Mapping[str, Any]) -> str:
    """The `numbers` of a report in a few sentences."""
    return " ".join(_sentences(numbers))


def noun(numbers: Mapping[str, Any]) -> str:
    """What the images are called of which these are the `numbers`: "digit", or "image" of other classes."""
    return worded(numbers.get("classes", DIGITS.names), "digit")


def by_kind(numbers: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each set with several kinds of images: the `HARDEST` ones."""
    for row in numbers["out_of_distribution"]:
        if row["kinds"]:
            kinds = (f"{one['kind']} {percent(one['refused'])}" for one in row["kinds"][:HARDEST])
            yield f"Refused least of {row['name']}: {', '.join(kinds)}."
    for row in numbers["shifted"]:
        if row["kinds"]:
            kinds = (f"{one['kind']} {percent(_right(one))}" for one in row["kinds"][:HARDEST])
            yield f"Answered rightly least of {row['name']}: {', '.join(kinds)}."


def _right(row: Mapping[str, Any]) -> float:
    """The share of all digits that were answered rightly."""
    return float((row["answered"] - row["errors"]) / row["n"])


def _sentences(numbers: Mapping[str, Any]) -> Iterator[str]:
    digits, thing = numbers["in_distribution"], noun(numbers)
    yield (
        f"Of {digits['n']:,} {thing}s ({digits['name']}) it answered {_answers(digits)}; made to answer "
        f"every {thing}, it would be wrong on {percent(1 - digits['accuracy'])}."
    )
    if numbers["out_of_distribution"]:
        shares = [
            f"{percent(row['refused'])} of {row['n']:,} ({row['name']})"
            for row in numbers["out_of_distribution"]
        ]
        others = (
            "images that need not be digits" if thing == "digit" else "images that need not be of a class"
        )
        yield f"Of {others} it refused {', '.join(shares)}."
    for row in numbers["shifted"]:
        yield f"Of {row['n']:,} {thing}s from another source ({row['name']}) it answered {_answers(row)}."
    if numbers["robustness"]:
        yield _robustness_sentence(numbers["robustness"], thing)
    settings = numbers["settings"]
    if "draws_used" in settings:
        yield (
            f"An image had {settings['draws_used']:.1f} of {settings['draws']} draws on average: decisions "
            "are those of all but for rare exceptions, and all else rests on the draws that it had."
        )
    if numbers["resplits"] is not None:
        yield _resplits_sentence(numbers["resplits"], thing)


def _answers(row: Mapping[str, Any]) -> str:
    """The share answered and the errors among it, e.g. "95 %, and 3 of those 9,500 answers were wrong"."""
    if not row["answered"]:
        return "none"
    return (
        f"{percent(row['coverage'])}, and {row['errors']:,} of those {row['answered']:,} answers were wrong "
        f"({percent(row['selective_risk'])})"
    )


def _robustness_sentence(rows: Sequence[Mapping[str, Any]], thing: str) -> str:
    n, answered, errors = (sum(row[name] for row in rows) for name in ("n", "answered", "errors"))
    pooled = {
        "coverage": answered / n,
        "answered": answered,
        "errors": errors,
        "selective_risk": errors / max(answered, 1),
    }
    ways = len({row["corruption"] for row in rows})
    strengths = len({row["strength"] for row in rows})
    corrupted = f"{rows[0]['n']:,} {thing}s corrupted in {ways} ways at {strengths} strengths"
    return f"Of {corrupted} it answered {_answers(pooled)}."


def _resplits_sentence(row: Mapping[str, Any], thing: str) -> str:
    if row["infeasible"] == row["splits"]:
        few = f"{row['fitted_on']:,} of these {thing}s"
        return f"Its promises could not be checked: {few} cannot show as much."
    sentence = (
        f"Fitted anew on {row['fitted_on']:,} of these {thing}s, {row['splits']:,} times over, the rule was "
        f"wrong on more than {percent(row['risk'])} of its answers to the other {thing}s in "
        f"{percent(row['risk_exceeded'])} of the re-splits ({percent(row['risk_of_all_exceeded'])} when all "
        f"{thing}s count; its promise leaves {percent(row['delta'])}), and found "
        f"{percent(row['mean_unfamiliar'])} of them unfamiliar on average (its promise: at most "
        f"{percent(row['alpha'])})."
    )
    if row["infeasible"]:
        sentence += f" {row['infeasible']:,} re-splits could not be fitted."
    return sentence
