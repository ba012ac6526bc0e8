"""Components that were trained as separate jobs, made one classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from bnn.classifier import Classifier
from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.core.posterior import Mixture
from bnn.errors import InputError
from bnn.files import require_free
from bnn.training.calibration import calibrated
from bnn.training.config import TrainConfig
from bnn.training.runs import COMPONENT, checkpoint_to_refit
from bnn.training.train import lesson_of


def merge_command(
    paths: Sequence[Path],
    out: Path,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    overwrite: bool = False,
) -> Classifier:
    """`bnn merge`: writes the classifier that one run with all these components would have written.

    The posteriors are mixed in equal parts; OOD scores and rule are fitted to them as the first was asked to.

    Args:
        paths: checkpoints of `bnn train --component`, of the same options and images, two at least.
        out: where the result goes.
        data: the images, where they are data of one's own; by default the set that was trained on.
        data_dir, download: see `ImageSet.from_name`.
        overwrite: whether the result takes the place of what is there already.

    Raises:
        InputError: they are no components of one training, or the images cannot be had.
    """
    if len(paths) < 2:
        raise InputError("at least two components are merged: name their checkpoints.")
    require_free(out, overwrite=overwrite)
    config = replace(_config_of(paths[0]), components=len(paths))
    lesson = lesson_of(data or config.data, config, data_dir, download)
    split = lesson.split(config)
    parts: dict[int, Checkpoint] = {}
    for path in paths:
        part = checkpoint_to_refit(path, config, split.fingerprint)
        number = _number_of(part, path)
        if number in parts:
            raise InputError(f"{path} is component {number}, as another is: train it with other numbers.")
        parts[number] = part
    in_order = [parts[number] for number in sorted(parts)]
    posterior = Mixture([one for part in in_order for one in Classifier(part).posterior.components])
    training = {
        "interrupted": False,
        "epochs_done": max(part.record["training"]["epochs_done"] for part in in_order),
        "components_done": len(in_order),
    }
    merged = lesson.told(calibrated(config, posterior, split, training))
    merged.save(out)
    return merged


def _config_of(path: Path) -> TrainConfig:
    """With what the checkpoint at `path` was trained."""
    started = checkpoint_file.load(path).record.get("config")
    known = {field.name for field in fields(TrainConfig)}
    if not (isinstance(started, Mapping) and set(started) <= known):
        raise InputError(f"{path} does not say how it was trained: train anew.")
    try:
        return TrainConfig(**started)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} does not say how it was trained ({error}): train anew.") from error


def _number_of(part: Checkpoint, path: Path) -> int:
    """Which component, from 1, the checkpoint at `path` is."""
    training = part.record["training"]
    number = training.get(COMPONENT)
    if not isinstance(number, int) or not isinstance(training.get("epochs_done"), int):
        raise InputError(f"{path} is no component by itself: train such with `bnn train --component`.")
    if training.get("interrupted"):
        raise InputError(f"the training of {path} was interrupted: end it with `bnn train --resume`.")
    return number
