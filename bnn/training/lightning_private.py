"""What is private of Lightning, or promised by no word of its documentation, and must be used.

Read in Lightning 2.6.6. With another version, see whether each still is what it is taken for:

- `RichProgressBar._get_train_description`, the words before the bar (callbacks/progress/rich_progress.py);
- `Trainer.fit` after Ctrl-C, which ignores further ones for good and raises SystemExit (trainer/call.py);
- `Trainer.log_every_n_steps`, set by a part of it (trainer/connectors/logger_connector/logger_connector.py);
- `MisconfigurationException`, by which the Trainer refuses its options, and which lies in another package;
- the words of its warnings.
"""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import RichProgressBar

__all__ = ("ComponentBar", "MisconfigurationException", "fitting", "is_logged")

_NEEDLESS = (  # warnings
    ".*does not have many workers.*",  # the data lie in memory
    ".*LeafSpec.*",  # Lightning against a newer torch
    ".*exists and is not empty.*",  # a resumed run's folder
    ".*will be replaced by.*DistributedSampler.*",  # which shuffles
    ".*but have no `val_dataloader`.*",  # what the contrast learns is watched by none
    ".*GPU available but not used.*",  # for which the contrast is too small
)


class ComponentBar(RichProgressBar):
    """Lightning's bar, with the component before the epoch, and without the number of the run.

    Args:
        component: which one it is, for people.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{self._component}, {super()._get_train_description(current_epoch).lower()}"

    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in super().get_metrics(*args).items() if name != "v_num"}


def is_logged(trainer: pl.Trainer) -> bool:
    """Whether what is told of the step being taken goes into the log, for people or files."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and (trainer.global_step + 1) % every == 0


@contextmanager
def fitting(trainer: pl.Trainer) -> Iterator[None]:
    """Around `trainer.fit`: needless warnings are not shown, and Ctrl-C ends the fit and nothing else."""
    try:
        with warnings.catch_warnings():
            for words in _NEEDLESS:
                warnings.filterwarnings("ignore", words)
            yield
    except SystemExit:  # how Lightning ends a fit after Ctrl-C
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning had switched off
