"""What programs send, as the tab Trust tells of it."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bnn import Classifier
from bnn.app import arrivals
from bnn.app.arrivals import Arrivals
from bnn.monitoring import Monitor, said_of_refusals, verdict
from bnn.prediction import Prediction


@pytest.fixture(scope="module")
def tiny(untrained: Callable[..., Classifier]) -> Classifier:
    return untrained("mlp", {"hidden": 16})


@pytest.fixture(scope="module")
def stream(tiny: Classifier) -> Prediction:
    """The decisions on the calibration images, the strangest last and over and over."""
    evidence = tiny.calibration.evidence
    usual = tiny.decide(evidence, np.full(len(evidence), ""))
    strangest = np.argsort(usual.ood_score)[-1]
    return usual[np.append(np.arange(len(usual)), np.repeat(strangest, 40))]


def test_before_anything_comes_it_says_so(tiny: Classifier) -> None:
    assert "Nothing yet" in Arrivals(tiny).html()


def test_it_says_what_a_monitor_says_and_draws_as_far_as_images_came(
    tiny: Classifier, stream: Prediction
) -> None:
    seen, monitor = Arrivals(tiny), Monitor(tiny)
    for image in stream:
        seen.see(image)
    monitor.see(stream)
    assert monitor.alarm is not None
    html = seen.html()
    assert verdict(monitor) in html
    assert said_of_refusals(monitor) in html
    assert html.count("<figure>") == 2
    last_rows = re.findall(r'<th scope="row">([0-9,]+)</th>', html)
    assert last_rows.count(f"{len(stream):,}") == 2


def test_threads_lose_none_and_no_more_are_kept_than_it_says(
    tiny: Classifier, stream: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MOST", 30)
    for count, kept in ((20, 20), (50, 30)):
        seen = Arrivals(tiny)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(seen.see, list(stream[:count])))
        assert f" of {kept} images " in seen.html()


def test_with_other_draws_nothing_is_watched(tiny: Classifier, stream: Prediction) -> None:
    other = Arrivals(tiny.with_draws(2))
    other.see(stream[:3])
    assert "served with other draws" in other.html()
