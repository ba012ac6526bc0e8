"""Components as separate jobs, and what `bnn merge` makes of them."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from documented import words_of
from safetensors.torch import load_file

from bnn.cli.command import main
from bnn.core import checkpoint as checkpoint_file

TRAIN = [
    *("train", "--data=digits", "--network=mlp", "--network-options", '{"hidden": 8}', "--epochs=1"),
    *("--components=2", "--draws=4", "--rule=entropy", "--scores", '["entropy", "pixels"]'),
    *("--combination=fisher", "--trainer.enable_progress_bar=false"),
]


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
def test_components_as_separate_jobs_merge_to_what_one_run_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, first, second = (tmp_path / f"{name}.safetensors" for name in ("both", 1, 2))
    assert main([*TRAIN, "--out", str(both), "--runs", str(tmp_path / "runs")]) == 0
    for task in (1, 2):  # as docs/scaling.md has it
        words = words_of("--component ", tmp_path, OPTIONS="", OUT=tmp_path, SLURM_ARRAY_TASK_ID=task)
        assert main([*TRAIN, *words[1:]]) == 0
    assert main(words_of("bnn merge", tmp_path, OUT=tmp_path)) == 0
    out = tmp_path / "merged.safetensors"
    assert "of 2 component(s)" in capsys.readouterr().out
    wanted, got = load_file(both), load_file(out)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert both.read_bytes() == out.read_bytes()  # the rule, and all that the record tells, too

    assert "is there already" in refused(capsys, "merge", first, second, "--out", out)
    new = ["--out", tmp_path / "new.safetensors"]
    assert "at least two" in refused(capsys, "merge", first, *new)
    assert "is component 1, as another is" in refused(capsys, "merge", first, first, *new)
    assert "no component by itself" in refused(capsys, "merge", first, both, *new)
    part = checkpoint_file.load(second)
    record = {**part.record, "config": {**part.record["config"], "beta": 0.5}}
    checkpoint_file.save(replace(part, record=record), other := tmp_path / "other.safetensors")
    assert "was trained with --beta 0.5" in refused(capsys, "merge", first, other, *new)
    assert "there is no component 3 of 2" in refused(capsys, *TRAIN, "--component=3", *new)
    assert "not both" in refused(capsys, *TRAIN, "--component=1", "--refit", both, *new)
    assert not new[1].exists()  # type: ignore[attr-defined]
