"""The measurements of time and memory run, and the page says what they found."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from PIL import Image

from bnn.data.imageset import ImageSet

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "performance.py"
sys.path.insert(0, str(BENCHMARKS))  # its scripts import one another as scripts do
import peers  # noqa: E402
import ways  # noqa: E402


@pytest.mark.slow
def test_each_measurement_runs_and_the_page_tells_of_it(
    run_script: Callable[..., str], tmp_path: Path
) -> None:
    for what in ("predict", "step", "cost", "serve"):
        run_script(SCRIPT, what, "--tiny", "--out", str(tmp_path))
    run_script(SCRIPT, "page", "--out", str(tmp_path), "--page", str(tmp_path / "page.md"))
    told = (tmp_path / "page.md").read_text()
    measured = [json.loads((tmp_path / f"{what}.json").read_text()) for what in ("cost", "predict", "step")]
    assert told.count("\n## ") == 4
    assert "(cost.png)" in told
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.size == (1000, 500)
    assert len(re.findall(r"^\| \d", told, re.MULTILINE)) == 2 + 2 * len(measured[1]["seconds"]["1"])
    assert [row["images"] for row in measured[0]["rows"]] == [10, 20]
    assert all(row["seconds"] > 0 and row["peak_mb"] > 0 for row in measured[0]["rows"])
    assert {"ours", "by hand", "a plain network"} == set(measured[2]["seconds"])
    page = json.loads((tmp_path / "serve.json").read_text())
    assert page["ready_cpu"] > page["alone_cpu"] > page["drawing_cpu"] > 0


@pytest.mark.slow
def test_every_way_that_is_installed_is_compared_and_kept(
    run_script: Callable[..., str], tmp_path: Path
) -> None:
    def compared(*options: str) -> dict[str, Any]:
        run_script(BENCHMARKS / "peers.py", "--tiny", *options, "--out", str(tmp_path))
        return json.loads((tmp_path / "compare.json").read_text())

    there = [name for name, peer in ways.PEERS.items() if peer.is_there()]
    first = compared("--seeds", "0")
    assert [row["way"] for row in first["rows"]] == there
    assert all(0 <= row[name] <= 1 for row in first["rows"] for name in ("accuracy", "noise", "chimeras"))
    again = compared("--seeds", "0")
    assert again == first  # nothing is measured twice
    with pytest.raises(SystemExit, match="another seconds"):
        compared("--seconds", "0.02")

    told = peers.part(first)
    assert told.count("\n| ") == 1 + len(there)
    assert "letters" not in told


def row(way: str, seed: int, accuracy: float, nll: float) -> dict[str, Any]:
    measured = {"ece": 0.01, "aurc": 0.001, "noise": 0.9, "strokes": 0.8, "chimeras": 0.7, "per_1000": 0.1}
    return {"way": way, "seed": seed, "accuracy": accuracy, "nll": nll, **measured}


def test_the_page_says_where_ours_is_not_first() -> None:
    rows = [
        row(way, seed, *values)
        for seed in (0, 1)
        for way, values in (("ours", (0.98, 0.05)), ("another", (0.99, 0.05 + 0.02 * seed)))
    ]
    rows.append(row("ours", 2, 0.0, 9.0))  # of a seed that is not done
    run = {"form": "tiny", "seconds": 1, "data": "digits", "draws": 2, "images": 20, "rows": rows}
    told = peers.part(run | {"steps": {"ours": 3, "another": 4}})
    assert "It is not first in accuracy % (place 2 of 2; first: another)." in told
    assert "is first in NLL, ECE %, " in told  # as is who shares a first place
    assert "| another | 4 | 99.00 ± 0.00 | 0.0600 ± 0.0100 |" in told


def test_a_batch_has_each_image_once_an_epoch() -> None:
    digits = ImageSet.from_name("digits", part="train", limit=300)
    training = peers.Training(ways.Way, digits, 4, seed=0)
    seen = torch.cat([training.next_rows() for _ in range(2)])
    assert len(seen.unique()) == 256  # of 300, in batches of 128
    training.go(2)
    training.go(2)
    assert training.done == 4
    assert training.adam.param_groups[0]["lr"] > 0


def test_the_kl_of_plain_pyro_is_weighed_by_beta() -> None:
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)

    def loss(beta: float) -> float:
        pyro.set_rng_seed(0)
        return ways.PlainPyro(1000, beta).loss(images, labels, ways.Step(0, 0.0)).item()

    assert loss(1) - loss(0.5) > 100  # nats a datum: of so few, nearly all of the loss
    assert loss(1) - loss(0.5) == pytest.approx(2 * (loss(0.5) - loss(0.25)), rel=0.2)  # each of one draw


def test_a_packed_ensemble_says_of_each_image_what_its_members_say() -> None:
    pytest.importorskip("torch_uncertainty", reason="the optional group bench is not installed")
    packed, images = ways.Packed(10).eval(), torch.rand(3, 1, 28, 28)
    together = packed.probs(images, 0)
    alone = torch.cat([packed.probs(image[None], 0) for image in images], dim=1)
    assert together.shape == (ways.Packed.members, 3, 10)
    assert torch.allclose(together, alone, atol=1e-5)
