"""Whether the images that a classifier decides on are still like those it was calibrated on."""

import hashlib
import json
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bnn.classifier import Classifier
from bnn.core.tensors import require
from bnn.errors import InputError
from bnn.files import written_whole
from bnn.numerals import percent, percent_interval
from bnn.prediction import REASONS, Prediction
from bnn.rules.martingale import OnlineRanks, after_bet, alarm_at, first_capital, log_wealth, rate_limits

TESTS = {"ood_score": "OOD score", "total": "entropy"}  # what is ranked: measures of a `Prediction`
LEVEL = 0.95  # of limits that are told
UNFAMILIAR = "refused as unfamiliar"
FORMAT = 1
_HEADER = "monitor"
_WHAT = "the numbers of its images"
_LARGEST = float(np.finfo(np.float32).max)


class Step(NamedTuple):
    """What one image did.

    Attributes:
        p: its p-values, one a test.
        log_wealth: of each test's martingale after it.
        alarm: whether there is an alarm, from this image or an earlier one.
    """

    p: list[float]
    log_wealth: list[float]
    alarm: bool


@dataclass(frozen=True, eq=False)
class Refusals:
    """The share of images that was refused, of all up to some.

    Attributes:
        what: counts as refused, such as "refused as unfamiliar".
        allowed: the share that is promised at most; None where none is.
        images: (K,) how many images there were.
        shares: (K,) of these.
        limits: (K, 2) of the shares, holding at all times at once with probability `LEVEL`.
    """

    what: str
    allowed: float | None
    images: NDArray[np.int64]
    shares: NDArray[np.float64]
    limits: NDArray[np.float64]

    @property
    def height(self) -> float:
        """The share up to which a plot is worth a look: early limits are wide."""
        return min(1.0, 2.5 * max(float(self.shares[-1]), self.allowed or 0, float(self.limits[-1, 1])))


class Monitor:
    """Sees decisions in their order, and raises an alarm where the images are no longer as before.

    The OOD score and the predictive entropy of each image are ranked among those of the calibration images
    and of all images before it; a martingale bets on each test's p-values (`bnn.rules.martingale`). While all
    are exchangeable, there is ever an alarm with probability at most `false_alarms`, over the calibration
    images, those to come, and the numbers that break ties.

    Args:
        classifier: of whose decisions it will be told.
        false_alarms: between 0 and 1.
        seed: of the numbers that break ties.

    Raises:
        InputError: the classifier is not as it was calibrated, or `false_alarms` or `seed` out of its range.

    Example:
        >>> from bnn import Classifier
        >>> from bnn.monitoring import Monitor
        >>> clf = Classifier.load()
        >>> monitor = Monitor(clf)
        >>> for prediction in clf.predict_stream(["docs/four.png", "docs/star.png"]):
        ...     steps = monitor.see(prediction)
        >>> len(monitor), monitor.alarm
        (2, None)
    """

    def __init__(self, classifier: Classifier, *, false_alarms: float = 0.01, seed: int = 0) -> None:
        if not classifier.is_as_calibrated:
            raise InputError(
                "only what the calibrated ensemble says can be compared with what it said of the calibration "
                "images: take the checkpoint's own draws and seed."
            )
        if not 0 < false_alarms < 1:
            raise InputError(f"false_alarms must lie between 0 and 1, and {false_alarms:g} does not.")
        if not 0 <= seed < 2**63:
            raise InputError(f"the seed must be at least 0 and below 2^63, and {seed} is not.")
        evidence = classifier.calibration.evidence
        self.rule, self.false_alarms, self.seed = classifier.rule, false_alarms, seed
        self.threshold = alarm_at(false_alarms, len(TESTS))
        self.alarm: int | None = None
        self._reference = {"ood_score": evidence.ood.tolist(), "total": evidence.total.tolist()}
        self._identity = _identity(classifier)
        self._begin(np.empty((0, len(TESTS)), np.float32))

    def _begin(self, scores: NDArray[np.float32]) -> None:
        self._capital = first_capital(len(TESTS))
        self._scores, self._wealth, self._reasons = array("f", scores.ravel()), array("f"), bytearray()
        self._ranks = [
            OnlineRanks([*self._reference[name], *scores[:, test].tolist()])
            for test, name in enumerate(TESTS)
        ]

    def __len__(self) -> int:
        """How many images it has seen."""
        return len(self._reasons)

    def see(self, prediction: Prediction) -> list[Step]:
        """Takes in the next decisions, of one image or many: a step each."""
        scores = np.stack([getattr(prediction, name) for name in TESTS], axis=1)
        finite = np.nan_to_num(scores, nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)  # NaN is strangest
        reasons = [REASONS.index(reason) for reason in prediction.reasons.tolist()]
        return [self._see(*image) for image in zip(finite.tolist(), reasons, strict=True)]

    def _see(self, scores: list[float], reason: int) -> Step:
        ties = _uniform(self.seed, len(self))
        ranked = zip(self._ranks, scores, ties, strict=True)
        p = [ranks.p_value(score, uniform) for ranks, score, uniform in ranked]
        self._capital = after_bet(self._capital, np.array(p), len(self))
        self._scores.extend(scores)
        self._wealth.extend(log_wealth(self._capital).tolist())
        self._reasons.append(reason)
        now = list(self._wealth[-len(TESTS) :])
        if self.alarm is None and max(now) >= self.threshold:
            self.alarm = len(self)
        return Step(p, now, self.alarm is not None)

    @property
    def log_wealth(self) -> NDArray[np.float32]:
        """The log of each test's martingale after each image, (N, T) by the order of `TESTS`."""
        return np.array(self._wealth, np.float32).reshape(-1, len(TESTS))

    @property
    def reasons(self) -> NDArray[np.str_]:
        """(N,) "answered", "ambiguous" or "unfamiliar"."""
        return np.array(REASONS)[np.frombuffer(bytes(self._reasons), np.uint8)]

    @property
    def promised(self) -> tuple[str, float | None]:
        """What counts as refused, in words, and the share of it that is promised at most, if any is."""
        promise, controls = self.rule.promise, self.rule.controls
        if promise is not None and "alpha" in controls:
            return UNFAMILIAR, promise.alpha
        return "refused", promise.refuse if promise is not None and "refuse" in controls else None

    @property
    def refused(self) -> NDArray[np.bool_]:
        """Which images count as refused, (N,), see `promised`."""
        if self.promised[0] == UNFAMILIAR:
            return self.reasons == "unfamiliar"
        return self.reasons != "answered"

    def refusals(self, images: NDArray[np.int64]) -> "Refusals":
        """How many were refused of the first `images` (K,), each at least 1."""
        what, allowed = self.promised
        counts = self.refused.cumsum()[images - 1]
        limits = [
            rate_limits(count, n, LEVEL) for count, n in zip(counts.tolist(), images.tolist(), strict=True)
        ]
        return Refusals(what, allowed, images, counts / images, np.array(limits))

    def save(self, path: str | Path) -> None:
        """Writes what `resume` needs to `path`, whole or not at all: 17 bytes an image.

        Raises:
            InputError: the file cannot be written, or no image was seen.
        """
        if not len(self):
            raise InputError("no image was seen, so there is nothing to go on from.")
        header = {"format": FORMAT, "identity": self._identity, "seed": self.seed}
        with written_whole(path) as temporary:
            try:
                save_file(self._tensors(), temporary, metadata={_HEADER: json.dumps(header, sort_keys=True)})
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path} cannot be written ({error}): choose another place.") from error

    @classmethod
    def resume(cls, path: str | Path, classifier: Classifier, *, false_alarms: float = 0.01) -> Self:
        """The monitor that was saved at `path`, as if it had gone on.

        Raises:
            InputError: it is damaged or no monitor's, or was another classifier's; or as the class.
        """
        header, tensors = _read(path)
        if header.get("identity") != _identity(classifier):
            raise InputError(
                f"{path} goes on with another checkpoint or rule: name that one, or begin a new file."
            )
        monitor = cls(classifier, false_alarms=false_alarms, seed=header["seed"])
        try:
            monitor._continue(tensors)
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        return monitor

    def _tensors(self) -> dict[str, Tensor]:
        scores = np.array(self._scores, np.float32).reshape(-1, len(TESTS))
        return {
            "scores": torch.from_numpy(scores),
            "log_wealth": torch.from_numpy(self.log_wealth),
            "reasons": torch.tensor(list(self._reasons), dtype=torch.uint8),
            "capital": torch.from_numpy(self._capital),
        }

    def _continue(self, tensors: Mapping[str, Tensor]) -> None:
        n = tensors["reasons"].numel() if "reasons" in tensors else 0
        kinds = {
            "scores": (torch.float32, (n, len(TESTS))),
            "log_wealth": (torch.float32, (n, len(TESTS))),
            "reasons": (torch.uint8, (n,)),
            "capital": (torch.float64, tuple(self._capital.shape)),
        }
        for name, (kind, shape) in kinds.items():
            require({key: tensors[key] for key in tensors if key == name}, {name: shape}, kind, _WHAT)
        if n == 0 or tensors.keys() != kinds.keys() or int(tensors["reasons"].max()) >= len(REASONS):
            raise InputError(f"{_WHAT} are missing, damaged, or do not fit the rest.")
        self._begin(tensors["scores"].numpy())
        self._capital = tensors["capital"].numpy()
        self._wealth = array("f", tensors["log_wealth"].flatten().tolist())
        self._reasons = bytearray(tensors["reasons"].tolist())
        reached = (self.log_wealth >= self.threshold).any(1)
        self.alarm = int(reached.argmax()) + 1 if reached.any() else None


def said_of_refusals(monitor: Monitor) -> str:
    """How many images were refused, with limits that hold at all times at once, and what is promised."""
    (what, allowed), count, n = monitor.promised, int(monitor.refused.sum()), len(monitor)
    limits = percent_interval(rate_limits(count, n, LEVEL), ".3g")
    promise = (
        "" if allowed is None else f"; of images like the calibration images at most {percent(allowed)} are"
    )
    return f"{count:,} of {n:,} images {what}: {percent(count / n, '.3g')} {limits}{promise}."


def verdict(monitor: Monitor, where: str = "") -> str:
    """Whether there is an alarm, and what that means; `where` is the image's file, or when it came."""
    chance = (
        f"where nothing has changed, this comes ever with probability at most {percent(monitor.false_alarms)}"
    )
    needed = f"10^{monitor.threshold / math.log(10):.1f}"
    if monitor.alarm is None:
        most = float(monitor.log_wealth.max()) / math.log(10)
        return f"No alarm: the evidence reached 10^{most:.1f}, and {needed} is one ({chance})."
    wealth = monitor.log_wealth[monitor.alarm - 1]
    by = " and ".join(
        said for said, log in zip(TESTS.values(), wealth, strict=True) if log >= monitor.threshold
    )
    place = f" ({where})" if where else ""
    return (
        f"ALARM at image {monitor.alarm:,}{place}: by their {by}, the images are no longer like the "
        f"calibration images ({chance})."
    )


def _uniform(seed: int, image: int) -> list[float]:
    """A number from (0, 1] for each test, of the image that comes after so many."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=image))
    numbers: list[float] = (1 - generator.random(len(TESTS))).tolist()
    return numbers


def _identity(classifier: Classifier) -> str:
    """SHA-256, in hexadecimal, of what is compared with and of the rule."""
    digest = hashlib.sha256(json.dumps(classifier.rule.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(classifier.calibration.tensors().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of the file at `path`, which anyone may have made."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
    except (SafetensorError, OSError, LookupError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} holds nothing that a monitor could go on from: begin a new file."
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or type(header.get("seed")) is not int:
        raise InputError(f"{path} is of another version of this program: begin a new file.")
    return header, tensors
