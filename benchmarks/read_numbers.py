"""How well whole numbers are read that were put together from digits: `bnn.read` on 1,000 of each kind.

    python benchmarks/read_numbers.py
    python benchmarks/read_numbers.py --tiny          a few: whether it runs

Each kind's numbers (see `written_numbers`) are made from MNIST's test digits, which nothing was chosen on;
`--part calibration` takes the digits held out of training instead, for developing. Printed for each kind:

    answered         share of the numbers of which every digit is answered
    wrong            how many of those answers are not the number
    digits missed    share of the digits where no mark was found
    split wrongly    share of the numbers whose marks are not its digits, one each
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from written_numbers import KINDS, Written, written_numbers

from bnn import Classifier, ImageSet, Reading, read
from bnn.numerals import percent
from bnn.progress import tracked

SAME_PLACE = 0.5  # intersection over union of a digit's box and its mark's


@dataclass(frozen=True)
class Outcome:
    """How one number was read."""

    answered: bool
    wrong: bool
    digits: int
    missed: int
    split_wrongly: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", choices=("test", "calibration"), default="test")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--count", type=int, default=1000, help="numbers of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint file (default: the one that ships)")
    parser.add_argument("--tiny", action="store_true", help="2 numbers a kind, of scikit-learn's digits")
    arguments = parser.parse_args(argv)
    count = 2 if arguments.tiny else arguments.count
    name = "digits" if arguments.tiny else "mnist"
    digits = digits_of(name, arguments.part, arguments.data_dir)
    classifier = Classifier.load(arguments.checkpoint, draws=6 if arguments.tiny else None)
    table = Table("kind", "numbers", "answered", "wrong", "digits missed", "split wrongly")
    for kind in arguments.kinds:
        numbers = written_numbers(*digits, kind, count, arguments.seed)
        outcomes = [outcome(number, classifier) for number in tracked(numbers, kind, count)]
        table.add_row(kind, str(count), *_cells(outcomes))
    Console().print(table)


def digits_of(name: str, part: str, data_dir: Path | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (N, 28, 28) and labels (N,) to put numbers together from."""
    if part == "test":
        images = ImageSet.from_name(name, data_dir)
    else:
        _, images = ImageSet.from_name(name, data_dir, part="train").split_calibration(0)
    return images.images[:, 0].numpy(), images.truth().numpy()


def outcome(written: Written, classifier: Classifier) -> Outcome:
    """How `classifier` reads a number."""
    reading = read(Image.fromarray(written.picture), classifier)
    found = found_digits(written, reading)
    return Outcome(
        answered=reading.number is not None,
        wrong=reading.number not in (None, written.text),
        digits=len(written.text),
        missed=int((~found).sum()),
        split_wrongly=not found.all() or len(reading.marks) != len(found),
    )


def found_digits(written: Written, reading: Reading) -> NDArray[np.bool_]:
    """At which digits' places there is a mark."""
    boxes = np.array([mark.box for mark in reading.marks]).reshape(-1, 1, 4)
    truth = written.boxes[None]
    inside = np.minimum(boxes[..., 2:], truth[..., 2:]) - np.maximum(boxes[..., :2], truth[..., :2])
    shared = inside.clip(0).prod(-1)
    both = sum((box[..., 2:] - box[..., :2]).prod(-1) for box in (boxes, truth)) - shared
    return (shared >= SAME_PLACE * both).any(0)


def _cells(outcomes: list[Outcome]) -> list[str]:
    missed, digits = (sum(getattr(one, name) for one in outcomes) for name in ("missed", "digits"))
    answered = sum(one.answered for one in outcomes)
    return [
        percent(answered / len(outcomes)),
        f"{sum(one.wrong for one in outcomes)} of {answered}",
        percent(missed / digits),
        percent(sum(one.split_wrongly for one in outcomes) / len(outcomes)),
    ]


if __name__ == "__main__":
    main()
