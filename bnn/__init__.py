"""A Bayesian handwritten-digit classifier that says "I don't know"."""

from bnn.decide import Classifier, ConfidenceRule, EntropyRule, MedianRule, Prediction
from bnn.errors import InputError

__version__ = "0.1.0"
__all__ = ["Classifier", "ConfidenceRule", "EntropyRule", "InputError", "MedianRule", "Prediction"]
