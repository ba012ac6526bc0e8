"""A Bayesian handwritten-digit classifier that says "I don't know".

>>> import bnn
>>> bnn.Classifier.load().predict("docs/four.png")
Prediction of 1 image: 1 answered, 0 ambiguous, 0 unfamiliar
  [0] 4 (answered, probability 1.000)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnn.errors import InputError

if TYPE_CHECKING:
    from bnn.classifier import Classifier
    from bnn.core.evidence import Evidence
    from bnn.core.posterior import Posterior
    from bnn.core.task import Task
    from bnn.data.imageset import ImageSet
    from bnn.evaluation import metrics
    from bnn.evaluation.evaluate import evaluate
    from bnn.evaluation.results import Report
    from bnn.evaluation.votes import plot_votes
    from bnn.explanation import Explanation, explain
    from bnn.ood.score import Observed, OODScore
    from bnn.prediction import Prediction
    from bnn.reading import Reading, read
    from bnn.rules.abstention import AbstentionRule
    from bnn.rules.calibrated import CalibratedRule
    from bnn.rules.promise import Promise
    from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule
    from bnn.training.adaptation import adapt
    from bnn.training.sklearn import BayesianClassifier
    from bnn.training.train import train

__version__ = "0.2.0"
__all__ = [
    "AbstentionRule",
    "BayesianClassifier",
    "CalibratedRule",
    "Classifier",
    "ConfidenceRule",
    "EntropyRule",
    "Evidence",
    "Explanation",
    "ImageSet",
    "InputError",
    "MedianRule",
    "OODScore",
    "Observed",
    "Posterior",
    "Prediction",
    "Promise",
    "Reading",
    "Report",
    "Task",
    "adapt",
    "evaluate",
    "explain",
    "metrics",
    "plot_votes",
    "read",
    "train",
]
_HOMES = {
    "AbstentionRule": "bnn.rules.abstention",
    "BayesianClassifier": "bnn.training.sklearn",
    "CalibratedRule": "bnn.rules.calibrated",
    "Classifier": "bnn.classifier",
    "ConfidenceRule": "bnn.rules.thresholds",
    "EntropyRule": "bnn.rules.thresholds",
    "Evidence": "bnn.core.evidence",
    "Explanation": "bnn.explanation",
    "ImageSet": "bnn.data.imageset",
    "MedianRule": "bnn.rules.thresholds",
    "OODScore": "bnn.ood.score",
    "Observed": "bnn.ood.score",
    "Posterior": "bnn.core.posterior",
    "Prediction": "bnn.prediction",
    "Promise": "bnn.rules.promise",
    "Reading": "bnn.reading",
    "Report": "bnn.evaluation.results",
    "Task": "bnn.core.task",
    "adapt": "bnn.training.adaptation",
    "evaluate": "bnn.evaluation.evaluate",
    "explain": "bnn.explanation",
    "metrics": "bnn.evaluation",
    "plot_votes": "bnn.evaluation.votes",
    "read": "bnn.reading",
    "train": "bnn.training.train",
}
_EXTRAS = {"bnn.evaluation": "evaluate", "bnn.training": "train"}  # groups of packages that a room needs


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = _HOMES[name]
    try:
        return getattr(import_module(room), name) if name != "metrics" else import_module(f"{room}.metrics")
    except ModuleNotFoundError as error:
        extra, package = _EXTRAS.get(".".join(room.split(".")[:2])), (error.name or "").partition(".")[0]
        if extra is None or package == "bnn":
            raise
        raise InputError(
            f"bnn.{name} needs {package}, which is not installed: get it by `pip install 'bnn[{extra}]'`."
        ) from error


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
