"""Batch evaluation: metrics, a sweep over sets of images, report and plots; and decisions on files."""

from bnn.judge.evaluate import evaluate, evaluate_command
from bnn.judge.predict import predict_command
from bnn.judge.report import write_report
from bnn.judge.results import Report

__all__ = ["Report", "evaluate", "evaluate_command", "predict_command", "write_report"]
