"""The `bnn` command. A room is imported only when a command that needs it runs."""

import argparse
import errno
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn import __version__
from bnn.cli.options import (
    ADAPT,
    CALIBRATE,
    COMPARE,
    COMPARED,
    EVALUATE,
    EXPORT,
    MERGE,
    MONITOR,
    PREDICT,
    READ,
    REVIEW,
    SCORE,
    SERVE,
    TRAIN,
    add_adapt,
    add_calibrate,
    add_compare,
    add_evaluate,
    add_export,
    add_merge,
    add_monitor,
    add_predict,
    add_read,
    add_review,
    add_score,
    add_serve,
    add_train,
)
from bnn.errors import InputError, choose
from bnn.files import OF_THE_DISK, printable
from bnn.rules.promise import PROMISES
from bnn.training.config import PRESETS, TrainConfig

if TYPE_CHECKING:
    from bnn.classifier import Classifier
    from bnn.review.store import ReviewQueue

DESCRIPTION = """\
A Bayesian handwritten-digit classifier that says "I don't know".

  bnn serve      open the drawing page in a browser
  bnn predict    decide on image files
  bnn read       read the digits of numbers, lines and pages
  bnn score      decide on millions of images, into Parquet files
  bnn review     name, export and delete the refused images that were kept
  bnn monitor    say when what comes in is no longer like the calibration digits
  bnn evaluate   report on thousands of images, digits and not digits
  bnn export     write a checkpoint as ONNX, for programs without Python
  bnn calibrate  ask for other promises of a checkpoint, without training
  bnn adapt      teach a checkpoint a few hundred digits of one's own
  bnn train      train a Bayesian network and write its checkpoint
  bnn merge      make one checkpoint of components trained as separate jobs
  bnn compare    train several posteriors at equal cost and tell them apart

`bnn COMMAND --help` explains each."""

BAD_INPUT, FAILED, FAULT, INTERRUPTED, PIPE_CLOSED = 2, 3, 70, 130, 141  # exit statuses
GROUPS = {  # what pyproject.toml's optional groups bring, by the name it is imported by
    "gradio": "page",
    "prometheus_client": "page",
    "sqlalchemy": "page",
    "psycopg": "postgresql",
    "pyro": "train",
    "pytorch_lightning": "train",
    "jinja2": "evaluate",
    "matplotlib": "evaluate",
    "pyarrow": "score",
    "fsspec": "score",
    "ray": "ray",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "sklearn": "evaluate",
    "torchvision": "evaluate",
}
APART = ("ray", "onnx", "postgresql")  # groups that `make install` leaves out: few need them
STANDS_ON = ("torch", "pyro-ppl", "pytorch-lightning", "torchvision", "gradio", "numpy", "safetensors")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: the process's arguments) and returns its exit status.

    0: all done; 1: done, but some files could not be read; 2: bad input, described in one sentence; 3: the
    machine could not (a full disk, no memory); 4: done, and `bnn monitor` raises its alarm; 70: a fault of
    this program, with its traceback; 130: Ctrl-C; 141: whoever read what was printed did not want all of it.
    """
    parser = _parser()
    arguments, extra = parser.parse_known_args(argv)
    if extra and not (arguments.run is _train and extra[0].startswith("--trainer.")):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    arguments.trainer = extra
    # Read when torch is first imported. Threads that spin long while they wait make everything several
    # times slower as soon as another program wants a core.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
    except SystemExit as ended:  # how rich ends where a pipe is closed
        return PIPE_CLOSED if ended.code == 1 else BAD_INPUT
    except KeyboardInterrupt:
        return _ended("interrupted.", INTERRUPTED)
    except Exception as error:
        return _failed(error)
    return status


def _failed(error: Exception) -> int:
    """Says what has failed, and gives the exit status for it."""
    if isinstance(error, InputError):
        return _ended(str(error), FAILED if _is_of_the_machine(error) else BAD_INPUT)
    if isinstance(error, ModuleNotFoundError) and error.name in GROUPS:
        return _ended(_how_to_install(error.name), BAD_INPUT)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # into which what is left is flushed
        return PIPE_CLOSED
    if isinstance(error, MemoryError):
        return _ended("there is not enough memory.", FAILED)
    if isinstance(error, OSError):
        where = printable(f"{error.filename}: " if error.filename else "")[:500]
        why = error.strerror or type(error).__name__
        return _ended(f"{where}{why}.", FAILED if _is_of_the_machine(error) else BAD_INPUT)
    traceback.print_exception(error)
    return _ended("this is a fault of the program: please report it.", FAULT)


def _is_of_the_machine(error: BaseException) -> bool:
    """Whether `error` comes of a full or failing disk, or of too little memory, whatever was asked."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in OF_THE_DISK:
        return True
    full = f"os error {errno.ENOSPC}" in str(error)  # as safetensors has it
    return full or (error.__cause__ is not None and _is_of_the_machine(error.__cause__))


def _ended(said: str, status: int) -> int:
    with suppress(OSError):  # where standard error is closed or full too
        print(f"bnn: {said}", file=sys.stderr)
    return status


def _how_to_install(module: str) -> str:
    made = "" if GROUPS[module] in APART else "`make install`, or "
    return (
        f"this needs {module}, which is not installed: in the project's folder, run {made}"
        f"`python -m pip install --constraint constraints.txt --editable '.[{GROUPS[module]}]'`."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bnn", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, help="show the version, and what it stands on")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_train(_command(commands, "train", TRAIN, _train))
    add_merge(_command(commands, "merge", MERGE, _merge))
    add_compare(_command(commands, "compare", COMPARE, _compare))
    add_evaluate(_command(commands, "evaluate", EVALUATE, _evaluate))
    add_calibrate(_command(commands, "calibrate", CALIBRATE, _calibrate))
    add_adapt(_command(commands, "adapt", ADAPT, _adapt))
    add_predict(_command(commands, "predict", PREDICT, _predict))
    add_read(_command(commands, "read", READ, _read))
    add_score(_command(commands, "score", SCORE, _score))
    add_monitor(_command(commands, "monitor", MONITOR, _monitor))
    add_export(_command(commands, "export", EXPORT, _export))
    add_serve(_command(commands, "serve", SERVE, _serve))
    add_review(_command(commands, "review", REVIEW, _review))
    return parser


class _Version(argparse.Action):
    """Prints the version, and those of what it stands on, and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, *_: object, **__: object) -> None:
        installed = {name: _version_of(name) for name in STANDS_ON}
        stands_on = ", ".join(f"{name} {version}" for name, version in installed.items() if version)
        print(f"bnn {__version__} (Python {platform.python_version()}, {stands_on})")
        sys.exit(0)


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # of a group that is not installed
        return None


def _command(
    commands: Any, name: str, description: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def _train(arguments: argparse.Namespace) -> int:
    config = _config(choose(PRESETS, arguments.preset, "preset"), arguments)
    trainer_options = _trainer_options(arguments.trainer)

    from bnn.data.digits import LABELLED
    from bnn.training.summary import print_notebook_comparison, print_summary
    from bnn.training.train import train_command

    classifier = train_command(
        config,
        arguments.out,
        data_dir=arguments.data_dir,
        download=arguments.download,
        runs=arguments.runs,
        resume=arguments.resume,
        refit=arguments.refit,
        component=arguments.component,
        overwrite=arguments.overwrite,
        trainer_options=trainer_options,
    )
    if classifier is None:  # a rank of a distributed run that has nothing to say
        return 0
    print_summary(classifier, arguments.out)
    if arguments.preset.startswith("notebook") and config.data in LABELLED:
        print_notebook_comparison(classifier, arguments.data_dir)
    return bool(classifier.record["data"].get("left_out"))


def _merge(arguments: argparse.Namespace) -> int:
    from bnn.training.merge import merge_command
    from bnn.training.summary import print_summary

    merged = merge_command(
        arguments.checkpoints,
        arguments.out,
        data=arguments.data,
        data_dir=arguments.data_dir,
        download=arguments.download,
        overwrite=arguments.overwrite,
    )
    print_summary(merged, arguments.out)
    return 0


def _config(start: TrainConfig, arguments: argparse.Namespace) -> TrainConfig:
    """`start` with the fields that were given."""
    given = {f.name: getattr(arguments, f.name) for f in fields(TrainConfig) if hasattr(arguments, f.name)}
    return replace(start, **given)


def _compare(arguments: argparse.Namespace) -> int:
    config = _config(COMPARED, arguments)

    from bnn.cli.compare import compare_command

    return compare_command(
        config,
        arguments.guides,
        arguments.seeds,
        arguments.seconds,
        arguments.out,
        ood=arguments.out_of_distribution,
        limit=arguments.limit,
        data_dir=arguments.data_dir,
        download=arguments.download,
    )


def _trainer_options(extra: Sequence[str]) -> dict[str, Any]:
    """Options from `--trainer.NAME VALUE` and `--trainer.NAME=VALUE`; values are JSON, or words."""
    options: dict[str, Any] = {}
    words = [
        word for item in extra for word in (item.split("=", 1) if item.startswith("--trainer.") else [item])
    ]
    if len(words) % 2 or not all(word.startswith("--trainer.") for word in words[::2]):
        raise InputError(
            f"cannot make out {' '.join(extra)!r}: give Lightning's options as --trainer.NAME VALUE."
        )
    for flag, value in zip(words[::2], words[1::2], strict=True):
        try:
            options[flag.removeprefix("--trainer.")] = json.loads(value)
        except (ValueError, RecursionError):
            options[flag.removeprefix("--trainer.")] = value
    return options


def _classifier(arguments: argparse.Namespace) -> "Classifier":
    from bnn.classifier import ADAPTIVE, Classifier

    draws = None if arguments.draws == ADAPTIVE else arguments.draws
    classifier = Classifier.load(arguments.checkpoint, draws=draws)
    promise = _promise(arguments)
    if arguments.rule is None and not promise:
        return classifier
    return classifier.with_promise(rule=arguments.rule, **promise)


def _kind_of_draws(arguments: argparse.Namespace) -> str:
    """How the ensemble is asked: by all draws, however many, unless adaptive was named."""
    from bnn.classifier import ADAPTIVE, ALL

    return ADAPTIVE if arguments.draws == ADAPTIVE else ALL


def _promise(arguments: argparse.Namespace) -> dict[str, float]:
    """Those fields of a promise that were given."""
    given = {name: getattr(arguments, name) for name in PROMISES}
    return {name: value for name, value in given.items() if value is not None}


def _calibrate(arguments: argparse.Namespace) -> int:
    from bnn.cli.calibrate import calibrate_command

    return calibrate_command(
        arguments.checkpoint,
        _promise(arguments),
        rule=arguments.rule,
        digits=arguments.digits,
        out=arguments.out,
        data_dir=arguments.data_dir,
        download=arguments.download,
        overwrite=arguments.overwrite,
    )


def _adapt(arguments: argparse.Namespace) -> int:
    from bnn.cli.adapt import adapt_command

    return adapt_command(
        arguments.checkpoint,
        arguments.digits,
        arguments.out,
        _promise(arguments),
        rule=arguments.rule,
        held_out=arguments.held_out,
        beta=arguments.beta,
        seed=arguments.seed,
        data_dir=arguments.data_dir,
        download=arguments.download,
        overwrite=arguments.overwrite,
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    from bnn.cli.evaluate import evaluate_command

    return evaluate_command(
        _classifier(arguments),
        arguments.in_distribution,
        arguments.out_of_distribution,
        arguments.out,
        shifted=arguments.shifted,
        robustness=arguments.robustness,
        draws=_kind_of_draws(arguments),
        data_dir=arguments.data_dir,
        download=arguments.download,
        seed=arguments.seed,
        limit=arguments.limit,
        record=_checkpoint_file(arguments) if arguments.record else None,
        overwrite=arguments.overwrite,
    )


def _checkpoint_file(arguments: argparse.Namespace) -> Path:
    from bnn.core.checkpoint import shipped

    return arguments.checkpoint or shipped()


def _predict(arguments: argparse.Namespace) -> int:
    from bnn.cli.predict import predict_command

    return predict_command(
        _classifier(arguments),
        arguments.files,
        as_json=arguments.json,
        explain=arguments.explain,
        draws=_kind_of_draws(arguments),
    )


def _read(arguments: argparse.Namespace) -> int:
    from bnn.cli.read import read_command

    return read_command(
        _classifier(arguments),
        arguments.files,
        grid=arguments.grid,
        boxes=arguments.boxes,
        out=arguments.out,
        overwrite=arguments.overwrite,
    )


def _score(arguments: argparse.Namespace) -> int:
    from bnn.cli.score import score_command

    return score_command(
        partial(_classifier, arguments),
        arguments.checkpoint,
        arguments.images,
        arguments.out,
        draws=_kind_of_draws(arguments),
        chunk=arguments.chunk,
        engine=arguments.engine,
        workers=arguments.workers,
        address=arguments.address,
        share=arguments.share,
    )


def _monitor(arguments: argparse.Namespace) -> int:
    from bnn.classifier import Classifier
    from bnn.cli.monitor import monitor_command

    return monitor_command(
        Classifier.load(arguments.checkpoint),
        arguments.files,
        false_alarms=arguments.false_alarms,
        state=arguments.state,
        out=arguments.out,
        as_json=arguments.json,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )


def _review(arguments: argparse.Namespace) -> int:
    from bnn.cli.review import review_command

    return review_command(arguments.queue, out=arguments.out, deleting=arguments.delete)


def _export(arguments: argparse.Namespace) -> int:
    from bnn.cli.export import export_command

    return export_command(
        arguments.checkpoint,
        arguments.onnx,
        half=arguments.half,
        runtime=arguments.page,
        overwrite=arguments.overwrite,
    )


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.keep_days is not None and not (arguments.queue and arguments.keep_days > 0):
        raise InputError("--keep-days is a number of days above 0, for what --queue keeps.")
    import bnn.classifier  # noqa: F401  # here, for imports in two threads at once may wait for each other

    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(_classifier, arguments)  # while Gradio is imported, which takes seconds
        from bnn.app import Address, accounts_in, api_keys_in, launch

    address = Address(
        host=arguments.host,
        port=arguments.port,
        root_path=arguments.root_path,
        accounts=accounts_in(arguments.auth_file) if arguments.auth_file else (),
        api_keys=api_keys_in(arguments.api_keys) if arguments.api_keys else (),
        max_upload=arguments.max_upload * 10**6,
        proxies=arguments.proxy,
        names=arguments.name,
    )
    classifier = loading.result()
    with _queue(arguments, classifier) as queue:
        launch(classifier, address, queue, open_browser=arguments.open)
    return 0


@contextmanager
def _queue(arguments: argparse.Namespace, classifier: "Classifier") -> "Iterator[ReviewQueue | None]":
    """The queue that refused images may be kept in, if there is to be one."""
    if arguments.queue is None:
        yield None
        return
    from bnn.review.store import ReviewQueue

    days = arguments.keep_days
    retention = None if days is None else days * 86400
    with ReviewQueue.open(arguments.queue, classifier.task, retention=retention) as queue:
        queue.expire()
        yield queue
