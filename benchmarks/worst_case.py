"""Worst-case refusals: noise, strokes and digits whose pixels an attack moves, with and without OOD scores.

    python benchmarks/worst_case.py

takes about four minutes of one core, needs MNIST, and prints such a table as docs/worst-case.md has.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from bnn.classifier import Classifier
from bnn.data.imageset import ImageSet
from bnn.evaluation.worst_case import STEPS, WorstCase, worst_cases

RADII = (0.0, 0.01, 0.05, 0.1, 0.3)
SETS = {"noise": "refused", "strokes": "refused", "mnist": "wrong"}  # and what is counted of them


def main() -> None:
    """Prints the table, row by row."""
    arguments = parsed()
    classifier = Classifier.load(arguments.checkpoint)
    print(f"| images | rule | {' | '.join(f'{radius:g}' for radius in RADII)} |")
    print("|---" * (2 + len(RADII)) + "|", flush=True)
    for name, counted in SETS.items():
        images = ImageSet.from_name(name, seed=arguments.seed, limit=arguments.images)
        for rule, attacked in (("with OOD scores", classifier), ("ensemble alone", alone(classifier))):
            found = worst_cases(attacked, images.images, images.labels, radii=RADII, steps=arguments.steps)
            print(f"| {name}, {counted} | {rule} | {' | '.join(cells(found, counted))} |", flush=True)


def alone(classifier: Classifier) -> Classifier:
    """The same ensemble by its entropy alone, refusing as many of the calibration digits."""
    refused = classifier.rule.refuses(classifier.calibration.evidence).double().mean().item()
    return classifier.with_promise(rule="entropy", refuse=refused)


def cells(found: Sequence[WorstCase], counted: str) -> Iterator[str]:
    """What is counted at each radius: those still refused, or those answered wrongly."""
    for worst in found:
        reached, n = int(worst.reached.sum()), len(worst.reached)
        yield f"{n - reached if counted == 'refused' else reached} of {n}"


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="(default: the one that ships)")
    parser.add_argument("--images", type=int, default=40, help="of each set (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="in each ball (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the images (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
