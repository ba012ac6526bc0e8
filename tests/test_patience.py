"""Connections that never ask whole, or never take their answer, keep nobody else out."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from programs import PATIENCE, first_line, program
from serving import free_port

from bnn.app import Address, served
from bnn.classifier import Classifier

ROOT = Path(__file__).parent.parent
HEAD = b"POST /gradio_api/queue/join HTTP/1.1\r\nhost: localhost\r\n"
BODY = HEAD + b"content-length: 100000\r\n\r\n"
HALVES = [b"", b"GET / HT", HEAD, BODY + b"x"]
WHOLE = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
LEFT = (ConnectionResetError, BrokenPipeError)

pytestmark = pytest.mark.slow


@pytest.fixture
def address(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A page whose connections are few and soon closed."""
    for name, value in {"HEAD_SECONDS": 0.3, "SILENT_SECONDS": 0.3, "MOST_CONNECTIONS": 10}.items():
        monkeypatch.setattr(f"bnn.app.patience.{name}", value)
    address = Address(port=free_port())
    with served(classifier, address):
        yield address


def connected(address: Address, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection((address.host, address.port), PATIENCE)
    connection.sendall(sent)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes it; waits until it does."""
    try:
        while connection.recv(10**6):
            pass
    except ConnectionResetError:
        pass
    return True


def pour(address: Address, connection: socket.socket, piece: bytes) -> None:
    """Sends pieces slowly, for long; others are served meanwhile."""
    for _ in range(10_000):
        connection.sendall(piece)
        assert httpx.get(f"{address.url}health", timeout=PATIENCE).status_code == 200


def test_what_is_small_is_sent_at_once(classifier: Classifier) -> None:
    address = Address(port=free_port())
    with (
        served(classifier, address) as serving,
        httpx.Client(base_url=address.url, timeout=PATIENCE) as client,
    ):
        client.get("health").raise_for_status()
        (connection,) = serving.server.server_state.connections
        kept = connection.transport.get_extra_info("socket")
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("half", [*HALVES, WHOLE, WHOLE + b"GET"])
def test_who_does_not_go_on_is_left(address: Address, half: bytes) -> None:
    with connected(address, half) as connection:
        assert is_closed(connection)


def test_who_dribbles_a_head_is_left(address: Address) -> None:
    with connected(address) as connection, pytest.raises(LEFT):
        pour(address, connection, b"x")


def test_who_dribbles_a_body_is_left(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.app.patience.REQUEST_SECONDS", 0.5)
    monkeypatch.setattr("bnn.app.patience.SILENT_SECONDS", PATIENCE)
    with connected(address, BODY) as connection, pytest.raises(LEFT):
        pour(address, connection, b"x")


def test_who_takes_no_answer_is_left(address: Address) -> None:
    with connected(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(LEFT):
            pour(address, connection, b"GET /config HTTP/1.1\r\nhost: localhost\r\n\r\n")


def test_who_waits_for_an_answer_and_listens_is_not_left(address: Address) -> None:
    with httpx.stream("GET", f"{address.url}gradio_api/heartbeat/x", timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: ALIVE"
        for _ in range(3):  # those come and go meanwhile
            with connected(address) as other:
                assert is_closed(other)
        assert "" in (next(lines), next(lines))


def test_of_too_many_the_longest_waiting_half_goes_and_who_asks_is_answered(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.app.patience.HEAD_SECONDS", 10 * PATIENCE)
    with ExitStack() as open_:
        halves = [open_.enter_context(connected(address, b"GET / HT")) for _ in range(30)]
        assert httpx.get(f"{address.url}health", timeout=PATIENCE).status_code == 200
        assert all(map(is_closed, halves[:20]))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The server as a program, which may have 1,024 files open; in the end it has complained of nothing."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this many connections cannot be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    address = Address(port=free_port())
    serve = f"ulimit -n 1024; exec {sys.executable} {ROOT / 'serve.py'} --draws 2 --port {address.port}"
    env = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("bare"))}
    with program("bash", "-c", serve, env=env) as server:
        first_line(server)
        yield address
        server.terminate()
        _, err = server.communicate(timeout=PATIENCE)
        assert err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limits")
@pytest.mark.parametrize("half", HALVES, ids=["nothing", "a word", "a head", "a body"])
def test_1050_half_open_requests_keep_nobody_out_of_the_bare_server(bare: Address, half: bytes) -> None:
    with ExitStack() as open_:
        for _ in range(1050):
            open_.enter_context(connected(bare, half))
        for _ in range(5):
            assert httpx.get(f"{bare.url}health", timeout=PATIENCE).status_code == 200
            assert httpx.get(bare.url, timeout=PATIENCE).status_code == 200
