"""How far long work is: lines in files and pipes, a bar on a terminal, and time in words."""

import re
from collections.abc import Callable

import pytest

from bnn.progress import EVERY, Lines, duration, progress_bar, tracked


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass."""
    now = [1000.0]
    monkeypatch.setattr("bnn.progress.time.monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_line_comes_beforehand_and_then_now_and_then_with_what_is_left(
    pass_time: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(1000, first=1)
    for _ in range(100):
        pass_time(0.5)
        lines.advance(5, "judging")
    for _ in range(50):  # and now it is four times slower
        pass_time(2)
        lines.advance(5, "judging more")
    told = shown(capsys)
    assert told[0] == "bnn: judging: 1\N{NO-BREAK SPACE}% done, about 2 minutes left."
    assert told[-1].startswith("bnn: judging more: ")
    assert len(told) == 1 + (100 * 0.5 + 50 * 2 - 1) // EVERY
    shares, lefts = zip(*(re.findall(r"\d+", line) for line in told), strict=True)
    assert list(map(int, shares)) == sorted(map(int, shares))
    assert 70 <= int(shares[-1]) <= 75
    assert max(map(int, lefts)) < 100


def test_what_is_soon_done_prints_nothing(
    pass_time: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(9, first=1)
    for _ in range(9):
        pass_time(1)
        lines.advance(1, "judging")
    assert shown(capsys) == []


def test_items_come_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert list(progress_bar("reading")([1, 2])) == [1, 2]
    assert shown(capsys) == []


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert list(tracked("abc", "reading letters", 3)) == ["a", "b", "c"]
    assert "reading letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "10 seconds"),
        (44, "40 seconds"),
        (89, "90 seconds"),
        (90, "2 minutes"),
        (3000, "50 minutes"),
        (5400, "2 hours"),
        (20_000, "6 hours"),
    ],
)
def test_durations_are_rough_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
