"""What the page costs: to start, beside importing Gradio alone, and a drawing that is sent over HTTP."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from bench_load import Server, drawings, opened, running

ROUNDS = {"full": 5, "short": 5, "tiny": 1}
DRAWINGS = {"full": 200, "short": 60, "tiny": 2}  # one after another


class Round(NamedTuple):
    """What was measured once: CPU seconds, and seconds by the clock."""

    alone_cpu: float
    alone_clock: float
    ready_cpu: float
    ready_clock: float
    drawing_cpu: float


def measure(form: str) -> dict[str, Any]:
    """The medians of rounds in which both take turns; "drawing_cpu" is the server's.

    Python keeps what it compiles, as it does by itself, and a round before them does not count: else the
    times would be those of compiling whatever was not compiled yet.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _, *rounds = [_round(DRAWINGS[form]) for _ in range(1 + ROUNDS[form])]
    return dict(zip(Round._fields, map(median, zip(*rounds, strict=True)), strict=True))


def part(run: dict[str, Any]) -> str:
    """What is said of it on the page."""
    cpu, clock = (run[f"ready_{kind}"] / run[f"alone_{kind}"] for kind in ("cpu", "clock"))
    return "\n".join(
        [
            f"## The page\n\nForm: {run['form']}; medians of runs in alternation, after one that does not "
            "count.\n",
            "| start | CPU s | s by the clock |",
            "|---|---|---|",
            f"| `import gradio` alone | {run['alone_cpu']:.2f} | {run['alone_clock']:.2f} |",
            f"| `bnn serve`, until the page is there | {run['ready_cpu']:.2f} | {run['ready_clock']:.2f} |",
            f"| times as long | {cpu:.2f} | {clock:.2f} |",
            "\nA drawing that is sent over HTTP, and judged by all draws, takes "
            f"{1000 * run['drawing_cpu']:.0f} ms of the server's CPU time.",
        ]
    )


def _round(count: int) -> Round:
    before, began = _of_children(), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    alone_cpu, alone_clock = _of_children() - before, time.perf_counter() - began
    began = time.perf_counter()
    with running() as server:
        ready_cpu, ready_clock = server.cpu_seconds(), time.perf_counter() - began
        drawing_cpu = asyncio.run(_of_a_drawing(server, count))
    return Round(alone_cpu, alone_clock, ready_cpu, ready_clock, drawing_cpu)


async def _of_a_drawing(server: Server, count: int) -> float:
    """Of so many different ones, one after another, after a first that does not count."""
    first, *others = drawings(1 + count, np.random.default_rng(0))
    async with opened(server.url) as page:
        await page.judge(first, secrets.token_hex(8))
        before = server.cpu_seconds()
        for drawn in others:
            panels = await page.judge(drawn, secrets.token_hex(8))
            if isinstance(panels, str):
                raise RuntimeError(panels)
        return (server.cpu_seconds() - before) / count


def _of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system
