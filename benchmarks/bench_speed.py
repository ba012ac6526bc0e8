"""How much being Bayesian costs: training steps and predictions, as ratios within one run.

    python benchmarks/bench_speed.py

Times one step of 784-1024-10 at batch 128 (forward, backward) for the plain network, each of our ELBO
estimators, and Pyro's `AutoNormal` with its two ELBOs; then predicting 200 images with 100 draws, and
one image; then what the page does with one drawing, and the intervals of a report on 10,000 digits. Single
times are noisy: read the ratios.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnn.app.draw import look
from bnn.app.drawings import ensemble_svg
from bnn.app.examples import SAMPLE
from bnn.app.pad import drawing
from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import MLP
from bnn.data.pen import render
from bnn.data.pictures import png_url
from bnn.data.preprocess import prepare
from bnn.evaluation.intervals import aurc_statistic, auroc_statistic, bootstrap, mean_statistic
from bnn.training.elbo import ELBOS
from bnn.training.guide import MeanFieldGuide
from bnn.training.model import BayesianNeuralNetwork

N_TRAIN, BATCH, DRAWS = 55_000, 128, 100


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median time of `work` over `rounds` calls, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def training_steps() -> dict[str, Callable[[], object]]:
    """One step, forward and backward, of each way to train."""
    images, labels = torch.rand(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    network = MLP(classes=10)
    model, guide = BayesianNeuralNetwork(network, N_TRAIN, 1.0), MeanFieldGuide(network)
    auto = AutoNormal(model)
    auto(images, labels)

    def ours(name: str) -> Callable[[], object]:
        elbo = ELBOS[name]()
        return lambda: sum(elbo.terms(model, guide, images, labels)).backward()  # type: ignore[union-attr]

    def pyros(elbo: Trace_ELBO) -> Callable[[], object]:
        return lambda: elbo.differentiable_loss(model, auto, images, labels).backward()

    return {
        "plain network": lambda: cross_entropy(network(images), labels).backward(),
        **{f"ours, {name}": ours(name) for name in ELBOS},
        "AutoNormal, Trace_ELBO": pyros(Trace_ELBO()),
        "AutoNormal, TraceMeanField_ELBO": pyros(TraceMeanField_ELBO()),
    }


def predictions() -> dict[str, Callable[[], object]]:
    """Predicting with 100 draws: many images and one."""
    network = MLP(classes=10)
    guide, model = MeanFieldGuide(network), BayesianNeuralNetwork(network, N_TRAIN, 1.0)
    weights = guide.posterior().sample(DRAWS, seed=0)
    ensemble = PredictiveEnsemble(network, weights)
    many, one = torch.rand(200, 1, 28, 28), torch.rand(1, 1, 28, 28)

    @torch.no_grad()
    def loop() -> list[Tensor]:
        draws = [{name: value[s] for name, value in weights.items()} for s in range(DRAWS)]
        return [functional_call(network, draw, (many,)) for draw in draws]

    return {
        "200 images, loop over fixed weights (the floor)": loop,
        "200 images, PredictiveEnsemble": lambda: ensemble.probs(many),
        "1 image, PredictiveEnsemble": lambda: ensemble.probs(one),
        "1 image, Pyro's Predictive": lambda: Predictive(model, guide=guide, num_samples=DRAWS)(one),
    }


def one_drawing() -> dict[str, Callable[[], object]]:
    """One drawing, from what the pad hands over to the page's panels, and the parts of it."""
    classifier = Classifier.load(draws=DRAWS)
    drawn = png_url(render(SAMPLE))
    opened = drawing(drawn)
    assert opened is not None
    prepared = prepare(opened)
    probs = classifier.ensemble.probs(prepared)[:, 0].numpy()
    return {
        "100 draws": lambda: classifier.ensemble.probs(prepared),
        "100 draws and OOD scores": lambda: classifier.evidence(prepared),
        "reading and preparing it": lambda: prepare(drawing(drawn) or opened),
        "the ensemble as SVG": lambda: ensemble_svg(probs, classifier.task.names),
        "all": lambda: look(classifier, drawing(drawn)),
    }


def report_intervals() -> dict[str, Callable[[], object]]:
    """Bootstraps of 10,000 digits, and of as many beside 459 images that are none."""
    rng = np.random.default_rng(0)
    familiar, unfamiliar = rng.normal(size=10_000), rng.normal(2, 1, 459)
    return {
        "mean": partial(bootstrap, mean_statistic(familiar), 10_000),
        "AURC": partial(bootstrap, aurc_statistic(familiar > 1, familiar), 10_000),
        "AUROC": partial(bootstrap, auroc_statistic(familiar, unfamiliar), 10_000, 459),
    }


def report(title: str, works: dict[str, Callable[[], object]], rounds: int) -> None:
    """Prints each work's time and its ratio to the first."""
    table = Table("what", "ms", "times the first", title=title)
    first = None
    for name, work in works.items():
        took = milliseconds(work, rounds)
        first = first or took
        table.add_row(name, f"{took:.1f}", f"{took / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    report("One training step, 784-1024-10, batch 128, one thread", training_steps(), rounds=15)
    report("Predicting with 100 draws, 784-1024-10, one thread", predictions(), rounds=3)
    report("One drawing on the page, the network that ships, one thread", one_drawing(), rounds=31)
    report("Intervals of 10,000 digits, 1,000 resamples", report_intervals(), rounds=3)
