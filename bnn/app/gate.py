"""Around the web application: who is believed of what they say, and which origin may ask for what.

A browser sends a visitor's cookie along with what any other page asks for. So what another origin asks for is
refused here, and nothing an application says about other origins (CORS) goes out. By what name and scheme the
page goes is taken from a proxy that was named, or else from the `Host` only where it can be this machine's:
another name that leads here (DNS rebinding) would be the same origin to a browser.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from bnn.app.address import Address, is_loopback
from bnn.app.bounds import AsgiApp, Message, Receive, Send, refuse

HEALTH = "/health"  # tells anyone, by whatever name
PAGES = ("/", "/login", "/logout")  # which a link on another page may open
_INFO = "/gradio_api/info"  # which Gradio keeps as the first to ask for it was told
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HEARSAY = (b"x-forwarded-", b"forwarded", b"x-gradio-server", b"x-real-ip", b"host")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OUR_SITE = (b"same-origin", b"none")  # `none` is what the visitor typed


@dataclass(frozen=True)
class _Place:
    """By what scheme and host, with its port, a visitor sees the page."""

    scheme: str
    host: str

    @property
    def origin(self) -> str:
        """As browsers write it."""
        return f"{self.scheme}://{self.host.removesuffix(_DEFAULT_PORTS[self.scheme])}"


def gated(app: AsgiApp, address: Address) -> AsgiApp:
    """`app`, but a name that is not ours gets status 421, and what another origin asks for 403.

    What is forwarded of a request says only what is believed of it.
    """
    proxies = [ip_network(one, strict=False) for one in address.proxies]
    names = _names(address)
    canonical = _Place("http", address.url.split("/")[2])

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        path = address.path_within(scope["path"])
        headers = dict(scope["headers"])
        client = ip_address(scope["client"][0].partition("%")[0])
        by_proxy = any(client in proxy for proxy in proxies)
        place = _place(headers, by_proxy=by_proxy)
        if path == HEALTH:
            place = canonical
        elif place is None or not (by_proxy or _is_ours(place.host, names)):
            await refuse(send, 421, "This page does not go by that name: see --name and --proxy.")
            return
        elif _is_foreign(headers, scope["method"], path, place.origin):
            await refuse(send, 403, f"Only this page itself, at {place.origin}, may ask for that.")
            return
        seen = canonical if path == _INFO else place
        kept = [(name, value) for name, value in scope["headers"] if not name.startswith(_HEARSAY)]
        believed = {
            "scheme": seen.scheme,
            "client": (str(_asking(headers, client) if by_proxy else client), scope["client"][1]),
            "headers": [*kept, (b"host", seen.host.encode())],
            "path": path,
            "raw_path": path.encode(),
        }
        await app({**scope, **believed}, receive, _without_cors(send))

    return run


def _names(address: Address) -> set[str]:
    """By which names the page goes, beside all IP addresses."""
    machine = socket.gethostname().lower()
    reached = set() if is_loopback(address.host) else {machine, f"{machine}.local"}
    return {"localhost", address.host.lower(), *map(str.lower, address.names), *reached}


def _place(headers: Mapping[bytes, bytes], *, by_proxy: bool) -> _Place | None:
    """Where the page is seen, as these headers say; None where they say nothing that could be.

    Of several values the last is the named proxy's own; those before it are what it was told.
    """
    told = headers.get(b"host", b"")
    scheme = "http"
    if by_proxy:
        told = headers.get(b"x-forwarded-host", told)
        scheme = headers.get(b"x-forwarded-proto", b"http").decode("latin-1").split(",")[-1].strip().lower()
    host = told.decode("latin-1").split(",")[-1].strip().lower()
    return _Place(scheme, host) if scheme in _DEFAULT_PORTS and _HOST.fullmatch(host) else None


def _asking(headers: Mapping[bytes, bytes], proxy: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """From which address a `proxy` says that it was asked, last of all; itself where it says none."""
    told = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")[-1].strip()
    try:
        return ip_address(told)
    except ValueError:
        return proxy


def _is_ours(host: str, names: set[str]) -> bool:
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    try:
        ip_address(name)
    except ValueError:
        return name in names
    return True  # an address is resolved by no one, hence nobody else's


def _is_foreign(headers: Mapping[bytes, bytes], method: str, path: str, origin: str) -> bool:
    """Whether another origin than the page's asks. Programs, which are no browsers, say nothing of any."""
    if b"origin" in headers:
        return headers[b"origin"] != origin.encode()
    if headers.get(b"sec-fetch-site", b"none") in _OUR_SITE:
        return False
    how = headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")
    follows_link = method in ("GET", "HEAD") and how == (b"navigate", b"document")
    return not (follows_link and path in PAGES)


def _without_cors(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [one for one in message.get("headers", ()) if not one[0].startswith(b"access-control-")]
            message = {**message, "headers": headers}
        await send(message)

    return sent
