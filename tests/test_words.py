"""The findings in sentences."""

from typing import Any

import pytest

from bnn.evaluation.words import HARDEST, by_kind, summary
from bnn.numerals import percent, percent_interval, shown, shown_interval

SPACE = "\N{NO-BREAK SPACE}"

DIGITS = {
    "name": "mnist",
    "n": 10_000,
    "accuracy": 0.9957,
    "coverage": 0.96,
    "answered": 9600,
    "errors": 3,
    "selective_risk": 3 / 9600,
}
RESPLITS = {
    "splits": 1000,
    "infeasible": 10,
    "fitted_on": 5000,
    "risk": 0.002,
    "delta": 0.05,
    "alpha": 0.005,
    "risk_exceeded": 0.031,
    "risk_of_all_exceeded": 0.012,
    "mean_unfamiliar": 0.0049,
}


def numbers(**replaced: Any) -> dict[str, Any]:
    """Those of a report on digits alone, with the given parts replaced."""
    rest: dict[str, Any] = {"out_of_distribution": [], "shifted": [], "robustness": [], "resplits": None}
    return {"in_distribution": DIGITS, "settings": {"draws": 50}} | rest | replaced


def said(**replaced: Any) -> str:
    """The summary of such numbers, with plain spaces."""
    return summary(numbers(**replaced)).replace(SPACE, " ")


def test_few_draws_are_told_and_what_rests_on_them() -> None:
    told = "An image had 7.1 of 50 draws on average: decisions are those of all but for rare exceptions, and"
    assert told in said(settings={"draws": 50, "draws_used": 7.12})
    assert "draws" not in said()


def test_a_share_just_below_all_is_not_told_as_all() -> None:
    assert percent(0.9999) == f"99.99{SPACE}%"
    assert percent(3 / 9600) == f"0.03125{SPACE}%"
    assert percent(0.97, ".2f") == f"97.00{SPACE}%"
    assert percent(None) == "–"


def test_intervals_are_told_or_left_out() -> None:
    assert percent_interval([0.25, 0.5]) == f"(25 to 50{SPACE}%)"
    assert percent_interval([0.25, 0.5], ".1f") == f"(25.0 to 50.0{SPACE}%)"
    assert shown_interval([0.012346, 2.0]) == "(0.01235 to 2)"
    assert percent_interval(None) == shown_interval(None) == ""
    assert shown(None) == "–"


def test_digits_are_told_with_their_errors_counted() -> None:
    assert said() == (
        "Of 10,000 digits (mnist) it answered 96 %, and 3 of those 9,600 answers were wrong (0.03125 %); "
        "made to answer every digit, it would be wrong on 0.43 %."
    )
    none = DIGITS | {"answered": 0, "coverage": 0.0, "errors": 0, "selective_risk": None}
    assert "it answered none; made to" in said(in_distribution=none)


def test_the_hardest_kinds_are_named_in_their_order() -> None:
    letters = [{"kind": chr(65 + i), "refused": i / 20} for i in range(HARDEST + 1)]
    ways = [
        {"kind": "7 barred", "n": 8, "answered": 5, "errors": 1},
        {"kind": "0", "n": 8, "answered": 8, "errors": 0},
    ]
    told = by_kind(
        numbers(
            out_of_distribution=[{"name": "noise", "kinds": []}, {"name": "capitals", "kinds": letters}],
            shifted=[{"name": "drawn", "kinds": ways}],
        )
    )
    first, second = (sentence.replace(SPACE, " ") for sentence in told)
    assert first.startswith("Refused least of capitals: A 0 %, B 5 %, C 10 %")
    assert first.endswith("J 45 %.")
    assert second == "Answered rightly least of drawn: 7 barred 50 %, 0 100 %."


def test_corrupted_digits_are_told_together() -> None:
    rows = [
        {"corruption": name, "strength": strength, "n": 50, "answered": 10, "errors": 1}
        for name in ("blur", "shift")
        for strength in (1, 2, 3)
    ]
    assert said(robustness=rows).endswith(
        "Of 50 digits corrupted in 2 ways at 3 strengths it answered 20 %, "
        "and 6 of those 60 answers were wrong (10 %)."
    )


def test_promises_are_told_beside_what_was_measured() -> None:
    told = said(resplits=RESPLITS)
    assert "wrong on more than 0.2 % of its answers to the other digits in 3.1 % of the re-splits" in told
    assert "its promise leaves 5 %" in told
    assert "found 0.49 % of them unfamiliar on average (its promise: at most 0.5 %)" in told
    assert told.endswith("10 re-splits could not be fitted.")


@pytest.mark.parametrize("missing", ["risk_exceeded", "mean_unfamiliar"])
def test_promises_that_could_not_be_checked_are_told(missing: str) -> None:
    told = said(resplits=RESPLITS | {"infeasible": 1000, missing: None})
    assert "could not be checked" in told
    assert "–" not in told
