"""How `benchmarks/ddp.py` compares trainings by one process and by two."""

import sys
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).parents[1] / "benchmarks")
)  # its scripts import one another as scripts do
from ddp import conclusion, pace_of


def test_noise_that_is_alike_and_weights_that_differ_are_told() -> None:
    one = {"images": 100, "seconds": 2.0, "cpu": 1.0, "noise": 1, "weights": "a", "accuracy": 0.9}
    two = [one | {"images": 80, "cpu": 0.8}, one | {"images": 80, "seconds": 1.0, "cpu": 0.8, "noise": 2}]
    assert pace_of(two) == pytest.approx((80, 0.01))
    told = conclusion([[one], [one | {"accuracy": 0.92}]], [two, two])
    assert "One process: accuracy 91.00% (90.00% to 92.00%); 2 processes: 90.00%" in told
    assert "1.60 times as fast here, and by CPU time, on idle cores, 2.00." in told
    assert told.endswith("Their noise differs, their weights are one.")
    wrong = [two[0], two[1] | {"noise": 1, "weights": "b"}]
    assert conclusion([[one]], [wrong]).endswith("Their noise DOES NOT DIFFER, their weights DIFFER.")
