"""How good is our posterior? A mean-field guide, and others, beside the true posterior.

The checkpoint that ships is a mixture of mean-field guides, tempered: independent Normals, one a weight,
fitted with a tenth of the KL. How far is that from the posterior it stands for? For a large network nobody
knows. For a small one Hamiltonian Monte Carlo tells (`reference.py`): 64 pixels, 10 hidden units, 10 digits,
760 weights with Normal(0, 1) priors, learnt from 300 of scikit-learn's digits. Beside it:

- **mean-field**: this package's guide and ELBO, with the KL whole (beta 1) and tempered (beta 0.1);
- **mixture**: five such guides from five starts, in equal parts;
- **MAP**: the likeliest weights, a point; what training with weight decay gives;
- **deep ensemble**: five MAPs from five starts (Lakshminarayanan et al. 2017).

All are judged by what they predict, on digits held out, on noise and on letters, in the two measures of
Izmailov et al. 2021 ("What are Bayesian neural network posteriors really like?", sec. 4): *agreement*, the
share of images whose likeliest digit is the posterior's, and *total variation*, the mean distance between the
two predictives. `docs/posterior-quality.md` says what came of it.

    python examples/posterior_quality.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from coin import of_draws
from diagnostics import Diagnostics, diagnose
from digits import Array, Digits, Labels, letters, noise
from fits import TINY, Size, as_input, fit_all, probabilities, small_network
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reference import PRIOR_SCALE, Chain, Length, Weights, potential, sample, stacked
from shown import Estimate, Options, options, save, show, show_estimates
from torch import Tensor, nn
from torch.func import vmap

from bnn.core.task import DIGITS
from bnn.core.uncertainty import epistemic_uncertainty, total_uncertainty
from bnn.evaluation.metrics import accuracy, auroc, ece, nll
from bnn.rules.curves import reliability

STRANGERS = ("noise", "letters")
KINDS = ("digits", *STRANGERS)
REFERENCE = "HMC"
COLORS = ("black", "C0", "C1", "C2", "C3", "C4", "C5")  # of the reference and the methods


def agreement(one: Array, other: Array) -> float:
    """Share of images of which two predictives (N, C) find the same class likeliest: in [0, 1]."""
    return float((one.argmax(-1) == other.argmax(-1)).mean())


def total_variation(one: Array, other: Array) -> float:
    """Mean over images of ½ Σ_c |p_c − q_c| of two predictives (N, C): in [0, 1], 0 where they are equal."""
    return float(np.abs(one - other).sum(-1).mean() / 2)


@dataclass(frozen=True)
class Said:
    """What an ensemble says of N images.

    Attributes:
        mean: the predictive probabilities, (N, 10).
        total, epistemic: uncertainties, (N,) nats.
    """

    mean: Array
    total: Array
    epistemic: Array

    @classmethod
    def of(cls, probs: Tensor) -> Self:
        """The summary of the draws' probabilities (S, N, 10)."""
        summaries = probs.mean(0), total_uncertainty(probs), epistemic_uncertainty(probs)
        return cls(*(summary.double().numpy() for summary in summaries))


Answers = Mapping[str, Said]  # of each kind of image


def answers(weights: Weights, images: Mapping[str, Tensor]) -> Answers:
    """What an ensemble says of every kind of image."""
    return {kind: Said.of(probabilities(weights, some)) for kind, some in images.items()}


def digit_scores(found: Answers, reference: Answers, labels: Labels) -> Array:
    """Accuracy, NLL, ECE, agreement and total variation on the test digits; shares in per cent."""
    probs, known = found["digits"].mean, reference["digits"].mean
    return np.array(
        [
            100 * accuracy(probs, labels),
            nll(probs, labels),
            100 * ece(probs, labels),
            100 * agreement(probs, known),
            total_variation(probs, known),
        ]
    )


def stranger_scores(found: Answers, reference: Answers, kind: str) -> Array:
    """Mean epistemic uncertainty of test digits and of `kind`; total variation and AUROC of `kind`.

    The AUROC is of the total uncertainty, which a single network has too, against that of test digits.
    """
    digits, strangers = found["digits"], found[kind]
    return np.array(
        [
            float(digits.epistemic.mean()),
            float(strangers.epistemic.mean()),
            total_variation(strangers.mean, reference[kind].mean),
            auroc(digits.total, strangers.total),
        ]
    )


def spread(scores: Sequence[Array], formats: Sequence[str]) -> list[str]:
    """The mean of several fits' scores, with their standard deviation where there are several."""
    means, deviations = np.mean(scores, 0), np.std(scores, 0, ddof=1) if len(scores) > 1 else None
    cells = [format(mean, form) for mean, form in zip(means, formats, strict=True)]
    if deviations is None:
        return cells
    return [
        f"{cell} ± {format(deviation, form)}"
        for cell, deviation, form in zip(cells, deviations, formats, strict=True)
    ]


def ignored_directions(weights: Weights) -> Array:
    """What the data say nothing about, standardised: (hidden + 1, S), each Normal(0, 1) in the posterior.

    To add one number to all ten weights that leave a hidden unit, or to all ten biases, adds it to every
    logit, which the softmax does not see. Along these directions the posterior is the prior.
    """
    sums = torch.cat([weights["out.weight"].sum(1), weights["out.bias"].sum(1)[:, None]], 1)
    return (sums / (PRIOR_SCALE * DIGITS.classes**0.5)).T.double().numpy()


def along_ignored(method: str, ensembles: Sequence[Weights]) -> Estimate:
    """Mean and sd along the ignored directions, all directions and all ensembles taken as chains."""
    return of_draws(method, np.concatenate([ignored_directions(weights) for weights in ensembles]))


def diagnostics(chains: Sequence[Chain], network: nn.Sequential, data: Digits) -> list[Diagnostics]:
    """Of what the chains predict, of how well they fit, and of their weights."""
    images, labels = as_input(data.test), torch.tensor(data.test_labels)
    of_truth = [
        probabilities(chain.weights, images)[:, torch.arange(len(labels)), labels] for chain in chains
    ]
    train, train_labels = as_input(data.train), torch.tensor(data.train_labels)
    energies = [
        vmap(lambda weights: potential(weights, network, train, train_labels))(dict(chain.weights))
        for chain in chains
    ]
    return [
        diagnose("probability of each test digit", torch.stack(of_truth).double().numpy()),
        diagnose("log-posterior", torch.stack(energies).double().numpy()),
        diagnose(
            "single weights", torch.stack([chain.weights["out.weight"] for chain in chains]).double().numpy()
        ),
    ]


def show_diagnostics(found: Sequence[Diagnostics], divergences: int, length: Length) -> None:
    """Prints whether the reference can be believed."""
    show(
        f"HMC, {length.chains} chains of {length.draws} draws after {length.warmup}: {divergences} diverged",
        ("of", "largest R-hat", "least ESS", "passed"),
        [(one.what, f"{one.rhat:.4f}", f"{one.ess:.0f}", "yes" if one.passed else "no") for one in found],
    )


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown.

    Attributes:
        labels: of the test digits.
        reference: HMC's answers.
        halves: the answers of either half of HMC's chains on digits, whose distance is Monte Carlo error.
        methods: the answers of every other method's ensembles.
    """

    labels: Labels
    reference: Answers
    halves: tuple[Answers, Answers]
    methods: Mapping[str, Sequence[Answers]]

    @property
    def all(self) -> Mapping[str, Sequence[Answers]]:
        """The methods', and the reference's before them."""
        return {REFERENCE: [self.reference], **self.methods}


def show_on_digits(found: Comparison) -> None:
    """Prints how well each method predicts the test digits, and how nearly as the posterior does."""
    forms = (".1f", ".3f", ".1f", ".1f", ".3f")
    first, second = found.halves
    own = spread([digit_scores(found.reference, found.reference, found.labels)], forms)
    between = spread([digit_scores(first, second, found.labels)], forms)
    rows = [[REFERENCE, *own[:3], "", ""], ["its two halves", "", "", "", *between[3:]]]
    for name, fits in found.methods.items():
        scores = [digit_scores(fit, found.reference, found.labels) for fit in fits]
        rows.append([name, *spread(scores, forms)])
    columns = ("method", "accuracy %", "NLL", "ECE %", "agreement %", "total variation")
    show(f"{len(found.labels)} test digits; ± is the standard deviation over starts", columns, rows)


def show_on_strangers(found: Comparison, kind: str) -> None:
    """Prints what each method makes of images that are no digits."""
    forms = (".3f", ".3f", ".3f", ".3f")
    rows = [
        [name, *spread([stranger_scores(fit, found.reference, kind) for fit in fits], forms)]
        for name, fits in found.all.items()
    ]
    columns = ("method", "epistemic: digits", kind, "total variation", "AUROC")
    show(f"{kind.capitalize()}, {len(found.reference[kind].mean)} images; uncertainty in nats", columns, rows)


def plot(found: Comparison) -> Figure:
    """Distance from the posterior, calibration, and each image's uncertainty beside the posterior's."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    far, sure, uncertain = figure.subplots(1, 3)
    _plot_distances(far, found)
    _plot_reliability(sure, found)
    _plot_uncertainty(uncertain, found)
    return figure


def _plot_distances(axes: Axes, found: Comparison) -> None:
    names = list(found.methods)
    for shift, kind in zip((-0.25, 0, 0.25), KINDS, strict=True):
        known = found.reference[kind].mean
        distances = [
            np.mean([total_variation(fit[kind].mean, known) for fit in fits])
            for fits in found.methods.values()
        ]
        axes.barh(np.arange(len(names)) + shift, distances, 0.22, label=kind)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="total variation", title="How far predictions lie from the posterior's")
    axes.legend()


def _plot_reliability(axes: Axes, found: Comparison) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", label="as sure as it is right")
    for color, (name, fits) in zip(COLORS, found.all.items(), strict=True):
        confidence, right = reliability(fits[0]["digits"].mean, found.labels)[:2]
        axes.plot(confidence, right, color=color, label=name)
    axes.set(xlabel="mean confidence", ylabel="share right", title="Reliability on the test digits")
    axes.legend(fontsize="small")


def _plot_uncertainty(axes: Axes, found: Comparison) -> None:
    known = np.concatenate([found.reference[kind].epistemic for kind in KINDS])
    for color, (name, fits) in zip(COLORS[1:], found.methods.items(), strict=True):
        if name != "MAP":  # one network disagrees with nobody
            uncertainty = np.concatenate([fits[0][kind].epistemic for kind in KINDS])
            axes.scatter(known, uncertainty, 4, color, alpha=0.4, label=name)
    axes.axline((0, 0), slope=1, color="black")
    axes.set(
        xlabel="by the posterior (HMC)",
        ylabel="by the method",
        title="Epistemic uncertainty of each image, nats",
    )
    axes.legend(fontsize="small", markerscale=3)


def main(chosen: Options) -> None:
    """Samples the posterior, fits everything else, and compares."""
    size = TINY if chosen.tiny else Size()
    data = Digits.split(size.train, chosen.seed)
    network = small_network(size.hidden)
    chains = sample(network, as_input(data.train), torch.tensor(data.train_labels), size.length, chosen.seed)
    divergences = sum(chain.divergences for chain in chains)
    show_diagnostics(diagnostics(chains, network, data), divergences, size.length)
    ensembles = fit_all(data, size, chosen.seed)
    show_estimates(
        "Where the data say nothing, the posterior is the prior",
        [
            Estimate("exact", 0.0, 1.0),
            along_ignored(REFERENCE, [chain.weights for chain in chains]),
            *(along_ignored(name, fits) for name, fits in ensembles.items() if name.startswith("guide")),
        ],
    )
    digits = {"digits": as_input(data.test)}
    images = {**digits, "noise": as_input(noise(500, chosen.seed)), "letters": as_input(letters())}
    half = len(chains) // 2
    found = Comparison(
        data.test_labels,
        answers(stacked(chains), images),
        (answers(stacked(chains[:half]), digits), answers(stacked(chains[half:]), digits)),
        {name: [answers(weights, images) for weights in fits] for name, fits in ensembles.items()},
    )
    show_on_digits(found)
    for kind in STRANGERS:
        show_on_strangers(found, kind)
    save(plot(found), chosen.out, "posterior_quality")


if __name__ == "__main__":
    main(options(str(__doc__)))
