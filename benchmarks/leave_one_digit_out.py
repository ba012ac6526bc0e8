"""How well familiarity tells what was never learnt, without a single image that is no digit.

    python benchmarks/leave_one_digit_out.py 4 7 2

For each digit named, a network and densities learn the other nine, and must then tell it from them on the
calibration digits. Prints the AUROC of each kind of evidence and of Fisher's statistic, the digit left out
being positive. This is what the densities were chosen by. With `--data digits`, scikit-learn's digits, it
takes seconds instead of minutes.
"""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from torch import Tensor

from bnn.decide.classifier import CHUNK
from bnn.decide.ensemble import PredictiveEnsemble, draw_weights
from bnn.decide.familiarity import Evidence, Familiarity, Scorer
from bnn.decide.uncertainty import Predictive
from bnn.learn.calibration import REFERENCE, learnt_densities
from bnn.learn.config import PRESETS, TrainConfig
from bnn.learn.datamodule import MNISTData
from bnn.learn.guide import MixtureGuide
from bnn.learn.module import SVIModule
from bnn.networks import NUM_CLASSES, build_network
from bnn.progress import progress_bar

DRAWS = 8


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("leave_out", nargs="+", type=int, choices=range(NUM_CLASSES), metavar="DIGIT")
    parser.add_argument("--data", default="mnist", help="mnist or digits (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    parser.add_argument("--epochs", type=int, default=2, help="of each network (default: %(default)s)")
    arguments = parser.parse_args()
    config = replace(PRESETS["fast"], data=arguments.data, epochs=arguments.epochs, draws=DRAWS)
    table = Table("left out", "entropy", "pixels", "features", "Fisher's statistic", title="AUROC")
    for digit in arguments.leave_out:
        table.add_row(str(digit), *(f"{value:.3f}" for value in aurocs(digit, config, arguments.data_dir)))
    Console().print(table)


def aurocs(digit: int, config: TrainConfig, data_dir: Path | None) -> list[float]:
    """AUROC of `digit` among the calibration digits, by each kind of evidence when it was not learnt."""
    data = MNISTData(config.data, data_dir, seed=config.seed)
    data.train_digits = data.train_digits[data.train_digits.labels != digit]
    evidence = evidence_without(digit, fitted(config, data), config, data)
    positive = data.calibration_digits.labels == digit
    scores = (
        *(evidence.entropy_surprise, evidence.pixel_surprise, evidence.feature_surprise),
        evidence.unfamiliarity,
    )
    return [float(roc_auc_score(positive, score)) for score in scores]


def fitted(config: TrainConfig, data: MNISTData) -> MixtureGuide:
    """A guide trained on the data's training digits."""
    pl.seed_everything(config.seed, verbose=False)
    module = SVIModule(config, len(data.train_digits))
    trainer = pl.Trainer(
        max_epochs=config.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer.fit(module, data)
    return MixtureGuide([module.guide])


def evidence_without(digit: int, guide: MixtureGuide, config: TrainConfig, data: MNISTData) -> Evidence:
    """Evidence on the calibration digits when `digit` was learnt by neither the guide nor the densities."""
    network, posterior = build_network(config.network, config.network_options), guide.posterior()
    loc, scale = ({name: pair[index] for name, pair in posterior.items()} for index in (0, 1))
    ensemble = PredictiveEnsemble(network, draw_weights(loc, scale, config.draws, config.seed))
    digits = data.train_digits
    pixels, *features = learnt_densities(network, loc, digits, config.seed)
    scorer = Scorer(network, loc, pixels, features)
    few, held_out = digits.images[:REFERENCE], data.calibration_digits.images
    reference = scorer.scores(few, among_nine(ensemble, few, digit))
    return Familiarity(scorer, reference).evidence(held_out, among_nine(ensemble, held_out, digit))


def among_nine(ensemble: PredictiveEnsemble, images: Tensor, digit: int) -> Predictive:
    """What the ensemble says of `images` where they cannot be `digit`."""
    chunks = progress_bar("judging")(images.split(CHUNK))
    predictive = Predictive.joined([ensemble.predictive(chunk) for chunk in chunks])
    mean = predictive.mean[:, torch.arange(NUM_CLASSES) != digit]
    return replace(predictive, mean=mean / mean.sum(1, keepdim=True))


if __name__ == "__main__":
    main()
