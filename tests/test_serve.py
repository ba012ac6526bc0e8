"""Serving: what is let in and what is not, the endpoints for programs, and a clean start and end."""

import http.client
import itertools
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from programs import PATIENCE, first_line, printed, program
from serving import archive, free_port

from bnn.app import Address, served
from bnn.classifier import Classifier
from bnn.cli import main

ROOT = Path(__file__).parent.parent
FOUR, STAR = ROOT / "docs" / "four.png", ROOT / "docs" / "star.png"
API = "/gradio_api"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Gradio's client's, and pandas', in Gradio
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Gradio's client leaves its connections open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Serve = Callable[..., subprocess.Popen[str]]
Ask = Callable[..., tuple[int, str]]
get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)


def caller(url: str, **options: Any) -> closing[Client]:
    """Gradio's client, which would else wait 5 s for an answer."""
    return closing(Client(url, verbose=False, httpx_kwargs={"timeout": PATIENCE}, **options))


@pytest.fixture(scope="module")
def url(classifier: Classifier) -> Iterator[str]:
    address = Address(port=free_port())
    with served(classifier, address):
        yield address.url.rstrip("/")


@pytest.fixture(scope="module")
def small(classifier: Classifier) -> Iterator[str]:
    """The address of a page that takes uploads of 2.5 MB."""
    address = Address(port=free_port(), max_upload=2_500_000)
    with served(classifier, address):
        yield address.url.rstrip("/")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with caller(url) as client:
        yield client


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `serve.py` as a program, whose temporary files lie under `tmp_path`."""
    with ExitStack() as running:

        def start(*options: str, **environment: str) -> subprocess.Popen[str]:
            command = (sys.executable, str(ROOT / "serve.py"), "--draws", "2", *options)
            env = os.environ | {"TMPDIR": str(tmp_path)} | environment
            return running.enter_context(program(*command, env=env))

        yield start


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[str, str, int]:
    """What the server printed and told after its first line, and its exit status."""
    process.send_signal(how)
    out, err = process.communicate(timeout=PATIENCE)
    return out, err, process.returncode


def file_at(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def event(url: str, name: str) -> int:
    events = get(f"{url}/config").json()["dependencies"]
    return next(int(one["id"]) for one in events if one["api_name"] == name)


def told(url: str, name: str, data: list[Any]) -> str:
    """What the server sends for an event, as a browser asks for it."""
    session = os.urandom(8).hex()
    body = {"data": data, "fn_index": event(url, name), "session_hash": session}
    post(f"{url}{API}/queue/join", json=body).raise_for_status()
    return get(f"{url}{API}/queue/data", params={"session_hash": session}).text


def test_the_page_and_its_health_can_be_had_with_safe_headers(url: str, classifier: Classifier) -> None:
    page, health = get(url), get(f"{url}/health")
    assert page.status_code == 200
    assert "gradio" in page.text
    assert health.json() == {
        "status": "ok",
        "draws": len(classifier.ensemble),
        "rule": classifier.rule.to_dict(),
    }
    for answer in (page, health, get(f"{url}{API}/process_recording")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


@pytest.mark.parametrize("before", [None, "somewhere"])
def test_uploads_are_gone_afterwards_and_the_environment_is_as_before(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    if before:
        monkeypatch.setenv("GRADIO_TEMP_DIR", before)
    address = Address(port=free_port())
    with served(classifier, address):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        (path,) = post(f"{address.url}gradio_api/upload", files={"files": ("a.png", b"a")}).json()
        assert Path(path).read_bytes() == b"a"
        assert Path(path).is_relative_to(folder)
    assert not folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before
    with socket.create_server((address.host, address.port)):  # its port is free again
        pass


def test_programs_find_the_two_endpoints_and_no_other(url: str, client: Client) -> None:
    api = get(f"{url}{API}/info", params={"all_endpoints": True}).json()
    assert set(get(f"{url}{API}/info").json()["named_endpoints"]) == {"/classify", "/classify_batch"}
    assert api["unnamed_endpoints"] == {}
    for way in ("call", "run", "api"):
        assert post(f"{url}{API}/{way}/judge", json={"data": ["", None, None]}).status_code == 404
    with pytest.raises(ValueError, match="judge"):
        client.predict("", None, None, api_name="/judge")


@pytest.mark.parametrize(
    "door", ["component_server", "process_recording", "vibe-edit", "reset", "deep_link", "proxy=http://a/"]
)
def test_doors_that_nobody_needs_are_closed(url: str, door: str) -> None:
    assert get(f"{url}{API}/{door}").status_code == 404
    assert post(f"{url}{API}/{door}", json={}).status_code == 404


@pytest.mark.parametrize("path", [FOUR, STAR])
def test_classify_decides_as_predict_does(client: Client, classifier: Classifier, path: Path) -> None:
    answer = client.predict(handle_file(str(path)), api_name="/classify")
    assert answer == {"file": path.name} | classifier.predict(path).plain()[0]


def test_classify_batch_takes_archives_and_lists_what_is_unreadable(
    client: Client, classifier: Classifier, tmp_path: Path
) -> None:
    many = tmp_path / "many.zip"
    many.write_bytes(archive({"four.png": FOUR.read_bytes(), "bad.png": b"bad"}))
    answer = client.predict([handle_file(str(many)), handle_file(str(STAR))], api_name="/classify_batch")
    plain = [classifier.predict(path).plain()[0] for path in (FOUR, STAR)]
    assert [{**row, "file": ""} for row in answer["images"]] == [{**row, "file": ""} for row in plain]
    assert [one["why"].startswith("it is not an image") for one in answer["unreadable"]] == [True]


def test_the_readmes_program_runs_as_written(
    url: str, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    asked: list[Any] = []
    predict = Client.predict
    monkeypatch.setattr(Client, "predict", lambda *args, **options: asked.append(predict(*args, **options)))
    monkeypatch.chdir(ROOT)
    patient = partial(Client, httpx_kwargs={"timeout": PATIENCE})
    monkeypatch.setattr("gradio_client.Client", patient)
    names: dict[str, Any] = {}
    exec(block.replace("http://127.0.0.1:7860", url), names)
    names["client"].close()
    assert asked[0]["label"] == 4
    assert [image["file"] for image in asked[1]["images"]] == ["star.png"]


def test_a_bad_file_is_told_to_the_program(client: Client, tmp_path: Path) -> None:
    bad, several = tmp_path / "bad.png", tmp_path / "two.zip"
    bad.write_bytes(b"bad")
    several.write_bytes(archive({"a.png": FOUR.read_bytes(), "b.png": STAR.read_bytes()}))
    with pytest.raises(AppError, match="cannot be judged: it is not an image"):
        client.predict(handle_file(str(bad)), api_name="/classify")
    with pytest.raises(AppError, match="Give one image file"):
        client.predict(handle_file(str(several)), api_name="/classify")


AROUND_AN_ANSWER = """
import sys
from bnn.app.gradio_private import import_what_answers_need, set_environment
set_environment()
import_what_answers_need()
from gradio.utils import MatplotlibBackendMananger
before = set(sys.modules)
with MatplotlibBackendMananger():
    print(set(sys.modules) - before)
"""


def test_nothing_is_imported_around_the_first_answer_while_all_others_wait() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    assert printed(sys.executable, "-c", AROUND_AN_ANSWER, env=environment) == "set()\n"


def test_visitors_at_once_each_get_their_own_answer(url: str, classifier: Classifier) -> None:
    paths = [FOUR, STAR] * 4
    expected = {path: classifier.predict(path).plain()[0]["probs"] for path in (FOUR, STAR)}

    def visit(path: Path) -> Any:
        with caller(url) as visitor:
            return visitor.predict(handle_file(str(path)), api_name="/classify")["probs"]

    with ThreadPoolExecutor(4) as visitors:
        assert list(visitors.map(visit, paths)) == [expected[path] for path in paths]


@pytest.mark.parametrize("name", ["classify", "classify_batch", "judge", "judge_1"])
def test_no_url_is_fetched_whichever_event_it_is_given_to(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(address: str, *_: object, **__: object) -> None:
        pytest.fail(f"{address} was asked for")

    # Gradio would ask no private address, hence a trap on this machine alone proves nothing.
    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        elsewhere = f"http://127.0.0.1:{trap.getsockname()[1]}/a.png"
        file: Any = file_at(elsewhere)
        value = [[file]] if name == "classify_batch" else [file]
        answer = told(url, name, value + [None] * {"judge": 3, "judge_1": 2}.get(name, 0))
        assert get(f"{url}{API}/file={elsewhere}").status_code == 404
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert "A file must be uploaded here" in answer


@pytest.mark.parametrize("path", [str(FOUR), "/etc/passwd", "serve.py", "", "\0", "x" * 9000])
def test_no_file_of_the_server_is_read(url: str, path: str) -> None:
    uploads = [{"name": "a.png", "path": path}]
    for name, data in (("classify", [file_at(path)]), ("judge_1", [uploads, None, None])):
        answer = told(url, name, data)
        assert "A file must be uploaded here" in answer or "These values cannot be used" in answer
    assert get(f"{url}{API}/file={path.replace(chr(0), '%00')[:99]}").status_code in (403, 404)


@pytest.mark.parametrize(
    "data", [[], ["x"], [1, 2, 3], ["", "no such promise", "1 in 200", 50], [[[]], {}, {}]]
)
def test_values_of_wrong_types_are_told_and_print_nothing(
    url: str, data: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    answer = told(url, "judge", data)
    assert '"success":false' in answer
    assert '"error":"' in answer
    assert capfd.readouterr().err == ""


def test_a_request_that_breaks_gradio_is_told_so_in_one_line(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"fn_index": 99, "data": [], "session_hash": "x"}
    answer = post(f"{url}{API}/queue/join", json=body)
    assert (answer.status_code, answer.text) == (400, "This request cannot be understood.")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bnn")] == [
        "bnn: POST /gradio_api/queue/join: KeyError(99)"
    ]


def multipart(size: int) -> bytes:
    """A form that uploads a file of that size."""
    head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + bytes(size) + b"\r\n--x--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}


def pieces_of(content: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def by_httpx(url: str, path: str, content: bytes, *, declared: bool) -> tuple[int, str]:
    answer = post(f"{url}{path}", content=content if declared else pieces_of(content), headers=FORM)
    return answer.status_code, answer.text


@contextmanager
def asking(url: str, path: str, *headers: str, content: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which a request with those headers has been sent, and the start of its content."""
    where = httpx.URL(url)
    head = [
        f"POST {path} HTTP/1.1",
        "host: localhost",
        *(f"{name}: {value}" for name, value in FORM.items()),
        *headers,
    ]
    with socket.create_connection((where.host, where.port or 80), PATIENCE) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + content)
        yield connection


def heard(connection: socket.socket) -> tuple[int, str]:
    """The status and words of an answer; if it says that the connection closes, it must do so in peace."""
    with http.client.HTTPResponse(connection) as answer:
        answer.begin()
        told = answer.status, answer.read().decode()
        assert not answer.will_close or connection.recv(1) == b""
    return told


def by_socket(
    url: str, path: str, content: bytes, *, declared: bool, pause: float = 0.0, closes: bool = False
) -> tuple[int, str]:
    """Sends everything, with a pause after each piece, and only then reads."""
    length = f"content-length: {len(content)}" if declared else "transfer-encoding: chunked"
    with asking(url, path, length, *(["connection: close"] if closes else [])) as connection:
        for piece in pieces_of(content):
            connection.sendall(piece if declared else b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(pause)
        connection.sendall(b"" if declared else b"0\r\n\r\n")
        return heard(connection)


ASKERS: list[Ask] = [by_httpx, by_socket, partial(by_socket, closes=True), partial(by_socket, pause=0.02)]
TOO_LONG = "A request here may have {:,} bytes."
TRIES = 5


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("ask", ASKERS, ids=["httpx", "socket", "closing", "slow"])
@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"{API}/queue/join", 413, TOO_LONG.format(2_000_000)),
        (f"{API}/upload", 413, TOO_LONG.format(2_500_000)),
        (f"{API}/reset", 404, "There is nothing here."),
    ],
)
def test_who_is_refused_while_they_send_gets_the_answer_every_time(
    small: str, path: str, status: int, words: str, ask: Ask, declared: bool
) -> None:
    content = multipart(3_000_000)
    answers = [ask(small, path, content, declared=declared) for _ in range(TRIES)]
    assert answers == [(status, words)] * TRIES


def test_what_is_just_short_enough_is_taken(classifier: Classifier) -> None:
    address = Address(port=free_port(), max_upload=2_500_000)  # a page that no upload broken off has filled
    with served(classifier, address):
        for declared in (True, False):
            content = multipart(2_400_000)
            status, paths = by_httpx(address.url.rstrip("/"), f"{API}/upload", content, declared=declared)
            assert status == 200, paths


def test_uploads_over_the_default_limit_get_413_every_time(url: str) -> None:
    content = multipart(55_000_000)
    for ask, declared in itertools.product((by_httpx, by_socket), (True, False)):
        assert ask(url, f"{API}/upload", content, declared=declared) == (413, TOO_LONG.format(50_000_000))


@pytest.mark.parametrize(
    ("options", "prefix", "statuses"),
    [
        ({"accounts": [("ada", "lovelace")]}, "", (401, 401, 401)),
        ({"root_path": "/digits"}, "/digits", (413, 404, 200)),
    ],
)
def test_so_do_those_who_are_refused_with_accounts_or_under_a_path(
    classifier: Classifier, options: dict[str, Any], prefix: str, statuses: tuple[int, ...]
) -> None:
    address = Address(port=free_port(), **options)
    content = multipart(3_000_000)
    askers: list[Ask] = [by_httpx, partial(by_socket, closes=True)]
    expected = dict(zip(("queue/join", "reset", "upload"), statuses, strict=True))
    with served(classifier, address):
        for ask, declared in itertools.product(askers, (True, False)):
            asked = partial(ask, address.url.rstrip("/"), content=content, declared=declared)
            assert {door: asked(f"{prefix}{API}/{door}")[0] for door in expected} == expected


@pytest.mark.parametrize("sent", [0, 10_000])
def test_who_reads_early_has_the_answer_at_once_and_is_left_when_they_fall_silent(
    url: str, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.app.linger.MOST_SECONDS", 10 * PATIENCE)
    monkeypatch.setattr("bnn.app.linger.MOST_SILENCE", 0.2)
    headers = ["content-length: 900000000", "expect: 100-continue"]
    with asking(url, f"{API}/upload", *headers, content=bytes(sent)) as connection:
        first = connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
        assert first == b"HTTP/1.1 413"  # and no "100 Continue"
        assert heard(connection) == (413, TOO_LONG.format(50_000_000))
        assert connection.recv(1) == b""


def send_on(connection: socket.socket, size: int, pause: float) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        connection.sendall(bytes(size))
        time.sleep(pause)


@pytest.mark.parametrize(
    ("bounds", "size", "pause"),
    [
        ({"serve.SPARE_BYTES": 5_000_000, "linger.MOST_SECONDS": 10 * PATIENCE}, 100_000, 0.0),
        ({"serve.SPARE_BYTES": 10**15, "linger.MOST_SECONDS": 0.5}, 100_000, 0.0),
        ({"serve.SPARE_BYTES": 10**15, "linger.MOST_SECONDS": 0.5}, 1, 0.01),
    ],
    ids=["bytes", "seconds", "seconds of dribbling"],
)
def test_who_never_ends_is_cut_off_and_others_are_served_meanwhile(
    classifier: Classifier,
    bounds: dict[str, float],
    size: int,
    pause: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (bounds | {"linger.MOST_SILENCE": 10 * PATIENCE}).items():
        monkeypatch.setattr(f"bnn.app.{name}", value)
    address = Address(port=free_port(), max_upload=1)
    with served(classifier, address), ThreadPoolExecutor(1) as other:
        with asking(address.url, f"{API}/upload", "content-length: 1000000000000000") as connection:
            other_visitor = other.submit(get, f"{address.url}health")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                send_on(connection, size, pause)
        assert other_visitor.result().status_code == 200
        assert get(f"{address.url}health").status_code == 200


def test_a_start_that_fails_says_why_and_leaves_nothing_behind(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert list(tmp_path.iterdir())
        raise RuntimeError("no page today")

    monkeypatch.setattr("bnn.app.serve.build_page", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = Address(port=free_port())
    with pytest.raises(RuntimeError, match="no page today"), served(classifier, address):
        pytest.fail("it is served")
    assert list(tmp_path.iterdir()) == []
    with address.listen():
        pass


def test_with_accounts_nobody_else_gets_in(classifier: Classifier) -> None:
    address = Address(port=free_port(), accounts=[("ada", "lovelace")])
    with served(classifier, address):
        url = address.url.rstrip("/")
        assert get(f"{url}/config").status_code == 401
        assert "Networks sampled" not in get(url).text
        join = {"fn_index": 0, "data": [], "session_hash": "x"}
        assert post(f"{url}{API}/queue/join", json=join).status_code == 401
        assert post(f"{url}{API}/upload", files={"files": b"a"}).status_code == 401
        assert post(f"{url}/login", data={"username": "ada", "password": "no"}).status_code == 401
        with httpx.Client(timeout=PATIENCE) as visitor:
            visitor.post(f"{url}/login", data={"username": "ada", "password": "lovelace"}).raise_for_status()
            assert "Networks sampled" in visitor.get(url).text
        with caller(url, auth=("ada", "lovelace")) as known:
            assert known.predict(handle_file(str(FOUR)), api_name="/classify")["file"] == "four.png"
        assert get(f"{url}/health").status_code == 200


@contextmanager
def proxied(target: str, prefix: str) -> Iterator[str]:
    """A reverse proxy that shows `target` under `prefix`, which it takes off; the address it listens at."""

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if scope["type"] != "http" or not path.startswith(prefix):
            return
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.get(f"{target}{path.removeprefix(prefix) or '/'}")
        kind = answer.headers["content-type"].encode()
        start = {"type": "http.response.start", "status": answer.status_code}
        await send({**start, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": answer.content})

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(proxy, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_behind_a_reverse_proxy_the_page_and_its_assets_are_found(classifier: Classifier) -> None:
    address = Address(port=free_port(), root_path="/digits")
    with served(classifier, address), proxied(address.url.rstrip("/"), "/digits") as outside:
        page = get(f"{outside}/digits/")
        config = get(f"{outside}/digits/config").json()
        assert config["root"].endswith("/digits")
        assets = [part.split('"')[0] for part in page.text.split('="./')[1:]]
        assert any(asset.endswith(".js") for asset in assets)
        for asset in assets:
            assert get(f"{outside}/digits/{asset}").status_code == 200, asset


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize(("how", "asks"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_it_prints_its_address_warns_where_all_can_reach_it_and_ends_cleanly_with_a_visitor_still_there(
    serve: Serve, tmp_path: Path, how: signal.Signals, asks: bool
) -> None:
    port = free_port()
    (accounts := tmp_path / "accounts").write_text("ada:lovelace\n")
    options = ["--host", "0.0.0.0", "--port", str(port), "--max-upload", "5"]
    options += ["--auth-file", str(accounts)] if asks else []
    # Where a proxy is set it starts all the same: nobody listens there.
    process = serve(*options, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert first_line(process) == f"Draw a digit at http://0.0.0.0:{port}/ (Ctrl-C ends it).\n"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as visitor:
        if asks:
            visitor.post("/login", data={"username": "ada", "password": "lovelace"}).raise_for_status()
        with visitor.stream("GET", f"{API}/heartbeat/x") as page:
            assert next(page.iter_text()).startswith("data: ALIVE")
            assert list(tmp_path.glob("bnn-page-*"))
            out, err, status = ended(process, how)
    assert (out, status) == ("Ended.\n", 0), err
    assert (err.count("\n"), err.count("--auth-file")) == ((0, 0) if asks else (1, 1))
    assert not list(tmp_path.glob("bnn-page-*"))


def test_bad_addresses_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "accounts"
    bad.write_text("ada\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = str(server.getsockname()[1])
        for options, words in (
            (["--auth-file", str(bad)], "line 1 of"),
            (["--auth-file", str(tmp_path / "none")], "cannot be read"),
            (["--port", "0"], "0 is no port"),
            (["--port", "70000"], "70000 is no port"),
            (["--port", busy], f"cannot be served at 127.0.0.1, port {busy}"),
            (["--root-path", "digits"], "must start with a slash"),
            (["--max-upload", "0"], "--max-upload must be above 0"),
            (["--checkpoint", str(tmp_path / "none")], "none"),
        ):
            assert main(["serve", "--draws", "2", *options]) == 2
            err = capsys.readouterr().err
            assert words in err
            assert err.count("\n") == 1


def test_every_flag_of_serve_that_the_documentation_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    known = capsys.readouterr().out.replace(",", " ").split()
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    commands = [line.split("bnn serve", 1)[1] for line in text.splitlines() if "bnn serve" in line]
    named = {word for command in commands for word in command.split() if word.startswith("--")}
    assert named
    assert named <= set(known)


@pytest.mark.parametrize(
    "command", [["load", "--visitors", "2", "--seconds", "3"], ["hostile", "--requests", "60"]]
)
def test_the_page_stands_a_short_load_and_a_few_attacks(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "benchmarks" / "bench_load.py"
    monkeypatch.setattr("sys.argv", [str(script), *command])
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = runpy.run_path(str(script))["main"]()
    finally:
        signal.signal(signal.SIGTERM, before)
    out, err = capfd.readouterr()
    assert status == 0, out + err
    assert "Traceback" not in err
