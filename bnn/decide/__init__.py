"""From an ensemble to a decision: torch and NumPy only."""

from bnn.decide.calibrated import CalibratedRule
from bnn.decide.classifier import Classifier, Prediction
from bnn.decide.ensemble import PredictiveEnsemble
from bnn.decide.familiarity import Evidence
from bnn.decide.rules import ConfidenceRule, EntropyRule, MedianRule
from bnn.decide.uncertainty import Predictive

__all__ = [
    "CalibratedRule",
    "Classifier",
    "ConfidenceRule",
    "EntropyRule",
    "Evidence",
    "MedianRule",
    "Prediction",
    "Predictive",
    "PredictiveEnsemble",
]
