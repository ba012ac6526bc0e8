"""Docstrings as they are written here, for Griffe, which reads them for the API reference."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_TOGETHER = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE
)


class OurDocstrings(Extension):
    """Shows `Example:` as code, and what is told of `draws, seed` together of each."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of `obj` before it is parsed (a hook of Griffe)."""
        if obj.docstring is not None:
            told = _EXAMPLE.sub("Examples:", obj.docstring.value)
            obj.docstring.value = _TOGETHER.sub(_each, told)


def _each(told: re.Match[str]) -> str:
    return "\n".join(f"{told['indent']}{name}: {told['text']}" for name in told["names"].split(", "))
