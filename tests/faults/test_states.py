"""States of a training that were torn, damaged or are another's, and two trainings at once."""

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn.core.checkpoint import load
from bnn.errors import InputError
from bnn.files import held
from bnn.training.config import TrainConfig
from bnn.training.runs import new_run, run_to_resume
from bnn.training.states import BEFORE, DIGESTS, LAST, WholeStates, config_of, whole_state
from bnn.training.train import train_command

CONFIG = TrainConfig(
    data="digits",
    network="mlp",
    network_options={"hidden": 8},
    epochs=3,
    draws=5,
    rule="entropy",
    scores=("entropy",),
)


def state(epoch: int) -> dict[str, Any]:
    return {
        "hyper_parameters": {"config": CONFIG.plain()},
        "state_dict": {"loc": torch.full((50,), float(epoch))},
        "epoch": epoch,
    }


def save(folder: Path, epoch: int) -> None:
    WholeStates().save_checkpoint(state(epoch), folder / LAST)


def epoch_of(path: Path | None) -> int:
    assert path is not None
    return int(torch.load(path, weights_only=True)["epoch"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A component's folder after three epochs."""
    for epoch in (1, 2, 3):
        save(tmp_path / "runs" / "version_0" / "0", epoch)
    return tmp_path / "runs" / "version_0" / "0"


def test_the_two_last_states_are_kept_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted((LAST, BEFORE, DIGESTS))
    assert epoch_of(folder / LAST) == 3
    assert epoch_of(folder / BEFORE) == 2
    assert epoch_of(whole_state(folder)) == 3


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "text": lambda path: path.write_text("my notes"),
    "pickled": lambda path: path.write_bytes(pickle.dumps(Trap(path.parent / "sprung"))),
    "of another program": lambda path: torch.save({"weights": torch.zeros(2)}, path),
    "a tensor": lambda path: torch.save(torch.zeros(2), path),
    "a link to nothing": lambda path: linked(path),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_from_the_last_whole_state_it_goes_on(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder / LAST)
    assert epoch_of(whole_state(folder)) == 2
    with run_to_resume(folder.parents[1], CONFIG) as run:
        assert run == folder.parent
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("damage", sorted(set(DAMAGE) - {"removed", "a link to nothing"}))
def test_a_damaged_state_takes_no_whole_ones_place(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder / LAST)
    save(folder, 4)
    assert (epoch_of(folder / LAST), epoch_of(folder / BEFORE)) == (4, 2)


@pytest.mark.parametrize("damage", sorted(set(DAMAGE) - {"removed"}))
def test_where_no_state_is_whole_one_sentence_says_so(folder: Path, damage: str) -> None:
    for name in (LAST, BEFORE):
        DAMAGE[damage](folder / name)
    with pytest.raises(InputError, match=r"^no state in [^\n]+ is whole[^\n]+remove that folder[^\n]+\.$"):
        whole_state(folder)
    with (
        pytest.raises(InputError, match=r"is whole, so nothing can go on from it|there is no run to resume"),
        run_to_resume(folder.parents[1], CONFIG),
    ):
        pass
    assert not (folder / "sprung").exists()


def test_a_state_from_before_there_were_digests_is_taken(folder: Path) -> None:
    (folder / DIGESTS).unlink()
    assert epoch_of(whole_state(folder)) == 3
    (folder / LAST).write_bytes((folder / LAST).read_bytes()[:-100])
    assert epoch_of(whole_state(folder)) == 2


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"no digest"])
def test_with_damaged_digests_no_state_is_proven(folder: Path, content: bytes) -> None:
    (folder / DIGESTS).write_bytes(content)
    assert config_of(folder / LAST) is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(12))
def test_killed_at_any_step_of_a_write_a_whole_state_is_left(
    folder: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename, chmod, write and removal of writing a state is the one before which it ends, in turn."""
    left = at

    def counted(does: Callable[..., Any]) -> Callable[..., Any]:
        def once(*given: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return does(*given, **options)

        return once

    with monkeypatch.context() as patched:
        for name in ("replace", "write_bytes", "write_text", "chmod", "unlink"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        patched.setattr("bnn.files.os.fsync", counted(lambda handle: None))
        with suppress(Killed):
            save(folder, 4)
    found = epoch_of(whole_state(folder))
    assert found in (3, 4)
    save(folder, 5)
    assert epoch_of(folder / LAST) == 5
    assert epoch_of(folder / BEFORE) in (found, 2)
    if left < 0:
        assert sorted(path.name for path in folder.iterdir()) == sorted((LAST, BEFORE, DIGESTS))


def test_a_full_disk_is_one_sentence_and_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"last\.ckpt cannot be written \(No space left on device\)"):
        save(folder, 4)
    monkeypatch.undo()
    assert epoch_of(whole_state(folder)) == 3
    assert len(list(folder.iterdir())) == 3


def test_trainings_started_together_each_have_a_folder(tmp_path: Path) -> None:
    def claim(number: int) -> Path:
        with new_run(tmp_path / "runs") as run:
            (run / str(number)).touch()
            return run

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(claim, range(24)))
    assert len(set(runs)) == 24
    assert all(len(list(run.iterdir())) == 1 for run in runs)


def test_of_a_run_that_left_nothing_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError), new_run(tmp_path / "runs"):
        raise InputError("no such thing.")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_training_was_writing_is_removed_by_the_next(folder: Path) -> None:
    being_written = folder / ".bnn-000000000000-00000000.part"
    being_written.write_text("half")
    with new_run(folder.parents[1]):
        assert not being_written.exists()
        assert len(list(folder.iterdir())) == 3


def test_a_run_is_resumed_once_at_a_time(folder: Path) -> None:
    runs = folder.parents[1]
    with (
        run_to_resume(runs, CONFIG),
        pytest.raises(InputError, match="is being trained by another process: wait"),
        run_to_resume(runs, CONFIG),
    ):
        pass
    with run_to_resume(runs, CONFIG), held(folder.parent, wait=False) as free:
        assert not free
    with held(folder.parent, wait=False) as free:
        assert free


def test_the_run_that_was_started_last_is_resumed_whatever_the_clock_says(folder: Path) -> None:
    runs = folder.parents[1]
    for number in (9, 10):
        save(runs / f"version_{number}" / "0", 1)
    for path in runs.glob("version_10/0/*"):
        os.utime(path, (0, 0))
    with run_to_resume(runs, CONFIG) as run:
        assert run.name == "version_10"


@pytest.mark.slow
def test_a_training_goes_on_from_the_state_before_and_ends_as_the_uninterrupted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = {"enable_progress_bar": False}
    ends = []
    for name in ("whole", "torn"):
        out, runs = tmp_path / f"{name}.safetensors", tmp_path / name
        train_command(CONFIG, out, runs=runs, trainer_options=quiet)
        (last,) = runs.glob(f"*/0/{LAST}")
        if name == "torn":
            last.write_bytes(last.read_bytes()[:1000])
            train_command(CONFIG, out, runs=runs, resume=True, trainer_options=quiet)
            assert "last.ckpt is damaged: going on from previous.ckpt" in capsys.readouterr().err
        assert config_of(last) == CONFIG.plain()
        ends.append(load(out))
    for left, right in pairwise(ends):
        assert left.record["training"] == right.record["training"]
        for key, value in left.posterior.items():
            assert torch.allclose(value.float(), right.posterior[key].float(), rtol=2e-3, atol=1e-5), key
    with pytest.raises(InputError, match="give the same to go on"):
        train_command(replace(CONFIG, beta=0.7), out, runs=runs, resume=True, overwrite=True)
