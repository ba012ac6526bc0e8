"""The page under fifty visitors, then among hostile clients: right answers, a quick /health, bounded memory.

    python tests/faults/visitors.py --seconds 300
    python tests/faults/visitors.py --visitors 5 --seconds 20 --slowest 20     where others share the cores

First all draw, each about once a second, for so many seconds; then a few go on for as long, while hostile
clients send what no browser sends (`benchmarks/bench_load.py` has the kinds), hold half-open requests,
dribble others byte by byte, leave answers unread, and join the queue without ever fetching the answer. Every
answer to a visitor must equal that of the same drawing alone, and no two drawings have the same. A process of
its own asks for /health all the time.

Exit status 1: an answer was wrong, /health took longer than --slowest, or the server's memory grew by more
than 50 MB after the first minute of visitors (a fifth of the time, if that is less), or beyond --memory among
hostile clients. The last line is a summary as JSON.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import multiprocessing
import secrets
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import torch

from bnn.classifier import Classifier

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from bench_load import (
    DRAWINGS,
    MOST_GROWTH,
    THINKING,
    Attacks,
    Page,
    Server,
    alone,
    drawings,
    opened,
    running,
)

HONEST = 5  # visitors among the hostile
ATTACKS = 4  # at once
HALF_OPEN, EVERY, HELD = 60, 1.0, 10.0  # so many, so often, each held for so many seconds
DRIBBLES = 20
UNFETCHED = 0.5  # seconds between two answers that nobody fetches
FROM = "127.0.0.2"  # where connections that ask nothing whole come from
SETTLING = 60.0  # seconds, or a fifth of the time, after which memory may grow no more
PAUSE = 0.1  # seconds between two requests for /health
HEAD = b"POST /gradio_api/queue/join HTTP/1.1\r\nhost: localhost\r\n"
HALVES = (b"", b"GET / HT", HEAD, HEAD + b"content-length: 100000\r\n\r\nx")
UNREAD = b"GET /config HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20

Answered = tuple[str, list[str]]  # a drawing, and its panels


class Watched(NamedTuple):
    """What was seen of a server from outside, each with when: seconds that /health took, and MB of memory."""

    health: list[tuple[float, float]]
    memory: list[tuple[float, int]]


@contextmanager
def watching(server: Server) -> Iterator[Watched]:
    """Watches a server from another process while the context lasts; what was seen is there afterwards."""
    fork = multiprocessing.get_context("fork")
    ended, seen, told = fork.Event(), Watched([], []), fork.SimpleQueue()
    watcher = fork.Process(target=lambda: told.put(_watch(server, ended)), daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        found: Watched = told.get()
        seen.health.extend(found.health)
        seen.memory.extend(found.memory)
        watcher.join()


def _watch(server: Server, ended: Any) -> Watched:
    seen = Watched([], [])
    host = httpx.URL(server.url).netloc.decode()
    while not ended.wait(PAUSE):
        began = time.monotonic()
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(host, timeout=600)
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                seen.health.append((began, time.monotonic() - began))
                seen.memory.append((began, server.megabytes()))
                connection.close()
                continue
        seen.health.append((began, float("inf")))
    return seen


async def visit(page: Page, answers: Sequence[Answered], told: Counter[str]) -> None:
    """One visitor, who draws until cancelled, and counts what became of it."""
    session = secrets.token_hex(8)
    await asyncio.sleep(THINKING * secrets.randbelow(1000) / 1000)
    for drawn, expected in itertools.cycle(answers):
        try:
            found = await page.judge(drawn, session)
        except httpx.HTTPError as error:
            found = repr(error)
        told[_outcome(found, expected)] += 1
        await asyncio.sleep(THINKING)


def _outcome(found: Any, expected: list[str]) -> str:
    if found == expected:
        return "right"
    if isinstance(found, str):
        return "refused" if found.startswith(("503", "429")) else f"failed: {found[:200]}"
    return "wrong: another answer than alone"


class Crowd:
    """Hostile clients of a page, each of which goes on until cancelled."""

    def __init__(self, server: Server, page: Page, seed: int) -> None:
        self._page, self._rng = page, np.random.default_rng(seed)
        self._url, self._port = server.url, httpx.URL(server.url).port
        self._attacks = Attacks(server.url, trap=9)
        self.told: Counter[str] = Counter()

    def clients(self) -> list[Coroutine[Any, Any, None]]:
        """All of them."""
        return [
            *(self._attack() for _ in range(ATTACKS)),
            self._half_open(),
            *(self._dribble() for _ in range(DRIBBLES)),
            self._never_fetch(),
            self._never_read(),
        ]

    async def _attack(self) -> None:
        kinds = list(self._attacks.kinds)
        while True:
            kind = str(self._rng.choice(kinds))
            try:
                answer = await self._attacks.kinds[kind](self._page, self._rng)
            except (httpx.HTTPError, OSError):
                answer = "broken off"
            is_fault = isinstance(answer, str) and answer.startswith("500")
            self.told[f"{kind}: {answer[:200]}" if is_fault else "requests that no browser sends"] += 1

    async def _half_open(self) -> None:
        while True:
            for half in itertools.islice(itertools.cycle(HALVES), HALF_OPEN):
                with suppress(OSError):
                    _, writer = await self._connected(half)
                    asyncio.get_running_loop().call_later(HELD, writer.close)
                    self.told["half-open requests"] += 1
            await asyncio.sleep(EVERY)

    async def _dribble(self) -> None:
        while True:
            with suppress(OSError):
                _, writer = await self._connected(HALVES[-1])
                self.told["requests byte by byte"] += 1
                while True:
                    await asyncio.sleep(EVERY)
                    writer.write(b"x")
                    await writer.drain()
            await asyncio.sleep(EVERY)

    async def _never_read(self) -> None:
        while True:
            with suppress(OSError):
                _, writer = await self._connected(UNREAD)
                asyncio.get_running_loop().call_later(HELD, writer.close)
                self.told["answers left unread"] += 1
            await asyncio.sleep(EVERY)

    async def _never_fetch(self) -> None:
        (drawn,) = drawings(1, self._rng)
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=600) as client:
            while True:
                body = self._page.body(json.dumps([drawn, None, None, None]), secrets.token_hex(8))
                with suppress(httpx.HTTPError):
                    await client.post("/gradio_api/queue/join", content=body)
                    self.told["answers that nobody fetches"] += 1
                await asyncio.sleep(UNFETCHED)

    async def _connected(self, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(FROM, 0))
        writer.write(sent)
        return reader, writer


async def _for(seconds: float, clients: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Has all of them go on for so long; one that fails fails here."""
    tasks = [asyncio.ensure_future(one) for one in clients]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def visitors_alone(
    server: Server, answers: Sequence[Answered], visitors: int, seconds: float
) -> Counter[str]:
    """What became of the drawings of so many visitors."""
    told: Counter[str] = Counter()
    async with opened(server.url) as page:
        await _for(seconds, [visit(page, answers[one::visitors], told) for one in range(visitors)])
    return told


async def among_hostile(
    server: Server, answers: Sequence[Answered], seconds: float, seed: int
) -> tuple[Counter[str], Counter[str]]:
    """What became of the drawings of a few visitors, and what hostile clients did meanwhile."""
    told: Counter[str] = Counter()
    async with opened(server.url) as page, opened(server.url) as theirs:
        crowd = Crowd(server, theirs, seed)
        honest = [visit(page, answers[one::HONEST], told) for one in range(HONEST)]
        await _for(seconds, [*honest, *crowd.clients()])
    return told, crowd.told


def growth(memory: Sequence[tuple[float, int]], seconds: float) -> int:
    """MB by which it was above what it was when the first minute, or a fifth of the time, was over."""
    settled = memory[0][0] + min(SETTLING, seconds / 5)
    later = [held for when, held in memory if when >= settled]
    return max(later) - later[0]


def judged(what: str, told: Counter[str], seen: Watched, slowest: float) -> tuple[dict[str, Any], list[str]]:
    """A part of the summary, and what went wrong."""
    took = np.array([seconds for _, seconds in seen.health])
    summary = {
        "drawings": told.total(),
        "right": told["right"],
        "refused": told["refused"],
        "health asked": len(took),
        "health median s": round(float(np.median(took)), 3),
        "health slowest s": round(float(took.max()), 3),
        "memory MB": [seen.memory[0][1], seen.memory[-1][1], max(held for _, held in seen.memory)],
    }
    wrong = [f"{what}: {count} × {one}" for one, count in told.items() if one not in ("right", "refused")]
    if not told["right"]:
        wrong.append(f"{what}: no drawing was answered")
    if took.max() > slowest:
        wrong.append(
            f"{what}: /health took {took.max():.2f} s; {(took > slowest).sum()} of {len(took)} were too long"
        )
    return summary, wrong


def parser() -> argparse.ArgumentParser:
    """The command line's."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--visitors", type=int, default=50, help="who draw at once (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=300, help="of each half (default: %(default)s)")
    made.add_argument("--short", action="store_const", const=20.0, dest="seconds", help="20 seconds each")
    made.add_argument(
        "--slowest", type=float, default=1.0, help="seconds that /health may take (default: %(default)s)"
    )
    made.add_argument(
        "--memory", type=int, default=2000, help="MB at most, among hostile clients (default: %(default)s)"
    )
    made.add_argument("--seed", type=int, default=0, help="of what is drawn and sent (default: %(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Visits and attacks, prints what came of it, and returns the exit status."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(1)
    classifier = Classifier.load()
    drawn = drawings(given.visitors * DRAWINGS, np.random.default_rng(given.seed))
    answers = [(one, alone(classifier, one)) for one in drawn]
    wrong = []
    if len({tuple(panels) for _, panels in answers}) < len(answers):
        wrong.append("two drawings have the same answer, so that a mix-up could go unseen")
    with running() as server:
        print(f"{given.visitors} visitors for {given.seconds:g} s.", file=sys.stderr)
        with watching(server) as seen:
            told = asyncio.run(visitors_alone(server, answers, given.visitors, given.seconds))
        first, found = judged("visitors", told, seen, given.slowest)
        grown = first["memory growth MB"] = growth(seen.memory, given.seconds)
        wrong += found + ([f"memory grew by {grown} MB"] if grown > MOST_GROWTH else [])
        print(f"Hostile clients for {given.seconds:g} s.", file=sys.stderr)
        with watching(server) as seen:
            told, sent = asyncio.run(among_hostile(server, answers, given.seconds, given.seed))
        second, found = judged("among hostile clients", told, seen, given.slowest)
        wrong += found + [f"hostile: {count} × {one}" for one, count in sent.items() if ": 500" in one]
        if (most := second["memory MB"][-1]) > given.memory:
            wrong.append(f"{most} MB among hostile clients")
    for one in wrong:
        print(f"WRONG: {one}", file=sys.stderr)
    print(json.dumps({"wrong": len(wrong), "visitors": first, "hostile": second | {"sent": dict(sent)}}))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
