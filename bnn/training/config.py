"""What a training run is: one dataclass, and the named presets."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from bnn.errors import InputError, choose
from bnn.rules.promise import Promise


def _option(default: Any, help_text: str) -> Any:
    """A field with what `bnn train --help` says of it."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; it is stored in the checkpoint.

    Raises:
        InputError: a number is out of its range.
    """

    data: str = _option(
        "mnist",
        "what to learn: mnist, digits (scikit-learn's, which need no file), QMNIST, EMNIST-digits, USPS, "
        "EMNIST-letters, EMNIST-balanced, FashionMNIST, KMNIST, or data of your own: a folder whose "
        "sub-folders are the classes, a CSV of pixels (the class under the head label, or first), or an .npz "
        "(images, labels)",
    )
    layout: str = _option(
        "as-is",
        "of your own images, where they are not 28×28: as-is (made so, whole) or digit (the ink is cut out "
        "and centred)",
    )
    test_share: float = _option(
        0.2, "of each class of your own data, share that is not learnt, for `bnn evaluate`"
    )
    network: str = _option("vgg", "network: vgg, cnn, mlp or resnet")
    network_options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"help": "arguments of the network as JSON, such as '{\"hidden\": 400}'"},
    )
    guide: str = _option(
        "mean-field",
        "posterior: mean-field (a Normal a weight); notebook (mean-field from a random start); low-rank "
        "(mean-field, and 8 directions along which weights vary together); map (a point, and with several "
        "components a deep ensemble); mc-dropout (a point, of whose layers' inputs a tenth is left out); "
        "swag (a Normal around the weights that the last quarter of the training passes through); laplace (a "
        "point, around which the last layer is Normal, by the curvature of the loss); sghmc (48 networks, "
        "kept by stochastic-gradient Hamiltonian Monte Carlo); or nuts (100 networks, sampled by Hamiltonian "
        "Monte Carlo: of small networks and few images)",
    )
    components: int = _option(1, "independently trained guides, mixed in equal parts")
    estimator: str = _option(
        "weights",
        "gradient of the ELBO: weights (drawn once a mini-batch), flipout, local (local reparameterisation) "
        "or trace (as weights, and the KL is sampled too)",
    )
    prior: str = _option(
        "normal",
        "prior of every weight: normal; learnt (Normal, each layer's standard deviation fitted: empirical "
        "Bayes); laplace; student-t (5 degrees of freedom); scale-mixture (of a wide and a narrow Normal); "
        "or horseshoe (regularised: sharply peaked at 0, with heavy tails)",
    )
    prior_scale: float | None = _option(
        None,
        "standard deviation of every weight's prior, where learnt starts (default: sqrt(2 / fan_in))",
    )
    beta: float = _option(0.05, "weight of the KL term: 1 is Bayes, less is a tempered (colder) posterior")
    kl_warmup: float = _option(0.2, "share of the steps over which the KL weight rises from 0 to beta")
    warm_start: float = _option(
        0.0,
        "share of the steps, the first, that train the locations alone, as a plain network's weights: each "
        "takes less time; of the guides mean-field, notebook and low-rank",
    )
    epochs: int = _option(9, "passes over the training digits, of each component")
    batch_size: int = _option(128, "images a step")
    lr: float = _option(3e-3, "Adam's highest learning rate")
    schedule: str = _option(
        "one-cycle", "learning rate over time: one-cycle (short rise, long fall) or constant"
    )
    augment: bool = _option(
        True, "whether training images are varied, as the task says: moved, slanted, bent and blurred"
    )
    pens: float = _option(
        0.0, "share of training images that are also inked, blurred, coarse or pale as by another pen"
    )
    seed: int = _option(0, "of the calibration split, the initial guide and all noise")
    scores: tuple[str, ...] = _option(
        ("contrast", "turned", "pixels", "entropy"),
        "out-of-distribution (OOD) scores that are joined, as a JSON list",
    )
    contrast_options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"help": "arguments of the contrast's network as JSON, such as '{\"hidden\": 128}'"},
    )
    contrast_epochs: int = _option(2, "passes of the contrast, each over as much background as digits")
    combination: str = _option(
        "bonferroni",
        "how the OOD scores are joined: weighted, fisher (in equal parts), or bonferroni (weighted, but that "
        "of turned images by itself)",
    )
    draws: int = _option(50, "networks drawn from the guide for the ensemble")
    rule: str = _option("calibrated", "abstention rule: calibrated, entropy, confidence or median")
    risk: float = _option(Promise.risk, "calibrated rule: share of its answers that may be wrong")
    delta: float = _option(Promise.delta, "calibrated rule: chance that calibration misses that share")
    alpha: float = _option(Promise.alpha, "calibrated rule: share of digits that it may refuse as unfamiliar")
    refuse: float = _option(
        Promise.refuse, "entropy and confidence rules: share of digits that they may refuse"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(self.scores))  # JSON has lists alone
        for name in ("components", "epochs", "contrast_epochs", "batch_size", "draws", "lr"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        _require(self.beta >= 0, "beta", self.beta, "0 or more")
        _require(0 <= self.pens <= 1, "pens", self.pens, "between 0 and 1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 2^32 - 1")
        _require(0 <= self.test_share < 1, "test_share", self.test_share, "0 or more, and below 1")
        _require(0 <= self.kl_warmup <= 1, "kl_warmup", self.kl_warmup, "between 0 and 1")
        _require(0 <= self.warm_start < 1, "warm_start", self.warm_start, "0 or more, and below 1")
        _ = self.promise
        _require(self.prior_scale is None or self.prior_scale > 0, "prior_scale", self.prior_scale, "above 0")
        _require(
            self.schedule in ("one-cycle", "constant"), "schedule", self.schedule, "one-cycle or constant"
        )

    def plain(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold."""
        options = {name: dict(getattr(self, name)) for name in ("network_options", "contrast_options")}
        return asdict(self) | options | {"scores": list(self.scores)}

    def seed_of(self, component: int) -> int:
        """The seed of one component's training, counted from 1."""
        return hash((self.seed, component)) % 2**32

    @property
    def promise(self) -> Promise:
        """What the rule is fitted for."""
        return Promise(self.risk, self.delta, self.alpha, self.refuse)


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise InputError(f"{name} must be {wanted}, and {value} is not.")


_FAST = TrainConfig(warm_start=0.5)

_NOTEBOOK = TrainConfig(
    network="mlp",
    guide="notebook",
    estimator="trace",
    prior_scale=1.0,
    beta=1.0,
    kl_warmup=0.0,
    epochs=5,
    lr=0.01,
    schedule="constant",
    augment=False,
    scores=("pixels", "features", "entropy"),
    combination="fisher",
    draws=100,
    rule="median",
)

PRESETS: Mapping[str, TrainConfig] = {
    "fast": _FAST,
    "best": replace(
        _FAST,
        components=6,
        beta=0.1,
        warm_start=0.0,
        epochs=30,
        pens=0.3,
        contrast_options={"channels": [32, 64, 128], "hidden": 128},
        contrast_epochs=16,
    ),
    "notebook": _NOTEBOOK,
    "notebook-better": replace(_NOTEBOOK, guide="mean-field", estimator="local"),
}


def configured(preset: str, options: Mapping[str, Any]) -> TrainConfig:
    """The preset with other `options`, fields of `TrainConfig`.

    Raises:
        InputError: there is no such preset or option, or an option is out of its range.
    """
    known = [field.name for field in fields(TrainConfig)]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=3) or known
            raise InputError(f"{name} is no option of the training: did you mean {', '.join(near)}?")
    return replace(choose(PRESETS, preset, "preset"), **options)
