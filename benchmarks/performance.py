"""What predicting and training cost: times as ratios within one process, and the page that tells of them.

    python benchmarks/performance.py predict|step|cost|serve|page [--short | --tiny] [--out FOLDER]

`predict`: all draws and decisions, beside a loop over fixed networks, vmap and Pyro's `Predictive`. `step`: a
training step of a plain network, of a Bayesian one by hand, and of ours in Lightning. `cost`: time and peak
memory by images, draws and components. `serve`: a start of the page, and a drawing. What is compared takes
turns, on one thread, and CPU time is measured; the speed of a matrix product stands beside it. Each run
leaves a JSON in FOLDER; `page` writes docs/performance.md from these, and from that of `peers.py`, which
compares with others. `--short` runs in minutes, `--tiny` shows in seconds that all of it runs.
"""

import argparse
import json
import logging
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import page_cost
import peers
import pyro
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from pyro.infer import Predictive
from timing import Works, matrix_peak, seconds
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.flop_counter import FlopCounterMode

from bnn.classifier import Classifier
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import build_network
from bnn.core.posterior import Mixture, Posterior
from bnn.core.task import DIGITS
from bnn.data.imageset import ImageSet
from bnn.training.augmentation import handwriting
from bnn.training.config import TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.memory import keep_freed_memory
from bnn.training.model import BayesianNeuralNetwork, fan_in_scale
from bnn.training.module import SVIModule

DOCS = Path(__file__).parents[1] / "docs"
SIZES: dict[str, dict[str, Any]] = {  # of each form
    "full": {"counts": (1, 32, 10_000), "rounds": 5, "steps": 40, "images": (10**3, 10**4, 10**5, 10**6)},
    "short": {"counts": (1, 32, 320), "rounds": 5, "steps": 12, "images": (1000, 3000, 10_000)},
    "tiny": {"counts": (1, 2), "rounds": 1, "steps": 2, "images": (10, 20)},
}
DRAWS: dict[str, tuple[int, ...]] = {"full": (1, 10, 100, 1000), "short": (1, 10, 200), "tiny": ()}
COMPONENTS: dict[str, tuple[int, ...]] = {"full": (1, 3, 12), "short": (1, 3, 12), "tiny": ()}
BATCH = 128


def predict(form: str) -> dict[str, Any]:
    """Seconds of each way to predict, by the number of images."""
    classifier = Classifier.load(draws=2 if form == "tiny" else None)
    digits = ImageSet.from_name("digits", part="train").images
    rows = {}
    for count in SIZES[form]["counts"]:
        images = digits[torch.arange(count) % len(digits)]
        rows[str(count)] = seconds(_ways(classifier, images), SIZES[form]["rounds"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _network(classifier)(digits[:1])
    return {"draws": len(classifier.ensemble), "gflop": counter.get_total_flops() / 1e9, "seconds": rows}


def _network(classifier: Classifier) -> nn.Module:
    return build_network(classifier.parts.network, classifier.parts.network_options, classifier.task)


def _ways(classifier: Classifier, images: Tensor) -> Works:
    network, draws = _network(classifier), len(classifier.ensemble)
    weights = classifier.posterior.sample(draws, classifier.seed)
    each = [{name: _laid_out(value[s]) for name, value in weights.items()} for s in range(draws)]
    model = BayesianNeuralNetwork(network, len(images))
    sites = {f"network.{name}": value for name, value in weights.items()}
    pyros = Predictive(model, posterior_samples=sites, return_sites=("_RETURN",))
    blocks = images.to(memory_format=torch.channels_last).split(BATCH)

    @torch.inference_mode()
    def loop() -> list[Tensor]:
        return [functional_call(network, drawn, (block,)) for block in blocks for drawn in each]

    @torch.inference_mode()
    def mapped() -> list[Tensor]:
        run = vmap(lambda drawn, block: functional_call(network, drawn, (block,)), (0, None))
        return [run(dict(weights), block) for block in blocks]

    return {
        "ours, all draws": lambda: classifier.ensemble.probs(images),
        "ours, decisions by all draws": lambda: classifier.predict(images),
        "ours, decisions, adaptive": lambda: classifier.predict(images, draws="adaptive"),
        "a loop over fixed networks, channels-last": loop,
        "vmap": mapped,
        "Pyro's Predictive": lambda: [pyros(block) for block in blocks],
    }


def _laid_out(weight: Tensor) -> Tensor:
    return weight.to(memory_format=torch.channels_last) if weight.dim() == 4 else weight.clone()


def step(form: str) -> dict[str, Any]:
    """Seconds of a training step at batch 128 with augmentation: plain, mean-field by hand, and ours."""
    keep_freed_memory()  # as ours does
    digits, steps = ImageSet.from_name("digits", part="train"), SIZES[form]["steps"]
    data = TrainingData(digits, DIGITS, batch_size=BATCH)
    images, labels = (part[:BATCH] for part in (data.train_images.images, data.train_images.truth()))
    config = TrainConfig()

    def batch() -> Tensor:
        return handwriting(images).to(memory_format=torch.channels_last)

    network = build_network(config.network, {}, DIGITS).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    start = {name: _laid_out(value.detach()) for name, value in network.named_parameters()}
    scales = {name: fan_in_scale(value.shape) for name, value in start.items()}
    locs = {name: nn.Parameter(value) for name, value in start.items()}
    free = {name: nn.Parameter(torch.full_like(v, -4.0)) for name, v in start.items()}
    adam_by_hand = torch.optim.Adam([*locs.values(), *free.values()], fused=True)

    def plain() -> None:
        adam.zero_grad()
        F.cross_entropy(network(batch()), labels).backward()
        adam.step()

    def by_hand() -> None:
        adam_by_hand.zero_grad()
        scale = {name: F.softplus(value) for name, value in free.items()}
        drawn = {name: loc + scale[name] * torch.randn_like(loc) for name, loc in locs.items()}
        parts = [
            (((s / scales[n]) ** 2 + (locs[n] / scales[n]) ** 2 - 1) / 2 - torch.log(s / scales[n])).sum()
            for n, s in scale.items()
        ]
        nll = F.cross_entropy(functional_call(network, drawn, (batch(),)), labels)
        (nll + 1e-6 * torch.stack(parts).sum()).backward()
        adam_by_hand.step()

    def repeated(work: Callable[[], None]) -> Callable[[], object]:
        def several() -> None:
            for _ in range(steps):
                work()

        return several

    def ours() -> None:
        module = SVIModule(config, build_network(config.network, {}, DIGITS), len(data.train_images))
        _trainer(steps).fit(module, data)

    with_start = {"a plain network": repeated(plain), "by hand": repeated(by_hand), "ours": ours}
    whole = seconds(with_start, SIZES[form]["rounds"])
    return {"seconds": {name: taken / steps for name, taken in whole.items()}}


def _trainer(steps: int) -> pl.Trainer:
    silent: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        max_steps=steps, accelerator="cpu", limit_val_batches=0, enable_model_summary=False, **silent
    )


def cost(form: str) -> dict[str, Any]:
    """CPU seconds and peak memory by images, draws and components, each in a process of its own."""
    cells = [
        *((images, 50, 6) for images in SIZES[form]["images"]),
        *((SIZES[form]["images"][0], draws, 6) for draws in DRAWS[form]),
        *((SIZES[form]["images"][0], 50, components) for components in COMPONENTS[form]),
    ]
    if form == "tiny":
        cells = [(images, 2, 2) for images in SIZES[form]["images"]]
    classifier = Classifier.load(draws=1)
    measured = partial(_cell, _network(classifier), classifier.posterior.components)
    return {"rows": [_apart(partial(measured, *cell)) for cell in dict.fromkeys(cells)]}


def _apart(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `work` gives in a process of its own, whose memory so is nobody else's."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=lambda: writer.send(work()))
    process.start()
    told: dict[str, float] = reader.recv()
    process.join()
    return told


def _cell(
    network: nn.Module, given: Sequence[Posterior], images: int, draws: int, components: int
) -> dict[str, float]:
    before = time.process_time()
    mixture = Mixture([given[m % len(given)] for m in range(components)])
    ensemble = PredictiveEnsemble(network, mixture.sample(draws, 0))
    generator = torch.Generator().manual_seed(0)
    for start in range(0, images, 1000):  # as they would come in a stream
        ensemble.probs(torch.rand(min(1000, images - start), 1, 28, 28, generator=generator))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB, on Linux
    taken = time.process_time() - before
    return {"images": images, "draws": draws, "components": components, "seconds": taken, "peak_mb": peak}


def page(found: Path) -> str:
    """docs/performance.md, of the runs that lie in the folder `found`."""
    told = [json.loads(path.read_text()) for path in sorted(found.glob("*.json"))]
    parts = [_PARTS[run["what"]](run) for run in told]
    return "\n\n".join(["# What it costs", _ABOUT, *parts]) + "\n"


_ABOUT = (
    "`benchmarks/performance.py page` wrote this from its runs (`make bench`). Times are CPU times of one "
    "thread, medians in alternation within one process: read the ratios. A short run on a machine that is "
    "busy otherwise says little about single times."
)


def _predict_part(run: dict[str, Any]) -> str:
    lines = [_head(run, "Predicting"), "| images | way | ms | times ours |", "|---|---|---|---|"]
    for count, ways in run["seconds"].items():
        first = next(iter(ways.values()))
        lines += [f"| {count} | {name} | {1000 * s:.1f} | {s / first:.2f} |" for name, s in ways.items()]
    count, ways = [*run["seconds"].items()][-1]
    speed = run["gflop"] * run["draws"] * int(count) / next(iter(ways.values()))
    lines.append(
        f"\nAll {run['draws']} draws of {count} images run at {speed:.0f} GFLOP/s: "
        f"{speed / run['peak_gflops']:.0%} of the matrix product."
    )
    return "\n".join(lines)


def _step_part(run: dict[str, Any]) -> str:
    lines = [_head(run, "A training step"), "| what | ms | times the plain one |", "|---|---|---|"]
    first = run["seconds"]["a plain network"]
    lines += [f"| {name} | {1000 * s:.1f} | {s / first:.2f} |" for name, s in run["seconds"].items()]
    return "\n".join(lines)


COST_PLOT = "cost.png"  # beside the page
VARIED = ("images", "draws", "components")


def cost_plot(rows: Sequence[dict[str, float]]) -> Figure:
    """Time and peak memory by images, draws and components, each where the others are as in the first row."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    for told, line in zip(
        ("seconds", "peak_mb"), figure.subplots(2, 3, sharex="col", sharey="row"), strict=True
    ):
        for varied, axes in zip(VARIED, line, strict=True):
            fixed = [name for name in VARIED if name != varied]
            alike = [row for row in rows if all(row[name] == rows[0][name] for name in fixed)]
            points = sorted((row[varied], row[told]) for row in alike)
            axes.loglog(*zip(*points, strict=True), "o-")
            axes.set_xticks([x for x, _ in points], [f"{x:,.0f}" for x, _ in points], minor=False)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if told == "seconds" else (1, 2, 4, 6, 8)))
            axes.yaxis.set_major_formatter("{x:,g}")
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            if told == "peak_mb":
                axes.set_xlabel(f"{varied} ({', '.join(f'{rows[0][name]:,.0f} {name}' for name in fixed)})")
        line[0].set_ylabel({"seconds": "CPU seconds", "peak_mb": "peak MB"}[told])
    return figure


def _cost_part(run: dict[str, Any]) -> str:
    names = (*VARIED, "seconds", "peak_mb")
    lines = [
        _head(run, "Time and memory"),
        "| images | draws | components | s | peak MB |",
        "|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(f"{row[name]:,.5g}" for name in names) + " |" for row in run["rows"]]
    lines.append(f"\n![Time and peak memory by images, draws and components, on log axes]({COST_PLOT})")
    return "\n".join(lines)


def _head(run: dict[str, Any], title: str) -> str:
    peak = f"{run['peak_gflops']:.0f} GFLOP/s"
    return f"## {title}\n\nForm: {run['form']}; a matrix product on the same thread reached {peak}.\n"


_PARTS = {
    "compare": peers.part,
    "cost": _cost_part,
    "predict": _predict_part,
    "serve": page_cost.part,
    "step": _step_part,
}


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("predict", "step", "cost", "serve", "page"))
    parser.add_argument("--short", action="store_const", const="short", dest="form", default="full")
    parser.add_argument("--tiny", action="store_const", const="tiny", dest="form")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    parser.add_argument("--page", type=Path, default=DOCS / "performance.md", help="where `page` writes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pyro.set_rng_seed(0)
    if asked.what == "page":
        asked.page.write_text(page(asked.out), encoding="utf-8")
        if (measured_cost := asked.out / "cost.json").exists():
            figure = cost_plot(json.loads(measured_cost.read_text())["rows"])
            figure.savefig(asked.page.with_name(COST_PLOT), dpi=100)
        return
    peak = matrix_peak()
    measured = {"predict": predict, "step": step, "cost": cost, "serve": page_cost.measure}[asked.what](
        asked.form
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    run = {"what": asked.what, "form": asked.form, "peak_gflops": peak} | measured
    (asked.out / f"{asked.what}.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
