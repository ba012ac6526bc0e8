"""ONNX: the graph decides as the classifier does, and where it would not, nothing is written."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")

import onnx

from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.core.checkpoint import Checkpoint
from bnn.core.evidence import Evidence
from bnn.core.task import Task
from bnn.data.preprocess import Prepared
from bnn.errors import InputError
from bnn.ood.score import Observed, OODScore
from bnn.portable import onnx_files
from bnn.portable.check import HALF, SINGLE, check, generated, ruled, run, session
from bnn.portable.graph import IMAGES, Deciding, halved, of_images, traced
from bnn.portable.onnx_files import ABOUT, ENSEMBLE, MEAN, OUTPUTS, export_onnx
from bnn.prediction import REASONS
from bnn.rules.abstention import RefuseAll
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

Untrained = Callable[..., Classifier]


@pytest.fixture(scope="module")
def small(make_checkpoint: Callable[..., Checkpoint]) -> Classifier:
    """An MLP of 16 units with densities of pixels and of features, under the calibrated rule."""
    return Classifier(make_checkpoint())


@pytest.fixture(scope="module")
def images(small: Classifier) -> Iterator[Tensor]:
    """Images of all kinds that are generated, in no order; the check takes the same."""
    made = generated(small.task.layout)
    made = made[torch.randperm(len(made), generator=torch.Generator().manual_seed(1))]
    with pytest.MonkeyPatch.context() as patched:  # to make them once is enough
        patched.setattr("bnn.portable.check.generated", lambda _: made)
        yield made


@pytest.fixture(scope="module")
def written(small: Classifier, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export, which leaves the classifier as it was."""
    folder = tmp_path_factory.mktemp("portable") / "new"
    before = small.predict(Prepared.as_given(images[:10]))
    export_onnx(small, folder)
    after = small.predict(Prepared.as_given(images[:10]))
    assert (before.ood_score == after.ood_score).all()
    assert (before.probs == after.probs).all()
    return folder


@pytest.fixture(scope="module")
def graph(written: Path) -> Any:
    return onnx.load(written / ENSEMBLE)


def assert_alike(model: Any, classifier: Classifier, images: Tensor) -> None:
    said = classifier.predict(Prepared.as_given(images))
    found = run(session(model), {IMAGES: images})
    assert np.array_equal(found["label"], said.labels)
    assert [REASONS[reason] for reason in found["reason"]] == said.reasons.tolist()
    assert np.allclose(found["probs"], said.probs, atol=1e-5)
    assert [set(np.flatnonzero(row)) for row in found["candidates"]] == list(map(set, said.candidates))
    assert said.votes is not None
    likeliest = said.votes.argmax(-1)
    counted = np.stack([(likeliest == label).sum(0) for label in range(len(said.names))], 1)
    assert np.abs(found["votes"] - counted).sum(1).max() <= 2  # where two classes are equally likely


def test_the_graph_decides_as_the_classifier_does_in_any_batch(
    graph: Any, small: Classifier, images: Tensor
) -> None:
    assert_alike(graph, small, images)
    running = session(graph)
    whole = run(running, {IMAGES: images})
    for i in (0, 7):
        alone = run(running, {IMAGES: images[i : i + 1]})
        assert set(alone) == set(OUTPUTS)
        assert all(np.allclose(alone[name][0], whole[name][i], atol=1e-4) for name in OUTPUTS)


def test_an_image_that_shows_nothing_is_refused(graph: Any) -> None:
    found = run(session(graph), {IMAGES: torch.full((2, 1, 28, 28), 0.5)})
    assert found["label"].tolist() == [-1, -1]
    assert [REASONS[reason] for reason in found["reason"]] == ["unfamiliar"] * 2


def test_what_is_no_number_is_refused(graph: Any, images: Tensor) -> None:
    images = images[:2].clone()
    images[1, 0, 14, 14] = torch.nan
    found = run(session(graph), {IMAGES: images})
    assert found["label"][1] == -1
    assert REASONS[found["reason"][1]] == "unfamiliar"


def test_any_network_and_any_classes(untrained: Untrained, images: Tensor) -> None:
    classifier = untrained("resnet", {"channels": [4, 6]}, Task(("a", "b", "c"), layout="as-is"))
    classifier = classifier.with_draws(3)
    assert_alike(of_images(Deciding(classifier)), classifier, images[:10])


def test_the_check_passes_and_counts_what_it_saw(graph: Any, small: Classifier, images: Tensor) -> None:
    checked = check(graph, small, SINGLE)
    assert checked.images == len(images)
    assert checked.calibration == len(small.calibration)
    assert checked.probs < SINGLE.probs
    assert checked.entropies < SINGLE.entropies
    assert checked.scores < SINGLE.scores
    assert checked.otherwise <= checked.near


def test_other_weights_in_the_graph_are_found(small: Classifier, graph: Any) -> None:
    other = Classifier(replace(small.checkpoint(), seed=small.seed + 1))
    with pytest.raises(InputError, match=r"the graph is not the classifier: on \d+ generated images"):
        check(graph, other, SINGLE)


def test_another_rule_in_the_graph_is_found(small: Classifier, graph: Any) -> None:
    with pytest.raises(InputError, match="it decides otherwise on"):
        check(graph, small.with_rule(RefuseAll("so it was asked")), replace(SINGLE, scores=10.0))


RULES = [MedianRule(0.3), EntropyRule(1.0, 0.1), ConfidenceRule(0.5, 0.1), RefuseAll("so it was asked")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_an_onnx_form(small: Classifier, rule: Any) -> None:
    assert ruled(small.with_rule(rule)) == len(small.calibration)


def test_a_rule_that_is_traced_wrongly_is_found_on_the_calibration_evidence(small: Classifier) -> None:
    class Wavering(EntropyRule):
        def answers(self, evidence: Evidence) -> Tensor:
            return super().answers(evidence) ^ torch.compiler.is_exporting()

    with pytest.raises(InputError, match="of 60 calibration images it decides otherwise on 60"):
        ruled(small.with_rule(Wavering(1.0, 0.1)))


def test_in_half_precision_the_file_is_smaller(graph: Any, images: Tensor) -> None:
    half = halved(onnx.ModelProto.FromString(graph.SerializeToString()))
    assert half.ByteSize() < 0.7 * graph.ByteSize()
    onnx.checker.check_model(half)
    exact, rounded = (run(session(model), {IMAGES: images})["probs"] for model in (graph, half))
    assert 1e-6 < np.abs(exact - rounded).max() < HALF.probs


class Looped(OODScore):
    """A score that looks at each image's numbers in Python."""

    name = "looped"

    def score(self, observed: Observed) -> Tensor:
        return torch.tensor([float(image.sum()) for image in observed.images])


def test_a_score_without_an_onnx_form_is_refused_in_a_sentence(small: Classifier, images: Tensor) -> None:
    classifier = small.with_scores(Looped(), reference=Prepared.as_given(images[:30]))
    with pytest.raises(InputError, match=r"^this classifier has a part that has no ONNX form: .*\.$") as said:
        of_images(Deciding(classifier))
    assert "\n" not in str(said.value)


def test_a_graph_takes_the_inputs_by_their_names() -> None:
    class Twice(torch.nn.Module):
        def forward(self, values: Tensor) -> dict[str, Tensor]:
            return {"doubled": 2 * values, "below": torch.searchsorted(torch.tensor([1.0, 2.0, 2.0]), values)}

    model = traced(Twice(), {"values": torch.tensor([0.0, 2.0, 5.0])})
    values = torch.tensor([1.0, 1.5, 2.0, 2.5])
    found = run(session(model), {"values": values})
    assert found["doubled"].tolist() == [2, 3, 4, 5]
    assert found["below"].tolist() == [0, 1, 1, 3]


def test_the_folder_says_all_that_a_program_needs(written: Path, small: Classifier, images: Tensor) -> None:
    """As a program would that knows nothing of bnn: the files, their digests, and what comes out."""
    about = json.loads((written / ABOUT).read_text(encoding="utf-8"))
    assert {path.name for path in written.iterdir()} == {ENSEMBLE, MEAN, ABOUT}
    for name, file in about["files"].items():
        content = (written / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    found = run(session(onnx.load(written / ENSEMBLE)), {about["input"]["name"]: images})
    assert set(about["outputs"]) == set(found)
    said = small.predict(Prepared.as_given(images))
    assert [about["reasons"][reason] for reason in found["reason"]] == said.reasons.tolist()
    names = [about["classes"][label] if label >= 0 else "refused" for label in found["label"]]
    assert names == [said.decision(i) for i in range(len(said))]
    doubt = 1 - found["probs"].max(1)
    measured = {"total": found["total"], "ood": found["ood_score"], "doubt": doubt}
    within = [measured[name] <= limit for name, limit in about["thresholds"].items()]
    shows = np.ptp(images.numpy(), axis=(1, 2, 3)) > 0.1
    assert np.array_equal(np.all(within, axis=0) & shows, found["label"] >= 0)
    assert len(about["scores"]) == found["surprises"].shape[1]
    assert "promise was made for the classifier" in about["promise"]


def test_the_mean_networks_are_those_of_the_posterior(
    written: Path, small: Classifier, images: Tensor
) -> None:
    found = run(session(onnx.load(written / MEAN)), {IMAGES: images})["probs"]
    (network,) = small.networks(1)
    means = [component.mean() for component in small.posterior.components]
    each = [torch.func.functional_call(network, mean, (images,)).softmax(-1) for mean in means]
    assert np.allclose(found, torch.stack(each).mean(0).detach().numpy(), atol=1e-5)


def test_what_is_there_is_not_replaced_unasked(written: Path, small: Classifier) -> None:
    before = (written / ENSEMBLE).stat()
    with pytest.raises(InputError, match="is there already"):
        export_onnx(small, written)
    assert (written / ENSEMBLE).stat().st_mtime_ns == before.st_mtime_ns


def test_nothing_is_written_where_the_check_fails(
    small: Classifier, graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "of_images", lambda *_, **__: graph)
    monkeypatch.setattr(onnx_files, "SINGLE", replace(SINGLE, probs=0.0))
    with pytest.raises(InputError, match="the graph is not the classifier"):
        export_onnx(small, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(small: Classifier, graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The small classifier as a file, whose export need not be traced again."""
    monkeypatch.setattr(onnx_files, "of_images", lambda *_, **__: graph)
    small.save(tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def test_the_command_writes_the_files_and_tells_how_near_they_are(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "portable"
    assert main(["export", saved, "--onnx", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "60 calibration images" in told
    assert "promise was made for the classifier" in told
    assert {path.name for path in folder.iterdir()} == {ENSEMBLE, MEAN, ABOUT}
    assert main(["export", saved, "--onnx", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", saved, "--onnx", str(folder), "--overwrite"]) == 0


def test_a_page_without_its_runtime_is_refused_before_anything_is_written(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    assert main(["export", saved, "--onnx", str(folder), "--page", str(tmp_path)]) == 2
    assert "`npm pack onnxruntime-web@" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("package", onnx_files.PACKAGES)
def test_without_a_package_the_command_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python's own sign for: cannot be imported
    assert main(["export", "--onnx", str(tmp_path / "portable")]) == 2
    assert "'.[onnx]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_classifier_that_ships_decides_alike_as_onnx() -> None:
    """Its convolutions and contrasts too, with few draws, for the graph grows with them."""
    classifier = Classifier.load(draws=2)
    checked = check(of_images(Deciding(classifier)), classifier, SINGLE)
    assert checked.otherwise <= checked.near
