"""A training run from configuration to checkpoint file."""

import difflib
import inspect
import logging
import signal
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.nn.functional import nll_loss

from bnn import checkpoint as checkpoint_file
from bnn.checkpoint import Checkpoint
from bnn.decide.ensemble import PredictiveEnsemble, draw_weights
from bnn.decide.rules import fit_rule, require_fittable
from bnn.errors import InputError
from bnn.files import require_writable
from bnn.learn.config import TrainConfig
from bnn.learn.datamodule import MNISTData
from bnn.learn.module import SVIModule
from bnn.networks import build_network
from bnn.sources import progress_bar

OURS = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "barebones", "fast_dev_run")


class _ProgressBar(RichProgressBar):
    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        return {name: value for name, value in super().get_metrics(*args).items() if name != "v_num"}


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    runs: str | Path = "runs",
    resume: bool = False,
    trainer_options: Mapping[str, Any] | None = None,
) -> Checkpoint | None:
    """Trains, calibrates and writes the checkpoint to `out`.

    Lightning's log (CSV) and resumable checkpoints go to a new folder under `runs` after every epoch.
    Ctrl-C ends the training and keeps the epoch that was best on the calibration digits; a run that
    ends by itself keeps its last epoch, so that the calibration digits have chosen nothing.

    Args:
        config: what to train.
        out: where the checkpoint goes.
        data_dir, download: see `bnn.data.load_digits`.
        runs: folder of the runs.
        resume: whether to go on with the latest run under `runs`, which must have the same `config`.
        trainer_options: arguments of Lightning's `Trainer`.

    Returns:
        The checkpoint; None on the ranks of a distributed run that write none.

    Raises:
        InputError: the data cannot be had, the configuration cannot be built, the Trainer refuses its
            options, or there is no run to resume.
    """
    require_writable(out)
    pl.seed_everything(config.seed, verbose=False)
    data = MNISTData(
        config.data,
        data_dir,
        seed=config.seed,
        batch_size=config.batch_size,
        augment=config.augment,
        download=download,
    )
    require_fittable(config.rule, len(data.calibration_digits), config.refuse)
    module = SVIModule(config, len(data.train_digits))
    last = _latest(Path(runs), module) if resume else None
    if last is not None:
        _keep_log(last.parent)
    trainer = _trainer(config, Path(runs), last, trainer_options or {})
    interrupted = _fit(trainer, module, data, last)
    if not trainer.is_global_zero:
        return None
    checkpoint = calibrated(module, data, {"interrupted": interrupted, "epochs_done": trainer.current_epoch})
    checkpoint_file.save(checkpoint, out)
    return checkpoint


def calibrated(module: SVIModule, data: MNISTData, training: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of a fitted guide: its ensemble's answers to the calibration digits, and the rule.

    Args:
        module: holds the fitted guide.
        data: holds the calibration digits.
        training: what else the record should say of the training, plain values.
    """
    config, digits = module.config, data.calibration_digits
    posterior = module.guide.posterior()
    loc = {name: loc[None].cpu() for name, (loc, _) in posterior.items()}
    scale = {name: scale[None].cpu() for name, (_, scale) in posterior.items()}
    network = build_network(config.network, config.network_options)
    ensemble = PredictiveEnsemble(network, draw_weights(loc, scale, config.draws, config.seed))
    predictive = ensemble.predictive(digits.images, progress_bar("judging the calibration digits"))
    rule = fit_rule(config.rule, predictive, config.refuse)
    answered = ~rule.refuses(predictive)
    wrong = rule.labels(predictive) != digits.labels
    return Checkpoint(
        network=config.network,
        network_options=dict(config.network_options),
        loc=loc,
        scale=scale,
        draws=config.draws,
        seed=config.seed,
        calibration={**predictive.tensors(), "labels": digits.labels},
        rule=rule.to_dict(),
        record={
            "config": asdict(config),
            "data": {
                "name": config.data,
                "fingerprint": data.fingerprint,
                "trained_on": len(data.train_digits),
                "calibrated_on": len(digits),
            },
            "training": dict(training),
            "calibration": {
                "accuracy": 1 - wrong.double().mean().item(),
                "nll": _nll(predictive.mean, digits.labels),
                "coverage": answered.double().mean().item(),
                "errors_among_answered": int((wrong & answered).sum()),
            },
        },
    )


def _nll(mean: Tensor, labels: Tensor) -> float:
    """Mean NLL in nats; a probability rounded to 0 counts as the smallest float."""
    return nll_loss(mean.clamp_min(torch.finfo(mean.dtype).tiny).log(), labels).item()


def _fit(trainer: pl.Trainer, module: SVIModule, data: MNISTData, last: Path | None) -> bool:
    """Whether the user ended the training before it was done."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the data lie in memory
            warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning against a newer torch
            warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a resumed run's folder
            warnings.filterwarnings("ignore", ".*will be replaced by.*DistributedSampler.*")  # which shuffles
            trainer.fit(module, data, ckpt_path=None if last is None else str(last), weights_only=True)
    except MisconfigurationException as error:
        raise InputError(_trainer_refuses(error)) from error
    except SystemExit:  # how Lightning ends a fit after Ctrl-C
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning had switched off
        _restore_best(trainer, module)
    return bool(trainer.interrupted)


def _restore_best(trainer: pl.Trainer, module: SVIModule) -> None:
    saver = trainer.checkpoint_callback
    best = saver.best_model_path if isinstance(saver, ModelCheckpoint) else ""
    if not best:
        raise InputError(
            "the training was interrupted before its first epoch ended: there is nothing to keep."
        )
    module.load_state_dict(torch.load(best, weights_only=True)["state_dict"])


def _trainer(config: TrainConfig, runs: Path, last: Path | None, options: Mapping[str, Any]) -> pl.Trainer:
    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in OURS]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise InputError(
                f"--trainer.{name} is no option of the training: did you mean {', '.join(near)}?"
            )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logger = CSVLogger(runs, name="", version=None if last is None else last.parent.name)
    saver = ModelCheckpoint(
        logger.log_dir, "best", monitor="calibration_nll", save_last=True, save_on_train_epoch_end=True
    )
    defaults = {
        "max_epochs": config.epochs,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    bar = [_ProgressBar()] if options.get("enable_progress_bar", True) else []
    try:
        return pl.Trainer(logger=logger, callbacks=[saver, *bar], **{**defaults, **options})
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(_trainer_refuses(error)) from error


def _trainer_refuses(error: Exception) -> str:
    return f"Lightning's Trainer refuses its options: {' '.join(str(error).split()).rstrip('.')}."


def _keep_log(run: Path) -> None:
    """Renames the log of a run about to be resumed, which Lightning would replace."""
    log = run / "metrics.csv"
    if log.exists():
        log.rename(run / f"metrics-{len(list(run.glob('metrics*.csv')))}.csv")


def _latest(runs: Path, module: SVIModule) -> Path:
    """The newest resumable checkpoint under `runs`."""
    found = sorted(runs.glob("*/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"there is no run to resume in {runs}: start one without --resume.")
    started = torch.load(found[-1], weights_only=True)["hyper_parameters"]["config"]
    changed = [name for name, value in asdict(module.config).items() if started.get(name) != value]
    if changed:
        were = ", ".join(f"--{name.replace('_', '-')} {started.get(name)}" for name in changed)
        raise InputError(f"the run {found[-1].parent} was started with {were}: give the same to resume it.")
    return found[-1]
