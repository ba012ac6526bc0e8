"""Findings for people to read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnn.numerals import percent

HARDEST = 10  # kinds of a set that are named


def summary(numbers: Mapping[str, Any]) -> str:
    """The `numbers` of a report in a few sentences."""
    return " ".join(_sentences(numbers))


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
    digits = numbers["in_distribution"]
    yield (
        f"Of {digits['n']:,} digits ({digits['name']}) it answered {_answers(digits)}; made to answer every "
        f"digit, it would be wrong on {percent(1 - digits['accuracy'])}."
    )
    if numbers["out_of_distribution"]:
        shares = [
            f"{percent(row['refused'])} of {row['n']:,} ({row['name']})"
            for row in numbers["out_of_distribution"]
        ]
        yield f"Of images that need not be digits it refused {', '.join(shares)}."
    for row in numbers["shifted"]:
        yield f"Of {row['n']:,} digits from another source ({row['name']}) it answered {_answers(row)}."
    if numbers["robustness"]:
        yield _robustness_sentence(numbers["robustness"])
    if numbers["resplits"] is not None:
        yield _resplits_sentence(numbers["resplits"])


def _answers(row: Mapping[str, Any]) -> str:
    """The share answered and the errors among it, e.g. "95 %, and 3 of those 9,500 answers were wrong"."""
    if not row["answered"]:
        return "none"
    return (
        f"{percent(row['coverage'])}, and {row['errors']:,} of those {row['answered']:,} answers were wrong "
        f"({percent(row['selective_risk'])})"
    )


def _robustness_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    n, answered, errors = (sum(row[name] for row in rows) for name in ("n", "answered", "errors"))
    pooled = {
        "coverage": answered / n,
        "answered": answered,
        "errors": errors,
        "selective_risk": errors / max(answered, 1),
    }
    ways = len({row["corruption"] for row in rows})
    strengths = len({row["strength"] for row in rows})
    corrupted = f"{rows[0]['n']:,} digits corrupted in {ways} ways at {strengths} strengths"
    return f"Of {corrupted} it answered {_answers(pooled)}."


def _resplits_sentence(row: Mapping[str, Any]) -> str:
    if row["infeasible"] == row["splits"]:
        return f"Its promises could not be checked: {row['fitted_on']:,} of these digits cannot show as much."
    sentence = (
        f"Fitted anew on {row['fitted_on']:,} of these digits, {row['splits']:,} times over, the rule was "
        f"wrong on more than {percent(row['risk'])} of its answers to the other digits in "
        f"{percent(row['risk_exceeded'])} of the re-splits ({percent(row['risk_of_all_exceeded'])} when all "
        f"digits count; its promise leaves {percent(row['delta'])}), and found "
        f"{percent(row['mean_unfamiliar'])} of them unfamiliar on average (its promise: at most "
        f"{percent(row['alpha'])})."
    )
    if row["infeasible"]:
        sentence += f" {row['infeasible']:,} re-splits could not be fitted."
    return sentence
