"""What a training run is: one dataclass, and the named presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; it is stored in the checkpoint.

    Args:
        data: digits to learn: "mnist", or "digits" (scikit-learn's, which need no file).
        network: "cnn" or "mlp".
        network_options: arguments of that network's constructor, where they differ from its own.
        guide: the variational posterior: "mean-field", or "notebook" (mean-field from a random start).
        estimator: how the ELBO's gradient is estimated: "flipout", "local" (local reparameterisation),
            "weights" (drawn once a mini-batch) or "trace" (the same, and the KL is sampled too).
        prior_scale: standard deviation of every weight's prior; None takes sqrt(2 / fan_in).
        beta: weight of the KL term; 1 is Bayes, below 1 a tempered (colder) posterior.
        kl_warmup: share of the steps over which the KL weight rises from 0 to beta.
        epochs: passes over the training digits.
        batch_size: images a step.
        lr: Adam's (highest) learning rate.
        schedule: learning rate over the steps: "cosine" (short rise, long fall) or "constant".
        augment: whether training digits are randomly rotated, shifted, scaled and slanted.
        seed: of the calibration split, the initial guide and all noise.
        draws: networks drawn from the guide for the ensemble.
        rule: the abstention rule: "entropy", "confidence" or "median".
        refuse: the share of digits the rule may refuse, where it is fitted.
    """

    data: str = "mnist"
    network: str = "cnn"
    network_options: dict[str, Any] = field(default_factory=dict)
    guide: str = "mean-field"
    estimator: str = "flipout"
    prior_scale: float | None = None
    beta: float = 0.02
    kl_warmup: float = 0.2
    epochs: int = 15
    batch_size: int = 128
    lr: float = 2e-3
    schedule: str = "cosine"
    augment: bool = True
    seed: int = 0
    draws: int = 100
    rule: str = "entropy"
    refuse: float = 0.02


PRESETS: Mapping[str, TrainConfig] = {"default": TrainConfig()}
