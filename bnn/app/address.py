"""Where the page is served, and to whom."""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from bnn.errors import InputError, shown

MAX_UPLOAD = 50_000_000  # bytes
LEAST_KEY = 16  # characters of an API key
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Address:
    """Where the page is served, and to whom.

    Attributes:
        host, port: where to listen; by default for this machine alone.
        root_path: under which a reverse proxy shows the page, such as "/digits".
        accounts: (user, password) pairs, of which a visitor must give one; none lets everybody in.
        max_upload: bytes of the files that are uploaded in one request.
        proxies: IP addresses, or networks of them, of reverse proxies that are believed where visitors see
            the page, `Host`, `X-Forwarded-Host` and `X-Forwarded-Proto`, and from where, `X-Forwarded-For`.
        names: host names by which visitors reach it without a proxy, beside "localhost", `host` and this
            machine's own.
        api_keys: (name, key) pairs, of which a program must give one; none lets every program in, but none
            where there are accounts.

    Raises:
        InputError: one of them is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    root_path: str = ""
    accounts: Sequence[tuple[str, str]] = ()
    max_upload: int = MAX_UPLOAD
    proxies: Sequence[str] = ()
    names: Sequence[str] = ()
    api_keys: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        try:
            self.host.encode("idna")
        except UnicodeError as error:
            raise InputError(f"{self.host} is no host: give an IP address or a name.") from error
        if not 0 < self.port < 65536:
            raise InputError(f"{self.port} is no port: choose one from 1 to 65535.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise InputError(f"--root-path {self.root_path} must start with a slash, and not end with one.")
        if self.max_upload < 1:
            raise InputError("--max-upload must be above 0.")
        for proxy in self.proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError as error:
                raise InputError(f"--proxy {proxy} is no IP address, and no network of them.") from error
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise InputError(f"--name {name} is no host name: give it without scheme and port.")

    @property
    def url(self) -> str:
        """Of the page, without a reverse proxy."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def is_exposed(self) -> bool:
        """Whether others than this machine's users can reach the page without a password."""
        return not self.accounts and not is_loopback(self.host)

    def path_within(self, path: str) -> str:
        """A request's `path` without `root_path`, whether or not a proxy took that off."""
        within = path.removeprefix(self.root_path)
        return within if within.startswith("/") else path

    def listen(self) -> socket.socket:
        """A socket that listens there.

        Raises:
            InputError: the address cannot be used.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=2048)
        except OSError as error:
            why = (error.strerror or str(error)).partition(" (while")[0].lower()
            raise InputError(
                f"the page cannot be served at {self.host}, port {self.port}: {why}; "
                "choose another port or host."
            ) from error


def accounts_in(path: Path) -> list[tuple[str, str]]:
    """The (user, password) pairs in a file of lines `user:password`; empty lines and # comments are skipped.

    Raises:
        InputError: it cannot be read, holds no account, or has a line without a colon or with an empty half.
    """
    return _pairs(path, "accounts", "account", "user:password")


def api_keys_in(path: Path) -> list[tuple[str, str]]:
    """The (name, key) pairs in a file of lines `name:key`, read as `accounts_in` does.

    Raises:
        InputError: as that, or a key is shorter than `LEAST_KEY` characters or not plain ASCII.
    """
    keys = _pairs(path, "API keys", "API key", "name:key")
    for name, key in keys:
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise InputError(
                f"the key of {shown(name)} in {path} must be of plain letters, digits and signs."
            )
        if len(key) < LEAST_KEY:
            raise InputError(
                f"the key of {shown(name)} in {path} can be guessed: take {LEAST_KEY} characters or more, "
                "such as `openssl rand -hex 24` makes."
            )
    return keys


def _pairs(path: Path, what: str, one: str, form: str) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows begins it with a mark
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"the file of {what} {path} cannot be read: {why}.") from error
    pairs = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, _, secret = line.partition(":")
        if not (name and secret):
            raise InputError(f"line {number} of {path} is no {one}: write {form}.")
        pairs.append((name, secret))
    if not pairs:
        raise InputError(f"the file of {what} {path} holds none: write lines of {form}.")
    return pairs


def is_loopback(host: str) -> bool:
    """Whether only this machine itself reaches that host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
