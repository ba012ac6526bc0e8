"""Formulae as MathML, which browsers show by themselves, so that no page needs a script for them."""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """`html` with the formulae that `pymdownx.arithmatex` marked as MathML (a hook of MkDocs)."""
    return _FORMULA.sub(_as_mathml, html)


def _as_mathml(formula: re.Match[str]) -> str:
    return convert(unescape(formula[2]), display="block" if formula[1] == "div" else "inline")
