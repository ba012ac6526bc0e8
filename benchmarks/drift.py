"""How often `bnn monitor` raises a false alarm, and after how many images a true one (docs/drift.md).

    python benchmarks/drift.py

First streams of uniform p-values, as they are where nothing has changed. Then the calibration digits of the
checkpoint that ships, parted anew for each stream: half of them stand for the calibration digits, of the rest
some come first, and then digits that are blurred or in another hand, generated strokes, or capital letters.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.evidence import Evidence
from bnn.data.imageset import ImageSet
from bnn.evaluation.robustness import CORRUPTIONS
from bnn.monitoring import TESTS
from bnn.progress import progress_bar, tracked
from bnn.rules.martingale import OnlineRanks, after_bet, alarm_at, first_capital, log_wealth
from bnn.rules.risk_control import exact_interval

Array = NDArray[np.float64]

LENGTH = 2_000  # images of a simulated stream
REFERENCE = 2_500  # calibration digits that stand for all
CHANGED = 600  # images of each kind; the blurred ones are the first calibration digits
BEFORE = (0, 1_000)  # digits that come before the change
RATE = 0.01  # of false alarms
MIXED = 0.05  # share of strokes among digits
BLURS = (0.5, 1.0, 1.5)  # pixels
LEVEL = 0.95


def main() -> None:
    """Reads the arguments and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    parser.add_argument("--streams", type=int, default=10_000, help="of p-values (default: %(default)s)")
    parser.add_argument("--partings", type=int, default=300, help="of the digits (default: %(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    classifier = Classifier.load()
    digits = scores_of(classifier.calibration.evidence)
    print_false_alarms(digits, arguments.streams, arguments.partings, rng)
    print_delays(digits, kinds(classifier, arguments.data_dir), arguments.partings, rng)


def print_false_alarms(digits: Array, streams: int, partings: int, rng: Generator) -> None:
    """How many of the streams in which nothing changes have an alarm."""
    uniform = (1 - rng.random((streams, len(TESTS))) for _ in tracked(range(LENGTH), "simulating", LENGTH))
    parted = [np.split(rng.permutation(digits), [REFERENCE]) for _ in range(partings)]
    of_digits = p_values(parted, rng)
    table = Table("streams", "images", "alarms", "share (95 % interval)", title="Nothing changes")
    for name, p, images in (
        (f"{streams:,} of uniform p-values", uniform, LENGTH),
        (f"{partings:,} partings of the calibration digits", iter(of_digits), len(of_digits)),
    ):
        alarms = first_alarms(p)
        count, n = int((alarms > 0).sum()), len(alarms)
        low, high = exact_interval(count, n, LEVEL)
        table.add_row(name, f"{images:,}", f"{count}", f"{count / n:.2%} ({low:.2%} to {high:.2%})")
    Console().print(table)


def print_delays(digits: Array, changed: Mapping[str, Array], partings: int, rng: Generator) -> None:
    """After how many images of each kind there is an alarm: median, and nine in ten."""
    heads = [f"after {before:,} digits" for before in BEFORE]
    table = Table("then", *heads, title=f"Images until the alarm: half of the streams, 90 % (of {CHANGED})")
    for name, kind in tracked(changed.items(), "looking for alarms", len(changed)):
        cells = []
        for before in BEFORE:
            streams = [_changing(digits, kind, before, name.startswith("5 %"), rng) for _ in range(partings)]
            alarms = first_alarms(iter(p_values(streams, rng))) - before
            never = np.where(alarms > 0, alarms, np.inf)
            cells.append(" · ".join(_shown(np.quantile(never, q, method="higher")) for q in (0.5, 0.9)))
        table.add_row(name, *cells)
    Console().print(table)


def _changing(digits: Array, kind: Array, before: int, mixed: bool, rng: Generator) -> list[Array]:
    """[the reference, a stream of so many digits and then those of a `kind`], of scores (N, tests)."""
    others = rng.permutation(digits[CHANGED:])  # of which no image of a kind was made
    reference, rest = np.split(others, [REFERENCE])
    then = rng.permutation(kind)[:CHANGED]
    if mixed:
        few = rng.random(len(then)) < MIXED
        then = np.where(few[:, None], then, rest[-len(then) :])
    return [reference, np.concatenate([rest[:before], then])]


def _shown(images: float) -> str:
    return f"{images:.0f}" if np.isfinite(images) else "more"


def p_values(streams: Iterable[Sequence[Array]], rng: Generator) -> Array:
    """Of [reference, stream] pairs of scores (N, tests), the online p-values, (images, streams, tests)."""
    found = []
    for reference, stream in streams:
        ranks = [OnlineRanks(scores) for scores in reference.T.tolist()]
        ties = 1 - rng.random(stream.shape)
        found.append(
            [
                [one.p_value(*image) for one, *image in zip(ranks, *row, strict=True)]
                for row in zip(stream.tolist(), ties.tolist(), strict=True)
            ]
        )
    return np.array(found).transpose(1, 0, 2)


def first_alarms(p: Iterable[Array]) -> NDArray[np.int64]:
    """After how many images each stream has its alarm, 0 if never; `p` (streams, tests) of each image."""
    capital, alarms = first_capital(len(TESTS))[None], None
    for images, now in enumerate(p):
        capital = after_bet(np.broadcast_to(capital, (*now.shape, capital.shape[-1])), now, images)
        reached = (log_wealth(capital) >= alarm_at(RATE, len(TESTS))).any(-1)
        alarms = np.zeros(len(now), np.int64) if alarms is None else alarms
        alarms[reached & (alarms == 0)] = images + 1
    assert alarms is not None
    return alarms


def kinds(classifier: Classifier, data_dir: Path | None) -> dict[str, Array]:
    """The scores (N, tests) of what comes after the change, by what it is."""
    learnt = ImageSet.from_name("mnist", data_dir, part="train")
    _, held_out = learnt.split_calibration(classifier.seed)
    generator = torch.Generator().manual_seed(0)
    images: dict[str, Tensor] = {
        f"digits blurred by {pixels:g} pixels": CORRUPTIONS["blur"].apply(
            held_out.images[:CHANGED], pixels, generator
        )
        for pixels in BLURS
    }
    images["scikit-learn's digits, another hand"] = ImageSet.from_name(
        "digits", part="all", seed=0, limit=CHANGED
    ).images
    images["generated strokes"] = ImageSet.from_name("strokes", seed=0, limit=CHANGED).images
    images["capital letters, drawn on the pad"] = ImageSet.from_name("capitals").images
    found = {
        name: scores_of(classifier.evidence(some, progress_bar(f"judging {name}")))
        for name, some in images.items()
    }
    return found | {"5 % of generated strokes among digits": found["generated strokes"]}


def scores_of(evidence: Evidence) -> Array:
    """Both tests' scores, (N, tests), in the order of `TESTS`."""
    return np.stack([evidence.ood.numpy(), evidence.total.numpy()], axis=1).astype(np.float64)


if __name__ == "__main__":
    main()
