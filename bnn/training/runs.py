"""The folders of training runs: `version_K/M` holds the log and the checkpoints of run K's component M."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.errors import InputError
from bnn.training.config import TrainConfig

# What may change when a run is resumed, or a posterior kept: it does not concern how a component is trained.
AFTERWARDS = (
    "components",
    "scores",
    "contrast_options",
    "contrast_epochs",
    "combination",
    "draws",
    "rule",
    "risk",
    "delta",
    "alpha",
    "refuse",
)


def new_run(runs: Path) -> Path:
    """A folder under `runs` that no run has had; it is not made yet."""
    return Path(CSVLogger(runs, name="").log_dir)


def run_to_resume(runs: Path, config: TrainConfig) -> Path:
    """The folder under `runs` of the latest run that can be resumed.

    Raises:
        InputError: there is none, or its components were trained with another `config`.
    """
    found = sorted(runs.glob("*/*/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"there is no run to resume in {runs}: start one without --resume.")
    run = found[-1].parent.parent
    started = torch.load(found[-1], weights_only=True)["hyper_parameters"]["config"]
    _require_same(started, config, f"the run {run} was started")
    return run


def checkpoint_to_refit(path: Path, config: TrainConfig, fingerprint: str) -> Checkpoint:
    """The checkpoint at `path`, whose posterior a training with this `config` would give.

    Raises:
        InputError: it cannot be read, or was trained with another `config` or on other images than those of
            this `fingerprint`.
    """
    checkpoint = checkpoint_file.load(path)
    started, data = checkpoint.record.get("config"), checkpoint.record.get("data")
    if not isinstance(started, Mapping) or not isinstance(data, Mapping):
        raise InputError(f"{path} does not say how it was trained: train anew.")
    _require_same(started, config, f"{path} was trained")
    if data.get("fingerprint") != fingerprint:
        raise InputError(f"{path} was trained on other images than {config.data}: give the same.")
    return checkpoint


def _require_same(started: Mapping[str, Any], config: TrainConfig, what: str) -> None:
    if changed := _changed(started, config):
        were = ", ".join(f"--{name.replace('_', '-')} {started.get(name)}" for name in changed)
        raise InputError(f"{what} with {were}: give the same to go on from there.")


def is_from(path: Path, config: TrainConfig) -> bool:
    """Whether `path` is a checkpoint that a run with this `config` wrote, and may write anew when resumed."""
    try:
        started = checkpoint_file.load(path).record.get("config")
    except InputError:
        return False
    return isinstance(started, Mapping) and not _changed(started, config)


def _changed(started: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """The options of which a run cannot be resumed as `config`, since it was `started` with others."""
    asked = config.plain()
    return [name for name in asked if name not in AFTERWARDS and started.get(name) != asked[name]]


def last_checkpoint(folder: Path) -> Path | None:
    """What a component's training goes on from; None where it starts."""
    last = folder / "last.ckpt"
    return last if last.exists() else None


@rank_zero_only
def keep_log(folder: Path) -> None:
    """Renames the log of a component about to be resumed, which Lightning would replace."""
    log = folder / "metrics.csv"
    if log.exists():
        log.rename(folder / f"metrics-{len(list(folder.glob('metrics*.csv')))}.csv")
