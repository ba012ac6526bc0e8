"""The plot of a monitor: what its tests have won, and how many images were refused."""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnn.monitoring import TESTS, Monitor
from bnn.numerals import percent

BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"  # Okabe & Ito's, as in a report's plots
STYLE: Any = {"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}
POINTS = 400  # along the images, of what takes long to reckon
LOOKS = dict(zip(TESTS, ((BLUE, "-"), (ORANGE, "--")), strict=True))  # colour and line of each test


def drift_figure(monitor: Monitor) -> Figure:
    """Both tests' wealth against the number of images, and below it the share refused with its limits."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 6.4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        _draw_wealth(top, monitor)
        _draw_refused(bottom, monitor)
        bottom.set(xlabel="images, in the order that they came", xlim=(0, len(monitor) + 1))
    return figure


def _draw_wealth(axes: Axes, monitor: Monitor) -> None:
    powers = monitor.log_wealth / math.log(10)
    images = np.arange(1, len(monitor) + 1)
    for test, (name, said) in enumerate(TESTS.items()):
        colour, line = LOOKS[name]
        axes.plot(images, powers[:, test], line, color=colour, label=f"by the {said}")
    told = f"alarm: by chance in at most {percent(monitor.false_alarms)} of streams"
    axes.axhline(monitor.threshold / math.log(10), color=VERMILION, linestyle=":", label=told)
    if monitor.alarm is not None:
        axes.axvline(monitor.alarm, color=VERMILION, linewidth=1)
    axes.set(title="Like the calibration images?", ylabel="evidence that they are not\n(powers of ten)")
    axes.legend(loc="upper left")


def _draw_refused(axes: Axes, monitor: Monitor) -> None:
    told = monitor.refusals(np.unique(np.geomspace(1, len(monitor), POINTS).round().astype(int)))
    limits, name = 100 * told.limits.T, "its limits, at all times at once"
    axes.fill_between(told.images, *limits, color=BLUE, alpha=0.2, linewidth=0, label=name)
    axes.plot(told.images, 100 * told.shares, color=BLUE, label=f"{told.what}, of all so far")
    if told.allowed is not None:
        axes.axhline(100 * told.allowed, color=VERMILION, linestyle=":", label="what the promise allows")
    axes.set(ylabel=f"{told.what} (%)", ylim=(0, 100 * told.height))
    axes.legend(loc="upper right")
