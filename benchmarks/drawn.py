"""How a classifier does on what is drawn with the pad's pen: refused by set, and drawn digits answered.

Of the letters, those whose shape is also a digit's are left out of the sets' shares: nobody could tell them.
Nothing is fitted or chosen here.

    python benchmarks/drawn.py [CHECKPOINT] [--seed 0] [--draws 50]
"""

import argparse

import numpy as np

from bnn.classifier import Classifier
from bnn.data.drawn import DRAWN, DRAWN_DIGITS
from bnn.data.imageset import ImageSet

LIKE_DIGITS = {"capitals": "BDGIOSZ", "small-letters": "bgiloqsyz"}


def refused(classifier: Classifier, name: str, seed: int) -> str:
    """The share refused of the set of drawings that are no digits, and of those that look like none."""
    drawn = ImageSet.from_name(name, seed=seed)
    refuses = classifier.predict(drawn).labels < 0
    clear = np.array([kind not in LIKE_DIGITS.get(name, "") for kind in drawn.kinds])
    without = f"; {refuses[clear].mean():.1%} of {clear.sum()} that look like no digit" * (not clear.all())
    return f"{name}: {refuses.mean():.1%} of {len(drawn)} refused{without}"


def answered(classifier: Classifier, name: str, seed: int) -> str:
    """The share answered of the set of drawn digits, and how many of the answers are right."""
    drawn = ImageSet.from_name(name, seed=seed)
    prediction, truth = classifier.predict(drawn), drawn.truth().numpy()
    answers, right = prediction.labels >= 0, prediction.labels == truth
    forced = (prediction.probs.argmax(1) == truth).mean()
    return (
        f"{name}: {answers.mean():.1%} of {len(drawn)} answered, {right.sum()} of {answers.sum()} rightly "
        f"({right.sum() / max(1, answers.sum()):.1%}); {forced:.1%} right if forced"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="by default the one that ships")
    parser.add_argument("--seed", type=int, default=0, help="of the drawings")
    parser.add_argument("--draws", type=int, default=50)
    given = parser.parse_args()
    judge = Classifier.load(given.checkpoint, draws=given.draws)
    for one in DRAWN:
        print(refused(judge, one, given.seed))
    for one in DRAWN_DIGITS:
        print(answered(judge, one, given.seed))
