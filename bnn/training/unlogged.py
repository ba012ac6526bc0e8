"""Trainings that leave nothing behind: no log, no state to resume from."""

import logging
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from bnn.training.bars import training_bar
from bnn.training.lightning_private import fitting
from bnn.training.module import SVIModule


def fit_unlogged(
    module: SVIModule,
    batches: Any,
    epochs: int,
    what: str,
    *,
    steps: int = -1,
    callbacks: Sequence[pl.Callback] = (),
    quiet: bool = False,
) -> bool:
    """Fits `module` on the processor, and says whether it got to the end: it may be interrupted.

    Args:
        module: is changed.
        batches: a data module, or what gives pairs of images and labels; of images held out none are asked.
        epochs: passes over them.
        what: is fitted, for people.
        steps: after which it ends in any case; -1 for none.
        callbacks: look on.
        quiet: whether nothing says how far it is.

    Raises:
        DivergedError: the training diverged.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,  # the images held out choose nothing
        enable_progress_bar=not quiet,
        callbacks=[*callbacks, *([] if quiet else [training_bar(what)])],
    )
    with fitting(trainer):
        trainer.fit(module, batches)
    return not trainer.interrupted
