"""The classifier as a folder: two ONNX files, and a JSON of what a program has to know of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from bnn import __version__
from bnn.classifier import Classifier
from bnn.data.preprocess import INK
from bnn.data.quality import QUALITIES
from bnn.files import require_free, written_whole
from bnn.numerals import percent
from bnn.portable.check import HALF, SEED, SINGLE, Checked, Tolerance, check
from bnn.portable.graph import IMAGES, Deciding, MeanNetworks, of_images
from bnn.prediction import REASONS

FORMAT = 1
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # of the group `onnx`
ENSEMBLE, MEAN, ABOUT = "ensemble.onnx", "mean.onnx", "classifier.json"
OUTPUTS = {  # of `ENSEMBLE`; a row an image
    "label": "the class, as a place in classes, or -1 where it refuses",
    "reason": "a place in reasons",
    "probs": "the predictive mean, a column a class",
    "total": "predictive entropy in nats: higher is less certain",
    "aleatoric": "the mean entropy of the networks in nats",
    "epistemic": "how far the networks disagree, in nats",
    "ood_score": "the OOD scores joined into one: higher is more out-of-distribution",
    "refusal_score": "higher is more reason to refuse",
    "surprises": "each OOD score's surprise in nats, a column a score",
    "by_itself": "whether the joined score is that score's by itself, a column a score",
    "candidates": "whether the class is still possible, a column a class",
    "votes": "how many networks find the class likeliest, a column a class",
}


def export_onnx(
    classifier: Classifier, folder: Path, *, half: bool = False, overwrite: bool = False
) -> Mapping[str, Any]:
    """Writes `ENSEMBLE`, `MEAN` and `ABOUT` into `folder`, once the graph was held against the classifier.

    Args:
        classifier: to be exported; it must have been calibrated.
        folder: is made where it is not there.
        half: whether weights are stored in half precision, in half as many bytes, and with the wider
            tolerance.
        overwrite: whether files of these names are replaced.

    Returns:
        What `ABOUT` says.

    Raises:
        ModuleNotFoundError: a package of the group `onnx` is missing.
        InputError: the files are there already, a part of the classifier has no ONNX form, or the graph
            decides otherwise than the classifier; nothing is written then.
    """
    require_onnx()
    for name in (ENSEMBLE, MEAN, ABOUT):
        require_free(folder / name, overwrite=overwrite)
    tolerance = HALF if half else SINGLE
    model = of_images(Deciding(classifier), half=half)
    checked = check(model, classifier, tolerance)
    files = {
        ENSEMBLE: model.SerializeToString(),
        MEAN: of_images(MeanNetworks(classifier), half=half).SerializeToString(),
    }
    about = told(classifier, files, tolerance, checked)
    for name, content in files.items():
        with written_whole(folder / name) as path:
            path.write_bytes(content)
    with written_whole(folder / ABOUT) as path:
        path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return about


def require_onnx() -> None:
    """Imports, before long work, what writes and runs ONNX; raises ModuleNotFoundError where that is none."""
    for package in PACKAGES:
        import_module(package)


def told(
    classifier: Classifier, files: Mapping[str, bytes], tolerance: Tolerance, checked: Checked
) -> dict[str, Any]:
    """What a program has to know, as plain values."""
    task, rule = classifier.task, classifier.rule
    return {
        "format": FORMAT,
        "made_by": f"bnn {__version__}",
        "classes": list(task.names),
        "reasons": list(REASONS),
        "networks": len(classifier.ensemble),
        "seed": classifier.seed,
        "input": {
            "name": IMAGES,
            "shape": ["N", 1, 28, 28],
            "type": "float32",
            "range": [0, 1],
            "layout": task.layout,
            "means": _input_of(task.layout),
        },
        "outputs": OUTPUTS,
        "scores": [
            {"name": one.name, "says": one.says, "quality": one.quality, "sees_image": one.sees_image}
            for one in classifier.detector.scores
        ],
        "qualities": QUALITIES,
        "rule": rule.to_dict(),
        "thresholds": dict(rule.thresholds),
        "candidate_threshold": classifier.candidate_threshold,
        "says": classifier.describe(),
        "promise": promised(classifier, checked),
        "tolerance": asdict(tolerance),
        "checked": {"seed": SEED, **asdict(checked)},
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }


def promised(classifier: Classifier, checked: Checked) -> str:
    """What is left of the rule's promise, in sentences."""
    if classifier.rule.promise is None:
        return "The rule promises nothing."
    if not classifier.is_as_calibrated:
        return "The rule was calibrated with other networks: of these it promises nothing."
    near = percent(checked.calibration_near / checked.calibration, ".2g")
    return (
        "The rule's promise was made for the classifier that this graph was made from. The graph may decide "
        "otherwise where a measure is within the tolerance of its threshold, and was seen to do so nowhere "
        f"else: of the {checked.calibration:,} calibration images {near} are so near."
    )


def _input_of(layout: str) -> str:
    if layout == INK:
        return (
            "white ink on black as MNIST has it: the ink's box fitted into 20×20, its centre of mass on "
            "pixel 14, 14; such as bnn.prepare makes of a picture"
        )
    return "the whole picture, its longer side 28 pixels, the rest filled up as its border"
