"""What is put into the queue, what a reviewer gets of it, and what a review comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bnn.core.networks import IMAGE_SIZE

MOST_NAME, MOST_WORD, MOST_WHY = 200, 40, 300  # characters that are kept
MOST_VOTES = 10_000  # numbers that are kept of what the draws say of an image
NO_DIGIT = -1  # the label of what is of no class
DISPUTED, OLDEST = "disputed", "oldest"  # orders: what the draws disagree on most first, or what came first

Bytes = NDArray[np.uint8]
Half = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Refusal:
    """An image that was refused. What is longer than the queue keeps is cut.

    Attributes:
        name: of its file, as whoever sent it called it; or "".
        image: (28, 28) uint8, what the networks saw, white ink on black.
        votes: (S, C) float16, each draw's probabilities; of many draws the first.
        epistemic: in nats, how much the draws disagree; higher is more.
        reason: "ambiguous" or "unfamiliar".
        quality: a word of `bnn.data.quality.QUALITIES`, or "".
        why: a sentence on it.

    Raises:
        ValueError: `image` is of another shape.
    """

    name: str
    image: Bytes
    votes: Half
    epistemic: float
    reason: str
    quality: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.image.shape != (IMAGE_SIZE, IMAGE_SIZE) or self.image.dtype != np.uint8:
            raise ValueError(f"an image of the queue is (28, 28) uint8, not {self.image.shape}.")
        most = {"name": MOST_NAME, "reason": MOST_WORD, "quality": MOST_WORD, "why": MOST_WHY}
        for text, length in most.items():
            object.__setattr__(self, text, _stored(getattr(self, text))[:length])
        object.__setattr__(self, "votes", self.votes[: MOST_VOTES // self.votes.shape[1]])


@dataclass(frozen=True, eq=False)
class Entry(Refusal):
    """An image of the queue: its number there, and when it came, in seconds since 1970."""

    number: int = 0
    added: float = 0.0


@dataclass(frozen=True, eq=False)
class Reviewed:
    """An image of the queue that has a label.

    Attributes:
        number: in the queue.
        label: the class, or `NO_DIGIT`.
        added, labelled: when, in seconds since 1970.
        name, image, reason, quality: see `Refusal`.
    """

    number: int
    name: str
    image: Bytes
    label: int
    reason: str
    quality: str
    added: float
    labelled: float


@dataclass(frozen=True)
class Added:
    """What became of images that were to be put into the queue.

    Attributes:
        added: are new in it.
        known: were in it already, pixel by pixel.
        left_out: found no room.
    """

    added: int = 0
    known: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Progress:
    """How far the review is.

    Attributes:
        waiting: images without a label, those that are being looked at too.
        looked_at: images that reviewers hold now.
        labels: how many images have each label; `NO_DIGIT` is one.
    """

    waiting: int = 0
    looked_at: int = 0
    labels: Mapping[int, int] = field(default_factory=dict)

    @property
    def reviewed(self) -> int:
        """Images that have a label."""
        return sum(self.labels.values())

    @property
    def together(self) -> int:
        """All images of the queue."""
        return self.waiting + self.reviewed

    @classmethod
    def of(cls, counts: Mapping[int | None, int], looked_at: int) -> Self:
        """From how many images have each label, or None."""
        labels = {label: count for label, count in counts.items() if label is not None}
        return cls(counts.get(None, 0), looked_at, labels)


def _stored(text: str) -> str:
    """`text` as any database takes it: without NUL and half characters, which a file's name may have."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
