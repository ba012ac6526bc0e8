"""Training runs, end to end on scikit-learn's bundled digits."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import csv
import re
import signal
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from programs import printed, program, wait_until
from torch.utils.data import DistributedSampler

from bnn import Classifier, InputError
from bnn.core.checkpoint import load
from bnn.core.networks import build_network
from bnn.core.task import DIGITS
from bnn.data.imageset import ImageSet
from bnn.progress import Lines
from bnn.training.augmentation import by_other_pens, handwriting
from bnn.training.config import PRESETS, TrainConfig
from bnn.training.datamodule import TrainingData
from bnn.training.module import SVIModule
from bnn.training.states import WholeStates
from bnn.training.train import train, train_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TINY = TrainConfig(
    data="digits",
    network="cnn",
    network_options={"channels": [4, 6], "hidden": 16},
    epochs=2,
    draws=5,
    batch_size=64,
    rule="entropy",
)
QUIET = {"enable_progress_bar": False}


@pytest.fixture(autouse=True)
def few_reference_digits(monkeypatch):
    """What is tested here does not depend on how many digits say what is surprising."""
    monkeypatch.setattr("bnn.training.calibration.REFERENCE", 100)


def run(config, folder, **options):
    """The checkpoint that the command writes, and its bytes."""
    out = folder / "out.safetensors"
    train_command(config, out, runs=folder / "runs", trainer_options=QUIET, **options)
    return load(out), out.read_bytes()


def locations(checkpoint):
    """Of the weights of each component by parameter name, (M, *shape)."""
    prefix = "mean-field/loc/"
    tensors = checkpoint.posterior.items()
    return {key.removeprefix(prefix): value for key, value in tensors if key.startswith(prefix)}


def training_part():
    """scikit-learn's digits to train on."""
    return ImageSet.from_name("digits", part="train")


def logged(folder, component=0):
    with next(folder.glob(f"runs/*/{component}/metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def test_a_short_training_learns_the_digits_and_its_posterior(tmp_path):
    config = replace(TINY, epochs=12, network_options={}, draws=10)
    trained, _ = run(config, tmp_path)
    test = ImageSet.from_name("digits")
    prediction = Classifier.load(tmp_path / "out.safetensors").predict(test.images[:100])
    assert (prediction.probs.argmax(1) == test.truth()[:100].numpy()).mean() > 0.9
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
    config = replace(TINY, components=2)
    first, again, other = (
        run(replace(config, seed=seed), tmp_path / name)[1] for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first != other


def test_components_differ_and_the_first_is_the_only_one_of_a_run_of_one(tmp_path):
    both, _ = run(replace(TINY, components=2), tmp_path / "both")
    alone, _ = run(TINY, tmp_path / "alone")
    assert both.record["training"] == {"interrupted": False, "epochs_done": 2, "components_done": 2}
    assert both.record["data"] == alone.record["data"]
    for name, loc in locations(both).items():
        assert torch.equal(loc[:1], locations(alone)[name]), name
        assert not torch.equal(loc[0], loc[1]), name
    assert logged(tmp_path / "both", 0) != logged(tmp_path / "both", 1)


PAUSE = """
import runpy
import sys
import time
from pathlib import Path

import pytorch_lightning as pl

component, script = sys.argv[1], sys.argv[2]
del sys.argv[1:3]

def pause(module, batch, number):
    if not Path("paused").exists() and number == 5 and list(Path().glob(f"runs/*/{component}/last.ckpt")):
        Path("paused").touch()
        time.sleep(1e6)

pl.LightningModule.on_train_batch_start = pause
runpy.run_path(script, run_name="__main__")
"""
"""Runs a script of training that stays where it is in the middle of a component's second epoch."""


@contextmanager
def paused(folder, component):
    """`train.py` in a process of its own, in the middle of `component`'s second epoch; at the end killed."""
    command = [sys.executable, "-c", PAUSE, str(component), str(ROOT / "train.py")]
    options = (
        "--data=digits",
        "--network=mlp",
        "--network-options",
        '{"hidden": 8}',
        "--draws=5",
        "--rule=entropy",
        "--components=2",
        "--epochs=12",
        "--trainer.enable_progress_bar=false",
    )
    with program(*command, *options, cwd=folder) as process:
        wait_until((folder / "paused").exists, process)
        yield process


SMALL = replace(
    PRESETS["fast"],
    data="digits",
    network="mlp",
    network_options={"hidden": 8},
    components=2,
    epochs=12,
    draws=5,
    rule="entropy",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What `SMALL` gives when nothing happens to it."""
    return run(SMALL, tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.parametrize("component", [0, 1])
def test_a_killed_run_is_resumed_and_ends_as_the_uninterrupted_one(component, whole, tmp_path):
    with paused(tmp_path, component) as process:
        process.kill()
    assert not (tmp_path / "mnist.safetensors").exists()
    logs = len(list(tmp_path.glob(f"runs/*/{component}/metrics*.csv")))
    assert not list(tmp_path.glob(f"runs/*/{component + 1}"))
    resumed, _ = run(SMALL, tmp_path, resume=True)
    for name, loc in locations(whole).items():  # stored in few bits
        assert torch.allclose(locations(resumed)[name], loc, rtol=2e-3, atol=1e-5), name
    assert resumed.record["training"] == whole.record["training"]
    assert len(list(tmp_path.glob("runs/*"))) == 1
    # the log of the first part is kept
    assert len(list(tmp_path.glob(f"runs/*/{component}/metrics*.csv"))) == logs + 1


def test_a_finished_run_that_is_resumed_trains_nothing_more(tmp_path):
    config = replace(TINY, components=2)
    _, finished = run(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/*/*/*.ckpt")}
    assert len(before) == 6  # of each component the best, the last and the one before
    _, resumed = run(config, tmp_path, resume=True)
    assert resumed == finished
    assert {path: path.read_bytes() for path in tmp_path.glob("runs/*/*/*.ckpt")} == before


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """The checkpoint that a training leaves after Ctrl-C in the middle of a component's second epoch."""

    def interrupt(component):
        def press_ctrl_c(module, batch, number):
            begun = number == 5 and list(tmp_path.glob(f"runs/*/{component}/last.ckpt"))
            if begun and not (tmp_path / "pressed").exists():  # the scores are fitted after it
                (tmp_path / "pressed").touch()
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(pl.LightningModule, "on_train_batch_start", press_ctrl_c)
        return run(SMALL, tmp_path)[0]

    return interrupt


def fitted(folder, component, name):
    """A location of the guide in one of Lightning's checkpoints of a component."""
    state = torch.load(next(folder.glob(f"runs/*/{component}/{name}")), weights_only=True)
    return state["state_dict"]["guide.out/bias_loc"]


def test_ctrl_c_in_the_first_component_keeps_its_best_epoch_so_far(interrupted, tmp_path, capsys):
    kept = interrupted(0)
    assert "What it has is kept, and OOD scores and rule are fitted to that now" in capsys.readouterr().err
    assert kept.record["training"]["interrupted"] is True
    assert kept.record["training"]["components_done"] == 1
    loc = locations(kept)["out.bias"]
    assert torch.equal(loc[0], fitted(tmp_path, 0, "best.ckpt").to(loc))


def test_ctrl_c_in_a_later_component_keeps_those_that_were_done(interrupted, tmp_path):
    kept = interrupted(1)
    assert kept.record["training"] == {"interrupted": True, "epochs_done": 12, "components_done": 1}
    assert kept.record["config"]["components"] == 2
    loc = locations(kept)["out.bias"]
    assert torch.equal(loc[0], fitted(tmp_path, 0, "last.ckpt").to(loc))


def test_resuming_with_other_options_or_nothing_to_resume_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        run(TINY, tmp_path, resume=True)
    run(TINY, tmp_path)
    with pytest.raises(InputError, match=r"beta 0\.05"):
        run(replace(TINY, beta=0.5), tmp_path, resume=True, overwrite=True)


def test_a_run_whose_posterior_has_other_parameters_is_not_resumed(tmp_path):
    run(TINY, tmp_path)
    (last,) = tmp_path.glob("runs/*/0/last.ckpt")
    state = torch.load(last, weights_only=True)
    weights = state["state_dict"]
    weights["guide.out/bias_free_scale"] = weights.pop("guide.out/bias_log_scale")
    WholeStates().save_checkpoint(state, last)
    with pytest.raises(InputError, match=r"another version of bnn, with other parameters: start another"):
        run(TINY, tmp_path, resume=True)


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "out.safetensors").write_text("mine")
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match=r"is there already: .*--overwrite"):
            run(TINY, tmp_path, **options)
    assert (tmp_path / "out.safetensors").read_text() == "mine"
    assert not (tmp_path / "runs").exists()
    run(TINY, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is there already"):  # another run's
        run(replace(TINY, beta=0.5), tmp_path, resume=True)
    run(replace(TINY, draws=3), tmp_path, resume=True)
    assert load(tmp_path / "out.safetensors").draws == 3


def test_without_a_terminal_lines_tell_how_far_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bnn.progress.EVERY", 0)
    monkeypatch.setattr("bnn.training.bars.Lines", partial(Lines, first=0))
    config = replace(TINY, epochs=1, components=2)
    train_command(config, tmp_path / "out.safetensors", runs=tmp_path / "runs")
    lines = capsys.readouterr().err.splitlines()
    for component in ("1/2", "2/2"):
        told = [line for line in lines if line.startswith(f"bnn: training component {component}: ")]
        shares = [int(share) for line in told for share in re.findall(r"(\d+)\s% done, about", line)]
        assert shares == sorted(set(shares))
        assert len(shares) == len(training_part()) * 11 // 12 // TINY.batch_size - 1


def test_two_processes_train_each_guide(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--data=digits", "--epochs=2", "--draws=5"]
    command += ["--network=mlp", "--network-options", '{"hidden": 8}', "--rule=entropy", "--components=2"]
    options = ["--trainer.devices=2", "--trainer.strategy", "ddp", "--trainer.accelerator=cpu"]
    printed(*command, *options, cwd=tmp_path)
    trained = load(tmp_path / "mnist.safetensors")
    assert trained.record["training"] == {"interrupted": False, "epochs_done": 2, "components_done": 2}
    assert not torch.equal(*locations(trained)["out.bias"])
    assert len(list(tmp_path.glob("runs/*"))) == 1
    for component in range(2):
        rows = [row for row in logged(tmp_path, component) if row["nll"]]
        assert int(rows[-1]["step"]) <= 2 * (1318 // 2 // 128)  # each rank sees half of the data


def test_processes_share_a_step_s_images_and_each_has_noise_of_its_own():
    data, orders, noise = TrainingData(training_part(), DIGITS, batch_size=64), [], []
    for rank in (0, 1, 0):
        data.trainer = Mock(training=True, global_step=3, global_rank=rank, current_epoch=2)
        orders.append(list(data.train_dataloader().sampler))
        batch = (data.train_images.images[:64], data.train_images.truth()[:64])
        noise.append(torch.cat([data.on_after_batch_transfer(batch, 0)[0].flatten(), torch.randn(9)]))
    assert orders[0] == orders[1]
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0][:-9], noise[1][:-9])  # how images are varied
    assert not (noise[0][-9:] == noise[1][-9:]).any()  # what weights are drawn by
    places: Any = data.train_dataloader().dataset
    shares: Any = (list(DistributedSampler(places, 2, rank, shuffle=False)) for rank in (0, 1))
    ours, theirs = ([orders[0][place] for place in share] for share in shares)
    assert {*ours[:32], *theirs[:32]} == set(orders[0][:64])  # what one process would take in its first step


def test_the_kl_weight_rises_to_beta_and_the_learning_rate_falls(tmp_path):
    config = replace(TINY, epochs=4, kl_warmup=0.5, beta=0.3)
    network = build_network(config.network, config.network_options, DIGITS)
    module = SVIModule(config, network, 1318)
    betas, rates = [], []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            betas.append(module.beta())
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(module, Recorder())
    assert betas[0] < 0.02
    assert np.all(np.diff(betas) >= 0)
    assert betas[len(betas) // 2 :] == pytest.approx([0.3] * (len(betas) - len(betas) // 2))
    assert max(rates) == pytest.approx(config.lr, rel=0.01)
    assert rates[-1] < 0.01 * config.lr


def fit(module: SVIModule, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        max_epochs=module.config.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, TrainingData(training_part(), DIGITS, batch_size=64))


class Kept(pl.Callback):
    """The guide's locations, and all else that it learns, after each step."""

    def __init__(self) -> None:
        self.locations: list[torch.Tensor] = []
        self.others: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, module, *_):
        for kept, is_location in ((self.locations, True), (self.others, False)):
            learnt = [v for k, v in module.guide.named_parameters() if k.endswith("_loc") is is_location]
            kept.append(torch.cat([value.detach().flatten() for value in learnt or [torch.zeros(0)]]))


def kept(**change: Any) -> Kept:
    config, seen = replace(TINY, **change), Kept()
    pl.seed_everything(5, verbose=False)
    network = build_network(config.network, config.network_options, DIGITS)
    fit(SVIModule(config, network, 1318), seen)
    return seen


@pytest.mark.parametrize("estimator", ["weights", "local"])
def test_a_warm_start_trains_the_locations_as_a_plain_network_s_weights_and_then_all(estimator):
    plain = kept(guide="map", beta=0.0)
    ours = kept(warm_start=0.5, estimator=estimator)
    half = len(ours.others) // 2
    torch.testing.assert_close(ours.locations[:half], plain.locations[:half])
    assert all(torch.equal(ours.others[0], later) for later in ours.others[:half])
    assert not (ours.others[half - 1] == ours.others[half]).any()
    assert not (ours.locations[half] == plain.locations[half]).all()


def test_all_that_a_low_rank_guide_learns_beside_locations_waits_and_a_point_waits_for_nothing():
    waits = kept(guide="low-rank", warm_start=0.5).others
    half = len(waits) // 2
    assert torch.equal(waits[0], waits[half - 1])
    assert not (waits[half - 1] == waits[half]).any()
    torch.testing.assert_close(
        kept(guide="map", warm_start=0.5).locations[-1], kept(guide="map").locations[-1], rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"beta": -0.1}, "beta must be 0 or more"),
        ({"kl_warmup": 2.0}, "kl_warmup must be between 0 and 1"),
        ({"warm_start": 1.0}, "warm_start must be 0 or more, and below 1, and 1.0 is not"),
        ({"prior_scale": 0.0}, "prior_scale must be above 0"),
        ({"schedule": "zigzag"}, "schedule must be one-cycle or constant"),
        ({"refuse": 1.0}, "refuse must lie between 0 and 1"),
        ({"components": 0}, "components must be above 0"),
        ({"pens": 1.5}, "pens must be between 0 and 1"),
    ],
)
def test_impossible_numbers_are_refused_at_once(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"data": "nothing"},
        {"network": "rnn"},
        {"guide": "flow"},
        {"estimator": "magic"},
        {"combination": "vote"},
        {"rule": "oracle"},
    ],
)
def test_unknown_names_are_refused_before_training_and_the_known_ones_told(change, tmp_path):
    (name,) = change.values()
    with pytest.raises(InputError, match=f"{name}.*choose one of"):
        run(replace(TINY, **change), tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options", [{"max_epoch": 3}, {"devices": "many"}, {"strategy": "teleport"}, {"logger": False}]
)
def test_options_that_lightning_does_not_take_are_one_sentence(options):
    with pytest.raises(InputError) as error:
        train("digits", trainer_options=QUIET | options)
    assert "\n" not in str(error.value)


def test_too_few_calibration_images_for_the_wish_are_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="999 could"):
        run(replace(TINY, refuse=0.001), tmp_path)
    assert not (tmp_path / "runs").exists()


STILL = {"degrees": 0.0, "shift": 0.0, "scale": 0.0, "shear": 0.0, "elastic": 0.0, "blur": 0.0}


def ramps(n):
    """n images whose pixels tell their column, from 0 to 1."""
    return (torch.arange(28.0) / 27).expand(n, 1, 28, 28)


def test_distortion_of_no_strength_changes_nothing():
    images = training_part().images[:10]
    assert torch.allclose(handwriting(images, **STILL), images, atol=1e-5)


def test_the_same_generator_state_gives_the_same_distortion():
    images = training_part().images[:10]
    torch.manual_seed(3)
    first, second = handwriting(images), handwriting(images)
    torch.manual_seed(3)
    assert torch.equal(handwriting(images), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "strength",
    [{"degrees": 9.0}, {"shift": 2.0}, {"scale": 0.1}, {"shear": 0.1}, {"elastic": 1.0}],
)
def test_distortion_moves_each_image_its_own_way_and_keeps_the_range(strength):
    torch.manual_seed(0)
    images = training_part().images[:1].repeat(50, 1, 1, 1)
    moved = handwriting(images, **(STILL | strength))
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    assert len(torch.unique(moved.flatten(1), dim=0)) == 50


def test_the_shift_is_bounded_and_to_either_side():
    torch.manual_seed(0)
    moved = handwriting(ramps(200), **(STILL | {"shift": 2.0}))
    shift = ((moved - ramps(200)) * 27)[:, 0, 5:-5, 5:-5]
    assert shift.abs().max() <= 2 + 1e-4
    assert shift.max() > 1.5
    assert shift.min() < -1.5
    assert shift.flatten(1).std(1).max() < 1e-4  # all pixels of an image alike


def test_elastic_displacements_are_smooth_and_of_the_strength_asked():
    torch.manual_seed(0)
    bent = handwriting(ramps(400), **(STILL | {"elastic": 0.5}))
    pixels = ((bent - ramps(400)) * 27)[:, 0, 5:-5, 5:-5]
    assert pixels.mean().abs() < 0.05
    assert 0.25 < pixels.std() < 0.5  # between the knots the interpolation averages
    for dim in (1, 2):  # independent neighbours would differ by sqrt(2) = 1.4
        assert pixels.diff(dim=dim).std() < 0.5 * pixels.std()
    assert pixels.flatten(1).std(1).min() > 0.05  # no mere shift


def test_a_distorted_digit_still_looks_most_like_digits_of_its_label():
    torch.manual_seed(0)
    digits = training_part()
    moved = handwriting(
        digits.images[:200], degrees=8, shift=0.5, scale=0.08, shear=0.08, elastic=0.5, blur=0.5
    )
    distance = torch.cdist(moved.flatten(1), digits.images.flatten(1))
    distance[range(200), range(200)] = torch.inf  # but itself
    assert (digits.truth()[distance.argmin(1)] == digits.truth()[:200]).double().mean() > 0.9


def test_noise_of_another_seed_changes_the_order_but_not_the_split():
    data = TrainingData(training_part(), DIGITS, seed=5)
    other = data.with_noise(6)
    assert torch.equal(other.calibration_images.images, data.calibration_images.images)
    assert torch.equal(other.train_images.images, data.train_images.images)
    first, second = (list(part.train_dataloader().sampler) for part in (data, other))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first == list(data.train_dataloader().sampler)


def test_the_calibration_images_are_never_trained_on():
    data = TrainingData(training_part(), DIGITS, seed=5)
    train_rows = {row.numpy().tobytes() for row in data.train_images.images}
    held_out = {row.numpy().tobytes() for row in data.calibration_images.images}
    assert len(held_out) == 120
    assert not train_rows & held_out


def test_the_presets_are_the_notebooks_network():
    for name in ("notebook", "notebook-better"):
        config = PRESETS[name]
        assert (config.network, config.prior_scale, config.epochs, config.lr) == ("mlp", 1.0, 5, 0.01)
        assert (config.draws, config.rule, config.beta) == (100, "median", 1.0)


def test_another_pen_draws_a_third_of_the_images_again_and_leaves_them_where_they_are():
    torch.manual_seed(0)
    images = ImageSet.from_name("digits").images[:90]
    drawn = by_other_pens(images, 1 / 3)
    touched = ((drawn - images).abs() > 1e-3).flatten(1).any(1)
    assert 20 <= touched.sum() <= 30  # some are but drawn again by the pen they had
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    columns = torch.arange(28.0)
    before, after = (((x * columns).sum((1, 2, 3)) / x.sum((1, 2, 3)))[touched] for x in (images, drawn))
    assert (before - after).abs().max() < 0.5  # pixels
    assert by_other_pens(images, 0.0).equal(images)


def test_a_blur_keeps_the_ink_and_takes_a_third_of_the_images():
    images = ImageSet.from_name("digits").images[:90]
    blurred = handwriting(images, **(STILL | {"blur": 1.5}))
    touched = ((blurred - images).abs() > 1e-3).flatten(1).any(1)
    assert 20 <= touched.sum() <= 30  # some of the thirty are hardly blurred
    torch.testing.assert_close(blurred.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=0.02, atol=0)
    peaks = blurred[touched].amax((1, 2, 3))
    assert (peaks <= images[touched].amax((1, 2, 3)) + 1e-6).all()
