"""Who is believed of what they say, which origin may ask for what, and what can be had without a password."""

import asyncio
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from programs import PATIENCE
from serving import free_port
from starlette.routing import Mount

from bnn.app import Address, build_page, served
from bnn.app.bounds import AsgiApp, Message, Receive, Send
from bnn.app.gate import gated
from bnn.app.login import (
    MOST_PLACES,
    MOST_SESSIONS,
    MOST_WRONG,
    SESSION_SECONDS,
    WRONG_SECONDS,
    Sessions,
    Tries,
    place_of,
    with_login,
)
from bnn.classifier import Classifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ACCOUNTS = [("ada", "lovelace"), ("bob", "ünï:cödé")]
PROXY, VISITOR = "10.0.0.1", "192.0.2.7"
PROGRAMS = {  # for which `tests/test_rest.py` has the keys
    *(("POST", f"/v1/{path}") for path in ("classify", "classify-batch", "read")),
    *(("GET", path) for path in ("/ready", "/metrics", "/v1/openapi.json")),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")


def passed(address: Address, headers: Mapping[str, str], client: str = VISITOR, **scope: Any) -> Any:
    """What an application behind the gate sees of a request: its scope, or else the status of the refusal."""
    seen: list[Any] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        seen.append(message.get("status"))

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    whole = {"type": "http", "method": "POST", "path": "/", "headers": raw, "client": (client, 1)}

    async def run() -> None:
        await gated(app, address)({**whole, "scheme": "http", **scope}, receive, send)

    asyncio.run(run())
    return seen[0]


def origin_of(scope: Any) -> str:
    return f"{scope['scheme']}://{dict(scope['headers'])[b'host'].decode()}"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:7860", "127.0.0.1:7860", "192.0.2.1", "[::1]:80", "digits.org", "digits.org:1"],
)
def test_names_of_this_machine_and_addresses_are_believed(host: str) -> None:
    address = Address(host="0.0.0.0", names=["Digits.org"])
    assert origin_of(passed(address, {"host": host})) == f"http://{host.lower()}"
    assert passed(address, {"host": socket.gethostname()}) != 421


@pytest.mark.parametrize(
    "host", ["evil.org", "localhost.evil.org", "127.0.0.1.evil.org", "", "a b", "[::1", "x/y"]
)
@pytest.mark.parametrize(
    "extra", [{}, {"x-forwarded-host": "localhost"}, {"x-gradio-server": "http://localhost"}]
)
def test_any_other_name_is_told_that_the_page_does_not_go_by_it(host: str, extra: dict[str, str]) -> None:
    assert passed(Address(proxies=[PROXY]), {"host": host, **extra}) == 421


FORWARDED = {
    "x-forwarded-host": "digits.org",
    "x-forwarded-proto": "https",
    "x-forwarded-prefix": "/x",
    "forwarded": "host=evil.org",
    "x-gradio-server": "http://evil.org",
    "x-real-ip": "192.0.2.8",
}


def test_what_is_forwarded_is_believed_of_a_named_proxy_alone_and_passed_on_by_none() -> None:
    address = Address(proxies=["10.0.0.0/24"])
    for client, expected in ((VISITOR, "http://localhost:7860"), (PROXY, "https://digits.org")):
        scope = passed(address, {"host": "localhost:7860", **FORWARDED}, client)
        assert origin_of(scope) == expected
        assert [name for name, _ in scope["headers"]] == [b"host"]
    by_host = passed(address, {"host": "digits.org"}, PROXY)
    assert origin_of(by_host) == "http://digits.org"
    told_before = {"x-forwarded-host": "evil.org, digits.org", "x-forwarded-proto": "http, https"}
    assert origin_of(passed(address, {"host": "x", **told_before}, PROXY)) == "https://digits.org"
    assert passed(address, {"host": "x", "x-forwarded-proto": "javascript"}, PROXY) == 421


def test_what_gradio_keeps_of_the_first_request_says_nothing_of_it() -> None:
    scope = passed(Address(port=80), {"host": "localhost:9999"}, path="/gradio_api/info")
    assert origin_of(scope) == "http://127.0.0.1:80"


@pytest.mark.parametrize(
    ("client", "told", "asking"),
    [
        (PROXY, "192.0.2.9", "192.0.2.9"),
        (PROXY, "10.9.9.9, 2001:db8::5", "2001:db8::5"),  # the last is what the proxy itself saw
        (PROXY, "unknown", PROXY),
        (PROXY, "", PROXY),
        (VISITOR, "192.0.2.9", VISITOR),
    ],
)
def test_a_named_proxy_alone_says_who_asks(client: str, told: str, asking: str) -> None:
    scope = passed(Address(proxies=[PROXY]), SAME | {"x-forwarded-for": told}, client)
    assert scope["client"] == (asking, 1)


SAME = {"host": "localhost:7860"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.org"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://localhost:7860"},
        {"origin": "http://localhost:7861"},
        {"origin": "http://localhost"},
        {"origin": "http://127.0.0.1:7860"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"origin": "http://evil.org", "sec-fetch-site": "same-origin"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/logout", "/gradio_api/queue/join", "/config", "/v1/classify"])
def test_another_origin_is_refused_by_any_method(headers: dict[str, str], path: str) -> None:
    for method in METHODS:
        assert passed(Address(), SAME | headers, path=path, method=method) == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://localhost:7860"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}],
)
def test_the_page_itself_and_programs_are_let_through(headers: dict[str, str]) -> None:
    assert origin_of(passed(Address(), SAME | headers)) == "http://localhost:7860"


def test_a_link_elsewhere_may_open_the_page_and_nothing_else() -> None:
    link = SAME | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path, method, let in (
        ("/", "GET", True),
        ("/login", "GET", True),
        ("/", "POST", False),
        ("/gradio_api/file=/a", "GET", False),
        ("/config", "GET", False),
    ):
        assert (passed(Address(), link, path=path, method=method) == 403) is not let


def test_default_ports_are_as_browsers_leave_them_out() -> None:
    address = Address(proxies=[PROXY])
    for scheme, port in (("http", 80), ("https", 443)):
        headers = {"host": f"digits.org:{port}", "x-forwarded-proto": scheme}
        assert passed(address, headers | {"origin": f"{scheme}://digits.org"}, PROXY) != 403
        assert passed(address, headers | {"origin": f"{scheme}://digits.org:8"}, PROXY) == 403


def test_sessions_end_and_are_bounded() -> None:
    now = 0.0
    sessions = Sessions(lambda: now)
    first, second = sessions.begin(), sessions.begin()
    assert first != second
    assert sessions.lets_in(first)
    sessions.end(first)
    assert not sessions.lets_in(first)
    assert not sessions.lets_in("")
    for _ in range(MOST_SESSIONS):
        last = sessions.begin()
    assert not sessions.lets_in(second)
    assert sessions.lets_in(last)
    now += SESSION_SECONDS
    assert not sessions.lets_in(last)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),  # of one customer
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_who_can_choose_an_address_has_the_same_place(one: str, other: str, alike: bool) -> None:
    assert (place_of(one) == place_of(other)) is alike


def test_wrong_tries_are_forgotten_after_a_while_and_are_bounded() -> None:
    now = 0.0
    tries = Tries(MOST_WRONG, WRONG_SECONDS, lambda: now)
    for _ in range(MOST_WRONG):
        assert not tries.are_too_many("a")
        tries.add("a")
    assert tries.are_too_many("a")
    assert not tries.are_too_many("b")
    now += WRONG_SECONDS
    assert not tries.are_too_many("a")
    for place in range(2 * MOST_PLACES):
        tries.add(str(place))
    assert len(tries._tries) == MOST_PLACES


def test_after_many_wrong_passwords_the_right_one_helps_no_more_and_others_still_get_in() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise AssertionError("it asked for nothing but the login")

    guarded = with_login(app, Address(accounts=ACCOUNTS))

    async def status(password: str, client: str) -> int:
        transport = httpx.ASGITransport(guarded, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as visitor:
            return (await visitor.post("/login", data={"username": "ada", "password": password})).status_code

    async def run() -> None:
        assert [await status(f"guess {n}", VISITOR) for n in range(MOST_WRONG)] == [401] * MOST_WRONG
        assert await status("lovelace", VISITOR) == 429
        assert await status("lovelace", PROXY) == 200

    asyncio.run(run())


# A page that is served, with passwords


@pytest.fixture(scope="module")
def url(classifier: Classifier) -> Iterator[str]:
    address = Address(port=free_port(), accounts=ACCOUNTS)
    with served(classifier, address):
        yield address.url.rstrip("/")


@pytest.fixture(scope="module")
def routes(classifier: Classifier) -> list[tuple[str, str]]:
    """Every route that FastAPI and Gradio have, as method and path, its parameters filled in."""
    app = FastAPI()

    async def mount() -> None:  # where a loop runs: else Gradio opens some of its own
        gr.mount_gradio_app(app, build_page(classifier), path="/")

    asyncio.run(mount())
    ours = {("GET", "/health"), ("POST", "/login"), ("POST", "/logout"), ("GET", "/"), *PROGRAMS}
    found = {*ours, *_routes(app.routes)}
    assert len(found) > 70
    return sorted((method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in found)


def _routes(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _routes(route.routes, prefix + route.path)
        elif hasattr(route, "original_router"):  # FastAPI's, which is included as it stands
            yield from _routes(route.original_router.routes, prefix)
        else:
            yield from ((method, prefix + route.path) for method in route.methods or ())


@contextmanager
def logged_in(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as visitor:
        visitor.post("/login", data={"username": "ada", "password": "lovelace"}).raise_for_status()
        yield visitor


def status_of(client: httpx.Client, method: str, path: str, **options: Any) -> int:
    with client.stream(method, path, **options) as answer:  # some never end
        return answer.status_code


def test_without_password_there_is_the_health_and_the_login_alone(
    url: str, routes: list[tuple[str, str]]
) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE) as nobody:
        got = {(method, path): status_of(nobody, method, path) for method, path in routes}
    open_to_all = {one for one, status in got.items() if status != 401}
    assert open_to_all == {("GET", "/health"), ("POST", "/logout")}  # which ends no session but one's own
    for path in (
        "//health",
        "/health/",
        "/health/../config",
        "/%2e/config",
        "/login/x",
        "/assets/index.js",
        "//v1/read",
    ):
        assert httpx.get(f"{url}{path}", timeout=PATIENCE).status_code == 401


def test_with_the_visitors_cookie_no_route_answers_another_origin(
    url: str, routes: list[tuple[str, str]]
) -> None:
    with logged_in(url) as visitor:
        for origin in ("http://evil.org", "null", url.replace("127.0.0.1", "localhost"), f"{url}0"):
            for method, path in routes:
                expected = 200 if path == "/health" else 403
                assert status_of(visitor, method, path, headers={"origin": origin}) == expected, path
        assert visitor.get("/config").status_code == 200  # not logged out


def test_no_list_of_routes_can_be_had(url: str) -> None:
    with logged_in(url) as visitor:
        for path in ("/openapi.json", "/docs", "/redoc", "/gradio_api/openapi.json"):
            assert visitor.get(path).status_code == 404


def test_answers_allow_no_other_origin_and_cookies_go_to_no_other_site(url: str) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE) as visitor:
        given = {"username": "bob", "password": "ünï:cödé"}
        answer = visitor.post("/login", data=given, headers={"origin": url})
        attributes = {part.strip() for part in answer.headers["set-cookie"].split(";")[1:]}
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
        for path in ("/", "/config", "/health"):
            headers = visitor.get(path, headers={"origin": url}).headers
            assert not [name for name in headers if name.startswith("access-control-")]
            assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("user", "password"),
    [("ada", ""), ("", ""), ("ada", "lovelacE"), ("bob", "lovelace"), ("x" * 20_000, "y")],
)
def test_a_wrong_password_lets_nobody_in(url: str, user: str, password: str) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE) as visitor:
        assert visitor.post("/login", data={"username": user, "password": password}).status_code == 401
        assert visitor.get("/config").status_code == 401
        assert visitor.get("/config", cookies={"x": "y"}).status_code == 401


def test_logging_out_is_a_post_and_ends_the_session_for_good(url: str) -> None:
    with logged_in(url) as visitor:
        cookies = dict(visitor.cookies)
        assert visitor.get("/logout").status_code == 200
        assert visitor.get("/config").status_code == 200
        assert visitor.post("/logout").is_success
    assert httpx.get(f"{url}/config", cookies=cookies, timeout=PATIENCE).status_code == 401


def test_behind_a_named_proxy_with_tls_the_cookie_is_secure_and_links_lead_there(
    classifier: Classifier,
) -> None:
    address = Address(port=free_port(), accounts=ACCOUNTS, proxies=["127.0.0.1"], root_path="/digits")
    proxied = {"host": "digits.org", "x-forwarded-proto": "https"}
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as visitor:
        lost = visitor.get("/", headers=proxied | {"accept": "text/html"})
        assert (lost.status_code, lost.headers["location"]) == (303, "/digits/login")
        login = {"username": "ada", "password": "lovelace"}
        answer = visitor.post("/login", data=login, headers=proxied | {"origin": "https://digits.org"})
        cookie = answer.headers["set-cookie"]
        assert "; Secure" in cookie
        assert "Path=/digits/;" in cookie
        config = visitor.get("/config", headers=proxied | {"cookie": cookie.partition(";")[0]})
        assert config.json()["root"] == "https://digits.org/digits"
        assert visitor.post("/login", data=login, headers={"origin": "http://digits.org"}).status_code == 403


# Two origins in a real browser


@contextmanager
def elsewhere(page: str) -> Iterator[int]:
    """A server of another origin, at this machine's every name, whose one page is `page`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


ATTACK = """
async ([url, doors]) => {
    const form = new FormData();
    form.append("files", new Blob(["a"]), "a.png");
    const bodies = { upload: form, join: '{"fn_index":0,"data":[""],"session_hash":"x"}' };
    const told = [];
    for (const [method, path] of doors) {
        for (const mode of ["cors", "no-cors"]) {
            const options = { method, mode, credentials: "include" };
            if (method === "POST") options.body = bodies[path.split("/").pop()] ?? "a=b";
            try {
                const answer = await fetch(url + path, options);
                told.push(await answer.text());
            } catch {}
        }
    }
    return told.filter(Boolean);
}
"""
DOORS = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("GET", "/gradio_api/heartbeat/x"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/v1/classify"),
    ("GET", "/metrics"),
]
FORM = """
([url, path]) => {
    const form = Object.assign(document.createElement("form"), { method: "post", action: url + path });
    document.body.append(form);
    form.submit();
}
"""


@pytest.mark.browser
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "another site"])
def test_another_origin_can_do_nothing_as_a_visitor_in_a_real_browser(
    classifier: Classifier, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")
    import browser

    if browser.CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    asked: list[tuple[Message, int]] = []  # with what they were told

    def watched(app: AsgiApp, address: Address) -> AsgiApp:
        inner = gated(app, address)

        async def run(scope: Message, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if "status" in message:
                    asked.append((scope, message["status"]))
                await send(message)

            await inner(scope, receive, sent)

        return run

    monkeypatch.setattr("bnn.app.serve.gated", watched)
    address = Address(port=free_port(), accounts=ACCOUNTS)
    url = address.url.rstrip("/")
    with ExitStack() as open_:
        open_.enter_context(served(classifier, address))
        port = open_.enter_context(elsewhere("<!doctype html><title>elsewhere</title>"))
        context = open_.enter_context(browser.chromium()).new_context()
        context.set_default_timeout(browser.SLOW)
        page = context.new_page()
        page.goto(f"{url}/login")
        page.fill("[name=username]", "ada")
        page.fill("[name=password]", "lovelace")
        page.click("button")
        page.locator(browser.READY).wait_for()  # and so the page's own requests are let through
        attacker = context.new_page()
        attacker.goto(f"http://{host}:{port}/")
        asked.clear()
        assert attacker.evaluate(ATTACK, [url, DOORS]) == []
        got = {(scope["method"], scope["path"]): status for scope, status in asked}
        assert set(got.values()) == {403}
        assert {(method, path.partition("?")[0]) for method, path in DOORS} <= set(got)
        cookies = [dict(scope["headers"]).get(b"cookie", b"") for scope, _ in asked]
        assert any(cookies) is (host == "127.0.0.1")  # from another site the browser keeps it to itself
        for path in ("/logout", "/gradio_api/upload"):
            with attacker.expect_navigation():
                attacker.evaluate(FORM, [url, path])
            assert "may ask for that" in attacker.inner_text("body")
            attacker.goto(f"http://{host}:{port}/")
        attacker.set_content(f'<iframe src="{url}/"></iframe><img src="{url}/logout">')
        attacker.wait_for_load_state("networkidle")
        assert attacker.frames[1].locator("#pad").count() == 0
        page.reload()
        page.locator(browser.READY).wait_for()  # still logged in
