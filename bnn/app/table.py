"""The table of decisions, which sorts by each column and on a narrow screen shows the first three."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import gradio as gr

HEADERS = ("File", "Answer", "Reason", "Probability", "Uncertainty (nats)", "Unfamiliarity", "Candidates")
_CAPTION = (
    "Decisions <small>A column's head sorts by it."
    '<span class="narrow"> The downloads and a wider screen show more.</span></small>'
)
_HERE = Path(__file__).parent

Cells = Sequence[str]  # a row's, as long as `HEADERS`


def table(elem_id: str) -> gr.HTML:
    """A place for what `table_html` makes."""
    script = (_HERE / "table.js").read_text(encoding="utf-8")
    return gr.HTML(elem_id=elem_id, js_on_load=script)


def table_html(rows: Iterable[Cells]) -> str:
    """A table of `rows`, a row's first cell being its head; nothing where there are none."""
    body = "".join(map(_row, rows))
    if not body:
        return ""
    heads = "".join(map(_head, HEADERS))
    return (
        '<div class="scrolling" role="region" aria-label="Decisions" tabindex="0">'
        f"<table><caption>{_CAPTION}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(name: str) -> str:
    return f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>'


def _row(cells: Cells) -> str:
    name, *others = map(escape, cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
