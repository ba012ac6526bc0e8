"""Connections: how long one may take to ask, how many there may be, and which goes where there are too many.

By itself uvicorn waits for ever for a request that is never finished, and takes connections until the system
has no more: then nobody gets in.
"""

import asyncio
import socket
from collections import Counter

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 600  # most systems give a program 1,024 files and connections together
AT_ONCE = 100  # connections that are taken before one of too many goes
HEAD_SECONDS = 10.0  # from a connection, or an answer, until the next request's head is there
SILENT_SECONDS = 20.0  # of a request in which nothing comes, or of an answer in which nothing is taken
REQUEST_SECONDS = 600.0  # until a request is there whole: 50 MB at 700 kbit/s


class Patience(H11Protocol):
    """A connection that is closed where its client takes too long, or where there are too many.

    Of too many goes one of the address that has the most: the one that has waited longest of those without a
    whole request, or else the oldest.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # What is small goes at once, not after 40 ms: asyncio sees to that where it made the socket.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._began = self._since = self._heard = self.loop.time()
        self._unsent, self._taken = 0, self._began
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)
        if len(self.connections) > MOST_CONNECTIONS:
            one = _dispensable([one for one in self.connections if isinstance(one, Patience)])
            self.connections.discard(one)  # now, and not only when it is lost
            one.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.conn.their_state
        self._heard = self.loop.time()
        super().data_received(data)
        if self.conn.their_state is not before:
            self._since = self._heard

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    @property
    def is_asking(self) -> bool:
        """Whether its request is not there whole."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _look(self) -> None:
        """Closes the connection where its client took too long, and else looks again later."""
        if self.transport.is_closing():
            self.transport.abort()  # it was closed before, and its client takes nothing
            return
        now = self.loop.time()
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._taken = unsent, now
        left = min(self._deadline(now), self._taken + SILENT_SECONDS) - now
        if left > 0:
            self._watch = self.loop.call_later(min(left, HEAD_SECONDS), self._look)
        else:
            self.transport.abort()

    def _deadline(self, now: float) -> float:
        if self.conn.their_state is h11.IDLE:
            return self._since + HEAD_SECONDS
        if self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            return min(self._heard + SILENT_SECONDS, self._since + REQUEST_SECONDS)
        return now + HEAD_SECONDS

    def age(self) -> tuple[bool, float]:
        """By which connections go: the lowest first."""
        return not self.is_asking, self._since if self.is_asking else self._began


def _dispensable(connections: list[Patience]) -> Patience:
    """The one to close: of the address with the most, the first by `Patience.age`."""
    counts = Counter(map(_address, connections))
    most, _ = counts.most_common(1)[0]
    return min((one for one in connections if _address(one) == most), key=Patience.age)


def _address(connection: Patience) -> str:
    return connection.client[0] if connection.client else ""
