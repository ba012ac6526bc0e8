"""What programs send by plain HTTP, watched for drift, and what the tab Trust says of it."""

import math
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bnn.app.figures import figure_html
from bnn.app.plots import Axis, Plot, round_ticks
from bnn.classifier import Classifier
from bnn.monitoring import LEVEL, TESTS, Monitor, said_of_refusals, verdict
from bnn.numerals import percent, percent_interval
from bnn.prediction import Prediction

MOST = 1_000_000  # images that are watched, 25 bytes each; those that come later are not
POINTS = 60  # along the images
ROWS = 5  # of the numbers
_HEADING = "<h2>What programs have sent</h2>"
_NOTHING = (
    "<p>Nothing yet since this page was started. What comes by plain HTTP is compared with the calibration "
    "images, and here stands whether it is still like them.</p>"
)
_OTHERWISE = (
    "<p>Only what the calibrated ensemble says can be compared with what it said of the calibration images: "
    "this page is served with other draws, so that nothing is watched.</p>"
)


class Arrivals:
    """The decisions on what programs send, in the order that they are made, from any thread."""

    def __init__(self, classifier: Classifier) -> None:
        self._monitor = Monitor(classifier) if classifier.is_as_calibrated else None
        self._lock = Lock()

    def see(self, prediction: Prediction) -> None:
        """Takes in the decisions on the images that came next."""
        with self._lock:
            if self._monitor is not None and len(self._monitor) < MOST:
                self._monitor.see(prediction)

    def html(self) -> str:
        """What is to be said of them now."""
        with self._lock:
            if self._monitor is None:
                return _HEADING + _OTHERWISE
            if not len(self._monitor):
                return _HEADING + _NOTHING
            return _HEADING + _told(self._monitor)


def _told(monitor: Monitor) -> str:
    sentences = "".join(f"<p>{sentence}</p>" for sentence in (verdict(monitor), said_of_refusals(monitor)))
    figures = _evidence_figure(monitor) + _refusals_figure(monitor)
    return f'{sentences}<div class="figures">{figures}</div>'


def _evidence_figure(monitor: Monitor) -> str:
    images, powers = _places(len(monitor)), monitor.log_wealth / math.log(10)
    needed = monitor.threshold / math.log(10)
    low, high = min(0.0, float(powers.min())), max(needed, float(powers.max()))
    tests = list(zip(("first", "second"), TESTS.values(), strict=True))
    caption = f"An alarm comes at 10^{needed:.1f}."
    plot = Plot(
        _across(len(monitor)),
        Axis("evidence of a change (powers of ten)", low, high, round_ticks(high)),
        f"Evidence that the images are no longer like the calibration images. {caption}",
        [(name, f"by the {said}") for name, said in tests],
    )
    for test, (name, _) in enumerate(tests):
        plot.line(images, powers[images - 1, test], name)
    plot.level(needed, "alarm")
    rows = [
        [f"{images[row]:,}", *(f"10^{power:.1f}" for power in powers[images[row] - 1])]
        for row in _few(len(images))
    ]
    heads = ("images", *(f"by the {said}" for said in TESTS.values()))
    return figure_html("Like the calibration images?", plot, caption, heads, rows)


def _refusals_figure(monitor: Monitor) -> str:
    told = monitor.refusals(_places(len(monitor)))
    what, high = told.what, 100 * told.height
    caption = f"With limits that hold at all times at once ({percent(LEVEL)})."
    plot = Plot(
        _across(len(monitor)),
        Axis(f"{what} (%)", 0, high, round_ticks(high)),
        f"Share of the images {what}, of all so far. {caption}",
        [("first", f"{what}, of all so far"), ("second", "its limits")],
    )
    for edge in told.limits.T:
        plot.line(told.images, (100 * edge).clip(0, high), "second")
    plot.line(told.images, (100 * told.shares).clip(0, high), "first")
    if told.allowed is not None:
        plot.level(100 * told.allowed, "promised at most")
    rows = [
        [
            f"{told.images[row]:,}",
            f"{percent(float(told.shares[row]), '.3g')} {percent_interval(told.limits[row], '.3g')}",
        ]
        for row in _few(len(told.images))
    ]
    return figure_html(f"How many are {what}", plot, caption, ("images", f"{what} (limits)"), rows)


def _across(images: int) -> Axis:
    last = max(images, 2)
    return Axis("images", 0, last, [tick for tick in round_ticks(last) if tick.is_integer()])


def _places(images: int) -> NDArray[np.int64]:
    """Numbers of images, from 1, so many that a line through them looks smooth."""
    return np.unique(np.linspace(1, images, min(POINTS, images)).round().astype(int))


def _few(points: int) -> list[int]:
    """Some of so many points, evenly spread, the last one among them."""
    return [int(part[-1]) for part in np.array_split(np.arange(points), min(ROWS, points))]
