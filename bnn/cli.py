"""The `bnn` command. A wing is imported only when its command runs."""

import argparse
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import InputError, choose
from bnn.learn.config import PRESETS, TrainConfig
from bnn.wishes import Wishes

if TYPE_CHECKING:
    from bnn.decide import Classifier

DESCRIPTION = """\
A Bayesian handwritten-digit classifier that says "I don't know".

  bnn serve      open the drawing page in a browser
  bnn predict    decide on image files
  bnn evaluate   report on thousands of images, digits and not digits
  bnn calibrate  ask for other promises of a checkpoint, without training
  bnn train      train a Bayesian network and write its checkpoint

`bnn COMMAND --help` explains each."""

TRAIN = """\
Trains a Bayesian network by stochastic variational inference, calibrates its abstention rule on digits
held out of training, and writes one checkpoint file.

  bnn train                                  MNIST, minutes on two cores (the preset "fast")
  bnn train --preset best                    a mixture of guides, as the checkpoint that ships: hours
  bnn train --data digits --risk 0.05 --alpha 0.02 --out digits.safetensors
                                             scikit-learn's digits: no download, under a minute
  bnn train --resume                         go on with the latest run after an interruption
  bnn train --preset notebook                the 2018 notebook, its results beside ours
  bnn train --trainer.devices 2 --trainer.strategy ddp

Ctrl-C ends the training and keeps the finished components, or else the best epoch of the first. Any
argument of Lightning's Trainer can be given as --trainer.NAME VALUE."""

EVALUATE = """\
Runs labelled digits and images that are no digits through the classifier and writes a report:
report.html to read, report.json and decisions.csv to compute with, and the plots.

  bnn evaluate --familiar mnist --unfamiliar noise --out report
  bnn evaluate --familiar mnist --elsewhere digits --unfamiliar letters/ --unfamiliar KMNIST"""

CALIBRATE = """\
Fits the abstention rule of a checkpoint anew, without training. The calibrated rule promises, for digits
like those it is calibrated on:

  --alpha   at most this share of digits is refused as unfamiliar;
  --risk    at most this share of the answers is wrong, unless the calibration digits mislead,
  --delta   which they do with at most this probability.

  bnn calibrate --risk 0.005 --out strict.safetensors                   the checkpoint that ships
  bnn calibrate mine.safetensors --digits digits/ --out ours.safetensors
  bnn calibrate mine.safetensors --alpha 0.01 --overwrite

What cannot be promised is refused with what can, and no file is written then."""

PREDICT = """\
Prints for each image the digit, or "I don't know" and why.

  bnn predict photo.png scans/
  bnn predict --json *.png > decisions.jsonl"""

SERVE = """\
Opens the page on which anyone can draw a digit and see the sampled networks vote.

  bnn serve
  bnn serve --port 8000 --checkpoint mine.safetensors"""

BAD_INPUT, INTERRUPTED = 2, 130  # exit statuses
GROUPS = {  # what pyproject.toml's optional groups bring, by the name it is imported by
    "gradio": "page",
    "pyro": "train",
    "pytorch_lightning": "train",
    "jinja2": "evaluate",
    "matplotlib": "evaluate",
    "sklearn": "evaluate",
    "torchvision": "evaluate",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: the process's arguments) and returns its exit status.

    0: all done; 1: done, but some files could not be read; 2: bad input, told in one sentence.
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
        return int(arguments.run(arguments))
    except InputError as error:
        print(f"bnn: {error}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name not in GROUPS:
            raise
        print(f"bnn: {_how_to_install(error.name)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("bnn: interrupted.", file=sys.stderr)
        return INTERRUPTED


def _how_to_install(module: str) -> str:
    return (
        f"this needs {module}, which is not installed: in the project's folder, run `make install`, or "
        f"`python -m pip install --constraint constraints.txt --editable '.[{GROUPS[module]}]'`."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bnn", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(_command(commands, "train", TRAIN, _train))
    _add_evaluate(_command(commands, "evaluate", EVALUATE, _evaluate))
    _add_calibrate(_command(commands, "calibrate", CALIBRATE, _calibrate))
    _add_predict(_command(commands, "predict", PREDICT, _predict))
    _add_serve(_command(commands, "serve", SERVE, _serve))
    return parser


def _command(
    commands: Any, name: str, description: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, help="where data sets lie (default: BNN_DATA_DIR, else ./data)"
    )
    parser.add_argument("--download", action="store_true", help="fetch a missing data set from the network")


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint file (default: the one that ships)")
    parser.add_argument("--draws", type=int, help="networks in the ensemble (default: the checkpoint's)")
    _add_rule(parser)


def _add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        help="abstention rule: calibrated, entropy, confidence or median (default: the checkpoint's)",
    )
    for field in fields(Wishes):
        text = TrainConfig.__dataclass_fields__[field.name].metadata["help"]
        parser.add_argument(f"--{field.name}", type=float, help=f"{text} (default: the checkpoint's)")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is already where --out says")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", default="fast", help=f"where the other options start: {', '.join(PRESETS)}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("mnist.safetensors"),
        help="checkpoint to write (default: %(default)s)",
    )
    _add_overwrite(parser)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of logs (default: %(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the latest run under --runs")
    _add_data(parser)
    hints = typing.get_type_hints(TrainConfig)
    group = parser.add_argument_group("training", "defaults are those of the preset fast")
    for field in fields(TrainConfig):
        default = getattr(PRESETS["fast"], field.name)
        shown = "" if default is None or default == {} else f" (default: {default})"
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            help=field.metadata["help"].replace("%", "%%") + shown,
            default=argparse.SUPPRESS,
            **_parsing(hints[field.name]),
        )


def _parsing(hint: Any) -> dict[str, Any]:
    """How argparse reads an option of the type `hint`."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(hint, types.UnionType):  # float | None
        return {"type": hint.__args__[0]}
    return {"type": hint if hint in (int, float, str) else json.loads}


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--familiar", default="mnist", help="digits: mnist, digits, or a folder with sub-folders 0 to 9"
    )
    parser.add_argument(
        "--unfamiliar",
        action="append",
        default=[],
        metavar="SET",
        help="not digits: a folder of images, a torchvision set by name, or noise; may be given again",
    )
    parser.add_argument(
        "--elsewhere",
        action="append",
        default=[],
        metavar="SET",
        help="digits in other handwriting: mnist, digits, or a folder as above; may be given again",
    )
    parser.add_argument(
        "--robustness",
        type=int,
        default=500,
        metavar="N",
        help="digits that are blurred, shifted and so on, in 35 ways (default: %(default)s; 0: none)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="folder for the report (default: %(default)s)"
    )
    _add_overwrite(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="of noise, corruptions, re-splits (default: %(default)s)"
    )
    parser.add_argument("--limit", type=int, help="judge only so many images of each set")
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep the numbers in the checkpoint file too, for the page's card to show",
    )
    _add_data(parser)
    _add_classifier(parser)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        nargs="?",
        metavar="CHECKPOINT",
        help="the checkpoint file (default: the one that ships)",
    )
    parser.add_argument(
        "--out", type=Path, help="where the result goes (default: CHECKPOINT itself, with --overwrite)"
    )
    _add_overwrite(parser)
    parser.add_argument(
        "--digits",
        metavar="SET",
        help="calibrate on these digits, which it was not trained on: a folder with sub-folders 0 to 9, or "
        "the test part of mnist or digits (default: those held out of its training)",
    )
    _add_data(parser)
    _add_rule(parser)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an image, or a folder of images")
    parser.add_argument("--json", action="store_true", help="one line of JSON an image instead of a table")
    _add_classifier(parser)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="where a reverse proxy shows the page, such as /digits (default: at the top)",
    )
    parser.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="ask for a password: a text file of lines user:password (default: everybody is let in)",
    )
    parser.add_argument(
        "--max-upload",
        type=int,
        default=50,
        metavar="MB",
        help="size of all the files that a visitor uploads at once (default: %(default)s)",
    )
    _add_classifier(parser)


def _train(arguments: argparse.Namespace) -> int:
    preset = choose(PRESETS, arguments.preset, "preset")
    given = {f.name: getattr(arguments, f.name) for f in fields(TrainConfig) if hasattr(arguments, f.name)}
    config = replace(preset, **given)
    trainer_options = _trainer_options(arguments.trainer)

    from bnn.learn.summary import print_notebook_comparison, print_summary
    from bnn.learn.training import train

    checkpoint = train(
        config,
        arguments.out,
        data_dir=arguments.data_dir,
        download=arguments.download,
        runs=arguments.runs,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        trainer_options=trainer_options,
    )
    if checkpoint is None:  # a rank of a distributed run that has nothing to say
        return 0
    print_summary(checkpoint, arguments.out)
    if arguments.preset.startswith("notebook"):
        print_notebook_comparison(checkpoint, arguments.data_dir)
    return 0


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
        except ValueError:
            options[flag.removeprefix("--trainer.")] = value
    return options


def _classifier(arguments: argparse.Namespace) -> "Classifier":
    from bnn.decide import Classifier
    from bnn.decide.rules import fit_rule

    classifier = Classifier.load(arguments.checkpoint, draws=arguments.draws)
    wishes = _wishes(arguments)
    if arguments.rule is None and not wishes:
        return classifier
    name = arguments.rule or classifier.rule.name
    return classifier.with_rule(fit_rule(name, classifier.calibration, replace(classifier.wishes, **wishes)))


def _wishes(arguments: argparse.Namespace) -> dict[str, float]:
    """Those of a rule's wishes that were given."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Wishes)}
    return {name: value for name, value in given.items() if value is not None}


def _calibrate(arguments: argparse.Namespace) -> int:
    from bnn.judge.calibrate import calibrate_command

    return calibrate_command(
        arguments.checkpoint,
        _wishes(arguments),
        rule=arguments.rule,
        digits=arguments.digits,
        out=arguments.out,
        data_dir=arguments.data_dir,
        download=arguments.download,
        overwrite=arguments.overwrite,
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    from bnn.judge.evaluate import evaluate_command

    return evaluate_command(
        _classifier(arguments),
        arguments.familiar,
        arguments.unfamiliar,
        arguments.out,
        elsewhere=arguments.elsewhere,
        robustness=arguments.robustness,
        data_dir=arguments.data_dir,
        download=arguments.download,
        seed=arguments.seed,
        limit=arguments.limit,
        record=_checkpoint_file(arguments) if arguments.record else None,
        overwrite=arguments.overwrite,
    )


def _checkpoint_file(arguments: argparse.Namespace) -> Path:
    from bnn.checkpoint import shipped

    return arguments.checkpoint or shipped()


def _predict(arguments: argparse.Namespace) -> int:
    from bnn.judge.predict import predict_command

    return predict_command(_classifier(arguments), arguments.files, as_json=arguments.json)


def _serve(arguments: argparse.Namespace) -> int:
    from bnn.page import Address, accounts_in, launch

    address = Address(
        host=arguments.host,
        port=arguments.port,
        root_path=arguments.root_path,
        accounts=accounts_in(arguments.auth_file) if arguments.auth_file else (),
        max_upload=arguments.max_upload * 10**6,
    )
    launch(_classifier(arguments), address, open_browser=arguments.open)
    return 0
