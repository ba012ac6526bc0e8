"""The page under load, and under attack: starts `bnn serve` and calls it as browsers do.

    python benchmarks/bench_load.py load [--visitors 50 --seconds 60]
    python benchmarks/bench_load.py hostile [--requests 1000]

`load`: visitors draw at once, each about once a second. Every answer must equal that of the same drawing
alone. `hostile`: requests that no browser sends, mixed from a seed. Each must get an answer that says what
is wrong (a connection that breaks instead is wrong too, also under a request that is refused while it is
sent), nothing may be written outside the server's temporary folder, no other host may be asked, and
afterwards the server must answer a drawing rightly. The exit status is 1 where that is not so.
"""

import argparse
import asyncio
import base64
import io
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch
from PIL import Image

from bnn.app.draw import look
from bnn.app.examples import DIGITS, DOODLES
from bnn.app.pad import drawing
from bnn.classifier import Classifier
from bnn.core.checkpoint import shipped
from bnn.data.pen import Strokes, render
from bnn.data.pictures import png_url

SERVE = Path(__file__).parent.parent / "serve.py"
DRAWINGS = 4  # of each visitor
WOBBLE = 0.015  # how far a drawing's points move, as a share of the pad's side
THINKING = 1.0  # seconds between an answer and the next stroke
PATIENCE = 300.0  # seconds until a request without an answer counts as an error
KEPT = 1.0  # seconds that a connection waits for its next request: the server closes it after five
PARTS = 4  # of a load, between which memory is read
MOST_GROWTH = 50  # MB that the last part may add: torch's threads fill their arenas before
AT_ONCE = 8  # hostile requests
API = "/gradio_api"
PART = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'  # an upload's start
EMPTY = ("tmp/gradio", "tmp/gradio/vibe_edit_history")  # folders that Gradio makes as it is imported
KNOWN = ("work", "tmp", "checkpoint", "checkpoint/mnist.safetensors", *EMPTY)


@dataclass(frozen=True)
class Server:
    """A running `bnn serve`: its process, its address, and the folders it could write to."""

    process: subprocess.Popen[str]
    url: str
    folders: Path

    def megabytes(self) -> int:
        """Of memory that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss) // 2**20

    def cpu_seconds(self) -> float:
        """That it has had of the processor, its threads and the system's work for it included."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def strays(self) -> list[str]:
        """The files outside its temporary folder that were not there when it started."""
        found = (str(path.relative_to(self.folders)) for path in self.folders.rglob("*"))
        return [path for path in found if path not in KNOWN and not path.startswith("tmp/bnn-page-")]


@contextmanager
def running() -> Iterator[Server]:
    """`bnn serve` on a free port, in folders of its own; afterwards it is gone."""
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name)
        for folder in ("work", "tmp", "checkpoint"):
            (folders / folder).mkdir()
        checkpoint = shutil.copy(shipped(), folders / "checkpoint" / "mnist.safetensors")
        command = [sys.executable, str(SERVE), "--port", str(free_port()), "--checkpoint", str(checkpoint)]
        environment = os.environ | {"TMPDIR": str(folders / "tmp")}
        with subprocess.Popen(
            command, cwd=folders / "work", env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                told = process.stdout.readline().split()
                if not told:
                    sys.exit("the server did not start")
                yield Server(process, told[4].rstrip("/"), folders)
            finally:
                process.kill()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Page:
    """The page as a browser has it: what to send for a drawing, and how to read the answer."""

    def __init__(self, client: httpx.AsyncClient, config: dict[str, Any]) -> None:
        self._client = client
        components = {component["id"]: component["props"] for component in config["components"]}
        (pad,) = (key for key, props in components.items() if props.get("elem_id") == "pad")
        self.events = {event["api_name"]: event["id"] for event in config["dependencies"]}
        (event,) = (event for event in config["dependencies"] if [pad, "input"] in event["targets"])
        self.drawn: int = event["id"]
        self._choices = [components[key].get("value") for key in event["inputs"][1:]]

    async def judge(self, drawn: str, session: str) -> Any:
        """The panels for a drawing, or what went wrong, in words."""
        return await self.call(self.drawn, [drawn, *self._choices], session)

    async def call(self, event: Any, data: Any, session: str) -> Any:
        """What an event answers, or what went wrong, in words."""
        body = {"data": data, "fn_index": event, "session_hash": session, "event_data": None}
        return await self.join(json.dumps(body), session)

    async def join(self, body: str | bytes, session: str) -> Any:
        """As `call`, of a body that is ready."""
        path, headers = f"{API}/queue/join", {"content-type": "application/json"}
        joined = await self._client.post(path, content=body, headers=headers)
        if joined.status_code != httpx.codes.OK:
            return f"{joined.status_code} {joined.text}"
        path, mine = f"{API}/queue/data", joined.json()["event_id"]
        async with self._client.stream("GET", path, params={"session_hash": session}) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed" and message["event_id"] == mine:
                    told = message["output"]
                    return told["data"] if message["success"] else told["error"] or "500 an unnamed error"
        return "500 no answer came"

    def body(self, data: str, session: str) -> str:
        """What `join` takes for a drawing, of `data` that need not be JSON."""
        return f'{{"data": {data}, "fn_index": {self.drawn}, "session_hash": "{session}"}}'

    async def upload(self, name: str, content: bytes) -> str | list[Any]:
        """The uploaded file as an event's value, or what went wrong, in words."""
        answer = await self._client.post(f"{API}/upload", files={"files": (name, content)})
        if answer.status_code != httpx.codes.OK:
            return f"{answer.status_code} {answer.text}"
        return [file_at(path) for path in answer.json()]

    async def judge_files(self, name: str, content: bytes) -> Any:
        """What `/classify_batch` says of an upload."""
        files = await self.upload(name, content)
        if isinstance(files, str):
            return files
        return await self.call(self.events["classify_batch"], [files], secrets.token_hex(8))

    async def fetch(self, method: str, path: str, **options: Any) -> str:
        """Status and words of the answer to a request."""
        answer = await self._client.request(method, path, **options)
        return f"{answer.status_code} {answer.text[:200]}"


def file_at(path: str) -> dict[str, Any]:
    """A file as programs name it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Page]:
    """The page at `url`."""
    limits = httpx.Limits(max_connections=None, keepalive_expiry=KEPT)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
        yield Page(client, (await client.get("/config")).json())


def drawings(count: int, rng: np.random.Generator) -> list[str]:
    """Wobbly drawings as the pad hands them over, no two alike."""
    kinds = itertools.islice(itertools.cycle([*DIGITS.values(), *DOODLES.values()]), count)
    return [png_url(render(wobbled(strokes, rng))) for strokes in kinds]


def wobbled(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """`strokes` with each point moved a little."""
    return [
        [
            (x + dx, y + dy)
            for (x, y), (dx, dy) in zip(stroke, rng.normal(0, WOBBLE, (len(stroke), 2)), strict=True)
        ]
        for stroke in strokes
    ]


def alone(classifier: Classifier, drawn: str) -> list[str]:
    """The panels of one drawing, computed here."""
    return list(look(classifier, drawing(drawn)))


async def visit(
    page: Page, answers: list[tuple[str, list[str]]], until: float, took: list[float], wrong: list[str]
) -> None:
    """One visitor, who draws until the time is over."""
    session = secrets.token_hex(8)
    await asyncio.sleep(THINKING * secrets.randbelow(1000) / 1000)
    for drawn, expected in itertools.cycle(answers):
        if time.perf_counter() > until:
            return
        start = time.perf_counter()
        try:
            told = await page.judge(drawn, session)
        except httpx.HTTPError as error:
            told = repr(error)
        took.append(time.perf_counter() - start)
        if told != expected:
            wrong.append(told if isinstance(told, str) else "another answer than alone")
        await asyncio.sleep(THINKING)


async def load(server: Server, classifier: Classifier, visitors: int, seconds: float) -> list[str]:
    """Draws with so many visitors at once and says how it went; returns what is wrong."""
    drawn = drawings(visitors * DRAWINGS, np.random.default_rng(0))
    answers = [(one, alone(classifier, one)) for one in drawn]
    took: list[float] = []
    wrong: list[str] = []
    if len({tuple(panels) for _, panels in answers}) < len(answers):
        wrong.append("two drawings have the same answer, so that a mix-up could go unseen")
    memory = [server.megabytes()]
    async with opened(server.url) as page:
        for _ in range(PARTS):
            until = time.perf_counter() + seconds / PARTS
            shares = (answers[i::visitors] for i in range(visitors))
            await asyncio.gather(*(visit(page, share, until, took, wrong) for share in shares))
            memory.append(server.megabytes())
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    print(f"{len(took):,} drawings by {visitors} visitors, {len(took) / seconds:.1f} a second")
    print(f"latency: p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s, mean {statistics.mean(took):.3f} s")
    print(f"memory: {memory[0]} MB before, then {', '.join(map(str, memory[1:]))} MB")
    if (growth := memory[-1] - memory[-2]) > MOST_GROWTH:
        wrong.append(f"memory grew by {growth} MB in the last part")
    return wrong


Attack = Callable[[Page, np.random.Generator], Awaitable[Any]]


class Attacks:
    """Hostile requests by kind. Each answers in words, or with what the server made of it."""

    def __init__(self, url: str, trap: int) -> None:
        self._address = ("127.0.0.1", httpx.URL(url).port)
        self._elsewhere = f"http://127.0.0.1:{trap}/secret.png"
        self._giant = png(20_000, 20_000)
        self._bomb = zipped({"bomb.png": bytes(100_000_000)})
        self._crowd = zipped({f"{i}.png": b"x" for i in range(1001)})
        self._tricks = zipped(
            dict.fromkeys(("../../evil.png", "/tmp/evil.png", "C:\\evil.png", "\0.png"), b"x")
        )
        self.kinds: dict[str, Attack] = {
            "values of wrong types": self.wrong_types,
            "NaN": self.nan,
            "drawings that are none": self.no_drawing,
            "giant images": lambda page, _: page.judge_files("giant.png", self._giant),
            "decompression bombs": lambda page, _: page.judge_files("bomb.zip", self._bomb),
            "cut-off zips": self.cut_off,
            "zips of a thousand entries": lambda page, _: page.judge_files("crowd.zip", self._crowd),
            "paths in zips": lambda page, _: page.judge_files("tricks.zip", self._tricks),
            "paths of uploads": self.upload_path,
            "paths of values": self.value_path,
            "URLs": self.url,
            "not JSON": self.not_json,
            "deep JSON": self.deep,
            "huge requests": self.huge,
            "unknown events": self.unknown_event,
            "closed doors": self.closed_door,
            "half a request": self.half,
            "half an upload": self.half_upload,
        }

    async def wrong_types(self, page: Page, rng: np.random.Generator) -> Any:
        values: tuple[Any, ...] = (
            None,
            7,
            -1e308,
            True,
            [],
            {},
            [[1]],
            {"a": {}},
            "x" * 1000,
            {"path": 1},
            "\0",
        )
        event = int(rng.choice(list(page.events.values())))
        data = [values[rng.integers(len(values))] for _ in range(rng.integers(5))]
        return await page.call(event, data, secrets.token_hex(8))

    async def nan(self, page: Page, rng: np.random.Generator) -> Any:
        number = rng.choice(["NaN", "Infinity", "-Infinity", "1e999"])
        session = secrets.token_hex(8)
        return await page.join(page.body(f"[{number}, {number}, {number}]", session), session)

    async def no_drawing(self, page: Page, rng: np.random.Generator) -> Any:
        content = (self._giant, png(400, 399), png(400, 400)[:60], b"", b"GIF89a", rng.bytes(500))[
            rng.integers(6)
        ]
        packed = base64.b64encode(content).decode()
        drawn = f"data:{rng.choice(['image/png', 'image/svg+xml'])};base64,{packed}"
        return await page.judge(drawn, secrets.token_hex(8))

    async def cut_off(self, page: Page, rng: np.random.Generator) -> Any:
        whole = zipped({f"{i}.png": png(28, 28) for i in range(20)})
        return await page.judge_files("cut.zip", whole[: rng.integers(len(whole))])

    async def upload_path(self, page: Page, rng: np.random.Generator) -> Any:
        name = rng.choice(["../../evil", "/etc/evil", "..", "a" * 5000, "e\\..\\vil", "%2e%2e%2fevil", "."])
        return await page.judge_files(str(name), b"evil")

    async def value_path(self, page: Page, rng: np.random.Generator) -> Any:
        path = rng.choice(
            ["/etc/passwd", "../../etc/passwd", "", ".", "/proc/self/environ", "\0", "x" * 9000]
        )
        name = str(rng.choice(["classify", "classify_batch"]))
        file: Any = file_at(str(path))
        value = [[file]] if name == "classify_batch" else [file]
        return await page.call(page.events[name], value, secrets.token_hex(8))

    async def url(self, page: Page, rng: np.random.Generator) -> Any:
        way, file = rng.integers(4), file_at(self._elsewhere)
        if way == 0:
            return await page.fetch("GET", f"{API}/file={self._elsewhere}")
        if way == 1:
            return await page.fetch("GET", f"{API}/proxy={self._elsewhere}")
        event, data = (page.drawn, [file] * 3) if way == 2 else (page.events["classify"], [file])
        return await page.call(event, data, secrets.token_hex(8))

    async def not_json(self, page: Page, rng: np.random.Generator) -> Any:
        body = (b"", b"{", b"data", b"\xff\xfe", rng.bytes(300), b"[]", b'"x"', b"null")[rng.integers(8)]
        return await page.join(body, "x")

    async def deep(self, page: Page, rng: np.random.Generator) -> Any:
        depth = int(rng.choice([50, 500, 5_000, 500_000]))
        deep, session = "[" * depth + "]" * depth, secrets.token_hex(8)
        return await page.join(page.body(f"[{deep}, 1, 1]", session), session)

    async def huge(self, page: Page, rng: np.random.Generator) -> Any:
        async def pieces() -> AsyncIterator[bytes]:  # without a length
            yield PART
            for _ in range(60):
                yield bytes(10**6)

        path = f"{API}/{rng.choice(['queue/join', 'upload'])}"
        headers = {"content-type": "multipart/form-data; boundary=x"} if "upload" in path else {}
        return await page.fetch("POST", path, content=pieces(), headers=headers)

    async def unknown_event(self, page: Page, rng: np.random.Generator) -> Any:
        event = (99, -1, 2**70, "judge", None, 1.5, [0])[rng.integers(7)]
        return await page.call(event, [], secrets.token_hex(8))

    async def closed_door(self, page: Page, rng: np.random.Generator) -> Any:
        door = rng.choice(
            ["call/judge", "run/classify", "run/judge", "component_server", "process_recording"]
        )
        return await page.fetch("POST", f"{API}/{door}", json={"data": []})

    async def half(self, page: Page, rng: np.random.Generator) -> Any:
        start = (
            "POST /gradio_api/queue/join HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        )
        body = 'content-length: 5000\r\n\r\n{"data": ['
        return await self._hang_up((start + body)[: rng.integers(1, len(start + body))])

    async def half_upload(self, page: Page, rng: np.random.Generator) -> Any:
        part = PART.decode() + "a" * 10_000
        start = "POST /gradio_api/upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n"
        return await self._hang_up(f"{start}content-type: multipart/form-data; boundary=x\r\n\r\n{part}")

    async def _hang_up(self, sent: str) -> str:
        _, writer = await asyncio.open_connection(*self._address)
        writer.write(sent.encode())
        await writer.drain()
        writer.close()
        return "hung up by us"


def png(width: int, height: int) -> bytes:
    """A white PNG file."""
    stream = io.BytesIO()
    Image.new("1", (width, height), 1).save(stream, "PNG")
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=zlib.Z_BEST_SPEED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


async def hostile(server: Server, classifier: Classifier, requests: int, seed: int) -> list[str]:
    """Sends hostile requests, says what they were told, and returns what is wrong."""
    rng = np.random.default_rng(seed)
    wrong: list[str] = []
    told: dict[str, Counter[str]] = {}
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        attacks = Attacks(server.url, trap.getsockname()[1])
        kinds = rng.permutation([*itertools.islice(itertools.cycle(attacks.kinds), requests)])
        before = server.megabytes()
        async with opened(server.url) as page:
            turn = asyncio.Semaphore(AT_ONCE)

            async def attack(kind: str, child: np.random.Generator) -> None:
                async with turn:
                    try:
                        answer = await attacks.kinds[kind](page, child)
                    except httpx.HTTPError as error:
                        answer = f"500 {error!r}"
                words = answer if isinstance(answer, str) else f"answered: {json.dumps(answer)}"
                told.setdefault(kind, Counter())[words[:90].replace("\n", " ")] += 1
                if words.startswith("5"):
                    wrong.append(f"{kind}: {words[:200]}")

            await asyncio.gather(*map(attack, kinds.tolist(), rng.spawn(len(kinds))))
            (drawn,) = drawings(1, rng)
            if await page.judge(drawn, secrets.token_hex(8)) != alone(classifier, drawn):
                wrong.append("afterwards a drawing is not answered as alone")
        wrong += [f"written outside the temporary folder: {path}" for path in server.strays()]
        try:
            trap.accept()[0].close()
            wrong.append("the server asked another host")
        except BlockingIOError:
            pass
    for kind, answers in sorted(told.items()):
        print(f"{kind} ({answers.total()})")
        for words, count in answers.most_common():
            print(f"  {count:4} {words}")
    print(f"memory: {before} MB before, {server.megabytes()} MB after")
    return wrong


def main() -> int:
    """Runs one of the two and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    loading = commands.add_parser("load", help="many visitors at once")
    loading.add_argument("--visitors", type=int, default=50, help="who draw at once (default: %(default)s)")
    loading.add_argument("--seconds", type=float, default=60, help="that it lasts (default: %(default)s)")
    attacking = commands.add_parser("hostile", help="requests that no browser sends")
    attacking.add_argument("--requests", type=int, default=1000, help="in all (default: %(default)s)")
    attacking.add_argument("--seed", type=int, default=0, help="of their mixture (default: %(default)s)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # and so is the server
    torch.set_num_threads(1)
    classifier = Classifier.load()
    with running() as server:
        if given.command == "load":
            wrong = asyncio.run(load(server, classifier, given.visitors, given.seconds))
        else:
            wrong = asyncio.run(hostile(server, classifier, given.requests, given.seed))
        server.process.send_signal(signal.SIGINT)
        if status := server.process.wait(timeout=PATIENCE):
            wrong.append(f"the server ended with status {status}")
        wrong += [f"left behind: {path.name}" for path in (server.folders / "tmp").glob("bnn-page-*")]
    for problem, count in Counter(wrong).most_common(20):
        print(f"WRONG ({count}): {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
