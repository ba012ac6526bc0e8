"""A Bayesian handwritten-digit classifier that says "I don't know"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnn.errors import InputError

if TYPE_CHECKING:
    from bnn.decide import Classifier, ConfidenceRule, EntropyRule, MedianRule, Prediction

__version__ = "0.1.0"
__all__ = ["Classifier", "ConfidenceRule", "EntropyRule", "InputError", "MedianRule", "Prediction"]


def __getattr__(name: str) -> Any:
    """Imports torch only when something that needs it is asked for (PEP 562)."""
    if name in __all__:
        return getattr(import_module("bnn.decide"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
