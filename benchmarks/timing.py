"""CPU times of what takes turns, and the machine's matrix peak beside them."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

Works = Mapping[str, Callable[[], object]]


def seconds(works: Works, rounds: int) -> dict[str, float]:
    """The median CPU time of each of `works`, which take turns, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for counts in range(rounds + 1):
        for name, work in works.items():
            before = time.process_time()
            work()
            if counts:
                taken[name].append(time.process_time() - before)
    return {name: statistics.median(times) for name, times in taken.items()}


def matrix_peak() -> float:
    """The speed of a matrix product in single precision, in GFLOP/s, by the faster of MKL and oneDNN."""
    left, right = torch.rand(2, 1024, 1024)
    in_blocks = left.to_mkldnn()  # what runs by oneDNN; MKL is slow on others' processors
    with torch.inference_mode():
        taken = seconds({"MKL": lambda: left @ right, "oneDNN": lambda: F.linear(in_blocks, right)}, 9)
    return 2 * 1024**3 / min(taken.values()) / 1e9
