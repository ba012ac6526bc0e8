"""The one exception that stands for a user's mistake."""

import re
from collections.abc import Mapping
from typing import TypeVar

MOST_CAUSE = 200

Choice = TypeVar("Choice")


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2.
    """


def cause_in(error: Exception) -> str:
    """The first sentence of another library's `error`, at most `MOST_CAUSE` characters, to end ours."""
    said = " ".join(str(error).split())
    return re.split(r"[.!?](?=\s|$)", said, maxsplit=1)[0][:MOST_CAUSE] or type(error).__name__


def choose(table: Mapping[str, Choice], name: str, what: str) -> Choice:
    """The entry of `table` called `name`, where `what` says what the table holds.

    Raises:
        InputError: there is no such entry.
    """
    if name not in table:
        raise InputError(f"there is no {what} {name!r}: choose one of {', '.join(table)}.")
    return table[name]
