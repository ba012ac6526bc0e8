"""From a fitted posterior to a classifier: the ensemble, the OOD detector, and the rule."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from bnn.classifier import Classifier, measured
from bnn.core.checkpoint import Checkpoint, Parts
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.features import Features
from bnn.core.networks import build_network
from bnn.core.posterior import Posterior
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.ood.contrast import Contrast, Turned
from bnn.ood.detector import Detector, fit_detector, gather_evidence
from bnn.ood.score import OODScore
from bnn.ood.scores import SCORES
from bnn.progress import progress_bar
from bnn.rules.abstention import AbstentionRule, Calibration, RefuseAll
from bnn.rules.table import fit_rule
from bnn.training.config import TrainConfig
from bnn.training.contrast import fit_contrast, fit_turned
from bnn.training.datamodule import TrainingData

REFERENCE = 5000  # training images that say how surprising a score is
REFERENCE_SHARE = 4  # of so many training images one at most
# Scores that are trained, which takes more than scores may know of: from the labelled images that are no
# reference, and the number of the task's classes.
TRAINED: MutableMapping[str, Callable[[TrainConfig, ImageSet, int], OODScore]] = {
    Contrast.name: fit_contrast,
    Turned.name: fit_turned,
}


def calibrated(
    config: TrainConfig, posterior: Posterior, data: TrainingData, training: Mapping[str, Any]
) -> Classifier:
    """The classifier of a fitted posterior.

    The OOD scores are fitted to the training images, those that are `TRAINED` to all but the reference, of
    which they would be too sure; and the rule to the calibration images. Where these
    cannot promise what `config` asks, the rule refuses everything and says why, so that the training is not
    lost; `Classifier.with_promise` can ask for less.

    Args:
        config: what was trained.
        posterior: fitted.
        data: its training and calibration images.
        training: what else the record should say of the training, plain values.
    """
    _, detector, calibration, rule = fit_judges(config, posterior, data)
    checkpoint = Checkpoint(
        task=data.task,
        parts=Parts(
            config.network,
            dict(config.network_options),
            posterior.name,
            config.scores,
            detector.combination.name,
        ),
        posterior=posterior.tensors(),
        detector=detector.tensors(),
        calibration=calibration.tensors(),
        draws=config.draws,
        seed=config.seed,
        rule=rule.to_dict(),
        record={
            "config": config.plain(),
            "data": {
                "name": config.data,
                "fingerprint": data.fingerprint,
                "trained_on": len(data.train_images),
                "calibrated_on": len(calibration),
            },
            "training": dict(training),
            "calibration": dict(measured(rule, calibration)),
        },
    )
    return Classifier(checkpoint)


class Judges(NamedTuple):
    """What decides on images, and what its rule was fitted on."""

    ensemble: PredictiveEnsemble
    detector: Detector
    calibration: Calibration
    rule: AbstentionRule


def fit_judges(config: TrainConfig, posterior: Posterior, data: TrainingData) -> Judges:
    """What a fitted posterior decides with; see `calibrated`."""
    network = build_network(config.network, config.network_options, data.task)
    ensemble = PredictiveEnsemble(network, posterior.sample(config.draws, config.seed))
    features = Features(network, posterior)
    scores = fit_scores(config, features, data.train_images, data.task.classes)
    reference = data.train_images.images[: max(2, reference_size(len(data.train_images)))]
    bar = progress_bar("judging training images")
    detector = fit_detector(scores, features, ensemble, reference, bar, combination=config.combination)
    calibration = _calibration(ensemble, detector, data)
    return Judges(ensemble, detector, calibration, _rule(config, calibration))


def fit_scores(config: TrainConfig, features: Features, images: ImageSet, classes: int) -> list[OODScore]:
    """The OOD scores that `config` names, fitted to training `images` labelled with so many `classes`."""
    learnt = images[reference_size(len(images)) :]
    return [
        TRAINED[name](config, learnt, classes)
        if name in TRAINED
        else SCORES[name].fit(images.images, images.truth(), features, config.seed)
        for name in config.scores
    ]


def reference_size(count: int) -> int:
    """How many of `count` training images, the first ones, say how surprising a score is."""
    return min(REFERENCE, count // REFERENCE_SHARE)


def _calibration(ensemble: PredictiveEnsemble, detector: Detector, data: TrainingData) -> Calibration:
    held_out = data.calibration_images
    bar = progress_bar("judging the calibration images")
    evidence = gather_evidence(ensemble, detector, held_out.images, bar)
    reference = detector.combination.tensors().get("entropy")
    if reference is None:
        return Calibration.of(evidence, held_out.truth(), data.seed)
    return Calibration(evidence, held_out.truth(), reference)  # training images' entropies choose nothing


def _rule(config: TrainConfig, calibration: Calibration) -> AbstentionRule:
    try:
        return fit_rule(config.rule, calibration, config.promise)
    except InputError as error:
        return RefuseAll(f"the {config.rule} rule could not be fitted: {error}", config.rule, config.promise)
