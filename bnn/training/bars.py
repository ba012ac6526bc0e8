"""How far a training is: a bar on a terminal, elsewhere a line now and then."""

import math
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from bnn.progress import Lines
from bnn.training.lightning_private import ComponentBar


class _ProgressLines(ProgressBar):
    """What `ComponentBar` is on a terminal, for files and pipes."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component, self._is_disabled = component, False

    def disable(self) -> None:
        self._is_disabled = True

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._done = trainer.global_step
        total = trainer.estimated_stepping_batches - self._done
        self._lines = None if self._is_disabled or math.isinf(total) else Lines(int(total))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._lines is not None:
            self._lines.advance(trainer.global_step - self._done, f"training {self._component}")
            self._done = trainer.global_step


def training_bar(component: str) -> ProgressBar:
    """A callback that says how far the training of `component` is, called so for people."""
    return ComponentBar(component) if sys.stdout.isatty() else _ProgressLines(component)
