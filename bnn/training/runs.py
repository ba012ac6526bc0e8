"""The folders of training runs: `version_K/M` holds the log and the checkpoints of run K's component M."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.errors import InputError
from bnn.files import held, remove_left
from bnn.training.config import TrainConfig
from bnn.training.states import BEFORE, LAST, config_of, whole_state

COMPONENT = "component"  # in a record of the training of one alone: its number, from 1
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


@contextmanager
def new_run(runs: Path) -> Iterator[Path]:
    """A folder under `runs` that no run has had, of this process alone; removed where nothing came into it.

    Raises:
        InputError: it cannot be made.
    """
    if _rank():  # the first rank holds it, and writes alone
        yield Path(CSVLogger(runs, name="").log_dir)
        return
    try:
        run = _made(runs)
        for folder in runs.glob("*/*/"):  # a training that was killed early may have left something
            remove_left(folder)
    except OSError as error:
        raise InputError(
            f"no run can be kept in {runs} ({error.strerror}): name another folder (--runs)."
        ) from error
    try:
        with _held_alone(run):
            yield run
    finally:
        for folder in (run, runs):
            with suppress(OSError):  # where there is something
                folder.rmdir()


def _rank() -> int:
    return int(getattr(rank_zero_only, "rank", 0))


def _made(runs: Path) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        run = Path(CSVLogger(runs, name="").log_dir)
        with suppress(FileExistsError):  # made by another training meanwhile
            run.mkdir()
            return run


@contextmanager
def run_to_resume(runs: Path, config: TrainConfig) -> Iterator[Path]:
    """The folder under `runs` of the run started last of those with a state, of this process alone.

    Raises:
        InputError: there is none, it is being trained, the states of a component are all damaged, or were
            trained with another `config`.
    """
    states = [*runs.glob(f"*/*/{LAST}"), *runs.glob(f"*/*/{BEFORE}")]
    if not states:
        raise InputError(f"there is no run to resume in {runs}: start one without --resume.")
    run = max((state.parent.parent for state in states), key=_started)
    if _rank():
        yield run
        return
    with _held_alone(run):
        for folder in sorted({state.parent for state in states if state.parent.parent == run}):
            whole = whole_state(folder)
            started = None if whole is None else config_of(whole)
            if started is not None:
                _require_same(started, config, f"the run {run} was started")
        yield run


def _started(run: Path) -> tuple[int, str]:
    """By what runs are in the order they were started in: their numbers, which no clock has set."""
    number = run.name.rpartition("_")[2]
    return int(number) if number.isdecimal() else -1, run.name


@contextmanager
def _held_alone(run: Path) -> Iterator[None]:
    with held(run, wait=False) as alone:
        if not alone:
            raise InputError(
                f"the run {run} is being trained by another process: wait until that has ended, or start "
                "another run without --resume."
            )
        yield


def checkpoint_to_refit(path: Path, config: TrainConfig, fingerprint: str) -> Checkpoint:
    """The checkpoint at `path`, whose posterior a training with this `config` would give.

    Raises:
        InputError: it cannot be read, or was trained with another `config` or on other images than those of
            this `fingerprint`.
    """
    checkpoint = checkpoint_file.load(path)
    started, data = checkpoint.record.get("config"), checkpoint.record.get("data")
    training = checkpoint.record.get("training")
    if not (isinstance(started, Mapping) and isinstance(data, Mapping) and isinstance(training, Mapping)):
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
    asked, started = config.plain(), TrainConfig().plain() | dict(started)  # before an option was, all was so
    return [name for name in asked if name not in AFTERWARDS and started.get(name) != asked[name]]


@rank_zero_only
def keep_log(folder: Path) -> None:
    """Renames the log of a component about to be resumed, which Lightning would replace."""
    log = folder / "metrics.csv"
    if log.exists():
        log.rename(folder / f"metrics-{len(list(folder.glob('metrics*.csv')))}.csv")
