"""Training runs, end to end on scikit-learn's bundled digits."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import csv
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bnn import Classifier, InputError
from bnn.checkpoint import load
from bnn.data import load_digits
from bnn.learn.config import PRESETS, TrainConfig
from bnn.learn.datamodule import MNISTData, random_affine
from bnn.learn.module import SVIModule
from bnn.learn.training import train

ROOT = Path(__file__).parent.parent
TINY = TrainConfig(
    data="digits", network_options={"channels": [4, 6], "hidden": 16}, epochs=2, draws=5, batch_size=64
)
QUIET = {"enable_progress_bar": False}


def run(config, folder, **options):
    trained = train(
        config, folder / "out.safetensors", runs=folder / "runs", trainer_options=QUIET, **options
    )
    return trained, (folder / "out.safetensors").read_bytes()


def logged(folder):
    with next(folder.glob("runs/*/metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def test_a_short_training_learns_the_digits_and_its_posterior(tmp_path):
    config = replace(TINY, epochs=12, network_options={}, draws=10)
    trained, _ = run(config, tmp_path)
    test = load_digits("digits", train=False)
    prediction = Classifier.load(tmp_path / "out.safetensors").predict(test.images[:100, 0].numpy())
    assert (prediction.probs.argmax(1) == test.labels[:100].numpy()).mean() > 0.9
    rows = [row for row in logged(tmp_path) if row["nll"]]
    assert float(rows[-1]["nll"]) < float(rows[0]["nll"]) / 2
    assert {"kl", "nll", "calibration_accuracy", "calibration_nll"} <= rows[0].keys()
    assert trained.record["data"] == {
        "name": "digits",
        "fingerprint": trained.record["data"]["fingerprint"],
        "trained_on": 1318,
        "calibrated_on": 120,
    }


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path):
    first, again, other = (
        run(replace(TINY, seed=seed), tmp_path / name)[1] for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first != other


def started(folder, *options):
    """`train.py` in a process of its own, once its first resumable checkpoint is there."""
    command = [sys.executable, str(ROOT / "train.py"), "--data=digits", "--network=mlp", "--draws=5"]
    options = (
        "--network-options",
        '{"hidden": 8}',
        "--epochs=60",
        "--trainer.enable_progress_bar=false",
        *options,
    )
    process = subprocess.Popen([*command, *options], cwd=folder, stderr=subprocess.PIPE, text=True)
    while not list(folder.glob("runs/*/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return process


SMALL = replace(TINY, network="mlp", network_options={"hidden": 8}, epochs=60, batch_size=128)


def test_a_killed_run_is_resumed_and_ends_as_the_uninterrupted_one(tmp_path):
    whole, _ = run(SMALL, tmp_path / "whole")
    (folder := tmp_path / "killed").mkdir()
    process = started(folder)
    process.kill()
    process.communicate()
    assert not (folder / "mnist.safetensors").exists()
    logs = len(list(folder.glob("runs/*/metrics*.csv")))
    resumed, _ = run(SMALL, folder, resume=True)
    for name, loc in whole.loc.items():
        assert torch.allclose(resumed.loc[name], loc, atol=1e-5), name
    assert len(list(folder.glob("runs/*/metrics*.csv"))) == logs + 1  # the first part's log is kept


def test_ctrl_c_keeps_the_best_epoch_so_far(tmp_path):
    process = started(tmp_path, "--epochs=5000")
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    kept = load(tmp_path / "mnist.safetensors")
    assert kept.record["training"]["interrupted"] is True
    best = torch.load(next(tmp_path.glob("runs/*/best.ckpt")), weights_only=True)
    assert torch.equal(kept.loc["out.bias"][0], best["state_dict"]["guide.out_bias_loc"])


def test_resuming_with_other_options_or_nothing_to_resume_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        run(TINY, tmp_path, resume=True)
    run(TINY, tmp_path)
    with pytest.raises(InputError, match=r"--beta 0\.05"):
        run(replace(TINY, beta=0.5), tmp_path, resume=True)


def test_two_processes_train_one_guide(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--data=digits", "--epochs=2", "--draws=5"]
    options = ["--trainer.devices=2", "--trainer.strategy", "ddp", "--trainer.accelerator=cpu"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "mnist.safetensors").record["training"]["epochs_done"] == 2
    rows = [row for row in logged(tmp_path) if row["nll"]]
    assert len(list(tmp_path.glob("runs/*"))) == 1
    assert int(rows[-1]["step"]) <= 2 * (1318 // 2 // 128)  # each rank sees half of the data


def test_the_kl_weight_rises_to_beta_and_the_learning_rate_falls(tmp_path):
    config = replace(TINY, epochs=4, kl_warmup=0.5, beta=0.3)
    module = SVIModule(config, 1318)
    betas, rates = [], []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            betas.append(module.beta())
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = pl.Trainer(
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Recorder()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, MNISTData("digits", batch_size=64))
    assert betas[0] < 0.02
    assert np.all(np.diff(betas) >= 0)
    assert betas[len(betas) // 2 :] == pytest.approx([0.3] * (len(betas) - len(betas) // 2))
    assert max(rates) == pytest.approx(config.lr, rel=0.01)
    assert rates[-1] < 0.01 * config.lr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "--epochs must be above 0"),
        ({"lr": -1.0}, "--lr must be above 0"),
        ({"beta": -0.1}, "--beta must be 0 or more"),
        ({"kl_warmup": 2.0}, "--kl-warmup must be between 0 and 1"),
        ({"prior_scale": 0.0}, "--prior-scale must be above 0"),
        ({"schedule": "zigzag"}, "--schedule must be one-cycle or constant"),
        ({"refuse": 1.0}, "--refuse must be between 0 and 1"),
    ],
)
def test_impossible_numbers_are_refused_at_once(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    "change",
    [{"data": "nothing"}, {"network": "rnn"}, {"guide": "flow"}, {"estimator": "magic"}, {"rule": "oracle"}],
)
def test_unknown_names_are_refused_before_training_and_the_known_ones_told(change, tmp_path):
    (name,) = change.values()
    with pytest.raises(InputError, match=f"{name}.*choose one of"):
        run(replace(TINY, **change), tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options", [{"max_epoch": 3}, {"devices": "many"}, {"strategy": "teleport"}, {"logger": False}]
)
def test_options_that_lightning_does_not_take_are_one_sentence(options, tmp_path):
    with pytest.raises(InputError) as error:
        train(TINY, tmp_path / "out.safetensors", runs=tmp_path / "runs", trainer_options=QUIET | options)
    assert "\n" not in str(error.value)


def test_too_few_calibration_digits_for_the_wish_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="digits could"):
        run(replace(TINY, refuse=0.001), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_augmentation_without_range_changes_nothing():
    images = load_digits("digits", train=True).images[:10]
    assert torch.allclose(random_affine(images, 0, 0, 0, 0), images, atol=1e-5)


def test_augmentation_moves_each_image_its_own_way_and_keeps_the_range():
    torch.manual_seed(0)
    images = load_digits("digits", train=True).images[:1].repeat(50, 1, 1, 1)
    moved = random_affine(images)
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    assert len(torch.unique(moved.flatten(1), dim=0)) == 50
    rows = torch.arange(28.0)

    def centre(x):
        return (x.sum((1, 3)) * rows).sum(1) / x.sum((1, 2, 3))

    assert (centre(moved) - centre(images)).abs().max() < 4
    assert (centre(moved) - centre(images)).mean().abs() < 0.7


def test_the_calibration_digits_are_never_trained_on():
    data = MNISTData("digits", seed=5)
    train_rows = {row.numpy().tobytes() for row in data.train_digits.images}
    held_out = {row.numpy().tobytes() for row in data.calibration_digits.images}
    assert len(held_out) == 120
    assert not train_rows & held_out


def test_the_presets_are_the_notebooks_network():
    for name in ("notebook", "notebook-better"):
        config = PRESETS[name]
        assert (config.network, config.prior_scale, config.epochs, config.lr) == ("mlp", 1.0, 5, 0.01)
        assert (config.draws, config.rule, config.beta) == (100, "median", 1.0)
