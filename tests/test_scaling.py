"""The examples in docs/scaling.md: a job array that scores, Ray workers that do."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq
from conftest import MakeCheckpoint
from documented import PAGE, words_of
from programs import printed
from shards import digits, written

from bnn.cli.command import main
from bnn.core import checkpoint as checkpoint_file
from bnn.data.archives import MOST_BYTES
from bnn.data.preprocess import MAX_PIXELS
from bnn.scoring.parts import OUTCOMES, SCHEMA

MAIN = "import sys; from bnn.cli import main; sys.exit(main())"


@pytest.fixture
def tiny(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> list[str]:
    """The options of a small untrained checkpoint, in parts of four images."""
    checkpoint_file.save(make_checkpoint(), tmp_path / "tiny.safetensors")
    return ["--checkpoint", str(tmp_path / "tiny.safetensors"), "--chunk=4"]


def rows(out: Path) -> list[tuple[object, object]]:
    table = pq.read_table(out, columns=["source", "row"])
    return list(zip(table["source"].to_pylist(), table["row"].to_pylist(), strict=True))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_the_jobs_of_the_array_score_every_image_once(tiny: list[str], tmp_path: Path) -> None:
    shard, out = written("webdataset", digits(22), tmp_path), tmp_path / "out"
    for task in (2, 1):
        words = words_of("SLURM_ARRAY_TASK_ID/2", tmp_path, IMAGES=shard, OUT=out, SLURM_ARRAY_TASK_ID=task)
        assert main([*words, *tiny]) == 0
        assert len(rows(out)) == (10 if task == 2 else 22)  # of six parts the second, fourth and sixth first
    assert rows(out) == [(str(shard), row) for row in range(22)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_ray_workers_write_what_one_process_does(tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    shard, out = written("tar", digits(9), tmp_path), tmp_path / "out"
    printed(sys.executable, "-c", MAIN, *words_of("--engine ray", tmp_path, IMAGES=shard, OUT=out), *tiny)
    assert main(["score", str(shard), "--out", str(tmp_path / "one"), *tiny]) == 0
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "one"))


def test_the_page_says_what_is_so() -> None:
    text = PAGE.read_text("utf-8")
    told = re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text.partition("## What comes")[2], re.M))
    )
    assert sorted(told) == sorted(field.name for field in SCHEMA)
    assert all(f"`{outcome}`" in text for outcome in OUTCOMES)
    assert f"{MOST_BYTES // 10**6} MB and {MAX_PIXELS // 10**6} million pixels" in text
