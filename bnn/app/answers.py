"""What plain HTTP takes and gives as JSON."""

from pydantic import BaseModel, ConfigDict

from bnn.reading import Mark


class Problem(BaseModel):
    """What was wrong with a request, in one sentence."""

    error: str


class OneImage(BaseModel):
    """An image file, in base64."""

    model_config = ConfigDict(extra="forbid")
    image: str


class ManyImages(BaseModel):
    """Image files, in base64."""

    model_config = ConfigDict(extra="forbid")
    images: list[str]


class Decision(BaseModel):
    """A class, or a refusal, of which the label is null: the fields of `bnn predict --json`.

    The measures total, aleatoric and epistemic are in nats.
    """

    label: int | None
    reason: str
    probs: list[float]
    total: float
    aleatoric: float
    epistemic: float
    ood_score: float
    refusal_score: float
    candidates: list[int]
    quality: str


class Queued(Decision):
    """A decision on an image that was to be queued, and whether it is in the queue for review now.

    Answered ones are not, nor are blank ones, those of several marks, and those for which there was no room.
    """

    queued: bool


class Judged(Decision):
    """A line about an image that could be judged; images are counted from 0, in the order of the request."""

    image: int
    file: str


class JudgedQueued(Queued, Judged):
    """Such a line, where refused images were to be queued."""


class NotJudged(Problem):
    """A line about an image that could not be judged; or, where `image` is null, about all that are left."""

    image: int | None
    file: str


class ReadPicture(BaseModel):
    """The digits of a picture; `number` is null where not every digit is answered."""

    number: str | None
    reason: str
    numbers: list[str | None]
    text: str
    promise: str
    rows: list[list[Mark]]


class State(BaseModel):
    """That the server is up, and what decides."""

    status: str
    draws: int
    rule: dict[str, object]


class Readiness(BaseModel):
    """Whether another request would be taken now, and how many wait."""

    status: str
    waiting: int
