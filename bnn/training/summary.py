"""What is printed after training: a short table, and the 2018 notebook's results beside ours."""

from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from bnn.classifier import Classifier
from bnn.data.digits import data_dir
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.numerals import percent
from bnn.progress import progress_bar
from bnn.tables import table

FORCED_DRAWS = 10  # the notebook forced an answer with 10 networks, and refused with 100
NOISE_IMAGES = 100


def print_summary(classifier: Classifier, out: Path) -> None:
    """Prints what was trained, how it does on the calibration images, and where it lies."""
    record = classifier.record
    components = len(classifier.posterior.components)
    config, data, measured = record["config"], record["data"], record["calibration"]
    title = f"Trained on {data['trained_on']} images, measured on {data['calibrated_on']} held out"
    title += f"; {data['kept_apart']} kept apart for testing" if data.get("kept_apart") else ""
    shown = table("what", "value", title=title)
    rows = {
        "accuracy when forced to answer": percent(measured["accuracy"]),
        "NLL (nats)": f"{measured['nll']:.4f}",
        f"answered by the {classifier.rule.name} rule": percent(measured["coverage"]),
        "errors among the answered": str(measured["errors_among_answered"]),
        "networks drawn": f"{len(classifier.ensemble)}, of {components} component(s)",
        "beta (weight of the KL term)": f"{config['beta']:g}",
        "seed": str(config["seed"]),
    }
    for row in rows.items():
        shown.add_row(*row)
    console = Console()
    console.print(shown)
    if classifier.rule.promise is None:
        console.print(classifier.rule.describe())
    training = record["training"]  # of a checkpoint that is fitted anew, which anyone may have made
    if training.get("interrupted"):
        console.print(
            f"The training was interrupted: this is {training.get('components_done')} of "
            f"{config['components']} components, after {training.get('epochs_done')} of {config['epochs']} "
            "epochs."
        )
    console.print(f"Wrote {out}. Next: `bnn serve --checkpoint {out}` or `bnn evaluate --checkpoint {out}`.")


def print_notebook_comparison(classifier: Classifier, root: Path | None) -> None:
    """Prints the 2018 notebook's four results beside this classifier's.

    The notebook's are measured on the test digits, on uniform noise and on 459 not-MNIST letters (in
    `notMNIST` under the data directory; without them that row says so).
    """
    letters = data_dir(root) / "notMNIST"
    test = ImageSet.from_name(classifier.record["config"]["data"], root)
    bar = progress_bar("judging the test digits")
    forced = classifier.with_draws(FORCED_DRAWS).evidence(test.images, bar)
    free = classifier.evidence(test.images, bar)
    answered = ~classifier.rule.refuses(free)
    right = classifier.rule.labels(free)[answered] == test.truth()[answered]
    noise = torch.rand(NOISE_IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(classifier.seed))
    rows = {
        f"accuracy when forced to answer ({FORCED_DRAWS} draws)": (
            percent(0.89),
            percent((forced.mean.argmax(-1) == test.truth()).double().mean().item(), ".1f"),
        ),
        f"answered / right when answered ({len(classifier.ensemble)} draws)": (
            f"{percent(0.875)} / {percent(0.96)}",
            " / ".join(percent(which.double().mean().item(), ".1f") for which in (answered, right)),
        ),
        "random noise refused": ("95 of 100", _refused(classifier, noise)),
        f"letters in {letters} refused": ("363 of 459", _letters_refused(classifier, letters)),
    }
    shown = table("measured on the test digits", "2018 notebook", "here", title="The notebook, reproduced")
    for what, numbers in rows.items():
        shown.add_row(Text(what), *numbers)
    Console().print(shown)


def _refused(classifier: Classifier, images: Tensor) -> str:
    return f"{int(classifier.rule.refuses(classifier.evidence(images)).sum())} of {len(images)}"


def _letters_refused(classifier: Classifier, folder: Path) -> str:
    try:
        return _refused(classifier, ImageSet.from_folder(folder).images)
    except InputError:
        return "no letters there"
