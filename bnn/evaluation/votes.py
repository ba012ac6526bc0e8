"""A plot of what every sampled network says of a few images."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bnn.errors import InputError
from bnn.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection

MOST_IMAGES = 12
COLUMNS = 4
WIDTH, HEIGHT = 3.2, 3.0  # inches of an image's panel
BLUE, GREY = "#0072B2", "#777777"  # Okabe & Ito's, which the colour-blind can tell apart
SPREAD = 0.3  # of a row's height, over which dots are scattered


def plot_votes(prediction: Prediction) -> Figure:
    """Each draw's probability of each class, a dot a network and a bar at the median; a panel an image.

    Args:
        prediction: of at most `MOST_IMAGES` images, from `Classifier.predict`.

    Raises:
        InputError: there are no images, or too many, or the votes were not kept.

    Example:
        >>> import bnn
        >>> figure = bnn.plot_votes(bnn.Classifier.load().predict(["docs/four.png", "docs/star.png"]))
        >>> [axes.get_title() for axes in figure.axes]
        ['4: 50 of 50 networks', 'refused (unfamiliar): ... of 50 say ...']
    """
    if prediction.votes is None:
        raise InputError("prediction holds no votes: take it from Classifier.predict.")
    if not 0 < len(prediction) <= MOST_IMAGES:
        raise InputError(
            f"1 to {MOST_IMAGES} images can be plotted, not {len(prediction)}: slice the prediction."
        )
    columns = min(COLUMNS, len(prediction))
    rows = -(-len(prediction) // columns)
    figure = Figure((WIDTH * columns, HEIGHT * rows), layout="constrained")
    for index in range(len(prediction)):
        _panel(figure.add_subplot(rows, columns, index + 1), prediction, index)
    return figure


def _panel(axes: Axes, prediction: Prediction, index: int) -> None:
    assert prediction.votes is not None  # noqa: S101
    votes = prediction.votes[:, index]
    draws, classes = votes.shape
    rows = np.arange(classes)
    offsets = np.linspace(-SPREAD, SPREAD, draws)[:, None] + rows
    colours = [BLUE if row == prediction.labels[index] else GREY for row in rows]
    dots: PathCollection = axes.scatter(votes, offsets, s=6, alpha=0.5, linewidths=0)
    dots.set_color(np.tile(colours, draws).tolist())
    axes.vlines(np.median(votes, axis=0), rows - 0.45, rows + 0.45, colors=colours)
    axes.set(xlim=(-0.02, 1.02), ylim=(classes - 0.5, -0.5), yticks=rows, yticklabels=prediction.names)
    axes.set(xlabel="probability", title=_title(prediction, index, votes))


def _title(prediction: Prediction, index: int, votes: NDArray[np.float32]) -> str:
    said = np.bincount(votes.argmax(1), minlength=votes.shape[1])
    most, draws = int(said.argmax()), len(votes)
    if prediction.labels[index] >= 0:
        label = int(prediction.labels[index])
        return f"{prediction.names[label]}: {said[label]} of {draws} networks"
    return f"refused ({prediction.reasons[index]}): {said[most]} of {draws} say {prediction.names[most]}"
