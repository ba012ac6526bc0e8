"""A training run from configuration to checkpoint file."""

import difflib
import inspect
import logging
import math
import signal
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
from pytorch_lightning.loggers import CSVLogger

from bnn import checkpoint as checkpoint_file
from bnn.checkpoint import Checkpoint
from bnn.decide.rules import RULES
from bnn.errors import InputError, choose
from bnn.files import require_free
from bnn.learn.calibration import calibrated
from bnn.learn.config import TrainConfig
from bnn.learn.datamodule import MNISTData
from bnn.learn.guide import MixtureGuide
from bnn.learn.module import SVIModule
from bnn.learn.runs import is_from, keep_log, last_checkpoint, new_run, run_to_resume
from bnn.progress import Lines

OURS = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "barebones", "fast_dev_run")


class _ProgressBar(RichProgressBar):
    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{self._component}, {super()._get_train_description(current_epoch).lower()}"

    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in super().get_metrics(*args).items() if name != "v_num"}


class _ProgressLines(ProgressBar):
    """What `_ProgressBar` is on a terminal, for files and pipes: a line now and then."""

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


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    runs: str | Path = "runs",
    resume: bool = False,
    overwrite: bool = False,
    trainer_options: Mapping[str, Any] | None = None,
) -> Checkpoint | None:
    """Trains the components, mixes and calibrates them, and writes the checkpoint to `out`.

    Lightning's log (CSV) and resumable checkpoints go to a new folder under `runs` after every epoch.
    A component that ends by itself keeps its last epoch, so that the calibration digits have chosen
    nothing. Ctrl-C ends the training and keeps the components that were done, or else the epoch of the
    first that was best on the calibration digits.

    Args:
        config: what to train.
        out: where the checkpoint goes.
        data_dir, download: see `bnn.data.load_digits`.
        runs: folder of the runs.
        resume: whether to go on with the latest run under `runs`, which must have the same `config`.
        overwrite: whether the checkpoint takes the place of a file that is there already. One that the
            resumed run wrote is replaced in any case.
        trainer_options: arguments of Lightning's `Trainer`.

    Returns:
        The checkpoint; None on the ranks of a distributed run that write none.

    Raises:
        InputError: the data cannot be had, the configuration cannot be built, the Trainer refuses its
            options, there is no run to resume, or `out` is there already.
    """
    require_free(out, overwrite=overwrite or (resume and is_from(Path(out), config)))
    data = MNISTData(
        config.data,
        data_dir,
        seed=config.seed,
        batch_size=config.batch_size,
        augment=config.augment,
        download=download,
    )
    rule = choose(RULES, config.rule, "abstention rule")
    rule.require_fittable(len(data.calibration_digits), config.wishes)
    run = run_to_resume(Path(runs), config) if resume else new_run(Path(runs))
    fits = _fit_all(config, data, run, trainer_options or {})
    if not fits[-1].trainer.is_global_zero:
        return None
    training = {
        "interrupted": any(fit.trainer.interrupted for fit in fits) or len(fits) < config.components,
        "epochs_done": fits[-1].trainer.current_epoch,
        "components_done": len(fits),
    }
    guide = MixtureGuide([fit.module.guide for fit in fits])
    checkpoint = calibrated(config, guide, data, training)
    checkpoint_file.save(checkpoint, out)
    return checkpoint


class _Fit(NamedTuple):
    """A component's training after it has ended, by itself or by Ctrl-C."""

    trainer: pl.Trainer
    module: SVIModule


def _fit_all(config: TrainConfig, data: MNISTData, run: Path, options: Mapping[str, Any]) -> list[_Fit]:
    """One component after another; after Ctrl-C those that were done, or the first as it was at its best."""
    fits: list[_Fit] = []
    for component in range(config.components):
        fits.append(_fit(config, component, data, run / str(component), options))
        if fits[-1].trainer.interrupted:
            break
    done = [fit for fit in fits if not fit.trainer.interrupted]
    if not done:
        _restore_best(*fits[0])
    return done or fits


def _fit(
    config: TrainConfig, component: int, data: MNISTData, folder: Path, options: Mapping[str, Any]
) -> _Fit:
    """Trains one component, or what is left of it, with its start and noise depending on nothing else."""
    seed = hash((config.seed, component)) % 2**32
    pl.seed_everything(seed, verbose=False)
    module = SVIModule(config, len(data.train_digits))
    trainer = _trainer(config, component, folder, options)
    last = last_checkpoint(folder)
    keep_log(folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the data lie in memory
            warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning against a newer torch
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a resumed run's folder
            warnings.filterwarnings("ignore", ".*will be replaced by.*DistributedSampler.*")  # which shuffles
            trainer.fit(module, data.with_noise(seed), ckpt_path=last, weights_only=True)
    except MisconfigurationException as error:
        raise InputError(_trainer_refuses(error)) from error
    except SystemExit:  # how Lightning ends a fit after Ctrl-C
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning had switched off
    return _Fit(trainer, module)


def _restore_best(trainer: pl.Trainer, module: SVIModule) -> None:
    saver = trainer.checkpoint_callback
    best = saver.best_model_path if isinstance(saver, ModelCheckpoint) else ""
    if not best:
        raise InputError(
            "the training was interrupted before its first epoch ended: there is nothing to keep."
        )
    module.load_state_dict(torch.load(best, weights_only=True)["state_dict"])


def _trainer(config: TrainConfig, component: int, folder: Path, options: Mapping[str, Any]) -> pl.Trainer:
    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in OURS]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise InputError(
                f"--trainer.{name} is no option of the training: did you mean {', '.join(near)}?"
            )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logger = CSVLogger(folder.parent, name="", version=folder.name)
    savers = [  # the best first: `_restore_best` asks the first, and the last.ckpt tells where it lies
        ModelCheckpoint(folder, name, monitor, save_on_train_epoch_end=True, enable_version_counter=False)
        for name, monitor in (("best", "calibration_nll"), ("last", None))
    ]
    defaults = {
        "max_epochs": config.epochs,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    shown = options.get("enable_progress_bar", True)
    kind = _ProgressBar if sys.stdout.isatty() else _ProgressLines
    bar = [kind(f"component {component + 1}/{config.components}")] if shown else []
    try:
        return pl.Trainer(logger=logger, callbacks=[*savers, *bar], **{**defaults, **options})
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(_trainer_refuses(error)) from error


def _trainer_refuses(error: Exception) -> str:
    return f"Lightning's Trainer refuses its options: {' '.join(str(error).split()).rstrip('.')}."
