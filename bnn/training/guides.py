"""The guides by name: whatever is fitted to a network's weights."""

from collections.abc import MutableMapping

from bnn.training.guide import DropoutGuide, Guide, LowRankGuide, MeanFieldGuide, NotebookGuide, PointGuide
from bnn.training.laplace import LaplaceGuide
from bnn.training.nuts import NUTSGuide
from bnn.training.sghmc import SGHMCGuide
from bnn.training.swag import SWAGGuide

GUIDES: MutableMapping[str, type[Guide]] = {
    "mean-field": MeanFieldGuide,
    "notebook": NotebookGuide,
    "low-rank": LowRankGuide,
    "map": PointGuide,
    "mc-dropout": DropoutGuide,
    "swag": SWAGGuide,
    "laplace": LaplaceGuide,
    "sghmc": SGHMCGuide,
    "nuts": NUTSGuide,
}
