"""The one exception that stands for a user's mistake."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

MOST_CAUSE = 200
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100

Choice = TypeVar("Choice")


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence: what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2.

    Example:
        >>> from bnn import Promise
        >>> Promise(risk=2)
        Traceback (most recent call last):
        bnn.errors.InputError: risk must lie between 0 and 1, and 2 does not.
    """


def shown(value: Any) -> str:
    """`value`, which anyone may have made, for a message: as `repr` has it, but never long."""
    return _SHORT.repr(value)


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
        raise InputError(f"there is no {what} {shown(name)}: choose one of {', '.join(table)}.")
    return table[name]
