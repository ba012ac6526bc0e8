"""What each command takes: its help and its options. Nothing heavy is imported for them."""

import argparse
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bnn.rules.promise import PROMISES
from bnn.training.config import PRESETS, TrainConfig
from bnn.training.update import HELD_OUT, UPDATE

TRAIN = """\
Trains a Bayesian network, by stochastic variational inference unless --guide says otherwise, calibrates its
abstention rule on digits held out of training, and writes one checkpoint file.

  bnn train                                  MNIST, minutes on two cores (the preset "fast")
  bnn train --preset best                    a mixture of guides, as the checkpoint that ships: hours
  bnn train --data digits --risk 0.05 --alpha 0.02 --out digits.safetensors
                                             scikit-learn's digits: no download, under a minute
  bnn train --data FOLDER --risk 0.1 --alpha 0.05 --out mine.safetensors
                                             your own images: sub-folders are the classes (docs/own-data.md)
  bnn train --resume                         go on with the latest run after an interruption
  bnn train --preset notebook                the 2018 notebook, its results beside ours
  bnn train --preset best --component 3 --out 3.safetensors
                                             one of the six alone, as a job; `bnn merge` makes them one
  bnn train --trainer.devices 2 --trainer.strategy ddp

Ctrl-C ends the training and keeps the finished components, or else the best epoch of the first. Any
argument of Lightning's Trainer can be given as --trainer.NAME VALUE."""

MERGE = """\
Makes one checkpoint of components that were trained as separate jobs, on one machine or on many: the one that
`bnn train` would have written, had it trained them all. OOD scores and rule are fitted to all together.

  bnn train --preset best --component 1 --out 1.safetensors --runs runs/1
  bnn train --preset best --component 2 --out 2.safetensors --runs runs/2
  bnn merge 1.safetensors 2.safetensors --out both.safetensors

The images must be those that they were trained on."""

EVALUATE = """\
Runs labelled digits and images that are no digits through the classifier and writes a report:
report.html to read, report.json and decisions.csv to compute with, and the plots.

  bnn evaluate --in-distribution mnist --ood noise --out report
  bnn evaluate --in-distribution mnist --shifted digits --ood letters/ --ood KMNIST
  bnn evaluate --draws adaptive        in a third of the time, the same decisions but for rare exceptions"""

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

ADAPT = """\
Makes a checkpoint that answers more of the digits of one's own hand, by a Bayesian update: what the
checkpoint knows is the prior, and a few hundred labelled images are the data. It takes a minute or two.

  bnn adapt --digits mine/ --risk 0.05 --alpha 0.02 --out mine.safetensors   the checkpoint that ships
  bnn adapt letters.safetensors --digits letters/ --out mine.safetensors

The folder has a sub-folder for each class, 0 to 9, with some images in each: 300 to 1,000 in all do well. A
third of them is not learnt from: on these the rule is fitted, for which its promise then holds, and what
was gained is measured. The fewer they are, the less can be promised; by --risk and --alpha ask for that."""

PREDICT = """\
Prints for each image the digit, or "I don't know" and why.

  bnn predict photo.png scans/
  bnn predict --draws adaptive scans/      several times as fast, the same decisions but for rare exceptions
  bnn predict --json *.png > decisions.jsonl"""

SCORE = """\
Decides on any number of images and writes Parquet files, a row an image: its id, the decision or why there is
none, how sure that is, and of what cannot be read the reason.

  bnn score scans/ --out scores                       a folder, whatever lies in its sub-folders
  bnn score shards/*.tar --out scores --workers 4     tar archives, WebDataset's shards too
  bnn score digits.zip t10k-images-idx3-ubyte images.parquet --out scores
  bnn score s3://bucket/shards --out scores           a URL that fsspec knows, with its package installed
  bnn score shards/ --out scores --engine ray --address auto --workers 64
  bnn score shards/ --out scores --share 2/8          the second of 8 jobs, such as those of a SLURM array

Give the same command again after an interruption, and it goes on: what is written stays, and no image is
scored twice or left out. Other options, another checkpoint or other images need another folder. All at once:
pandas.read_parquet("scores"). docs/scaling.md has what it costs, and how to use many machines."""

READ = """\
Finds the digits of a number, a line, a form's field or a page, and decides on each: 4 ? 7 1 is what it
reads where one digit is refused. The number itself is answered only if every digit is; leading zeros are
kept.

  bnn read meter.png scans/
  bnn read --out digits.csv scans/*.png       a line a digit, with its place in the picture and its reason
  bnn read --out digits.jsonl scans/*.png     a line of JSON a picture
  bnn read --grid 10x20 sheet.png             a page of 10 rows of 20 cells, a digit or nothing in each
  bnn read --boxes boxes.csv form.png         cells anywhere: lines of left,top,right,bottom under these heads

Places are pixels of the picture, held upright: left, top, right, bottom, the last two exclusive."""

COMPARE = """\
Trains several posteriors of one network for the same time, and says which is best at what: accuracy and
calibration on images held out of the training, how many are answered under a promise, how well images of no
class are told apart (beside the scores that others use), and what a step, an image and a checkpoint cost.

  bnn compare --guides mean-field 5xmap swag --seconds 60 --seeds 0 1 2 --out compare
  bnn compare --data digits --network mlp --seconds 5 --risk 0.05 --alpha 0.02 --out small
  bnn compare --data FashionMNIST --ood KMNIST --ood noise --risk 0.1 --out fashion

First a few steps of each guide are measured; its schedule is then made for as many as --seconds of the
processor are enough for. What one seed holds out is the same for all guides, and no test image is looked at.

Each training is kept in --out as soon as it is measured. After Ctrl-C the same command goes on; with more
guides or seeds, it trains the new ones alone. comparison.md has the tables, comparison.svg the plot."""

MONITOR = """\
Says whether the images that come in are still like the digits that the checkpoint was calibrated on, for
which alone its promises hold. Files are taken in the order given, those of a folder by name.

  bnn monitor monday/                                  a table, and one sentence
  bnn monitor --state post.drift monday/               keeps where it stands in post.drift ...
  bnn monitor --state post.drift tuesday/              ... and goes on there, as if both were one run
  bnn monitor --json --out drift.png --overwrite scans/ > drift.jsonl

Each image's OOD score and entropy are ranked among those of the calibration digits and of all images before
it. Two tests bet that the ranks are not those of chance, and the evidence is by how much a stake has grown:
10^0 is where each begins. Where nothing has changed, one of them ever reaches the alarm with probability at
most --false-alarms, however many images come and however often it is looked at; so an alarm stays one. After
it, find out what changed; then `bnn calibrate --digits` or `bnn adapt`, and begin a new --state.

Exit status: 0 no alarm; 4 an alarm; 1 no alarm, but some files could not be used; 2 bad input."""

REVIEW = """\
Tells how far the review of refused images is, which `bnn serve --queue` collects for people to name.

  bnn review queue.sqlite
  bnn review queue.sqlite --out reviewed            folders of images by label, and labels.csv
  bnn review queue.sqlite --out done --delete reviewed
  bnn review postgresql://digits@db.local/digits    a queue that several machines share

In the new folder, `labelled` has a sub-folder for each class, and `no-digit` what is of none (`none`, where
classes are not the digits). Of a queue that was reviewed, `bnn calibrate --digits` and `bnn adapt --digits`
take the former directly."""

EXPORT = """\
Writes a checkpoint as ONNX, for programs in any language: into the folder go ensemble.onnx (the sampled
networks, the OOD scores and the rule: from images to label and reason), mean.onnx (the mean networks alone:
probabilities) and classifier.json (what a program has to know of them).

  bnn export --onnx portable                          the checkpoint that ships
  bnn export mine.safetensors --onnx portable --half  in half as many bytes
  bnn export --onnx site --half --page package        with a page that needs no server, index.html

The page draws, decides and explains in the visitor's browser, from files of this folder alone. It is run by
onnxruntime-web, whose npm package --page names: `npm pack onnxruntime-web@1.30.0`, unpacked.

Before anything is written, the graph is held against the original on generated images and on the evidence
of the calibration images. Where it is off by more than rounding, or decides otherwise, no file is written.
docs/browser.md has what the files hold, and what promise is left."""

SERVE = """\
Opens the page on which anyone can draw a digit and see the sampled networks vote.

  bnn serve
  bnn serve --port 8000 --checkpoint mine.safetensors
  bnn serve --queue queue.sqlite     refused images may be kept, and named under Review (docs/review.md)"""


# Where all trainings of a comparison start, with draws that cost less than a training, and what may differ.
COMPARED = replace(
    PRESETS["fast"], warm_start=0.0, draws=20, scores=("pixels", "entropy"), combination="fisher"
)
GUIDES = ["mean-field", "low-rank", "map", "5xmap", "mc-dropout", "swag", "laplace", "sghmc"]
COMPARED_BY = (
    "data",
    "layout",
    "network",
    "network_options",
    "estimator",
    "prior",
    "prior_scale",
    "beta",
    "kl_warmup",
    "batch_size",
    "lr",
    "schedule",
    "augment",
    "pens",
    "draws",
    "risk",
    "delta",
    "alpha",
)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, help="where data sets lie (default: BNN_DATA_DIR, else ./data)"
    )
    parser.add_argument("--download", action="store_true", help="fetch a missing data set from the network")


def _add_classifier(
    parser: argparse.ArgumentParser, *, adaptive: bool = False, default: str | None = None
) -> None:
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint file (default: the one that ships)")
    also = ", or adaptive: a few at a time until the decision stands" if adaptive else ""
    usual = default or "the checkpoint's"
    parser.add_argument(
        "--draws",
        type=_draws if adaptive else int,
        default=default,
        help=f"networks in the ensemble{also} (default: {usual})",
    )
    _add_rule(parser)


def _draws(text: str) -> int | str:
    try:
        return text if text == "adaptive" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a number, or adaptive, not {text!r}") from None


def _add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        help="abstention rule: calibrated, entropy, confidence or median (default: the checkpoint's)",
    )
    for name in PROMISES:
        text = TrainConfig.__dataclass_fields__[name].metadata["help"]
        parser.add_argument(f"--{name}", type=float, help=f"{text} (default: the checkpoint's)")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is already where --out says")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn train`."""
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
    parser.add_argument(
        "--refit",
        type=Path,
        metavar="CHECKPOINT",
        help="keep the posterior of this checkpoint, of the same preset and options, and fit only its OOD "
        "scores and its rule anew, to the same digits",
    )
    parser.add_argument(
        "--component",
        type=int,
        metavar="K",
        help="train only the K-th component, from 1, for `bnn merge` (default: all --components)",
    )
    _add_data(parser)
    group = parser.add_argument_group("training", "defaults are those of the preset fast")
    _add_fields(group, [field.name for field in fields(TrainConfig)], PRESETS["fast"])


def _add_fields(group: Any, names: Sequence[str], start: TrainConfig) -> None:
    """Adds the fields of `TrainConfig` called `names`; their defaults are shown, and left to the command."""
    hints = typing.get_type_hints(TrainConfig)
    for name in names:
        default = getattr(start, name)
        shown = "" if default is None or default == {} else f" (default: {default})"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            help=TrainConfig.__dataclass_fields__[name].metadata["help"].replace("%", "%%") + shown,
            default=argparse.SUPPRESS,
            **_parsing(hints[name]),
        )


def _parsing(hint: Any) -> dict[str, Any]:
    """How argparse reads an option of the type `hint`."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(hint, types.UnionType):  # float | None
        return {"type": hint.__args__[0]}
    return {"type": hint if hint in (int, float, str) else json.loads}


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn evaluate`."""
    parser.add_argument(
        "--in-distribution",
        metavar="SET",
        help="labelled images like those it learnt: a set by name, or your own as for `bnn train`, such as a "
        "folder with sub-folders 0 to 9 (default: mnist)",
    )
    parser.add_argument(
        "--out-of-distribution",
        "--ood",
        action="append",
        default=[],
        metavar="SET",
        help="not digits: a folder of images, a torchvision set by name, capitals, small-letters or doodles "
        "as drawn on the page, or noise; may be given again",
    )
    parser.add_argument(
        "--shifted",
        action="append",
        default=[],
        metavar="SET",
        help="digits in other handwriting: mnist, digits, drawn, or a folder as above; or mnist-c, which are "
        "corrupted in 15 ways; may be given again",
    )
    parser.add_argument(
        "--robustness",
        type=int,
        default=500,
        metavar="N",
        help="digits that are corrupted (blurred, moved and so on), in 35 ways (default: %(default)s)",
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
    _add_classifier(parser, adaptive=True)


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn merge`."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help="a checkpoint of `bnn train --component`",
    )
    parser.add_argument("--out", type=Path, required=True, help="where the result goes")
    _add_overwrite(parser)
    parser.add_argument(
        "--data", help="the images, where they are your own (default: the set that they were trained on)"
    )
    _add_data(parser)


def _add_start(parser: argparse.ArgumentParser) -> None:
    """Adds the checkpoint that another is made of."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        nargs="?",
        metavar="CHECKPOINT",
        help="the checkpoint file (default: the one that ships)",
    )


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn compare`."""
    parser.add_argument(
        "--guides",
        nargs="+",
        default=GUIDES,
        metavar="GUIDE",
        help="posteriors, as `bnn train --guide` has them; 5xmap is five components of map, each with a "
        f"fifth of the seconds, mixed in equal parts: a deep ensemble (default: {' '.join(GUIDES)})",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        metavar="SEED",
        help="each of the images held out, the start, the noise and the draws (default: 0 1 2)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="of the processor, for each training, with what its guide does at the end (default: 60)",
    )
    parser.add_argument(
        "--out-of-distribution",
        "--ood",
        action="append",
        default=[],
        metavar="SET",
        help="images of no class, as for `bnn evaluate`; may be given again (default: the generated ones)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="images of each of these sets at most")
    parser.add_argument(
        "--out", type=Path, default=Path("compare"), help="folder for all of it (default: %(default)s)"
    )
    _add_data(parser)
    group = parser.add_argument_group(
        "training", "the same for all; whatever else `bnn train` takes is as in its preset fast"
    )
    _add_fields(group, COMPARED_BY, COMPARED)


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn calibrate`."""
    _add_start(parser)
    parser.add_argument(
        "--out", type=Path, help="where the result goes (default: CHECKPOINT itself, with --overwrite)"
    )
    _add_overwrite(parser)
    parser.add_argument(
        "--digits",
        metavar="SET",
        help="calibrate on these digits, which it was not trained on: a folder with sub-folders 0 to 9, a "
        "queue that was reviewed, or the test part of mnist or digits (default: those held out of its "
        "training)",
    )
    _add_data(parser)
    _add_rule(parser)


def add_adapt(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn adapt`."""
    _add_start(parser)
    parser.add_argument(
        "--digits",
        required=True,
        metavar="SET",
        help="adapt to these digits, which it was not trained on: a folder with sub-folders 0 to 9, a queue "
        "that was reviewed, or the test part of mnist or digits",
    )
    parser.add_argument("--out", type=Path, required=True, help="where the result goes")
    _add_overwrite(parser)
    parser.add_argument(
        "--held-out",
        type=float,
        default=HELD_OUT,
        metavar="SHARE",
        help="share of the digits that is calibrated and measured on, not learnt from (default: a third)",
    )
    parser.add_argument(
        "--beta",
        type=float,
        default=UPDATE.beta,
        help="weight of the prior: more keeps more of what it learnt before (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the digits held out, and all noise (default: %(default)s)"
    )
    _add_data(parser)
    _add_rule(parser)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn predict`."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an image, or a folder of images")
    parser.add_argument("--json", action="store_true", help="one line of JSON an image instead of a table")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="write a figure an image there: the picture, its ink and parts, and what the network saw",
    )
    _add_classifier(parser, adaptive=True)


def add_score(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn score`."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="an image, a zip, tar (.tar.gz too), IDX or Parquet file, a folder of any of these, or a URL",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the scores")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="of a thread each (default: %(default)s)"
    )
    parser.add_argument(
        "--engine",
        default="processes",
        help="who they are: processes of this machine, or ray (default: %(default)s)",
    )
    parser.add_argument("--address", help="of a Ray cluster (default: one on this machine, while it runs)")
    parser.add_argument(
        "--share",
        metavar="K/N",
        help="do the K-th of N shares, K from 1; others do the rest in the same folder (default: all of it)",
    )
    parser.add_argument(
        "--chunk",
        type=int,
        default=1000,
        metavar="N",
        help="images of a part file, which is what a kill may cost; 10,000 for many millions (default: "
        "%(default)s)",
    )
    _add_classifier(parser, adaptive=True, default="adaptive")


def add_read(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn read`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a picture, or a folder of pictures"
    )
    parser.add_argument(
        "--grid",
        metavar="ROWSxCOLUMNS",
        help="the page is ruled into so many cells (default: digits are found)",
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="CSV", help="a file of the cells' places (default: digits are found)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="write the digits here, by its ending as .csv or as .jsonl (default: not at all)",
    )
    _add_overwrite(parser)
    _add_classifier(parser)


def add_monitor(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn monitor`."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an image, or a folder of images")
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="go on from this file, and keep there where it then stands"
    )
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="probability that there is ever an alarm where nothing has changed (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON an image instead of a table")
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw the evidence and the refusals here")
    _add_overwrite(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the numbers that break ties (default: %(default)s)"
    )
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint file (default: the one that ships)")


def add_review(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn review`."""
    parser.add_argument("queue", metavar="QUEUE", help="a file, or a URL of PostgreSQL")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write what was reviewed into a new folder"
    )
    parser.add_argument(
        "--delete",
        metavar="WHAT",
        help="delete images for good: those that were reviewed, or all (default: none)",
    )


def add_export(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn export`."""
    _add_start(parser)
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="FOLDER", help="where the files go; it is made if need be"
    )
    parser.add_argument(
        "--half", action="store_true", help="store weights in half precision, with a wider tolerance"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="PACKAGE",
        help="add a page that any web server can show; the unpacked npm package onnxruntime-web runs it "
        "(default: no page)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there from an earlier export"
    )


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `bnn serve`."""
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
        "--proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="IP address, or network, of a reverse proxy that is believed where visitors see the page; may "
        "be given several times (default: none is)",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="host name by which visitors reach the page without a proxy; may be given several times "
        "(default: this machine's own)",
    )
    parser.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="ask for a password: a text file of lines user:password (default: everybody is let in)",
    )
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="ask programs for a key: a text file of lines name:key (default: every program is let in, or, "
        "with --auth-file, none)",
    )
    parser.add_argument(
        "--max-upload",
        type=int,
        default=50,
        metavar="MB",
        help="size of all the files that a visitor uploads at once (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        nargs="?",
        const="queue.sqlite",
        metavar="FILE",
        help="let visitors keep refused images for review: in this file, or PostgreSQL's database at this "
        "URL (default: nothing is kept; without FILE: queue.sqlite)",
    )
    parser.add_argument(
        "--keep-days",
        type=float,
        metavar="DAYS",
        help="delete what has been in the queue for so long (default: it stays until it is deleted)",
    )
    _add_classifier(parser)
