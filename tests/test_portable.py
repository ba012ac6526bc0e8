"""ONNX: the graph decides as the classifier does, and where it would not, nothing is written."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")

from bnn.classifier import Classifier
from bnn.core.checkpoint import Checkpoint
from bnn.core.evidence import Evidence
from bnn.core.task import Task
from bnn.data.preprocess import Prepared
from bnn.errors import InputError
from bnn.ood.score import Observed, OODScore
from bnn.ood.scores import SCORES
from bnn.portable import onnx_files
from bnn.portable.check import HALF, SINGLE, check, generated, run, session
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
def graph(small: Classifier) -> Any:
    return of_images(Deciding(small))


def mixed(n: int = 40) -> Tensor:
    """Images of all kinds that are generated, in no order."""
    images = generated("as-is")
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:n]]


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


def test_the_graph_decides_as_the_classifier_does_in_any_batch(graph: Any, small: Classifier) -> None:
    images = mixed()
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


def test_what_is_no_number_is_refused(graph: Any) -> None:
    images = mixed(2)
    images[1, 0, 14, 14] = torch.nan
    found = run(session(graph), {IMAGES: images})
    assert found["label"][1] == -1
    assert REASONS[found["reason"][1]] == "unfamiliar"


@pytest.mark.parametrize(
    "rule",
    [MedianRule(0.3), EntropyRule(1.0, 0.1), ConfidenceRule(0.5, 0.1), RefuseAll("so it was asked")],
    ids=lambda rule: rule.name,
)
def test_every_rule_has_an_onnx_form(small: Classifier, rule: Any) -> None:
    classifier = small.with_rule(rule)
    assert_alike(of_images(Deciding(classifier)), classifier, mixed(20))


def test_any_network_and_any_classes(untrained: Untrained) -> None:
    classifier = untrained("resnet", {"channels": [4, 6]}, Task(("a", "b", "c"), layout="as-is"))
    classifier = classifier.with_draws(3)
    assert_alike(of_images(Deciding(classifier)), classifier, mixed(10))


def test_tracing_leaves_the_classifier_as_it_was(small: Classifier, graph: Any) -> None:
    fresh = Classifier(small.checkpoint())
    before = fresh.predict(Prepared.as_given(mixed(10)))
    of_images(Deciding(fresh))
    after = fresh.predict(Prepared.as_given(mixed(10)))
    assert (before.ood_score == after.ood_score).all()
    assert (before.probs == after.probs).all()


def test_the_check_passes_and_counts_what_it_saw(graph: Any, small: Classifier) -> None:
    checked = check(graph, small, SINGLE)
    assert checked.images == len(generated(small.task.layout))
    assert checked.calibration == len(small.calibration)
    assert checked.probs < SINGLE.probs
    assert checked.entropies < SINGLE.entropies
    assert checked.scores < SINGLE.scores
    assert checked.otherwise <= checked.near


def test_other_weights_in_the_graph_are_found(small: Classifier, graph: Any) -> None:
    other = Classifier(replace(small.checkpoint(), seed=small.seed + 1))
    with pytest.raises(InputError, match="the graph is not the classifier: on .* generated images"):
        check(graph, other, SINGLE)


def test_another_rule_in_the_graph_is_found(small: Classifier, graph: Any) -> None:
    with pytest.raises(InputError, match="it decides otherwise on"):
        check(graph, small.with_rule(RefuseAll("so it was asked")), replace(SINGLE, scores=10.0))


def test_a_rule_that_cannot_be_traced_right_is_found_on_the_calibration_evidence(small: Classifier) -> None:
    class Alternating(EntropyRule):
        """Whose trace is its first answer."""

        def answers(self, evidence: Evidence) -> Tensor:
            return super().answers(evidence) if torch.compiler.is_exporting() else evidence.total < -1

    classifier = small.with_rule(Alternating(1.0, 0.1))
    with pytest.raises(InputError, match="decides otherwise on"):
        check(of_images(Deciding(classifier)), classifier, SINGLE)


def test_in_half_precision_the_file_is_half_as_large(untrained: Untrained) -> None:
    classifier = untrained("mlp", {"hidden": 64})
    single = of_images(Deciding(classifier))
    half = halved(onnx.ModelProto.FromString(single.SerializeToString()))
    assert half.ByteSize() < 0.6 * single.ByteSize()
    assert check(half, classifier, HALF).probs > 1e-6  # it is rounded
    onnx.checker.check_model(half)


class Looped(OODScore):
    """A score that looks at each image's numbers in Python."""

    name = "looped"

    def score(self, observed: Observed) -> Tensor:
        return torch.tensor([float(image.sum()) for image in observed.images])


def test_a_score_without_an_onnx_form_is_refused_in_a_sentence(
    small: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORES, Looped.name, Looped)
    images = Prepared.as_given(mixed(30))
    classifier = small.with_scores(Looped(), reference=images).with_rule(EntropyRule(1.0, 0.1))
    with pytest.raises(InputError, match=r"^this classifier has a part that has no ONNX form: .*\)\.$") as said:
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


@pytest.fixture(scope="module")
def written(small: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portable") / "new"
    export_onnx(small, folder)
    return folder


def test_the_folder_says_all_that_a_program_needs(written: Path, small: Classifier) -> None:
    """As a program would that knows nothing of bnn: the files, their digests, and what comes out."""
    about = json.loads((written / ABOUT).read_text(encoding="utf-8"))
    assert {path.name for path in written.iterdir()} == {ENSEMBLE, MEAN, ABOUT}
    for name, file in about["files"].items():
        content = (written / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    images = mixed(20)
    found = run(session(onnx.load(written / ENSEMBLE)), {about["input"]["name"]: images})
    assert set(about["outputs"]) == set(found)
    said = small.predict(Prepared.as_given(images))
    assert [about["reasons"][reason] for reason in found["reason"]] == said.reasons.tolist()
    names = [about["classes"][label] if label >= 0 else "refused" for label in found["label"]]
    assert names == [said.decision(i) for i in range(20)]
    within = (found["ood_score"] <= about["thresholds"]["ood"]) & (found["total"] <= about["thresholds"]["total"])
    assert np.array_equal(within & (np.ptp(images.numpy(), axis=(1, 2, 3)) > 0.1), found["label"] >= 0)
    assert len(about["scores"]) == found["surprises"].shape[1]
    assert "promise was made for the classifier" in about["promise"]


def test_the_mean_networks_are_those_of_the_posterior(written: Path, small: Classifier) -> None:
    images = mixed(10)
    found = run(session(onnx.load(written / MEAN)), {IMAGES: images})["probs"]
    each = []
    for component in small.posterior.components:
        network = torch.func.functional_call
        plain = small.networks(1)[0]
        each.append(network(plain, component.mean(), (images,)).softmax(-1))
    assert np.allclose(found, torch.stack(each).mean(0).detach().numpy(), atol=1e-5)


def test_what_is_there_is_not_replaced_unasked(written: Path, small: Classifier) -> None:
    before = (written / ENSEMBLE).stat()
    with pytest.raises(InputError, match="is there already"):
        export_onnx(small, written)
    assert (written / ENSEMBLE).stat().st_mtime_ns == before.st_mtime_ns


def test_nothing_is_written_where_the_check_fails(
    small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "SINGLE", replace(SINGLE, probs=0.0))
    with pytest.raises(InputError, match="the graph is not the classifier"):
        export_onnx(small, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_classifier_that_ships_decides_alike_as_onnx() -> None:
    """Its convolutions and contrasts too, with few draws, for the graph grows with them."""
    classifier = Classifier.load(draws=2)
    checked = check(of_images(Deciding(classifier)), classifier, SINGLE)
    assert checked.otherwise <= checked.near
