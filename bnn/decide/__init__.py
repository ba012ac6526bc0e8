"""From an ensemble to a decision: torch and NumPy only."""

from bnn.decide.classifier import Classifier, Prediction
from bnn.decide.ensemble import PredictiveEnsemble
from bnn.decide.rules import ConfidenceRule, EntropyRule, MedianRule
from bnn.decide.uncertainty import Predictive

__all__ = [
    "Classifier",
    "ConfidenceRule",
    "EntropyRule",
    "MedianRule",
    "Prediction",
    "Predictive",
    "PredictiveEnsemble",
]
