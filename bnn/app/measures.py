"""How plain HTTP does, in Prometheus' form."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bnn.app.bounds import AsgiApp, Message, Receive, Send
from bnn.errors import InputError
from bnn.review.entries import Progress

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
OTHER = "other"  # the path of what is none of ours: a label holds nothing that anybody may choose


class Measures:
    """Counts and times of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bnn_requests", "Requests by path and status", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "bnn_request_seconds",
            "From a request's head to the end of its answer",
            ["path"],
            registry=self._registry,
            buckets=BUCKETS,
        )
        self._images = Counter(
            "bnn_images", "Images and digits by what became of them", ["reason"], registry=self._registry
        )
        self._progress: Callable[[], Progress] | None = None
        self._queue: Gauge | None = None

    def count(self, reasons: Iterable[str]) -> None:
        """Counts images: "answered", or why not."""
        for reason in reasons:
            self._images.labels(reason).inc()

    def watch(self, progress: Callable[[], Progress]) -> None:
        """Has the `progress` of a review told too: how many images wait, and how many have a label."""
        self._progress = progress
        self._queue = Gauge(
            "bnn_queue_images", "Images of the queue for review", ["state"], registry=self._registry
        )

    def text(self) -> bytes:
        """All of it, as Prometheus fetches it."""
        if self._progress is not None and self._queue is not None:
            with suppress(InputError):  # a database that is away keeps nothing else from being told
                far = self._progress()
                self._queue.labels("waiting").set(far.waiting)
                self._queue.labels("reviewed").set(far.reviewed)
        return generate_latest(self._registry)

    def measured(self, app: AsgiApp, paths: Iterable[str]) -> AsgiApp:
        """`app`, whose requests are counted and timed, each under its path where that is one of `paths`."""
        known = set(paths)

        async def run(scope: Message, receive: Receive, send: Send) -> None:
            path, begun, status = scope["path"] if scope["path"] in known else OTHER, time.monotonic(), 0

            async def sent(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, sent)
            finally:
                self._requests.labels(path, str(status)).inc()
                self._seconds.labels(path).observe(time.monotonic() - begun)

        return run
