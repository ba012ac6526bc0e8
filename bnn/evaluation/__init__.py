"""Batch evaluation: metrics, a sweep over sets of images, report and plots; and decisions on files."""
