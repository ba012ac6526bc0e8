"""From a fitted guide to a checkpoint: the ensemble, the densities of digits, and the rule."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from bnn.checkpoint import Checkpoint
from bnn.data import Digits
from bnn.decide.abstention import AbstentionRule, Calibration
from bnn.decide.classifier import CHUNK, gather_evidence
from bnn.decide.density import ClassDensity
from bnn.decide.ensemble import PredictiveEnsemble, draw_weights
from bnn.decide.familiarity import Familiarity, Scorer, Scores, blurred
from bnn.decide.recalibration import measured
from bnn.decide.rules import fit_rule
from bnn.errors import InputError
from bnn.learn.config import TrainConfig
from bnn.learn.datamodule import MNISTData
from bnn.learn.density import fit_density
from bnn.learn.guide import MixtureGuide
from bnn.networks import DigitNetwork, build_network
from bnn.progress import progress_bar, tracked

REFERENCE = 5000  # training digits that say how surprising a score is
PIXEL_COMPONENTS, PIXEL_RANK = 8, 16
FEATURE_COMPONENTS, FEATURE_RANK = 1, 30
BATCH = 500  # images whose features are computed at once


def calibrated(
    config: TrainConfig, guide: MixtureGuide, data: MNISTData, training: Mapping[str, Any]
) -> Checkpoint:
    """The checkpoint of a fitted guide.

    Densities of pixels and features are learnt from the training digits, and the rule from the
    calibration digits. Where these cannot promise what `config` asks, the checkpoint gets the entropy rule,
    so that the training is not lost, and its record says why.

    Args:
        config: what was trained.
        guide: fitted.
        data: its training and calibration digits.
        training: what else the record should say of the training, plain values.
    """
    network = build_network(config.network, config.network_options)
    posterior = guide.posterior()
    # Rounding to half precision is far below the posterior's own width.
    loc = {name: loc.cpu().half() for name, (loc, _) in posterior.items()}
    scale = {name: scale.cpu().half() for name, (_, scale) in posterior.items()}
    ensemble = PredictiveEnsemble(network, draw_weights(loc, scale, config.draws, config.seed))
    mean_weights = {name: tensor.float() for name, tensor in loc.items()}
    densities = learnt_densities(network, mean_weights, data.train_digits, config.seed)
    scorer = Scorer(network, mean_weights, densities[0], densities[1:])
    reference = _reference(ensemble, scorer, data.train_digits.images[:REFERENCE])
    bar = progress_bar("judging the calibration digits")
    evidence = gather_evidence(ensemble, Familiarity(scorer, reference), data.calibration_digits.images, bar)
    calibration = Calibration(evidence, data.calibration_digits.labels, reference.entropy)
    rule, infeasible = _rule(config, calibration)
    return Checkpoint(
        network=config.network,
        network_options=dict(config.network_options),
        loc=loc,
        scale=scale,
        draws=config.draws,
        seed=config.seed,
        familiarity=_stored(densities, reference),
        calibration=calibration.tensors(),
        rule=rule.to_dict(),
        record={
            "config": asdict(config),
            "data": {
                "name": config.data,
                "fingerprint": data.fingerprint,
                "trained_on": len(data.train_digits),
                "calibrated_on": len(calibration),
            },
            "training": dict(training),
            "calibration": {**measured(rule, calibration), "infeasible": infeasible},
        },
    )


def learnt_densities(
    network: DigitNetwork, loc: Mapping[str, Tensor], digits: Digits, seed: int
) -> list[ClassDensity]:
    """The density of blurred pixels, then that of each component's features, as they will be stored.

    Args:
        network: gives the features' computation.
        loc: the weights of each component's mean network by parameter name, (M, *shape).
        digits: to be learnt.
        seed: of where the fits start.
    """
    pixels = blurred(digits.images).flatten(1)
    densities = [fit_density(pixels, digits.labels, PIXEL_COMPONENTS, PIXEL_RANK, seed)]
    trunk = network.trunk()
    for m in tracked(range(_count(loc)), "learning how digits look", _count(loc)):
        weights = {name: loc[name][m] for name, _ in trunk.named_parameters()}
        features = _features(trunk, weights, digits.images)
        densities.append(fit_density(features, digits.labels, FEATURE_COMPONENTS, FEATURE_RANK, seed))
    return [_rounded(density) for density in densities]


def _count(loc: Mapping[str, Tensor]) -> int:
    return len(next(iter(loc.values())))


@torch.no_grad()
def _features(trunk: torch.nn.Module, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    return torch.cat([functional_call(trunk, dict(weights), (batch,)) for batch in images.split(BATCH)])


def _rounded(density: ClassDensity) -> ClassDensity:
    """`density` with its large tensors in half precision, which is how they are stored."""
    large = {"mean": density.mean.half().float(), "basis": density.basis.half().float()}
    return replace(density, **large)


def _reference(ensemble: PredictiveEnsemble, scorer: Scorer, images: Tensor) -> Scores:
    bar = progress_bar("judging training digits")
    parts = [scorer.scores(chunk, ensemble.predictive(chunk)).tensors() for chunk in bar(images.split(CHUNK))]
    return Scores(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _rule(config: TrainConfig, calibration: Calibration) -> tuple[AbstentionRule, str | None]:
    """The rule, and why it is not the one that was asked for."""
    try:
        return fit_rule(config.rule, calibration, config.wishes), None
    except InputError as error:
        return fit_rule("entropy", calibration, config.wishes), str(error)


def _stored(densities: Sequence[ClassDensity], reference: Scores) -> dict[str, Tensor]:
    """Densities and reference scores by the names they have in a checkpoint."""
    pixels, features = densities[0].tensors(), [density.tensors() for density in densities[1:]]
    named = {f"pixels/{name}": tensor for name, tensor in pixels.items()}
    named |= {f"features/{name}": torch.stack([one[name] for one in features]) for name in pixels}
    halves = {key: tensor.half() for key, tensor in named.items() if key.endswith(("/mean", "/basis"))}
    return named | halves | {f"reference/{name}": tensor for name, tensor in reference.tensors().items()}
