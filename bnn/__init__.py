"""A Bayesian handwritten-digit classifier that says "I don't know"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnn.errors import InputError

if TYPE_CHECKING:
    from bnn.classifier import Classifier
    from bnn.prediction import Prediction
    from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

__version__ = "0.1.0"
__all__ = ["Classifier", "ConfidenceRule", "EntropyRule", "InputError", "MedianRule", "Prediction"]
_HOMES = {
    "Classifier": "bnn.classifier",
    "ConfidenceRule": "bnn.rules.thresholds",
    "EntropyRule": "bnn.rules.thresholds",
    "MedianRule": "bnn.rules.thresholds",
    "Prediction": "bnn.prediction",
}


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
