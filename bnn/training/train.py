"""Training runs: from a configuration and images to a classifier."""

import difflib
import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from bnn.classifier import Classifier
from bnn.core.features import require_described
from bnn.core.networks import build_network
from bnn.core.stacked import require_runnable
from bnn.core.task import DIGITS, Task
from bnn.data.copies import SEEN, marks_of
from bnn.data.digits import LABELLED
from bnn.data.imageset import CALIBRATION_SHARE, ImageSet
from bnn.data.own import HELD_OUT, ground_of, is_own, own_data
from bnn.data.torchvision_sets import LEARNABLE
from bnn.errors import InputError, choose
from bnn.files import held, require_free
from bnn.ood.combination import COMBINATIONS
from bnn.ood.contrast import Contrast, contrast_network
from bnn.ood.detector import require_names
from bnn.rules.table import RULES
from bnn.training.bars import training_bar
from bnn.training.calibration import calibrated
from bnn.training.config import TrainConfig, configured
from bnn.training.datamodule import TrainingData
from bnn.training.elbo import ELBOS
from bnn.training.guide import MixtureGuide
from bnn.training.guides import GUIDES
from bnn.training.lightning_private import MisconfigurationException, fitting
from bnn.training.module import DivergedError, SVIModule
from bnn.training.prior import PRIORS
from bnn.training.runs import COMPONENT, checkpoint_to_refit, is_from, keep_log, new_run, run_to_resume
from bnn.training.states import LAST, WholeStates, whole_state

LISTED = 20  # images that cannot be used, by name
_STOPPED = (
    "bnn: the training has stopped. What it has is kept, and OOD scores and rule are fitted to that now: "
    "Ctrl-C stops this too."
)
OURS = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "barebones", "fast_dev_run")


def train(
    data: str | ImageSet = "mnist",
    *,
    preset: str = "fast",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    task: Task = DIGITS,
    trainer_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Classifier:
    """Trains and calibrates a classifier; writes nothing unless `out` is given.

    Args:
        data: name of a labelled set, path of data of one's own (see `bnn.data.own.own_data`), or labelled
            images.
        preset: name in `bnn.training.config.PRESETS`, where the other options start.
        out: checkpoint to write; None writes none.
        data_dir, download: see `ImageSet.from_name`.
        task: whose classes the labels of given images are; data that are named have their own.
        trainer_options: arguments of Lightning's `Trainer`.
        options: fields of `bnn.training.config.TrainConfig`, such as `epochs` or `risk`.

    Raises:
        InputError: the data cannot be had, an option is not known or out of its range, the configuration
            cannot be built, or `out` is there already.

    Example:
        >>> import bnn
        >>> clf = bnn.train("digits", epochs=1, draws=5, rule="entropy", network="mlp",
        ...                 trainer_options={"enable_progress_bar": False})
        >>> len(clf.ensemble)
        5
    """
    config = configured(preset, options)
    given = Lesson(data, task) if isinstance(data, ImageSet) else lesson_of(data, config, data_dir, download)
    if out is not None:
        require_free(out)
    config = replace(config, data=given.images.name)
    with TemporaryDirectory(prefix="bnn-") as folder:
        trained = train_run(config, given, run=Path(folder), trainer_options=trainer_options)
    assert trained is not None  # noqa: S101  # one process alone
    if out is not None:
        trained.save(out)
    return trained


def train_command(
    config: TrainConfig,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    runs: str | Path = "runs",
    resume: bool = False,
    refit: str | Path | None = None,
    component: int | None = None,
    overwrite: bool = False,
    trainer_options: Mapping[str, Any] | None = None,
) -> Classifier | None:
    """`bnn train`: trains as `config` says and writes the checkpoint to `out`.

    Lightning's log (CSV) and resumable checkpoints go to a new folder under `runs` after every epoch.

    Args:
        config: what to train.
        out: where the checkpoint goes.
        data_dir, download: see `ImageSet.from_name`.
        runs: folder of the runs.
        resume: whether to go on with the latest run under `runs`, which must have the same `config`.
        refit: a checkpoint of the same `config` and data, whose posterior is kept: its OOD scores and its
            rule alone are fitted anew, as `config` says.
        component: which one is trained alone, from 1, to be merged with the others; None for all.
        overwrite: whether the checkpoint takes the place of a file that is there already. One that the
            resumed run wrote is replaced in any case.
        trainer_options: see `train`.

    Returns:
        The classifier; None on the ranks of a distributed run that write none.

    Raises:
        InputError: as `train`, there is no run to resume, or the posterior is not of this `config`.
    """
    if resume and refit is not None:
        raise InputError("a run is resumed, or a checkpoint fitted anew (resume, refit): not both.")
    if component is not None:
        _require_component(component, config, refit)
    spec, config = config.data, replace(config, data=name_of(config.data))
    overwrite = overwrite or (resume and is_from(Path(out), config))
    require_free(out, overwrite=overwrite)
    given = lesson_of(spec, config, data_dir, download)
    given.tell_left_out()
    if refit is not None:
        refitted = _refitted(config, given, Path(refit))
        refitted.save(out)
        return refitted
    with run_to_resume(Path(runs), config) if resume else new_run(Path(runs)) as run:
        trained = train_run(config, given, run=run, trainer_options=trainer_options, only=component)
    if trained is not None:
        _save(trained, Path(out), overwrite=overwrite)
    return trained


def _require_component(component: int, config: TrainConfig, refit: str | Path | None) -> None:
    if refit is not None:
        raise InputError("a component is trained, or a checkpoint fitted anew (component, refit): not both.")
    if not 1 <= component <= config.components:
        raise InputError(
            f"there is no component {component} of {config.components}: give one from 1 on, and how many "
            "there are in all (--components)."
        )


def _save(trained: Classifier, out: Path, *, overwrite: bool) -> None:
    """Writes the checkpoint, unless another training has written one there meanwhile."""
    require_free(out, overwrite=overwrite)  # which makes its folder
    with held(out.parent, wait=True):
        require_free(out, overwrite=overwrite)
        trained.save(out)


class Lesson(NamedTuple):
    """What is to be learnt.

    Attributes:
        images: labelled, of which a part is held out for calibration.
        task: whose classes the labels are.
        is_own: whether they are data of one's own, which the checkpoint then knows again.
        kept_apart: how many others are for testing.
        left_out: (file, why) of each image that could not be used.
    """

    images: ImageSet
    task: Task
    is_own: bool = False
    kept_apart: int = 0
    left_out: Sequence[tuple[str, str]] = ()

    def split(self, config: TrainConfig) -> TrainingData:
        """The images for Lightning."""
        return TrainingData(
            self.images,
            self.task,
            seed=config.seed,
            batch_size=config.batch_size,
            augment=config.augment,
            pens=config.pens,
            held_out=HELD_OUT if self.is_own else CALIBRATION_SHARE,
            by_class=self.is_own,
        )

    def tell_left_out(self) -> None:
        """Names the images that cannot be used, on standard error."""
        for file, why in self.left_out[:LISTED]:
            print(f"bnn: {file}: {why}", file=sys.stderr)
        if more := len(self.left_out[LISTED:]):
            print(f"bnn: {more:,} more images cannot be used.", file=sys.stderr)

    def told(self, trained: Classifier) -> Classifier:
        """`trained` with what is to be known of data of one's own in its record."""
        if self.is_own:
            images = self.images.images
            about = {
                "kept_apart": self.kept_apart,
                "left_out": len(self.left_out),
                "ground": ground_of(images),
            }
            data = {**trained.record["data"], **about}
            trained.record = {**trained.record, "data": data, SEEN: marks_of(images)}
        return trained


def train_run(
    config: TrainConfig,
    lesson: Lesson,
    *,
    run: Path,
    trainer_options: Mapping[str, Any] | None = None,
    only: int | None = None,
) -> Classifier | None:
    """Trains the components, mixes and calibrates them.

    A component that ends by itself keeps its last epoch, so that the calibration images have chosen
    nothing. Ctrl-C ends the training and keeps the components that were done, or else the epoch of the
    first that was best on the calibration images.

    Args:
        config: how to train.
        lesson: what.
        run: folder of Lightning's log and checkpoints, from which it goes on where some are there.
        trainer_options: see `train`.
        only: the one component that is trained, counted from 1; None for all.

    Returns:
        The classifier; None on the ranks of a distributed run that write none.

    Raises:
        InputError: the configuration cannot be built, its images cannot promise what it asks, or the
            Trainer refuses its options.
    """
    data = lesson.split(config)
    require_trainable(config, data)
    components = range(config.components) if only is None else [only - 1]
    config = replace(config, components=len(components))
    fits = _fit_all(config, components, data, run, trainer_options or {})
    if not fits[-1].trainer.is_global_zero:
        return None
    if stopped := any(fit.ended_early for fit in fits) or len(fits) < config.components:
        print(_STOPPED, file=sys.stderr)
    for component, fit in zip(components, fits, strict=False):  # those that were done are the first
        _finish(config, component, fit.module, data)
    training = {
        "interrupted": stopped,
        "epochs_done": fits[-1].trainer.current_epoch,
        "components_done": len(fits),
    }
    if only is not None:
        training[COMPONENT] = only
    posterior = MixtureGuide([fit.module.guide for fit in fits]).posterior()
    return lesson.told(calibrated(config, posterior, data, training))


def _refitted(config: TrainConfig, lesson: Lesson, path: Path) -> Classifier:
    """The checkpoint at `path` with OOD scores and a rule that are fitted anew, as `config` says."""
    data = lesson.split(config)
    require_trainable(config, data)
    given = checkpoint_to_refit(path, config, data.fingerprint)
    posterior = Classifier(given).posterior
    config = replace(config, components=len(posterior.components))
    return lesson.told(calibrated(config, posterior, data, given.record.get("training", {})))


def name_of(spec: str) -> str:
    """By what the data that `spec` names are called in a checkpoint, which says nothing of where they lie."""
    return Path(spec).resolve().name if spec not in known_to_learn() and is_own(spec) else spec


def known_to_learn() -> list[str]:
    """The names of all sets that can be learnt."""
    return [*LABELLED, *LEARNABLE]


def lesson_of(
    spec: str, config: TrainConfig, data_dir: str | Path | None = None, download: bool = False
) -> Lesson:
    """What `spec` names: a set that is known, or else data of one's own.

    Args:
        spec: the set's name, or the path.
        config: gives the layout, the share to test on and the seed by which data of one's own are split.
        data_dir, download: see `ImageSet.from_name`.

    Raises:
        InputError: it cannot be had, or cannot be learnt.
    """
    if spec in LEARNABLE:
        images = ImageSet.from_torchvision(spec, data_dir, part="train", download=download)
        return Lesson(images, LEARNABLE[spec].task)
    if spec in LABELLED or not is_own(spec):
        choose(dict.fromkeys(known_to_learn()), spec, "labelled data set, folder or file")
        return Lesson(ImageSet.from_name(spec, data_dir, part="train", download=download), DIGITS)
    images, task = own_data(spec, config.layout)
    rest, test = images, images[:0]
    if config.test_share:
        rest, test = images.split_by_class(config.seed, config.test_share)
    return Lesson(rest, task, is_own=True, kept_apart=len(test), left_out=images.unreadable)


def require_trainable(config: TrainConfig, data: TrainingData) -> None:
    """Checks all that would otherwise fail after the training.

    Raises:
        InputError: as `train_run`.
    """
    rule = choose(RULES, config.rule, "abstention rule")
    rule.require_fittable(len(data.calibration_images), config.promise)
    require_buildable(config, data)


def require_buildable(config: TrainConfig, data: TrainingData) -> None:
    """Checks that all that `config` names is there, and fits the images of `data`.

    Raises:
        InputError: something is not, or does not.
    """
    choose(RULES, config.rule, "abstention rule")
    require_names(config.scores)
    choose(COMBINATIONS, config.combination, "combination of scores")
    guide = choose(GUIDES, config.guide, "guide")
    choose(ELBOS, config.estimator, "estimator")
    if choose(PRIORS, config.prior, "prior").learns_scale and not guide.has_width:
        raise InputError(
            f"the scale of a prior is learnt from a posterior with a width, and that of {config.guide!r} has "
            "none: take another prior or another guide."
        )
    network = build_network(config.network, config.network_options, data.task)
    shape = tuple(data.train_images.images.shape[1:])
    require_runnable(network, shape, data.task.classes)
    require_described(network, shape)
    guide.require(config, network, data.train_images)
    if Contrast.name in config.scores:
        contrast = contrast_network(data.task.classes, config.contrast_options)
        require_runnable(contrast, shape, data.task.classes + 1)


class _Fit(NamedTuple):
    """A component's training after it has ended: by itself, by Ctrl-C, or since it diverged."""

    trainer: pl.Trainer
    module: SVIModule
    diverged: DivergedError | None = None

    @property
    def ended_early(self) -> bool:
        return self.trainer.interrupted or self.diverged is not None


def _fit_all(
    config: TrainConfig, components: Sequence[int], data: TrainingData, run: Path, options: Mapping[str, Any]
) -> list[_Fit]:
    """One component after another; where one ends early, those that were done, or the first at its best."""
    fits: list[_Fit] = []
    for component in components:
        fits.append(_fit(config, component, data, run / str(component), options))
        if fits[-1].ended_early:
            break
    done = [fit for fit in fits if not fit.ended_early]
    if not done:
        _restore_best(fits[0])
    if fits[-1].diverged:
        print(f"bnn: component {components[len(fits) - 1] + 1}: {fits[-1].diverged}", file=sys.stderr)
    return done or fits


def _fit(
    config: TrainConfig, component: int, data: TrainingData, folder: Path, options: Mapping[str, Any]
) -> _Fit:
    """Trains one component, or what is left of it, with its start and noise depending on nothing else."""
    seed = config.seed_of(component)
    pl.seed_everything(seed, verbose=False)
    network = build_network(config.network, config.network_options, data.task)
    module = SVIModule(config, network, len(data.train_images))
    trainer = _trainer(config, component, folder, options, steps=len(data.train_dataloader()))
    last = whole_state(folder)
    if last is not None and last.name != LAST:
        print(
            f"bnn: {folder / LAST} is damaged: going on from {last.name}, an epoch before.", file=sys.stderr
        )
    keep_log(folder)
    try:
        with fitting(trainer):
            trainer.fit(module, data.with_noise(seed), ckpt_path=last, weights_only=True)
    except MisconfigurationException as error:
        raise InputError(_trainer_refuses(error)) from error
    except DivergedError as error:
        return _Fit(trainer, module, error)
    except OSError as error:  # of the log, or of what was removed meanwhile
        why = error.strerror or type(error).__name__
        raise InputError(f"the run in {folder.parent} can no longer be written ({why}).") from error
    return _Fit(trainer, module)


def _finish(config: TrainConfig, component: int, module: SVIModule, data: TrainingData) -> None:
    """What the guide of a component does when its steps are done."""
    pl.seed_everything(config.seed_of(component), verbose=False)
    network = build_network(config.network, config.network_options, data.task)
    module.guide.finish(config, module.model, network, data.train_images)


def _restore_best(fit: _Fit) -> None:
    saver = fit.trainer.checkpoint_callback
    best = saver.best_model_path if isinstance(saver, ModelCheckpoint) else ""
    if not best:
        why = str(fit.diverged or "the training was interrupted.").rstrip(".")
        raise InputError(f"{why}, before its first epoch ended: there is nothing to keep.")
    fit.module.load_state_dict(torch.load(best, weights_only=True)["state_dict"])


def _trainer(
    config: TrainConfig, component: int, folder: Path, options: Mapping[str, Any], steps: int
) -> pl.Trainer:
    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in OURS]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise InputError(
                f"{name} is no option of Lightning's Trainer (trainer_options, --trainer.NAME): "
                f"did you mean {', '.join(near)}?"
            )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logger = CSVLogger(folder.parent, name="", version=folder.name)
    savers = [  # the best first: `_restore_best` asks the first, and the last.ckpt tells where it lies
        ModelCheckpoint(folder, name, monitor, save_on_train_epoch_end=True, enable_version_counter=False)
        for name, monitor in (("best", "calibration_nll"), ("last", None))
    ]
    defaults = {
        "max_epochs": config.epochs,
        "log_every_n_steps": min(10, steps),  # of an epoch
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
    }
    shown = options.get("enable_progress_bar", True)
    which = f"component {component + 1}" + f"/{config.components}" * (component < config.components)
    bar = [training_bar(which)] if shown else []
    plugins = [WholeStates(), *_several(options.get("plugins"))]
    asked = {**defaults, **options, "plugins": plugins}
    try:
        return pl.Trainer(logger=logger, callbacks=[*savers, *bar], **asked)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise InputError(_trainer_refuses(error)) from error


def _several(plugins: Any) -> list[Any]:
    return list(plugins) if isinstance(plugins, list | tuple) else [] if plugins is None else [plugins]


def _trainer_refuses(error: Exception) -> str:
    return f"Lightning's Trainer refuses its options: {' '.join(str(error).split()).rstrip('.')}."
