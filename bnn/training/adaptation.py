"""Adapting: the posterior of a checkpoint is the prior of the next, given images of one's own."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from bnn.classifier import Classifier, measured
from bnn.core.networks import build_network
from bnn.core.posterior import MeanField, Mixture
from bnn.data.copies import SEEN, marks_of, require_distinct
from bnn.data.imageset import ImageSet
from bnn.data.preprocess import Images
from bnn.errors import InputError, choose
from bnn.progress import progress_bar
from bnn.rules.abstention import AbstentionRule, Calibration, RefuseAll, calibrated_count
from bnn.rules.promise import Promise
from bnn.rules.table import RULES, fit_rule
from bnn.training.config import TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.module import DivergedError, SVIModule
from bnn.training.unlogged import fit_unlogged
from bnn.training.update import HELD_OUT, STEPS, UPDATE


def adapt(
    classifier: Classifier,
    images: Images,
    labels: Any,
    *,
    held_out: float = HELD_OUT,
    beta: float = UPDATE.beta,
    seed: int = 0,
    risk: float | None = None,
    delta: float | None = None,
    alpha: float | None = None,
    refuse: float | None = None,
    rule: str | None = None,
) -> Classifier:
    """The classifier after a Bayesian update by labelled images, such as one's own handwriting.

    Each component's Normals become the priors of its weights. What minimises NLL + beta · KL(q ‖ prior) on
    the images that are learnt from, starting at the prior, takes its place; so weights of which the training
    was sure hardly move. The rule is fitted anew on the images held out, and makes its promise for images
    like those, no longer for those of the training; where they cannot promise as much, it refuses everything
    and says why, and `Classifier.with_promise` can ask for less. The OOD scores stay as they are.

    The record's "adaptation" holds what `held_out` images say of three classifiers: as it was ("before"),
    with nothing but its rule fitted anew ("calibrated"), and adapted ("after"). The last two rules are
    fitted on these same images, or on most of them.

    Args:
        classifier: to start from; it stays as it is.
        images: of the kinds that `predict` takes, which it was not trained on, some of each class.
        labels: their true classes, (n,).
        held_out: share of them that is not learnt from, but calibrated and measured on.
        beta: weight of the KL term: more keeps more of what was learnt before.
        seed: chooses the images held out, and all noise.
        risk, delta, alpha, refuse, rule: see `Classifier.with_promise`.

    Raises:
        InputError: an image, a label or an option cannot be used, the images that are left to learn from lack
            a class, those held out are too few for the promise, or the posterior is of no kind that can be
            updated.

    Example:
        >>> import bnn
        >>> digits = bnn.ImageSet.from_name("digits", part="train", limit=300)
        >>> clf = bnn.adapt(bnn.Classifier.load(draws=5), digits, digits.labels, rule="entropy", refuse=0.1)
        >>> clf.promise.refuse
        0.1
    """
    if not 0 < held_out < 1:
        raise InputError(f"held_out must lie between 0 and 1, and {held_out:g} does not.")
    name = images.name if isinstance(images, ImageSet) else "arrays"
    own = ImageSet.from_arrays(images, labels, name=name, task=classifier.task)
    require_distinct(own.images)  # or some would be learnt, and measured on
    config = _config(classifier, name, beta, seed)
    data = TrainingData(own, classifier.task, seed=seed, batch_size=config.batch_size, held_out=held_out)
    asked = _Asked(*classifier.asked(rule, risk=risk, delta=delta, alpha=alpha, refuse=refuse))
    choose(RULES, asked.rule, "abstention rule").require_fittable(
        calibrated_count(len(data.calibration_images)), asked.promise
    )
    epochs = math.ceil(STEPS / len(data.train_dataloader()))
    updated = _updated(classifier, replace(config, epochs=epochs), data)
    return _compared(classifier, updated, data.calibration_images, asked)


class _Asked(NamedTuple):
    """Which rule is to be fitted, for which promise."""

    rule: str
    promise: Promise

    def fitted(self, calibration: Calibration) -> AbstentionRule:
        """The rule, or one that refuses everything and says why that one could not be fitted."""
        try:
            return fit_rule(self.rule, calibration, self.promise)
        except InputError as error:
            why = f"the {self.rule} rule could not be fitted: {error}"
            return RefuseAll(why, self.rule, self.promise)


def _config(classifier: Classifier, name: str, beta: float, seed: int) -> TrainConfig:
    """How each component is updated, but for the number of passes."""
    return replace(
        UPDATE,
        data=name,
        network=classifier.parts.network,
        network_options=classifier.parts.network_options,
        components=len(classifier.posterior.components),
        beta=beta,
        seed=seed,
        scores=classifier.parts.scores,
        combination=classifier.parts.combination,
        draws=len(classifier.ensemble),
    )


def _updated(classifier: Classifier, config: TrainConfig, data: TrainingData) -> Classifier:
    """The classifier of the updated posterior, which refuses everything as yet."""
    components = [
        _updated_component(config, m, component, data)
        for m, component in enumerate(_normals(classifier), start=1)
    ]
    before = classifier.checkpoint()
    record: dict[str, Any] = {
        "config": config.plain(),
        "data": {
            "name": config.data,
            "fingerprint": data.fingerprint,
            "trained_on": len(data.train_images),
            "calibrated_on": calibrated_count(len(data.calibration_images)),
        },
        "training": {"interrupted": False, "epochs_done": config.epochs, "components_done": len(components)},
        "adapted_from": {part: of for part, of in before.record.items() if part in ("config", "data")},
    }
    if SEEN in before.record:
        images = torch.cat([data.train_images.images, data.calibration_images.images])
        record[SEEN] = marks_of(images, before.record[SEEN])
    return Classifier(
        replace(
            before,
            parts=replace(before.parts, posterior=Mixture.name),
            posterior=Mixture(components).tensors(),
            rule=RefuseAll("it has not been calibrated.").to_dict(),
            record=record,
        ),
        draws=len(classifier.ensemble),
        seed=classifier.seed,
    )


def _normals(classifier: Classifier) -> list[MeanField]:
    components = [one for one in classifier.posterior.components if isinstance(one, MeanField)]
    if not components:
        kind = classifier.posterior.components[0].name
        raise InputError(f"a posterior of the kind {kind!r} cannot be adapted: take one that is mean-field.")
    return components


def _updated_component(config: TrainConfig, m: int, prior: MeanField, data: TrainingData) -> MeanField:
    """The m-th component's posterior, of which `prior` was the one before."""
    seed = config.seed_of(m)
    pl.seed_everything(seed, verbose=False)
    network = build_network(config.network, config.network_options, data.task)
    module = SVIModule(config, network, len(data.train_images), prior=prior)
    try:
        is_done = fit_unlogged(
            module, data.with_noise(seed), config.epochs, f"component {m}/{config.components}"
        )
    except DivergedError as error:
        raise InputError(f"{error}".replace("training", "adaptation")) from error
    if not is_done:
        raise InputError("the adaptation was interrupted: start it again, for nothing was kept.")
    fitted = module.guide.posterior()
    assert isinstance(fitted, MeanField)  # noqa: S101  # by `UPDATE`
    return fitted


def _compared(before: Classifier, updated: Classifier, held_out: ImageSet, asked: _Asked) -> Classifier:
    """`updated`, calibrated on `held_out`, with what these say of both in its record."""
    truth, numbers = held_out.truth(), {}
    bar = progress_bar("judging the images held out")
    for name, classifier in (("calibrated", before), ("after", updated)):
        evidence = classifier.evidence(held_out.images, bar)
        everything = Calibration(evidence, truth, evidence.total)
        calibration = Calibration.of(evidence, truth, classifier.seed)
        rule = asked.fitted(calibration)
        if name == "calibrated":
            numbers["before"] = _counts(measured(classifier.rule, everything))
        numbers[name] = _counts(measured(rule, everything))
    done = updated.calibrated_on(calibration, rule)
    done.record = {**done.record, "adaptation": numbers}
    return done


def _counts(shares: Mapping[str, Any]) -> dict[str, Any]:
    """What `measured` says, with numbers of images instead of shares of them."""
    n = shares["digits"]
    return {
        "images": n,
        "right": round(n * shares["accuracy"]),
        "answered": round(n * shares["coverage"]),
        "wrong_among_answered": shares["errors_among_answered"],
        "nll": shares["nll"],
    }
