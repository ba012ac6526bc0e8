"""Passwords: who has given one is let in, everyone else gets the login and `/health` alone."""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from html import escape
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import parse_qs

from fastapi.requests import HTTPConnection

from bnn.app.address import Address
from bnn.app.bounds import AsgiApp, Message, Receive, Send, answer, refuse
from bnn.app.gate import HEALTH

LOGIN, LOGOUT = "/login", "/logout"
MOST_SESSIONS = 10_000  # visitors who are logged in; the one who came longest ago goes first
SESSION_SECONDS = 12 * 3600.0
MOST_FORM_BYTES = 10_000
MOST_WRONG, WRONG_SECONDS = 10, 300.0  # wrong passwords from one place within so long; then it has to wait
MOST_PLACES = 10_000  # from where wrong passwords came; the one whose first came longest ago goes first
_HELD = "Too many wrong passwords came from where you are: wait five minutes."
_WRONG = "This user with this password is not known here."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 1rem system-ui, sans-serif; max-width: 20rem; margin: 4rem auto; padding: 0 1rem }}
label, button {{ display: block; margin-top: 1rem }} input {{ width: 100%; font: inherit; padding: 0.4rem }}
button {{ font: inherit; padding: 0.4rem 1.2rem }}</style></head>
<body><main><h1>{title}</h1><p role="status">{said}</p>
<form method="post">{fields}<button>{title}</button></form></main></body></html>"""
_FIELDS = (
    '<label>User <input name="username" autocomplete="username" required autofocus></label>'
    '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
)


class Sessions:
    """Who is logged in: random tokens, which end by themselves."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._ends: OrderedDict[str, float] = OrderedDict()
        self._clock = clock

    def begin(self) -> str:
        """A token that lets in for `SESSION_SECONDS`."""
        token = secrets.token_urlsafe(32)
        self._ends[token] = self._clock() + SESSION_SECONDS
        while len(self._ends) > MOST_SESSIONS:
            self._ends.popitem(last=False)
        return token

    def lets_in(self, token: str) -> bool:
        """Whether it was given out, and has not ended."""
        return self._ends.get(token, 0.0) > self._clock()

    def end(self, token: str) -> None:
        """Lets it in no longer."""
        self._ends.pop(token, None)


class Tries:
    """How often something came from a place, such as wrong passwords from an address.

    Args:
        most: of them within `seconds`; then the place has to wait until these are over.
        seconds: since the first.
        clock: tells the seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and since when
        self._most, self._seconds, self._clock = most, seconds, clock

    def are_too_many(self, place: str) -> bool:
        """Whether `place` has to wait before another try."""
        count, _ = self._of(place)
        return count >= self._most

    def add(self, place: str) -> None:
        """Counts one more from `place`."""
        count, since = self._of(place)
        self._tries[place] = (count + 1, since)
        while len(self._tries) > MOST_PLACES:
            self._tries.popitem(last=False)

    def _of(self, place: str) -> tuple[int, float]:
        count, since = self._tries.get(place, (0, self._clock()))
        if self._clock() - since < self._seconds:
            return count, since
        del self._tries[place]
        return 0, self._clock()


def place_of(client: str) -> str:
    """Where an IP address is: that address, or the network that one IPv6 customer has to choose it from."""
    address = ip_address(client.partition("%")[0])
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network(f"{address}/64", strict=False))
    return str(address)


def with_login(app: AsgiApp, address: Address) -> AsgiApp:
    """`app` for those who gave a password of `address.accounts`; for everyone where there are none.

    Others get `/health` and the login. Logging out is a POST: a link, or a picture's address, does it to
    nobody. Whoever gave `MOST_WRONG` wrong passwords gets status 429 for a while, with the right one too.
    """
    sessions, tries = Sessions(), Tries(MOST_WRONG, WRONG_SECONDS)
    name = f"bnn-{address.port}"  # a browser tells hosts apart by no port
    if not address.accounts:
        return app

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await app(scope, receive, send)
            return
        path, asking = scope["path"], HTTPConnection(scope)
        token = asking.cookies.get(name, "")
        is_browser = "text/html" in asking.headers.get("accept", "")
        match scope["method"], path:
            case "POST", "/login":
                form, place = await _form(receive), place_of(scope["client"][0])
                if tries.are_too_many(place):
                    await _deny(send, 429, _HELD, is_browser=is_browser)
                elif _is_known(form, address.accounts):
                    cookie = _set(name, sessions.begin(), address, is_safe=scope["scheme"] == "https")
                    await _done(send, cookie, address, is_browser=is_browser)
                else:
                    tries.add(place)
                    await _deny(send, 401, _WRONG, is_browser=is_browser)
            case "POST", "/logout":
                sessions.end(token)
                await _done(send, _set(name, "", address, is_safe=False), address, is_browser=is_browser)
            case "GET" | "HEAD", "/login":
                await _show(send, 200, "Log in", "", _FIELDS)
            case _ if not sessions.lets_in(token):
                await _turn_away(send, address, is_lost=is_browser and path == "/")
            case "GET" | "HEAD", "/logout":
                await _show(send, 200, "Log out", "", "")
            case _:
                await app(scope, receive, send)

    return run


async def _form(receive: Receive) -> dict[str, str]:
    """The fields of a short form; none where it is a long one, or its sender has gone."""
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return {}
        content, more = content + message.get("body", b""), message.get("more_body", False)
        if len(content) > MOST_FORM_BYTES:
            return {}
    fields = parse_qs(content.decode("utf-8", "replace"))
    return {name: values[-1] for name, values in fields.items()}


def _is_known(form: Mapping[str, str], accounts: Sequence[tuple[str, str]]) -> bool:
    """Whether a form's user and password are one of the `accounts`, in a time that tells nothing of them."""
    given = form.get("username", "").strip().encode(), form.get("password", "").encode()
    found = False
    for user, password in accounts:
        same = hmac.compare_digest(given[0], user.encode()), hmac.compare_digest(given[1], password.encode())
        found |= all(same)
    return found


def _set(name: str, value: str, address: Address, *, is_safe: bool) -> tuple[bytes, bytes]:
    lasts = int(SESSION_SECONDS) if value else 0
    cookie = f"{name}={value}; Path={address.root_path}/; Max-Age={lasts}; HttpOnly; SameSite=Lax"
    return b"set-cookie", (cookie + "; Secure" * is_safe).encode()


async def _done(send: Send, cookie: tuple[bytes, bytes], address: Address, *, is_browser: bool) -> None:
    if is_browser:
        await answer(send, 303, "text/plain", "", [cookie, _to(f"{address.root_path}/")])
    else:
        await answer(send, 200, "application/json", '{"success": true}', [cookie])


async def _deny(send: Send, status: int, why: str, *, is_browser: bool) -> None:
    if is_browser:
        await _show(send, status, "Log in", why, _FIELDS)
    else:
        await refuse(send, status, why)


async def _turn_away(send: Send, address: Address, *, is_lost: bool) -> None:
    if is_lost:
        await answer(send, 303, "text/plain", "", [_to(f"{address.root_path}{LOGIN}")])
    else:
        await refuse(send, 401, "This asks for a password: log in.")


async def _show(send: Send, status: int, title: str, said: str, fields: str) -> None:
    page = _PAGE.format(title=title, said=escape(said), fields=fields)
    await answer(send, status, "text/html", page, [(b"cache-control", b"no-store")])


def _to(path: str) -> tuple[bytes, bytes]:
    """Where a browser should go, on the host that it asked."""
    return b"location", path.encode()
