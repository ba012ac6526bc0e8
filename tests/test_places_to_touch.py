"""A data set, a metric and a tab, added in the places that CONTRIBUTING.md names, are there for users."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

from bnn.app.page import TABS, build_page
from bnn.app.strictness import Promises
from bnn.classifier import Classifier
from bnn.cli import main
from bnn.core.checkpoint import Checkpoint
from bnn.data.digits import LABELLED, Labelled
from bnn.data.imageset import ImageSet
from bnn.evaluation.intervals import mean_statistic
from bnn.evaluation.numbers import METRICS, Metric
from bnn.prediction import Prediction
from bnn.rules.curves import Array, Labels

TRUTH = torch.arange(12) % 10


def load_fog(root: Path, *, train: bool, download: bool = False) -> Labelled:
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(int(train)))
    return Labelled(images, TRUTH)


def second_each(said: Prediction, labels: Labels) -> Array:
    """Whether each image's true class is the second likeliest, (N,)."""
    return np.asarray(np.argsort(-said.probs, axis=1)[:, 1] == labels, np.float64)


SECOND = Metric(
    lambda said, labels: float(second_each(said, labels).mean()),
    lambda said, labels: mean_statistic(second_each(said, labels)),
)


@pytest.mark.slow
def test_a_data_set_in_one_place_and_a_metric_in_two_are_found_by_the_command(
    make_checkpoint: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(LABELLED, "fog", load_fog)
    monkeypatch.setitem(METRICS, "second", SECOND)
    fog = ImageSet.from_name("fog")
    assert fog.truth().equal(TRUTH)
    classifier = Classifier(make_checkpoint())
    classifier.save(tmp_path / "own.safetensors")
    places = ("--checkpoint", str(tmp_path / "own.safetensors"), "--out", str(tmp_path / "report"))
    assert main(["evaluate", "--in-distribution", "fog", "--robustness", "0", *places]) == 0
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())["in_distribution"]
    assert (numbers["name"], numbers["n"]) == ("fog", 12)
    expected = second_each(classifier.predict(fog), TRUTH.numpy()).mean()
    assert numbers["second"] == expected
    low, high = numbers["intervals"]["second"]
    assert low <= expected <= high
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "second" in line]
    assert f"{expected:.4g}" in row
    assert f"{high:.4g}" in row


def test_a_tab_in_two_places_is_on_the_page(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws_tab(classifier: Classifier, promises: Promises) -> None:
        gr.Markdown(f"It draws {len(classifier.ensemble)} networks.")

    async def built() -> gr.Blocks:
        return build_page(classifier)  # outside a loop Gradio opens some of its own, and leaves them open

    before = list(TABS)
    monkeypatch.setitem(TABS, "Draws", draws_tab)
    components = asyncio.run(built()).get_config_file()["components"]
    shown = [one["props"]["label"] for one in components if one["type"] == "tabitem"]
    assert shown == [*before, "Draws"]
    assert any(one["props"].get("value") == "It draws 8 networks." for one in components)
