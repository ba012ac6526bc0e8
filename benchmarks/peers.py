"""Ours beside other ways to have a network say how sure it is, each trained for equally long.

    python benchmarks/peers.py [--seconds 120] [--seeds 0 1 2] [--letters FOLDER] [--short | --tiny]

All ways (`ways.py`) train the same network on the same augmented batches under the same one-cycle schedule.
How many steps fit into the CPU seconds of a training is measured first, in turns, by a few that go from its
first to its last (and of what is added later, by a step of the plain network then); what a way does after its
last step counts too. Judged are digits held out of the training set, never the test set, and generated images
that are no digits. Each training leaves its row in compare.json at once: run again, it goes on from there. A
library that is not installed is left out (`make bench` installs them).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from timing import matrix_peak, seconds
from torch import Tensor
from ways import BATCH, CONFIG, OURS, PEERS, PLAIN, Step, Way

from bnn.core.posterior import DROPPED
from bnn.core.uncertainty import entropy
from bnn.data.imageset import ImageSet
from bnn.evaluation import metrics
from bnn.files import written_whole
from bnn.training.augmentation import handwriting
from bnn.training.memory import keep_freed_memory

FORMS: dict[str, dict[str, Any]] = {  # "timed": steps and rounds by which a step's time is found
    "full": {
        "data": "mnist",
        "seconds": 120.0,
        "draws": 20,
        "images": 5000,
        "others": 1000,
        "timed": (10, 5),
    },
    "short": {"data": "mnist", "seconds": 30.0, "draws": 10, "images": 5000, "others": 300, "timed": (6, 5)},
    "tiny": {"data": "digits", "seconds": 0.01, "draws": 2, "images": 20, "others": 20, "timed": (1, 1)},
}
OTHERS = ("noise", "strokes", "chimeras")  # generated; none is a digit


class Training:
    """Of a way by so many steps on `digits`: Adam, augmented batches, and the one-cycle schedule."""

    def __init__(self, make: Callable[[int], Way], digits: ImageSet, steps: int, seed: int) -> None:
        pyro.set_rng_seed(seed)
        self.images, self.labels = digits.images, digits.truth()
        self.way = make(len(digits)).to(memory_format=torch.channels_last)
        learnt = (value for value in self.way.parameters() if value.requires_grad)
        self.adam = torch.optim.Adam(learnt, CONFIG.lr, fused=True)
        cycle = max(steps, 20)  # fewer make none
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.adam, CONFIG.lr, cycle, pct_start=0.1)
        self.done, self._generator = 0, torch.Generator().manual_seed(seed)
        self._rows = torch.empty(0, dtype=torch.long)

    def go(self, steps: int) -> None:
        """Takes so many steps, which are all of it, or stand for all: their shares go from 0 to 1."""
        for at in range(steps):
            rows = self.next_rows()
            batch = handwriting(self.images[rows]).to(memory_format=torch.channels_last)
            self.adam.zero_grad()
            self.way.loss(batch, self.labels[rows], Step(self.done, at / steps)).backward()
            self.adam.step()
            self.schedule.step()
            self.done += 1

    def next_rows(self) -> Tensor:
        """Of the images of the next batch, each once an epoch."""
        if len(self._rows) < CONFIG.batch_size:  # what is left of an epoch is left out
            self._rows = torch.randperm(len(self.images), generator=self._generator)
        rows, self._rows = self._rows[: CONFIG.batch_size], self._rows[CONFIG.batch_size :]
        return rows


def trained(make: Callable[[int], Way], digits: ImageSet, steps: int, seed: int, draws: int) -> Way:
    """A way after so many steps on `digits`, and what it does after them."""
    training = Training(make, digits, steps, seed)
    training.go(steps)
    training.way.finish(training.images, training.labels, draws)
    return training.way


def steps_within(
    form: Mapping[str, Any], ways: Sequence[str], digits: ImageSet, known: Mapping[str, int]
) -> dict[str, int]:
    """How many steps of each way fit into the CPU seconds of a `form`, beside what follows the last one.

    Where the plain network's are `known` from an earlier run, times count by its time now.
    """
    few, draws, (count, rounds) = digits[:BATCH], form["draws"], form["timed"]
    ends = {name: partial(trained, PEERS[name].way, digits, 0, 0, draws) for name in ways}
    after = seconds({name: end for name, end in ends.items() if PEERS[name].sees_all}, 1)
    going = {name: Training(PEERS[name].way, few, 10**6, 0) for name in {**dict.fromkeys(ways), PLAIN: None}}
    whole = seconds({name: partial(training.go, count) for name, training in going.items()}, rounds)
    step = {name: taken / count for name, taken in whole.items()}
    allowed = known[PLAIN] * step[PLAIN] if PLAIN in known else form["seconds"]
    return {name: max(1, math.floor((allowed - after.get(name, 0.0)) / step[name])) for name in ways}


def _cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    before = time.process_time()
    return work(), time.process_time() - before


def judged(way: Way, digits: ImageSet, others: Mapping[str, ImageSet], draws: int) -> dict[str, float]:
    """What is told of a trained way: on `digits`, and how well entropy tells the `others` from them."""
    probs, taken = _cpu(partial(_probs, way, digits.images, draws))
    labels = digits.truth().numpy()
    mean, doubt = probs.numpy(), entropy(probs).numpy()
    told = {
        "accuracy": metrics.accuracy(mean, labels),
        "nll": metrics.nll(mean, labels),
        "ece": metrics.ece(mean, labels),
        "aurc": metrics.aurc(mean.argmax(1) != labels, doubt),
    }
    for name, other in others.items():
        told[name] = metrics.auroc(doubt, entropy(_probs(way, other.images, draws)).numpy())
    return told | {"per_1000": 1000 * taken / len(digits)}


@torch.no_grad()
def _probs(way: Way, images: Tensor, draws: int) -> Tensor:
    """The mean over the draws, (N, C)."""
    blocks = images.to(memory_format=torch.channels_last).split(BATCH)
    return torch.cat([way.probs(block, draws).mean(0) for block in blocks])


class Found:
    """What was measured so far, in a file that is whole after every row."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.run: dict[str, Any] = {"what": "compare", **settings, "steps": {}, "rows": []}
        if not path.exists():
            return
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name in settings if earlier.get(name) != settings[name]]:
            raise SystemExit(
                f"{path} was measured with another {', '.join(differing)}: name another folder by --out."
            )
        self.run = earlier

    def save(self) -> None:
        """Writes it."""
        with written_whole(self.path) as staged:
            staged.write_text(json.dumps(self.run, indent=1) + "\n", encoding="utf-8")

    def has(self, name: str, seed: int) -> bool:
        """Whether there is a row of that way and seed."""
        return any(row["way"] == name and row["seed"] == seed for row in self.run["rows"])


@dataclass(frozen=True)
class Measure:
    """A column of the table: its name in a row, its head, and how it is written; `better` says which way."""

    name: str
    head: str
    times: float
    decimals: int
    better: int
    ranged: bool = False

    def mean(self, rows: Sequence[Mapping[str, float]]) -> float:
        """Over the seeds, as it is shown."""
        return self.times * statistics.mean(row[self.name] for row in rows)

    def cell(self, rows: Sequence[Mapping[str, float]]) -> str:
        """The mean, and of several seeds, where `ranged`, half the range."""
        values = [self.times * row[self.name] for row in rows]
        half = f" ± {(max(values) - min(values)) / 2:.{self.decimals}f}" * (self.ranged and len(values) > 1)
        return f"{self.mean(rows):.{self.decimals}f}{half}"


MEASURES = (
    Measure("accuracy", "accuracy %", 100, 2, 1, ranged=True),
    Measure("nll", "NLL", 1, 4, -1, ranged=True),
    Measure("ece", "ECE %", 100, 2, -1),
    Measure("aurc", "AURC %", 100, 4, -1),
    *(Measure(name, f"AUROC {name}", 100, 1, 1) for name in (*OTHERS, "letters")),
    Measure("per_1000", "s / 1,000 images", 1, 2, -1),
)


def part(run: Mapping[str, Any]) -> str:
    """The part of docs/performance.md that tells of a run: means over the seeds that are done."""
    ways = dict.fromkeys(row["way"] for row in run["rows"])
    whole = set.intersection(*({row["seed"] for row in run["rows"] if row["way"] == way} for way in ways))
    by_way = {way: [row for row in run["rows"] if row["way"] == way and row["seed"] in whole] for way in ways}
    shown = [measure for measure in MEASURES if all(measure.name in row for row in run["rows"])]
    lines = [
        f"| way | steps | {' | '.join(measure.head for measure in shown)} |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for way, rows in by_way.items():
        cells = " | ".join(measure.cell(rows) for measure in shown)
        lines.append(f"| {way} | {run['steps'][way]:,} | {cells} |")
    return "\n".join([_about(run, len(whole)), *lines, "", _places(by_way, shown)])


def _about(run: Mapping[str, Any], seeds: int) -> str:
    return (
        f"## Beside others, at equal time\n\nForm: {run['form']}. Each way trains the same network for "
        f"{run['seconds']:g} CPU seconds on {run['data']}, with the same augmentation, batches and one-cycle "
        f"schedule, and predicts with {run['draws']} draws where it draws. {_over(seeds)}, on "
        f"{run['images']:,} digits held out of the training set, not on the test set. AUROC and AURC go by "
        "the entropy of the mean prediction, for all ways alike: neither OOD scores nor rules take part.\n\n"
        f"Ours is mean-field with beta {CONFIG.beta}, as in the preset, where the first "
        f"{CONFIG.warm_start:.0%} of the steps are a plain network's. Libraries have the priors, starts and "
        "weight of the KL that their guides show; but AutoNormal starts a tenth as wide as by default, for "
        f"else it learns nothing in so short a time. Dropout leaves out {DROPPED:.0%}. Laplace's pass over "
        "all training images is part of its time.\n"
    )


def _over(seeds: int) -> str:
    return f"Means over {seeds} seeds (± half the range)" if seeds > 1 else "One seed"


def _places(by_way: Mapping[str, Sequence[Mapping[str, float]]], measures: Sequence[Measure]) -> str:
    """In which of the measures ours is first, and where it is not, who is."""
    first, behind = [], []
    for measure in measures:
        means = {way: measure.better * measure.mean(rows) for way, rows in by_way.items()}
        place = 1 + sum(mean > means[OURS] for mean in means.values())
        if place == 1:
            first.append(measure.head)
        else:
            best = max(means, key=lambda way: means[way])
            behind.append(f"{measure.head} (place {place} of {len(means)}; first: {best})")
    return (
        f"Ours, of one component, is first in {', '.join(first) or 'nothing'}. "
        f"It is not first in {'; '.join(behind) or 'nothing'}."
    )


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_const", const="short", dest="form", default="full")
    parser.add_argument("--tiny", action="store_const", const="tiny", dest="form")
    parser.add_argument("--seconds", type=float, help="CPU time of each training (default: by the form)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--letters", type=Path, metavar="FOLDER", help="images of letters to report on too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    asked = parser.parse_args()
    form = FORMS[asked.form] | ({} if asked.seconds is None else {"seconds": asked.seconds})
    torch.set_num_threads(1)
    keep_freed_memory()  # as ours does
    ways = [name for name, peer in PEERS.items() if peer.is_there()]
    for name in PEERS.keys() - ways:
        print(f"{name} is left out: {PEERS[name].package} is not installed.")
    settings = {name: form[name] for name in ("data", "seconds", "draws", "images", "others")}
    found = Found(asked.out / "compare.json", {"form": asked.form, **settings})
    digits, held_out = ImageSet.from_name(form["data"], part="train").split_calibration(0)
    held_out = held_out.part(form["images"], seed=0)
    others = {name: ImageSet.from_name(name, limit=form["others"]) for name in OTHERS}
    if asked.letters:
        others["letters"] = ImageSet.from_folder(asked.letters, limit=form["others"])
    if new := [name for name in ways if name not in found.run["steps"]]:
        found.run["steps"] |= steps_within(form, new, digits, found.run["steps"])
        found.run["peak_gflops"] = matrix_peak()
        found.save()
    for seed in asked.seeds:
        for name in ways:
            if not found.has(name, seed):
                steps = found.run["steps"][name]
                way, spent = _cpu(partial(trained, PEERS[name].way, digits, steps, seed, form["draws"]))
                told = judged(way, held_out, others, form["draws"])
                found.run["rows"].append({"way": name, "seed": seed, "trained": spent, **told})
                found.save()
                print(f"{name}, seed {seed}: {told['accuracy']:.2%}, NLL {told['nll']:.4f}", flush=True)


if __name__ == "__main__":
    main()
