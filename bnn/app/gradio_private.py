"""What is private of Gradio, or promised by no word of its documentation, and must be used.

Read in Gradio 6.31.0. With another version, see whether each still is what it is taken for:

- `GRADIO_ANALYTICS_CACHE_FREQUENCY` and `GRADIO_ANALYTICS_MAX_EVENTS`, of the environment;
- `Blocks.preprocess_data`, through which every value that a browser sends passes (blocks.py);
- `Blocks.GRADIO_CACHE`, the folder of uploads (blocks.py);
- `Blocks.state_session_capacity`, `has_launched` and `is_running`, which `launch` sets and mounting does not.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

_SETTINGS = {  # that Gradio takes from the environment alone
    "GRADIO_ANALYTICS_ENABLED": "False",
    # Else it computes statistics of the last 10,000 events after each event.
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**18),
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}


def set_environment() -> None:
    """Sets what Gradio takes from the environment alone; to be called before a page is built."""
    os.environ.update(_SETTINGS)


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

    def remember(self, visitors: int) -> None:
        """Has Gradio remember what so many visitors see; `gr.mount_gradio_app` has no argument for it."""
        self.state_session_capacity = visitors

    def mounted(self) -> None:
        """Says that the page is served; `gr.mount_gradio_app` does not.

        Without it Gradio does not check which files it reads and shows.
        """
        self.has_launched = self.is_running = True


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
