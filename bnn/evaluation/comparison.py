"""Several posteriors of one network side by side: what is measured of each, the tables and the plot.

Nothing here looks at test images: what is labelled was held out of the training set.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.features import Features
from bnn.core.posterior import Mixture, Point
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.evaluation import metrics
from bnn.evaluation.baselines import Described, fit_baselines, scored
from bnn.evaluation.plots import BLUE, STYLE, VERMILION, as_svg
from bnn.evaluation.resplits import resplit
from bnn.ood.detector import fit_detector, gather_evidence
from bnn.ood.scores import EntropyScore, PixelDensity
from bnn.progress import progress_bar
from bnn.rules.abstention import Calibration
from bnn.rules.promise import Promise

REFERENCE = 2000  # training images that say how surprising a score is
REFERENCE_SHARE = 4  # of so many training images one at most
KNOWN = 10_000  # training images that the baselines are fitted to
SPLITS = 200  # of the held-out images in halves
JOINED = "pixels+entropy"  # our own score here
RIVAL = "mean-field"  # that the others are held against

Numbers = dict[str, Any]
Scores = dict[str, Tensor]  # (N,) of N images, by the score's name


@dataclass(frozen=True)
class Row:
    """What was measured of one training of one guide.

    Attributes:
        guide, seed: what was trained.
        steps, train_seconds: of the training, the latter of the processor, with all the guide does after it.
        step_seconds: of the processor, for one step, as the plan has it.
        thousand_seconds: of the processor, for deciding on 1,000 images.
        megabytes: the posterior, as a checkpoint stores it.
        draws: networks in the ensemble.
        held_out: numbers of the held-out images, by the metric.
        promise: `Resplits.numbers`.
        scores: of each OOD score and each set, {"auroc", "fpr95"}.
    """

    guide: str
    seed: int
    steps: int
    train_seconds: float
    step_seconds: float
    thousand_seconds: float
    megabytes: float
    draws: int
    held_out: dict[str, float]
    promise: Numbers
    scores: dict[str, dict[str, dict[str, float]]]

    def plain(self) -> Numbers:
        """All of it as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Any, where: str) -> "Row":
        """The row whose `plain` values these are; `where` says whence they come.

        Raises:
            InputError: they are not.
        """
        try:
            row = cls(**values)
            _ = (
                [metric.of(row) for metric in (*QUALITY, *COST)],
                [_mean_auroc(row, name) for name in row.scores],
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{where} holds no row of a comparison: remove it.") from error
        return row


class Metric(NamedTuple):
    """A column: its head, a row's value, and how that is written."""

    head: str
    of: Callable[[Row], float]
    form: str = ".4f"


def _held_out(name: str) -> Callable[[Row], float]:
    return lambda row: row.held_out[name]


def _answered(row: Row) -> float:
    """The share of images answered; nothing is, by a rule that the other half could not show to be safe."""
    promise = row.promise
    return (promise["mean_coverage"] or 0.0) * (1 - promise["infeasible"] / promise["splits"])


QUALITY = (
    Metric("accuracy (%)", lambda row: 100 * row.held_out["accuracy"], ".2f"),
    Metric("NLL (nats)", _held_out("nll")),
    Metric("Brier", _held_out("brier")),
    Metric("ECE", _held_out("ece")),
    Metric("AURC", _held_out("aurc"), ".5f"),
    Metric("answered under the promise (%)", lambda row: 100 * _answered(row), ".1f"),
)
COST = (
    Metric("steps", lambda row: row.steps, ".0f"),
    Metric("a step (ms)", lambda row: 1000 * row.step_seconds, ".0f"),
    Metric("training (s)", lambda row: row.train_seconds, ".0f"),
    Metric("1,000 images (s)", lambda row: row.thousand_seconds, ".1f"),
    Metric("draws", lambda row: row.draws, ".0f"),
    Metric("posterior (MB)", lambda row: row.megabytes, ".2f"),
)


class Posed(NamedTuple):
    """What all posteriors of one seed are measured on.

    Attributes:
        train, held_out: the training images, and those held out of them.
        strange: sets that need not show any class.
        density: of the training images' pixels.
        promise: what the rule is fitted for.
        draws: networks in the ensemble, unless those of a component are all alike.
        seed: of the draws and re-splits.
    """

    train: ImageSet
    held_out: ImageSet
    strange: Sequence[ImageSet]
    density: PixelDensity
    promise: Promise
    draws: int
    seed: int


def measure(network: nn.Module, posterior: Mixture, posed: Posed) -> Numbers:
    """The fields of a `Row` that are of a `posterior` over the weights of `network`."""
    points = all(one.name == Point.name for one in posterior.components)
    draws = len(posterior.components) if points else posed.draws
    ensemble = PredictiveEnsemble(network, posterior.sample(draws, posed.seed))
    features = Features(network, posterior)
    reference = posed.train.images[: max(2, min(REFERENCE, len(posed.train) // REFERENCE_SHARE))]
    detector = fit_detector(
        [posed.density, EntropyScore()],
        features,
        ensemble,
        reference,
        progress_bar("judging training images"),
    )
    entropies = detector.combination.tensors()[EntropyScore.name]
    weights = posterior.components[0].mean()
    known = posed.train[: min(KNOWN, len(posed.train))]
    baselines = fit_baselines(network, weights, known.images, known.truth())

    def judge(images: ImageSet) -> tuple[Evidence, Scores]:
        bar = progress_bar(f"judging {images.name}")
        evidence = gather_evidence(ensemble, detector, images.images, bar)
        seen = Described.by(network, weights, images.images)
        return evidence, {JOINED: evidence.ood} | scored(baselines, evidence.predictive, seen)

    before = time.process_time()
    evidence, familiar = judge(posed.held_out)
    strange = {one.name: judge(one)[1] for one in posed.strange}
    images = len(posed.held_out) + sum(map(len, posed.strange))
    took = time.process_time() - before
    labels = posed.held_out.truth()
    splits = resplit(
        evidence,
        labels,
        Calibration(evidence, labels, entropies),
        posed.promise,
        seed=posed.seed,
        splits=SPLITS,
    )
    return {
        "thousand_seconds": 1000 * took / images,
        "megabytes": sum(value.nbytes for value in posterior.tensors().values()) / 1e6,
        "draws": draws,
        "held_out": held_out_numbers(evidence, labels.numpy()),
        "promise": splits.numbers(),
        "scores": separations(familiar, strange),
    }


def held_out_numbers(evidence: Evidence, labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, NLL, Brier score, ECE, and AURC by the ensemble's entropy, of labelled images."""
    probs = evidence.mean.numpy()
    return {
        "accuracy": metrics.accuracy(probs, labels),
        "nll": metrics.nll(probs, labels),
        "brier": metrics.brier(probs, labels),
        "ece": metrics.ece(probs, labels),
        "aurc": metrics.aurc(probs.argmax(1) != labels, evidence.total.numpy()),
    }


def separations(familiar: Scores, strange: Mapping[str, Scores]) -> dict[str, dict[str, dict[str, float]]]:
    """How well each score tells each of the `strange` sets, the positive class, from `familiar` images."""
    return {
        score: {
            name: {
                "auroc": metrics.auroc(values.numpy(), of_set[score].numpy()),
                "fpr95": metrics.fpr95(values.numpy(), of_set[score].numpy()),
            }
            for name, of_set in strange.items()
        }
        for score, values in familiar.items()
    }


class Spread(NamedTuple):
    """The mean over the seeds, and their standard deviation; None of a single seed."""

    mean: float
    deviation: float | None


def spread(values: Sequence[float]) -> Spread:
    """Of what was measured with each seed."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def written(of: Spread, form: str) -> str:
    """`of` as in 98.61 ± 0.05."""
    return f"{of.mean:{form}}" + ("" if of.deviation is None else f" ± {of.deviation:{form}}")


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first column of words and the others of numbers."""
    rules = ["---", *("---:" for _ in head[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rules, *body))


def by_guide(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each guide, in the order in which guides first come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.guide, []).append(row)
    return found


def table(rows: Sequence[Row], columns: Sequence[Metric]) -> str:
    """A line a guide, with the spread of each of the `columns` over its seeds."""
    return markdown(
        ("guide", *(column.head for column in columns)),
        (
            (guide, *(written(spread([column.of(row) for row in own]), column.form) for column in columns))
            for guide, own in by_guide(rows).items()
        ),
    )


def sets_table(rows: Sequence[Row]) -> str:
    """A line a guide, with the AUROC of our own score on each set."""
    names = list(rows[0].scores[JOINED])
    return table(rows, [Metric(name, _of_set(JOINED, name, "auroc")) for name in names])


def scores_table(rows: Sequence[Row]) -> str:
    """A line a guide, with each score's AUROC, the mean over all sets."""
    return table(rows, [Metric(score, _mean_of(score)) for score in rows[0].scores])


def baselines_table(rows: Sequence[Row]) -> str:
    """A line a score, with its AUROC and its FPR95 on each set, the means over the seeds of one guide."""
    names = list(rows[0].scores[JOINED])
    return markdown(
        ("score", *(f"{name}: AUROC / FPR95" for name in names)),
        ((score, *(_both(rows, score, name) for name in names)) for score in rows[0].scores),
    )


def _both(rows: Sequence[Row], score: str, name: str) -> str:
    means = (np.mean([row.scores[score][name][what] for row in rows]) for what in ("auroc", "fpr95"))
    return " / ".join(f"{mean:.3f}" for mean in means)


def _of_set(score: str, name: str, what: str) -> Callable[[Row], float]:
    return lambda row: row.scores[score][name][what]


def _mean_of(score: str) -> Callable[[Row], float]:
    return lambda row: _mean_auroc(row, score)


def _mean_auroc(row: Row, score: str) -> float:
    return float(np.mean([one["auroc"] for one in row.scores[score].values()]))


def verdict(rows: Sequence[Row], rival: str = RIVAL) -> str:
    """Whether some guide is better than the `rival` in accuracy and NLL, in a sentence or two."""
    of_guide = by_guide(rows)
    if rival not in of_guide:
        return ""
    base = {row.seed: row for row in of_guide.pop(rival)}
    on_average, always = [], []
    for guide, own in of_guide.items():
        pairs = [(row, base[row.seed]) for row in own if row.seed in base]
        if pairs and _better(*(_mean_row(side) for side in zip(*pairs, strict=True))):
            on_average.append(guide)
        if pairs and all(_better(row.held_out, other.held_out) for row, other in pairs):
            always.append(guide)
    seeds = f"{len(base)} seed{'s' * (len(base) > 1)}"
    return (
        f"Better than {rival} in accuracy and NLL: on average over {seeds}, {_listed(on_average)}; with "
        f"every seed, {_listed(always)}."
    )


def _mean_row(rows: Sequence[Row]) -> dict[str, float]:
    return {name: float(np.mean([row.held_out[name] for row in rows])) for name in ("accuracy", "nll")}


def _better(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one["accuracy"] > other["accuracy"] and one["nll"] < other["nll"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def report(rows: Sequence[Row], about: str) -> str:
    """All tables as a page in Markdown; `about` says what was compared."""
    guides = by_guide(rows)
    promise = rows[0].promise
    parts = [
        f"# Posteriors compared\n\n{about}\n",
        "Means over the seeds, ± their standard deviation; nothing was measured on test images.\n",
        f"## On the images held out\n\n{table(rows, QUALITY)}",
        f"Answered: the share under a promise of risk {promise['risk']:g} (delta {promise['delta']:g}, alpha "
        f"{promise['alpha']:g}), the held-out images being dealt in halves {promise['splits']} times; "
        "nothing is answered where a half cannot show it.\n",
        f"{verdict(rows)}\n",
        f"## What it costs\n\nSeconds are of the processor.\n\n{table(rows, COST)}",
        f"## Images of no class: AUROC of {JOINED}\n\n{sets_table(rows)}",
        f"## Images of no class: AUROC of each score, the mean over the sets\n\n{scores_table(rows)}",
        *(f"## Each score on each set, {guide}\n\n{baselines_table(own)}" for guide, own in guides.items()),
    ]
    return "\n".join(parts)


PANELS = (
    *(column for column in QUALITY if not column.head.startswith("Brier")),
    Metric("AUROC, mean over the sets", _mean_of(JOINED)),
)


def plot(rows: Sequence[Row]) -> str:
    """A panel a measure, a line a guide, a dot a seed, and a stroke at the mean: as SVG."""
    guides = by_guide(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 1.6 + 0.5 * len(guides)), layout="constrained")
        panels = figure.subplots(2, math.ceil(len(PANELS) / 2), sharey=True).ravel()
        for axes, column in zip(panels, PANELS, strict=True):
            for place, own in enumerate(guides.values()):
                values = [column.of(row) for row in own]
                axes.plot(values, [place] * len(values), "o", color=BLUE, alpha=0.6)
                axes.plot(np.mean(values), place, "|", color=VERMILION, markersize=14, markeredgewidth=2)
            axes.set(title=column.head, yticks=range(len(guides)), yticklabels=list(guides))
            axes.ticklabel_format(axis="x", useOffset=False)
            axes.locator_params(axis="x", nbins=4)
        panels[0].invert_yaxis()
        return as_svg(figure)
