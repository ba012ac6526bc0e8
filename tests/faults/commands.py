"""The commands that write, on scikit-learn's digits and as small as can be, for `kills.py` to strike."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnn.core.task import DIGITS
from bnn.review.entries import Refusal
from bnn.review.store import ReviewQueue

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import digits, named, zipped

TINY = "tiny.safetensors"
NUMBER = Path(__file__).parents[2] / "docs" / "number.png"
_NETWORK = ("--data=digits", "--network=mlp", '--network-options={"hidden": 8}')
_FITTED = (
    "--draws=5",
    "--rule=entropy",
    '--scores=["entropy"]',
    "--refuse=0.2",
    "--trainer.enable_progress_bar=false",
)
_TRAIN = ("train", *_NETWORK, *_FITTED, "--epochs=2", "--components=2")

Tree = Mapping[str, bytes]  # the content of each file, by its path


@dataclass(frozen=True)
class Command:
    """A command that writes, given in the folder that `prepared` has made.

    Attributes:
        words: of the command line.
        share: how often it is killed, among all: the less the longer it takes.
        imports: what it imports as it runs, and is imported once for all.
        resumes: whether it goes on by --resume, where there is something to go on from.
        logs: folders of which the files may differ from run to run, and only their names are held.
        measures: whether it writes how long something took, so that no two runs are alike.
    """

    words: Sequence[str]
    share: int
    imports: Sequence[str]
    resumes: bool = False
    logs: Sequence[str] = ()
    measures: bool = False


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        [*_TRAIN, "--out=trained.safetensors", "--runs=runs"],
        share=14,
        imports=["bnn.training.train", "bnn.training.summary"],
        resumes=True,
        logs=["runs"],
    ),
    "component": Command(
        [*_TRAIN, "--out=second.safetensors", "--runs=runs", "--component=2"],
        share=6,
        imports=["bnn.training.train", "bnn.training.summary"],
        resumes=True,
        logs=["runs"],
    ),
    "merge": Command(
        ["merge", "1.safetensors", "2.safetensors", "--out=both.safetensors"],
        share=5,
        imports=["bnn.training.merge", "bnn.training.summary"],
    ),
    "adapt": Command(
        ["adapt", TINY, "--digits=digits", "--rule=entropy", "--refuse=0.2", "--out=adapted.safetensors"],
        share=2,
        imports=["bnn.cli.adapt"],
    ),
    "calibrate": Command(
        ["calibrate", TINY, "--refuse=0.3", "--overwrite"], share=6, imports=["bnn.cli.calibrate"]
    ),
    "calibrate anew": Command(
        ["calibrate", TINY, "--digits=digits", "--refuse=0.3", "--out=calibrated.safetensors"],
        share=4,
        imports=["bnn.cli.calibrate", "sklearn.datasets"],
    ),
    "evaluate": Command(
        [
            *("evaluate", "--in-distribution=digits", "--ood=noise", "--limit=30", "--robustness=5"),
            *("--record", "--checkpoint", TINY, "--out=report"),
        ],
        share=6,
        imports=["bnn.cli.evaluate", "matplotlib.backends.backend_svg"],
    ),
    "score": Command(
        ["score", "images.zip", "--chunk=3", "--checkpoint", TINY, "--out=scores"],
        share=8,
        imports=["bnn.cli.score", "pandas"],
    ),
    "read": Command(
        ["read", "number.png", "--checkpoint", TINY, "--out=digits.csv"], share=3, imports=["bnn.cli.read"]
    ),
    "review": Command(["review", "queue.sqlite", "--out=reviewed"], share=4, imports=["bnn.cli.review"]),
    "export": Command(
        ["export", TINY, "--onnx=portable"],
        share=1,
        imports=["bnn.cli.export", "onnx", "onnxruntime", "onnxscript"],
    ),
    "compare": Command(
        [
            *("compare", *_NETWORK, "--guides", "map", "mean-field", "--seeds=0", "--seconds=0.5"),
            *("--limit=20", "--draws=5", "--risk=0.3", "--alpha=0.1", "--out=compared"),
        ],
        share=1,
        imports=["bnn.cli.compare"],
        measures=True,
    ),
}


def prepared(folder: Path, run: Callable[[Sequence[str]], int]) -> None:
    """Makes what the commands read, in a folder; `run` does a command there and gives its exit status."""
    for out, words in (
        (TINY, ()),
        ("1.safetensors", ("--component=1",)),
        ("2.safetensors", ("--component=2",)),
    ):
        status = run([*_TRAIN, f"--out={out}", f"--runs=runs-{out}", *words])
        assert status == 0, f"{out} could not be trained"
    images = digits(10)
    (folder / "images.zip").write_bytes(zipped(named(images)))
    (folder / "number.png").write_bytes(NUMBER.read_bytes())
    votes = np.full((2, 10), 0.1, np.float16)
    refusals = [Refusal(f"{number}.png", one, votes, 0.5, "ambiguous") for number, one in enumerate(images)]
    with ReviewQueue.open(str(folder / "queue.sqlite"), DIGITS, clock=lambda: 0.0) as queue:
        queue.add(refusals)
        while entry := queue.take("reviewer"):
            queue.label("reviewer", entry.number, entry.number % 10)


def tree(folder: Path) -> Tree:
    """The content of each file under `folder`; of a folder that is empty, nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() or path.is_symlink():
            found[name] = path.read_bytes()
        elif path.is_dir() and not any(path.iterdir()):
            found[name + os.sep] = b""
    return found
