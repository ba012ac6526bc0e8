"""Docstrings as they are written here, for Griffe, which reads them for the API reference."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_TOGETHER = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE
)


class OurDocstrings(Extension):
    """Shows `Example:` as code, and what is said of `draws, seed` together of each."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of `obj` before it is parsed (a hook of Griffe)."""
        if obj.docstring is not None:
            text = _EXAMPLE.sub("Examples:", obj.docstring.value)
            obj.docstring.value = _TOGETHER.sub(_each, text)


def _each(found: re.Match[str]) -> str:
    return "\n".join(f"{found['indent']}{name}: {found['text']}" for name in found["names"].split(", "))
