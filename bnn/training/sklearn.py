"""scikit-learn's manners: a Bayesian network as an estimator, for tables of numbers and for images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro.util import get_rng_state, set_rng_state
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from bnn.core.evidence import Evidence
from bnn.core.networks import IMAGE_SIZE, build_network
from bnn.core.posterior import Posterior
from bnn.core.task import Task
from bnn.core.uncertainty import Predictive
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.ood.detector import gather_evidence
from bnn.rules.promise import Promise
from bnn.rules.table import fit_rule
from bnn.training.calibration import fit_judges
from bnn.training.config import TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.guide import Guide, MixtureGuide
from bnn.training.module import SVIModule
from bnn.training.train import require_buildable
from bnn.training.unlogged import fit_unlogged

TABULAR = "mlp"  # the network that takes any number of features; all others see images
HIDDEN = 64  # its units
PIXELS = IMAGE_SIZE * IMAGE_SIZE
OF_ANYTHING = ("features", "entropy")  # OOD scores that need no images
FARTHEST = 1e6  # standard deviations from the mean beyond which a feature is no farther
AT_ONCE = 500  # rows

Floats = NDArray[np.float32]


class Decided(NamedTuple):
    """What is decided on n rows.

    Attributes:
        labels: (n,) objects, the class, or None where it refuses.
        reasons: (n,) "answered", "ambiguous" or "unfamiliar".
        scores: (n,) float32, the refusal scores; higher is more reason to refuse.
    """

    labels: NDArray[np.object_]
    reasons: NDArray[np.str_]
    scores: Floats


class Uncertainty(NamedTuple):
    """How unsure the ensemble is of n rows, (n,) float32 in nats each: total = aleatoric + epistemic.

    Attributes:
        total: the entropy of the mean prediction.
        aleatoric: the mean entropy of the draws: each by itself is unsure.
        epistemic: the mutual information of label and weights: the draws disagree.
    """

    total: Floats
    aleatoric: Floats
    epistemic: Floats


class BayesianClassifier(ClassifierMixin, BaseEstimator):
    """A Bayesian neural network as an estimator of scikit-learn, which may also refuse to answer.

    `fit` finds a posterior over the weights by stochastic variational inference, on rows of which a share is
    held out. `predict` and `predict_proba` are those of the mean over `draws` networks, and always answer.
    `decide` answers or refuses, by a rule that is fitted on the rows held out: by default, for fresh rows of
    the same distribution, at most `risk` of its answers are wrong, with probability 1 − `delta` over
    calibration sets, and it calls at most `alpha` of the rows unfamiliar, in expectation over them. Where the
    rows held out cannot promise that, it refuses all, and `rule_.describe()` says what they can; ask
    `with_promise` for that, or fit on more.

    Args:
        network: "mlp", one hidden layer, for any features, which are standardised; or another name in
            `bnn.core.networks.NETWORKS`, for images: X is (n, 784) or (n, 28, 28), pixels from 0 to 1, or
            to 255 where one is above 1; `bnn.train` does more for those.
        network_options: arguments of the network; by default, an "mlp" has {"hidden": 64}.
        guide: which posterior; a name in `bnn.training.guides.GUIDES`.
        components: independently trained guides, mixed in equal parts.
        gradient_estimator: of the ELBO; a name in `bnn.training.elbo.ELBOS`.
        prior: of the weights; a name in `bnn.training.prior.PRIORS`.
        prior_scale: its standard deviation; None for sqrt(2 / fan_in).
        beta: weight of the KL term: 1 is Bayes, less is a tempered (colder) posterior.
        steps: of each component's training, however many rows there are.
        batch_size: rows a step.
        lr: Adam's highest learning rate.
        draws: networks in the ensemble.
        scores: out-of-distribution scores that are joined; of tables, "features" and "entropy" alone.
        rule: abstention rule; a name in `bnn.rules.table.RULES`.
        risk, delta, alpha, refuse: what it promises; see `bnn.Promise`.
        held_out: of each class, share of the rows that is not learnt, but calibrated on.
        random_state: of the rows held out, the start and all noise: a seed, a generator, or None.

    Attributes:
        classes_: (C,), sorted.
        n_features_in_: features that `fit` saw.
        feature_names_in_: their names, where X had any.
        posterior_: over the weights.
        ensemble_, detector_, rule_: what decides.
        calibration_: what is known of the rows held out.

    Example:
        >>> import bnn
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = bnn.BayesianClassifier(steps=200, random_state=0).fit(X[:1400], y[:1400])
        >>> clf.score(X[1400:], y[1400:]) > 0.8
        True
        >>> clf.decide(16 - X[:2]).reasons.tolist()
        ['unfamiliar', 'unfamiliar']
    """

    def __init__(
        self,
        network: str = TABULAR,
        *,
        network_options: Mapping[str, Any] | None = None,
        guide: str = "mean-field",
        components: int = 1,
        gradient_estimator: str = "weights",
        prior: str = "normal",
        prior_scale: float | None = None,
        beta: float = 0.1,
        steps: int = 1000,
        batch_size: int = 128,
        lr: float = 3e-3,
        draws: int = 50,
        scores: Sequence[str] = OF_ANYTHING,
        rule: str = "calibrated",
        risk: float = 0.05,
        delta: float = 0.05,
        alpha: float = 0.05,
        refuse: float = 0.05,
        held_out: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.network_options = network_options
        self.guide = guide
        self.components = components
        self.gradient_estimator = gradient_estimator
        self.prior = prior
        self.prior_scale = prior_scale
        self.beta = beta
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.draws = draws
        self.scores = scores
        self.rule = rule
        self.risk = risk
        self.delta = delta
        self.alpha = alpha
        self.refuse = refuse
        self.held_out = held_out
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803  # as scikit-learn has it
        """Learns rows X (n, features) of classes y (n,), of any type.

        Raises:
            InputError: y has one class, no class has two rows, or a parameter cannot be used.
            ValueError: X or y is not finite, or of another shape.
        """
        rows, y = validate_data(self, self._in_rows(X), y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                "y has one class, of which nothing can be told: give rows of two or more classes."
            )
        if len(rows) == len(self.classes_):
            raise InputError("every class has one row, of which none can be held out: give more rows.")
        self._require_usable()
        config = self._config(rows.shape[1], check_random_state(self.random_state).randint(2**31))
        with _global_generators_kept():
            self._fit(config, self._data(config, torch.tensor(rows), torch.from_numpy(labels)))
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The likeliest class of each row, (n,): it always answers."""
        likeliest = self._predictive(X).mean.argmax(-1)
        classes: NDArray[Any] = self.classes_[likeliest.numpy()]
        return classes

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """The probability of each class, the mean over the ensemble, (n, C) float32."""
        probs: Floats = self._predictive(X).mean.numpy()
        return probs

    def predict_uncertainty(self, X: Any) -> Uncertainty:  # noqa: N803
        """How unsure the ensemble is of each row, and of what kind that is."""
        said = self._predictive(X)
        return Uncertainty(said.total.numpy(), said.aleatoric.numpy(), said.epistemic.numpy())

    def decide(self, X: Any) -> Decided:  # noqa: N803
        """The class of each row, or a refusal with its reason."""
        decided = self.rule_.decide(self._evidence(self._checked(X)))
        labels = self.classes_.astype(object)[decided.labels]
        labels[decided.labels < 0] = None
        return Decided(labels, decided.reasons, decided.scores)

    def with_promise(self, **promise: Any) -> Self:
        """The same ensemble under a rule that is fitted, on the same rows held out, for another promise.

        Args:
            promise: of the parameters `rule`, `risk`, `delta`, `alpha` and `refuse` those that change.

        Raises:
            InputError: the rows held out cannot promise that; it says what they can.
        """
        check_is_fitted(self)
        if strange := promise.keys() - {"rule", "risk", "delta", "alpha", "refuse"}:
            raise InputError(f"{min(strange)} is no part of a promise: fit anew.")
        other = copy(self).set_params(**promise)
        asked = Promise(other.risk, other.delta, other.alpha, other.refuse)
        other.rule_ = fit_rule(other.rule, other.calibration_, asked)
        return other

    def _require_usable(self) -> None:
        """Checks the parameters that no other part does."""
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out must lie between 0 and 1, and {self.held_out:g} does not.")
        if self.steps < 1:
            raise InputError(f"steps must be at least 1, and {self.steps} is not.")
        of_images = [name for name in self.scores if name not in OF_ANYTHING]
        if of_images and self.network == TABULAR:
            raise InputError(
                f"the OOD score {of_images[0]!r} is of images: of tables take {' and '.join(OF_ANYTHING)}."
            )

    def _fit_scale(self, rows: NDArray[np.float64]) -> None:
        """Learns how rows are brought to what the network sees."""
        if self.network == TABULAR:
            self.scaler_ = StandardScaler().fit(rows)
            return
        if rows.shape[1] != PIXELS:
            raise InputError(
                f"the network {self.network!r} sees images of 28×28 pixels, and X has "
                f"{rows.shape[1]} features: give (n, {PIXELS}), or take the network {TABULAR!r}."
            )
        self.white_ = 255.0 if rows.max() > 1 else 1.0

    def _tensor(self, rows: NDArray[np.float64]) -> Tensor:
        """What the network sees: (n, 1, 28, 28) in [0, 1], or standardised features (n, 1, 1, features)."""
        if self.network == TABULAR:
            scaled = self.scaler_.transform(rows).clip(-FARTHEST, FARTHEST)
            return torch.from_numpy(scaled.astype(np.float32))[:, None, None]
        pixels = (rows / self.white_).clip(0, 1).astype(np.float32)
        return torch.from_numpy(pixels).view(-1, 1, IMAGE_SIZE, IMAGE_SIZE)

    def _config(self, features: int, seed: int) -> TrainConfig:
        options = {"hidden": HIDDEN, "inputs": features} if self.network == TABULAR else {}
        return TrainConfig(
            data="arrays",
            network=self.network,
            network_options={**options, **(self.network_options or {})},
            guide=self.guide,
            components=self.components,
            estimator=self.gradient_estimator,
            prior=self.prior,
            prior_scale=self.prior_scale,
            beta=self.beta,
            batch_size=self.batch_size,
            lr=self.lr,
            augment=False,
            seed=int(seed),
            scores=tuple(self.scores),
            combination="fisher",
            draws=self.draws,
            rule=self.rule,
            risk=self.risk,
            delta=self.delta,
            alpha=self.alpha,
            refuse=self.refuse,
        )

    def _data(self, config: TrainConfig, rows: Tensor, labels: Tensor) -> TrainingData:
        """The rows as the network sees them, on a scale of which those held out say nothing."""
        sources = [str(row) for row in range(len(rows))]
        data = TrainingData(
            ImageSet(config.data, rows, np.full(len(rows), ""), labels, sources),
            Task(tuple(map(str, range(len(self.classes_))))),  # the classes by number, whatever their type
            seed=config.seed,
            batch_size=config.batch_size,
            augment=False,
            held_out=self.held_out,
            by_class=True,
        )
        self._fit_scale(data.train_images.images.numpy())
        data.train_images, data.calibration_images = (
            replace(part, images=self._tensor(part.images.numpy()))
            for part in (data.train_images, data.calibration_images)
        )
        return data

    def _fit(self, config: TrainConfig, data: TrainingData) -> None:
        config = replace(config, epochs=math.ceil(self.steps / len(data.train_dataloader())))
        require_buildable(config, data)
        guides = [self._fitted_guide(config, m, data) for m in range(config.components)]
        self.posterior_: Posterior = MixtureGuide(guides).posterior()
        judges = fit_judges(config, self.posterior_, data)
        self.ensemble_, self.detector_, self.calibration_, self.rule_ = judges

    def _fitted_guide(self, config: TrainConfig, component: int, data: TrainingData) -> Guide:
        seed = config.seed_of(component)
        pyro.set_rng_seed(seed)
        network = build_network(config.network, config.network_options, data.task)
        module = SVIModule(config, network, len(data.train_images))
        options: dict[str, Any] = {"steps": self.steps, "quiet": True}
        if not fit_unlogged(module, data.with_noise(seed), config.epochs, "the estimator", **options):
            raise KeyboardInterrupt
        module.guide.finish(config, module.model, network, data.train_images)
        return module.guide

    def _in_rows(self, X: Any) -> Any:  # noqa: N803
        """X, where it holds images (n, 28, 28) for a network of such, as (n, 784)."""
        is_stack = self.network != TABULAR and np.shape(X)[1:] == (IMAGE_SIZE, IMAGE_SIZE)
        return np.reshape(X, (len(X), PIXELS)) if is_stack else X

    def _checked(self, X: Any) -> Tensor:  # noqa: N803
        check_is_fitted(self)
        return self._tensor(validate_data(self, self._in_rows(X), dtype=np.float64, reset=False))

    def _predictive(self, X: Any) -> Predictive:  # noqa: N803
        parts = self._checked(X).split(AT_ONCE)
        return Predictive.joined([self.ensemble_.predictive(part) for part in parts])

    def _evidence(self, seen: Tensor) -> Evidence:
        return gather_evidence(self.ensemble_, self.detector_, seen)


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Leaves Python's, NumPy's and torch's global generators as they were."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
