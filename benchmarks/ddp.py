"""Training by two processes (DDP) and by one: as accurate, and how much faster.

    python benchmarks/ddp.py

trains the network of the preset "fast" on MNIST for one epoch, from several seeds, by one process and by two
in turn, each with one thread. As with `bnn train --trainer.devices 2`, every process takes --batch-size
images a step, so that two take half as many steps; --lr is their learning rate. With --split they share the
images of a step, and take as many. The accuracy is that of the ensemble on the calibration digits (one split,
seed 0); the pace is measured from the tenth step to the last. It takes some seven minutes of CPU time, and
prints what stands in docs/scaling.md.
"""

import argparse
import hashlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import build_network
from bnn.core.task import DIGITS
from bnn.data.imageset import ImageSet
from bnn.progress import tracked
from bnn.training.config import configured
from bnn.training.datamodule import TrainingData
from bnn.training.module import SVIModule

SKIPPED = 10  # steps before the pace is measured: the first ones make ready
Told = dict[str, Any]


def main() -> None:
    """Compares, or trains once as one of the processes that are compared."""
    asked = parsed()
    if asked.out is None:
        compare(asked)
    else:
        train(asked, asked.out)


def compare(asked: argparse.Namespace) -> None:
    """Trains from every seed by one process and by several, and prints a table and how they compare."""
    counts = (1, asked.processes)
    runs = [(seed, count) for seed in asked.seeds for count in counts]
    found: dict[int, list[Sequence[Told]]] = {count: [] for count in counts}
    print("| seed | processes | steps | accuracy | images a second | CPU ms an image |")
    print("|---|---|---|---|---|---|")
    for seed, count in tracked(runs, "training", len(runs)):
        ranks = trained(asked, seed, count)
        found[count].append(ranks)
        pace, cpu = pace_of(ranks)
        print(
            f"| {seed} | {count} | {ranks[0]['steps']} | {ranks[0]['accuracy']:.2%} | {pace:,.0f} | "
            f"{1000 * cpu:.3f} |",
            flush=True,
        )
    print(conclusion(found[1], found[asked.processes]))


def conclusion(one: Sequence[Sequence[Told]], several: Sequence[Sequence[Told]]) -> str:
    """How the runs of one process and of several compare, seed by seed, in words."""
    alone, together = ([ranks[0]["accuracy"] for ranks in runs] for runs in (one, several))
    paces = [(pace_of(first), pace_of(second)) for first, second in zip(one, several, strict=True)]
    wall = statistics.median(second[0] / first[0] for first, second in paces)
    cpu = statistics.median(first[1] / second[1] for first, second in paces) * len(several[0])
    noise = all(len({rank["noise"] for rank in ranks}) == len(ranks) for ranks in several)
    alike = all(len({rank["weights"] for rank in ranks}) == 1 for ranks in several)
    return (
        f"One process: accuracy {spread(alone)}; {len(several[0])} processes: {spread(together)}. "
        f"Together they are {wall:.2f} times as fast here, and by CPU time, on idle cores, {cpu:.2f}. "
        f"Their noise {'differs' if noise else 'DOES NOT DIFFER'}, their weights "
        f"{'are one' if alike else 'DIFFER'}."
    )


def spread(values: Sequence[float]) -> str:
    """Mean, and the least and the most."""
    return f"{statistics.mean(values):.2%} ({min(values):.2%} to {max(values):.2%})"


def pace_of(ranks: Sequence[Told]) -> tuple[float, float]:
    """Images a second of all processes together, and CPU seconds an image."""
    images = sum(rank["images"] for rank in ranks)
    return images / max(rank["seconds"] for rank in ranks), sum(rank["cpu"] for rank in ranks) / images


def trained(asked: argparse.Namespace, seed: int, processes: int) -> Sequence[Told]:
    """What each process tells of a training from `seed` by so many."""
    with tempfile.TemporaryDirectory(prefix="bnn-") as folder:
        command = [sys.executable, __file__, "--out", folder, "--seeds", str(seed)]
        command += ["--processes", str(processes), "--epochs", str(asked.epochs)]
        batch = asked.batch_size // processes if asked.split else asked.batch_size
        command += ["--batch-size", str(batch), "--draws", str(asked.draws)]
        command += ["--lr", str(asked.lr)] if processes > 1 and asked.lr else []
        command += [] if asked.data_dir is None else ["--data-dir", str(asked.data_dir)]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"A training by {processes} ended with status {done.returncode}:\n{done.stderr}")
        return [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]


class Watch(pl.Callback):
    """Time, images and noise of this process's training."""

    def __init__(self) -> None:
        self.noise, self.images, self.steps = 0, 0, 0
        self.first = self.last = (0.0, 0.0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int
    ) -> None:
        if self.steps == 0:
            self.noise = torch.initial_seed()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self.steps += 1
        now = (time.monotonic(), time.process_time())
        if self.steps == SKIPPED:
            self.first = now
        elif self.steps > SKIPPED:
            self.last, self.images = now, self.images + len(batch[0])


def train(asked: argparse.Namespace, folder: Path) -> None:
    """Trains once, and writes to `folder` what this process has to tell."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    torch.set_num_threads(1)
    (seed,) = asked.seeds
    options = {"epochs": asked.epochs, "batch_size": asked.batch_size, "seed": seed}
    config = configured("fast", options | ({"lr": asked.lr} if asked.lr else {}))
    images = ImageSet.from_name("mnist", asked.data_dir, part="train")
    data = TrainingData(images, DIGITS, seed=0, batch_size=config.batch_size, augment=config.augment)
    pl.seed_everything(seed, verbose=False)
    network = build_network(config.network, config.network_options, DIGITS)
    module, watch = SVIModule(config, network, len(data.train_images)), Watch()
    trainer = pl.Trainer(
        max_epochs=asked.epochs,
        accelerator="cpu",
        devices=asked.processes,
        strategy="ddp" if asked.processes > 1 else "auto",
        callbacks=[watch],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data.with_noise(seed))
    told: Told = {"steps": watch.steps, "images": watch.images, "noise": watch.noise}
    told |= {
        name: after - before
        for name, before, after in zip(("seconds", "cpu"), watch.first, watch.last, strict=True)
    }
    told["weights"] = digest(module)
    if trainer.is_global_zero:
        told["accuracy"] = accuracy(module, network, data.calibration_images, asked.draws)
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(told))
    trainer.strategy.barrier()


def digest(module: nn.Module) -> str:
    """SHA-256 of all that `module` has learnt."""
    values = b"".join(value.detach().numpy().tobytes() for value in module.parameters())
    return hashlib.sha256(values).hexdigest()


def accuracy(module: SVIModule, network: nn.Module, digits: ImageSet, draws: int) -> float:
    """Share of `digits` that an ensemble of so many draws (seed 0) takes for what they are."""
    posterior = module.guide.posterior()
    ensemble = PredictiveEnsemble(network, posterior.sample(draws, 0))
    right = [
        ensemble.predictive(images).mean.argmax(1) == labels
        for images, labels in zip(digits.images.split(250), digits.truth().split(250), strict=True)
    ]
    return torch.cat(right).double().mean().item()


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--processes", type=int, default=2, help="that are compared with one (default: %(default)s)")
    add("--epochs", type=int, default=1, help="(default: %(default)s)")
    add("--batch-size", type=int, default=128, help="images of a step (default: %(default)s)")
    add("--split", action="store_true", help="all processes together take so many images a step")
    add("--lr", type=float, help="highest, of several processes (default: that of one)")
    add("--draws", type=int, default=10, help="of the ensemble (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    add("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    add("--out", type=Path, help=argparse.SUPPRESS)  # a folder: trains once, as one of many
    return parser.parse_args()


if __name__ == "__main__":
    main()
