"""How well OOD scores tell what was never learnt, without a single image that is no digit.

    python benchmarks/leave_one_digit_out.py 4 7 2

For each digit named, a network and the scores learn the other nine, and must then tell it from them on the
calibration digits. Prints the AUROC of each score and of all joined, the digit left out being positive. This
is what the densities were chosen by. With `--data digits`, scikit-learn's digits, it takes
seconds instead of minutes.
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

from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.evidence import Evidence
from bnn.core.features import Features
from bnn.core.networks import build_network
from bnn.core.posterior import Mixture
from bnn.core.task import DIGITS
from bnn.core.uncertainty import Predictive
from bnn.data.imageset import ImageSet
from bnn.ood.combination import COMBINATIONS
from bnn.ood.detector import CHUNK, Detector, raw_scores
from bnn.ood.score import Observed
from bnn.progress import progress_bar
from bnn.training.calibration import fit_scores, reference_size
from bnn.training.config import PRESETS, TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.guide import MixtureGuide
from bnn.training.module import SVIModule

DRAWS = 8


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("leave_out", nargs="+", type=int, choices=range(DIGITS.classes), metavar="DIGIT")
    parser.add_argument("--data", default="mnist", help="mnist or digits (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies (default: BNN_DATA_DIR, else ./data)")
    parser.add_argument("--epochs", type=int, default=2, help="of each network (default: %(default)s)")
    arguments = parser.parse_args()
    config = replace(PRESETS["fast"], data=arguments.data, epochs=arguments.epochs, draws=DRAWS)
    table = Table("left out", *config.scores, "joined", title="AUROC")
    for digit in arguments.leave_out:
        table.add_row(str(digit), *(f"{value:.3f}" for value in aurocs(digit, config, arguments.data_dir)))
    Console().print(table)


def aurocs(digit: int, config: TrainConfig, data_dir: Path | None) -> list[float]:
    """AUROC of `digit` among the calibration digits, by each score when it was not learnt, and by all."""
    images = ImageSet.from_name(config.data, data_dir, part="train")
    data = TrainingData(images, DIGITS, seed=config.seed)
    data.train_images = data.train_images[data.train_images.truth() != digit]
    evidence = evidence_without(digit, fitted(config, data), config, data)
    positive = data.calibration_images.truth() == digit
    scores = (*(evidence.surprises[name] for name in config.scores), evidence.ood)
    return [float(roc_auc_score(positive, score)) for score in scores]


def fitted(config: TrainConfig, data: TrainingData) -> Mixture:
    """The posterior of a guide trained on the data's training digits."""
    pl.seed_everything(config.seed, verbose=False)
    network = build_network(config.network, config.network_options, data.task)
    module = SVIModule(config, network, len(data.train_images))
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
    return MixtureGuide([module.guide]).posterior()


def evidence_without(digit: int, posterior: Mixture, config: TrainConfig, data: TrainingData) -> Evidence:
    """Evidence on the calibration digits when `digit` was learnt by neither the posterior nor the scores."""
    network = build_network(config.network, config.network_options, data.task)
    ensemble = PredictiveEnsemble(network, posterior.sample(config.draws, config.seed))
    features = Features(network, posterior)
    scores = fit_scores(config, features, data.train_images, DIGITS.classes)
    few = data.train_images.images[: reference_size(len(data.train_images))]
    held_out = data.calibration_images.images
    reference = raw_scores(scores, Observed(few, among_nine(ensemble, few, digit), features))
    detector = Detector(features, scores, COMBINATIONS[config.combination].fit(reference))
    return detector.evidence(held_out, among_nine(ensemble, held_out, digit))


def among_nine(ensemble: PredictiveEnsemble, images: Tensor, digit: int) -> Predictive:
    """What the ensemble says of `images` where they cannot be `digit`."""
    chunks = progress_bar("judging")(images.split(CHUNK))
    predictive = Predictive.joined([ensemble.predictive(chunk) for chunk in chunks])
    mean = predictive.mean[:, torch.arange(DIGITS.classes) != digit]
    return replace(predictive, mean=mean / mean.sum(1, keepdim=True))


if __name__ == "__main__":
    main()
