"""Who may use plain HTTP: whoever has a key, where there are keys or passwords, and not too often."""

import hashlib
import hmac
import json
from collections.abc import Sequence

from bnn.app.address import Address
from bnn.app.bounds import AsgiApp, Message, Receive, Send, answer
from bnn.app.gate import HEALTH
from bnn.app.login import MOST_WRONG, WRONG_SECONDS, Tries, place_of

UNDER, BESIDE = "/v1/", ("/ready", "/metrics")  # where plain HTTP is, beside HEALTH
MOST_REQUESTS, REQUEST_SECONDS = 2_000, 10.0  # of one key, or one place without keys: more than can be judged
_SCHEME = "Bearer "
_ASKS = (b"www-authenticate", b"Bearer")
_LATER = (b"retry-after", str(int(REQUEST_SECONDS)).encode())


def with_keys(programs: AsgiApp, page: AsgiApp, address: Address) -> AsgiApp:
    """`programs` at its paths, for those who have a key of `address.api_keys`; `page` at all others.

    Without keys and without passwords everybody may use it. With passwords and no keys nobody may: a cookie,
    which a browser sends by itself, lets in to the page alone. HEALTH is open to all.
    """
    is_closed = bool(address.api_keys or address.accounts)
    wrong, asked = Tries(MOST_WRONG, WRONG_SECONDS), Tries(MOST_REQUESTS, REQUEST_SECONDS)

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["path"].startswith(UNDER) or scope["path"] in BESIDE):
            await (programs if scope.get("path") == HEALTH else page)(scope, receive, send)
            return
        place = place_of(scope["client"][0])
        who, told = place, dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if is_closed:
            if wrong.are_too_many(place):
                await problem(send, 429, "Too many wrong keys came from where you are: wait five minutes.")
                return
            name = _whose(told.removeprefix(_SCHEME), address.api_keys) if told.startswith(_SCHEME) else None
            if name is None:
                if told:
                    wrong.add(place)
                why = "This key is not known here." if told else "Give a key: Authorization: Bearer KEY."
                await problem(send, 401, why, _ASKS)
                return
            who = f"key {name}"
        if asked.are_too_many(who):
            await problem(
                send, 429, f"These are more than {MOST_REQUESTS:,} requests in ten seconds.", _LATER
            )
            return
        asked.add(who)
        await programs(scope, receive, send)

    return run


def _whose(key: str, keys: Sequence[tuple[str, str]]) -> str | None:
    """The name under which `key` was given out, in a time that tells nothing of the `keys`."""
    given, found = _digest(key), None
    for name, known in keys:
        if hmac.compare_digest(given, _digest(known)):
            found = name
    return found


def _digest(key: str) -> bytes:
    """Of one length whatever the key's, and far from it if they differ at all."""
    return hashlib.sha256(key.encode()).digest()


async def problem(send: Send, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    """Answers with one sentence, as JSON."""
    await answer(send, status, "application/json", json.dumps({"error": why}), headers)
