"""What `benchmarks/million.py` would find: lost, doubled and changed rows, growing memory, the pace."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeCheckpoint

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

from bnn.core import checkpoint as checkpoint_file

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "million.py"
sys.path.insert(0, str(SCRIPT.parent))  # its scripts import one another as scripts do
from million import Look, Pace, differences, not_once, pace_of, ratios, thirds  # noqa: E402


def part(out: Path, name: str, source: str, rows: range | list[int]) -> None:
    table = {"id": [f"{source}[{row}]" for row in rows], "source": [source] * len(rows), "row": [*rows]}
    out.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), out / f"part-{name}.parquet")


def test_rows_that_lack_or_are_twice_are_found(tmp_path: Path) -> None:
    part(tmp_path, "0", "a", range(3))
    part(tmp_path, "1", "a", [3, 4])
    part(tmp_path, "2", "b", [0, 1])
    assert not_once(tmp_path, {"a": 5, "b": 2}) == []
    assert not_once(tmp_path, {"a": 6, "b": 2}) == ["of a 1 rows lack, 0 are twice"]
    assert not_once(tmp_path, {"a": 4, "b": 2}) == ["a has 1 rows more than images"]
    assert not_once(tmp_path, {"a": 5}) == ["b is no source"]
    part(tmp_path, "3", "b", [1])
    assert not_once(tmp_path, {"a": 5, "b": 2}) == ["of b 0 rows lack, 1 are twice", "two rows have one id"]


def test_every_file_that_differs_or_is_left_behind_is_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for out in (one, other):
        part(out, "0", "a", range(3))
    assert differences(one, other) == []
    part(other, "0", "a", [0, 1, 3])
    (other / ".bnn-0123.part").write_bytes(b"")
    assert differences(one, other) == [".bnn-0123.part differs", "part-0.parquet differs"]


def test_memory_is_told_of_the_first_third_and_the_last() -> None:
    driver, worker = [100, 100, 100, 300, 100, 100, 100, 100, 900], [*range(10, 100, 10)]
    assert thirds(list(zip(driver, worker, strict=True))) == [(100, 100), (20, 80)]


def test_the_pace_is_that_of_the_middle_and_of_the_workers_alone() -> None:
    def look(time: float, parts: int, *cpu: float) -> Look:
        return Look(time, parts, [1, 1, 1], cpu)

    looks = [look(0, 1, 50, 0, 0), look(10, 2, 60, 4, 4), look(14, 9, 90, 6, 5), look(99, 10, 99, 9, 9)]
    pace = pace_of(looks, 100)
    assert pace == Pace(2, 700 / 4, 3 / 700)
    assert pace.share == pytest.approx(3 / 4 / 2)
    with pytest.raises(SystemExit, match="too soon"):
        pace_of(looks[:1], 100)
    wall, cpu = ratios([Pace(1, 100, 0.01)], [Pace(2, 150, 0.0125)])
    assert (wall, cpu) == pytest.approx((1.5, 1.6))


@pytest.mark.slow
def test_a_killed_run_is_compared_with_one_that_was_not(
    run_script: Callable[..., str],
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "t10k"):
        head = np.array([0x803, *digits.shape], ">u4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + digits.tobytes())
        labels = np.arange(len(digits), dtype=np.uint8) % 10
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(
            np.array([0x801, len(digits)], ">u4").tobytes() + labels.tobytes()
        )
    checkpoint_file.save(make_checkpoint(), tmp_path / "tiny.safetensors")
    monkeypatch.setattr(os, "environ", os.environ | {})  # to which the script adds
    with pytest.raises(SystemExit) as ended:
        run_script(
            SCRIPT,
            *("--images=1500", "--chunk=5", "--kills=1", "--rounds=0", "--engine=processes", "--workers=1"),
            *("--checkpoint", str(tmp_path / "tiny.safetensors"), "--data-dir", str(tmp_path)),
        )
    assert ended.value.code == 0
