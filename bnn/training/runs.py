"""The folders of training runs: `version_K/M` holds the log and the checkpoints of run K's component M."""

from dataclasses import asdict
from pathlib import Path

import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

from bnn.errors import InputError
from bnn.training.config import TrainConfig

# What may change when a run is resumed: it does not concern how a component is trained.
AFTERWARDS = ("components", "draws", "rule", "risk", "delta", "alpha", "refuse")


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
    asked = asdict(config)
    changed = [name for name in asked if name not in AFTERWARDS and started.get(name) != asked[name]]
    if changed:
        were = ", ".join(f"--{name.replace('_', '-')} {started.get(name)}" for name in changed)
        raise InputError(f"the run {run} was started with {were}: give the same to resume it.")
    return run


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
