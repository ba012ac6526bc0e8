"""Images that no promise can be kept with: copies, those that were learnt, and those that lack a class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.cli.fresh import require_fresh
from bnn.core.checkpoint import Checkpoint
from bnn.data.copies import image_hashes
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.training.adaptation import adapt

MakeCheckpoint = Callable[..., Checkpoint]
ASKED = {"rule": "entropy", "refuse": 0.2}


@pytest.fixture(scope="module")
def small(make_checkpoint: MakeCheckpoint) -> Classifier:
    return Classifier(make_checkpoint())


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.from_name("digits", limit=70)


def test_ten_copies_of_each_are_refused(small: Classifier, digits: ImageSet) -> None:
    tenfold = np.tile(np.arange(70), 10)
    with pytest.raises(InputError, match=r"^630 of these 700 images are copies of others among them"):
        small.calibrate(digits[tenfold], digits.labels[tenfold], **ASKED)  # type: ignore[index, arg-type]


def test_a_single_copy_is_refused_and_a_changed_pixel_is_none(small: Classifier, digits: ImageSet) -> None:
    images = torch.cat([digits.images, digits.images[3:4]])
    labels = torch.cat([digits.truth(), digits.truth()[3:4]])
    with pytest.raises(InputError, match=r"^1 of these 71 images are copies"):
        small.calibrate(images, labels, **ASKED)  # type: ignore[arg-type]
    images[-1, 0, 0, 0] = 0.5
    assert len(set(image_hashes(images))) == 71
    assert small.calibrate(images, labels, **ASKED).promise.refuse == 0.2  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [(7,), (0, 1, 2, 3, 4, 5, 6, 7, 8)])
def test_a_class_without_images_is_refused(
    small: Classifier, digits: ImageSet, kept: tuple[int, ...]
) -> None:
    some = digits[torch.isin(digits.truth(), torch.tensor(kept)).numpy()]
    first = min(set(range(10)) - set(kept))
    with pytest.raises(InputError, match=rf"^of {10 - len(kept)} of the 10 classes .* first being '{first}'"):
        small.calibrate(some, some.truth(), **ASKED)  # type: ignore[arg-type]


def test_adapting_to_copies_is_refused(small: Classifier, digits: ImageSet) -> None:
    twice = np.tile(np.arange(70), 2)
    with pytest.raises(InputError, match=r"^70 of these 140 images are copies"):
        adapt(small, digits[twice], digits.truth()[twice], rule="entropy", refuse=0.2)


@pytest.fixture(scope="module")
def learnt() -> ImageSet:
    return ImageSet.from_name("digits", part="train")


def trained_on(
    make_checkpoint: MakeCheckpoint, learnt: ImageSet, *, seed: object = 5, fingerprint: str | None = None
) -> Classifier:
    data = {"name": "digits", "fingerprint": fingerprint or learnt.fingerprint()}
    return Classifier(make_checkpoint(record={"data": data, "config": {"seed": seed}}))


def test_images_that_were_learnt_are_refused_and_those_held_out_are_not(
    make_checkpoint: MakeCheckpoint, learnt: ImageSet, digits: ImageSet
) -> None:
    classifier = trained_on(make_checkpoint, learnt)
    to_train_on, held_out = learnt.split_calibration(5)
    with pytest.raises(InputError, match=r"^100 of these 100 images are among those it learnt"):
        require_fresh(classifier, to_train_on[:100], None)
    require_fresh(classifier, held_out, None)
    require_fresh(classifier, digits, None)


@pytest.mark.parametrize("command", ["calibrate", "adapt"])
def test_no_command_takes_images_that_were_learnt(
    command: str,
    make_checkpoint: MakeCheckpoint,
    learnt: ImageSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out.safetensors"
    for index, (image, label) in enumerate(
        zip(learnt.images[:200, 0], learnt.truth().tolist(), strict=False)
    ):
        (mine / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.mul(255).round().byte().numpy()).save(mine / str(label) / f"{index}.png")
    trained_on(make_checkpoint, learnt).save(tmp_path / "trained.safetensors")
    given = [str(tmp_path / "trained.safetensors"), "--digits", str(mine), "--out", str(out)]
    assert main([command, *given, "--rule=entropy", "--refuse=0.3"]) == 2
    assert "of these 200 images are among those it learnt" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("record", [{}, {"data": 3, "config": []}, {"data": {"name": []}, "config": {}}])
def test_a_record_that_does_not_say_what_was_learnt_is_none(
    make_checkpoint: MakeCheckpoint, digits: ImageSet, record: dict[str, object], tmp_path: Path
) -> None:
    require_fresh(Classifier(make_checkpoint(record=record)), digits, tmp_path)


def test_what_was_learnt_from_other_images_of_that_name_is_not_known(
    make_checkpoint: MakeCheckpoint, learnt: ImageSet
) -> None:
    require_fresh(trained_on(make_checkpoint, learnt, fingerprint="0" * 64), learnt[:50], None)
    require_fresh(trained_on(make_checkpoint, learnt, seed="five"), learnt[:50], None)
