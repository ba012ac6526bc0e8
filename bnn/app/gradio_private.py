"""What is private of Gradio, or promised by no word of its documentation, and must be used.

Read in Gradio 6.31.0. With another version, see whether each still is what it is taken for:

- `GRADIO_ANALYTICS_CACHE_FREQUENCY` and `GRADIO_ANALYTICS_MAX_EVENTS`, of the environment;
- `Blocks.preprocess_data`, through which every value that a browser sends passes (blocks.py);
- `Blocks.GRADIO_CACHE`, the folder of uploads (blocks.py);
- `Blocks.state_session_capacity`, `has_launched` and `is_running`, which `launch` sets and mounting does not;
- `Blocks.process_api`, which fills `SessionState.config_values` with what every component was last given and
  gave, for a link to it that nobody can make here (state_holder.py);
- `Blocks._queue` (queueing.py): `event_ids_to_events`, the requests that wait or run;
  `pending_messages_per_session`, the answers that wait to be fetched; `pending_event_ids_session`;
- `utils.MatplotlibBackendMananger`, in which every function of a page is called (blocks.py);
- `Blocks.upload_file_set`, the paths of all that was ever uploaded (routes.py).
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import LRUCache

MOST_KEPT_BYTES = 64_000_000  # of answers that wait to be fetched, all visitors together
SIZE = "bnn.size"  # under which a request's scope says how many bytes its body had
_OVERHEAD = 100  # bytes, about, of a Python object besides what it holds
_MESSAGE = 2000  # bytes, about, of what tells progress and queue
_MOST_VISITORS = 2000  # whose answers are kept

_SETTINGS = {  # that Gradio takes from the environment alone
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Else it computes statistics of the last 10,000 events after each event.
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**18),
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}


def set_environment() -> None:
    """Sets what Gradio takes from the environment alone; to be called before a page is built."""
    os.environ.update(_SETTINGS)
    os.environ.setdefault("MPLBACKEND", "agg")  # to find one out, Matplotlib imports all that draws


def import_what_answers_need() -> None:
    """Imports what Gradio asks around every answer: Matplotlib, for its backend.

    To be called as soon as a page is served: the first answer would else be late, and all other requests with
    it, which wait while that is imported.
    """
    with suppress(ImportError):  # it is not of the page's packages
        import_module("matplotlib")


class Page(gr.Blocks):
    """Blocks that take no file but uploaded ones, and answer values they cannot use with one sentence.

    Gradio's own would fetch a URL, and, where it is mounted in an application, read any file of the server's.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *others: Any, **options: Any) -> Any:
        try:
            folder = Path(self.GRADIO_CACHE).resolve()
            if not all(Path(path).resolve().is_relative_to(folder) for path in _paths(inputs)):
                raise gr.Error("A file must be uploaded here: no other is read or fetched.")
            return await super().preprocess_data(block_fn, inputs, *others, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:  # values of the wrong type raise exceptions of nearly any kind
            raise gr.Error("These values cannot be used here.", print_exception=False) from error

    async def process_api(self, block_fn: Any, inputs: list[Any], *others: Any, **options: Any) -> Any:
        state = others[0] if others else options.get("state")
        try:
            return await super().process_api(block_fn, inputs, *others, **options)
        finally:
            if state is not None:
                state.config_values.clear()

    def keep_few_answers(self) -> None:
        """Has at most `MOST_KEPT_BYTES` of answers wait to be fetched; to be called after `queue`."""
        answers: Any = Answers(self._queue.pending_event_ids_session)
        self._queue.pending_messages_per_session = answers

    def waiting_bytes(self) -> int:
        """The size of all requests that wait to be answered, as they came."""
        events = list(self._queue.event_ids_to_events.values())
        return sum(event.request.scope.get(SIZE, 0) for event in events)

    def forget_deleted(self) -> None:
        """Forgets the paths of uploads that are deleted."""
        self.upload_file_set -= {path for path in list(self.upload_file_set) if not Path(path).exists()}

    def remember(self, visitors: int) -> None:
        """Has Gradio remember what so many visitors see; `gr.mount_gradio_app` has no argument for it."""
        self.state_session_capacity = visitors

    def mounted(self) -> None:
        """Says that the page is served; `gr.mount_gradio_app` does not.

        Without it Gradio does not check which files it reads and shows.
        """
        self.has_launched = self.is_running = True


class Answers(LRUCache[str, "_Messages"]):
    """Messages to each visitor's session that wait to be fetched: a bounded number of bytes.

    Where there are more, the session goes that holds the most and that nobody listens to; what is sent to a
    session that went is lost, and its visitor is told that it is gone.
    """

    def __init__(self, event_ids: dict[str, set[str]]) -> None:
        super().__init__(_MOST_VISITORS)
        self._event_ids = event_ids
        self.size = 0

    def __setitem__(self, session: str, _: object) -> None:
        super().__setitem__(session, _Messages(self))

    def __missing__(self, session: str) -> "_Messages":
        return _Messages(None)

    def __delitem__(self, session: str) -> None:
        if session in self:
            self.size -= self[session].size
            super().__delitem__(session)
            self._event_ids.pop(session, None)

    def popitem(self, last: bool = True) -> tuple[str, "_Messages"]:
        session = next(reversed(self) if last else iter(self))
        messages = self[session]
        del self[session]
        return session, messages

    def count(self, size: int) -> None:
        """Takes note that the messages grew by `size` bytes, and drops what is too much."""
        self.size += size
        while self.size > MOST_KEPT_BYTES:
            largest = max(self, key=lambda session: (not self[session].is_heard, self[session].size))
            del self[largest]


class _Messages(asyncio.Queue[Any]):
    """Messages to one session, which tell the `answers` that they belong to how large they are."""

    def __init__(self, answers: Answers | None) -> None:
        super().__init__()
        self._answers = answers
        self._listeners = 0
        self.size = 0

    @property
    def is_heard(self) -> bool:
        """Whether someone waits for the next message."""
        return self._listeners > 0

    async def get(self) -> Any:
        self._listeners += 1
        try:
            return await super().get()
        finally:
            self._listeners -= 1

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._count(weight(item))

    def _get(self) -> Any:
        item = super()._get()
        self._count(-weight(item))
        return item

    def _count(self, size: int) -> None:
        self.size += size
        answers = self._answers
        if answers is not None and any(one is self for one in answers.values()):
            answers.count(size)


def weight(message: Any) -> int:
    """About how many bytes a message to a visitor takes."""
    size, left = _MESSAGE, [getattr(message, "output", None)]
    while left:
        value = left.pop()
        if isinstance(value, str):
            size += sys.getsizeof(value)
        elif isinstance(value, dict):
            size += _OVERHEAD * (1 + len(value))
            left += value.values()
        elif isinstance(value, list | tuple):
            size += _OVERHEAD
            left += value
        else:
            size += _OVERHEAD
    return size


def _paths(values: list[Any]) -> Iterator[str]:
    """The paths of all files in `values`, which are JSON of any depth."""
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if isinstance(value.get("path"), str):
                yield value["path"]
        elif isinstance(value, list):
            left += value
