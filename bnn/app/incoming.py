"""The votes as they came in: after how many a decision was settled, and how the networks' mean ran."""

from collections.abc import Sequence

import numpy as np

from bnn.app.drawings import Floats
from bnn.app.plots import Axis, Plot, round_ticks
from bnn.core.task import worded

_LINES = ("first", "second")  # classes of the two likeliest digits' lines


def settled_words(settled: int | None, draws: int) -> str:
    """After how many of its `draws` a decision was `settled`, in a few words; "" where that is not known."""
    if settled is None:
        return ""
    if settled == 0:
        return "refused whatever they vote"
    return f"settled by {'the first' if settled < draws else 'all'} {settled}"


def incoming_html(probs: Floats, names: Sequence[str], settled: int | None) -> str:
    """How the predictive mean of the two likeliest classes ran as votes came in, as a figure.

    Args:
        probs: (S, C), each draw's probabilities of one image, in the order in which they came.
        names: of the C classes.
        settled: after how many draws the decision was, None where that is not known.
    """
    draws = len(probs)
    count = np.arange(1, draws + 1)
    running = probs.cumsum(0, dtype=np.float64) / count[:, None]
    lines = [*zip(_LINES, running[-1].argsort(kind="stable")[:-3:-1], strict=True)]
    label = "; ".join(f"{names[one]}: {running[-1, one]:.2f} after {draws}" for _, one in lines)
    plot = Plot(
        Axis("networks that have voted", 0, draws, round_ticks(draws)),
        Axis("mean probability", 0, 1, (0, 0.5, 1)),
        f"The mean of the networks' votes as they came in; {label}",
        [(line, names[one]) for line, one in lines],
    )
    for line, one in reversed(lines):
        plot.line(count, running[:, one], line)
    caption = worded(names, "how the mean of the votes for the two likeliest digits ran")
    if settled and settled < draws:
        plot.upright(settled, "settled")
        caption += f": after {settled} the others could hardly change the decision"
    return f"<figure>{plot.svg()}<figcaption>{caption}</figcaption></figure>"
