"""What waits for a visitor, and what a visitor has wait, is bounded in bytes."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import PATIENCE
from serving import archive, free_port

from bnn.app import Address, build_page, served, uploads
from bnn.app.bounds import Message, Receive, Send
from bnn.app.examples import examples
from bnn.app.gradio_private import MOST_KEPT_BYTES, SIZE, Answers, Page, weight
from bnn.app.uploads import SavedFile, Unusable, contents
from bnn.app.waiting import MOST_LISTS, MOST_SESSION, MOST_WAITING_BYTES, waiting
from bnn.classifier import Classifier

JOIN = "/gradio_api/queue/join"


def message(size: int) -> Any:
    return SimpleNamespace(output={"data": ["x" * size]})


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40_000_000), st.booleans()), max_size=30))
def test_answers_that_nobody_fetches_take_so_many_bytes_at_most(steps: list[tuple[int, int, bool]]) -> None:
    async def run() -> None:
        ids: dict[str, set[str]] = {}
        answers = Answers(ids)
        for session, size, fetches in steps:
            name = str(session)
            if name not in answers:
                answers[name], ids[name] = object(), {"x"}
            answers[name].put_nowait(message(size))
            if fetches and name in answers:
                assert len(answers[name].get_nowait().output["data"][0]) <= 40_000_000
            assert answers.size == sum(one.size for one in answers.values()) <= MOST_KEPT_BYTES
            assert set(ids) == set(answers)

    asyncio.run(run())


def test_who_listens_has_their_answer_while_another_fills_the_memory() -> None:
    async def run() -> None:
        answers = Answers({})
        for name in ("visitor", "hostile"):
            answers[name] = object()
        listening = asyncio.create_task(answers["visitor"].get())
        await asyncio.sleep(0)
        for _ in range(20):
            answers["hostile"].put_nowait(message(10_000_000))
        answers["visitor"].put_nowait("answer")
        assert await listening == "answer"
        assert "visitor" in answers

    asyncio.run(run())


def test_what_is_sent_to_a_session_that_went_is_lost_and_breaks_nothing() -> None:
    async def run() -> None:
        answers = Answers({})
        answers["gone"].put_nowait(message(10))
        del answers["gone"]
        for index in range(3000):
            answers[str(index)] = object()
        assert (len(answers), answers.size) == (2000, 0)

    asyncio.run(run())


def test_a_message_weighs_what_it_holds() -> None:
    assert weight(message(10**6)) >= 10**6
    assert weight(SimpleNamespace(output={"data": ["\U0001f600" * 1000]})) >= 4000
    assert weight(SimpleNamespace(output={"data": [[[]] * 1000]})) >= 56 * 1000
    assert weight("a message without output") > 0


def asked(body: bytes, held: int = 0) -> int | dict[str, Any]:
    """The status that a request to wait gets, or the scope with which it is let through."""
    got: list[Any] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == body
        got.append(scope)

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        got.append(message.get("status"))

    scope = {"type": "http", "method": "POST", "path": JOIN, "headers": []}

    async def run() -> None:
        await waiting(app, "size", lambda: held)(scope, receive, send)

    asyncio.run(run())
    return got[0]


def test_a_plain_request_is_let_through_with_its_size_unless_too_much_waits() -> None:
    body = json.dumps({"data": ["x" * 1000], "fn_index": 1, "session_hash": "a" * MOST_SESSION}).encode()
    scope = asked(body)
    assert isinstance(scope, dict)
    assert scope["size"] == len(body)
    assert asked(body, MOST_WAITING_BYTES) == 503


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"session_hash": "a" * (MOST_SESSION + 1)}),
        json.dumps({"session_hash": ["a"] * 100}),
        json.dumps({"data": [[]] * MOST_LISTS}),
        "[" * 1000 + "]" * 1000,
        '{"data":' + "[" * 4000,
        "",
        "[]",
        "1",
        "\xff",
        "{",
    ],
)
def test_a_request_that_is_not_plain_is_refused(body: str) -> None:
    assert asked(body.encode("latin-1")) == 400


def test_every_name_and_reason_is_cut() -> None:
    endless = "x" * 70_000
    files: list[SavedFile | Unusable] = [Unusable(endless, endless), SavedFile("/none", endless)]
    for item in contents(files):
        assert isinstance(item, Unusable)
        assert len(item.name) <= uploads.MOST_NAME
        assert len(item.why) <= uploads.MOST_WHY


# A page that is served


@pytest.fixture
def page(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Page, str]]:
    built: list[Page] = []

    def build(classifier: Classifier, *_: object) -> Page:
        built.append(build_page(classifier))
        return built[0]

    monkeypatch.setattr("bnn.app.serve.build_page", build)
    address = Address(port=free_port())
    with served(classifier, address):
        yield built[0], address.url.rstrip("/")


def join(client: httpx.Client, name: str, data: list[Any], session: str) -> int:
    events = client.get("/config").json()["dependencies"]
    event = next(int(one["id"]) for one in events if one["api_name"] == name)
    body = {"data": data, "fn_index": event, "session_hash": session}
    return client.post(JOIN, json=body).status_code


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_joins_of_long_names_that_nobody_fetches_leave_no_more_than_the_bound(
    page: tuple[Page, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of long names, and many who ask for it and never fetch what they are told."""
    built, url = page
    monkeypatch.setattr("bnn.app.gradio_private.MOST_KEPT_BYTES", 3_000_000)
    content = io.BytesIO()
    examples()[0].image.resize((28, 28)).save(content, "PNG")
    names = {f"{index:03}{chr(0x1F600) * 15_000}.png": content.getvalue() for index in range(60)}
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("a.zip", archive(names))}).json()
        value = [{"name": "a.zip", "path": path}]
        sessions = [f"s{index}" for index in range(12)]
        assert {join(client, "judge_1", [value, None, None], one) for one in sessions} == {200}
        answers: Any = built._queue.pending_messages_per_session
        largest = 0
        while built.waiting_bytes():
            largest = max(largest, answers.size)
            client.get("/health")
        assert 100_000 < largest <= 3_000_000
        assert len(answers) < len(sessions)
        states = built.state_holder.session_data.values()
        assert not any(state.config_values for state in states)
        # Who listens is told as before.
        assert join(client, "judge_1", [value, None, None], "late") == 200
        told = client.get("/gradio_api/queue/data", params={"session_hash": "late"}).text
        assert "Images judged: 60" in told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_size_of_what_waits_is_counted_and_ends_with_it(page: tuple[Page, str]) -> None:
    built, url = page
    event: Any = SimpleNamespace(request=SimpleNamespace(scope={SIZE: 7}))
    built._queue.event_ids_to_events["x"] = event
    assert built.waiting_bytes() == 7
    built._queue.event_ids_to_events.pop("x")
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert join(client, "judge", ["", None, None, None], "y" * MOST_SESSION) == 200
        assert join(client, "judge", ["", None, None, None], "y" * (MOST_SESSION + 1)) == 400
        while built.waiting_bytes():
            client.get("/health")


@pytest.mark.slow
def test_uploads_that_are_deleted_are_forgotten(page: tuple[Page, str]) -> None:
    built, url = page
    (path,) = httpx.post(
        f"{url}/gradio_api/upload", files={"files": ("a.png", b"a")}, timeout=PATIENCE
    ).json()
    assert built.upload_file_set == {path}
    built.forget_deleted()
    assert built.upload_file_set == {path}
    Path(path).unlink()
    built.forget_deleted()
    assert built.upload_file_set == set()
