"""Digits of one's own for a checkpoint: where they are from, and whether they are fresh to it.

Of what it learnt it is surer than it should be.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnn.classifier import Classifier
from bnn.core.task import Task
from bnn.data.copies import SEEN, marked, require_unknown
from bnn.data.digits import LABELLED
from bnn.data.imageset import ImageSet
from bnn.data.own import without_copies
from bnn.errors import InputError


def fresh_digits(classifier: Classifier, digits: str, data_dir: Path | None, *, download: bool) -> ImageSet:
    """The labelled images that `digits` names, none of which the checkpoint learnt.

    Args:
        classifier: of the checkpoint.
        digits: see `ImageSet.from_spec`; or a queue of reviewed images, of which those of a class are taken.
        data_dir, download: see `ImageSet.from_name`.

    Raises:
        InputError: there are no such images, they cannot be used, or some were learnt.
    """
    if _is_queue(digits):
        images = _reviewed(digits, classifier.task)
    else:
        images = ImageSet.from_spec(digits, data_dir, labelled=True, task=classifier.task, download=download)
    images = fresh_part(classifier, images)
    require_fresh(classifier, images, data_dir)
    return images


def _is_queue(spec: str) -> bool:
    """Whether `spec` names a database; a folder, a table or a set needs no package to be told from one."""
    if "://" not in spec and not Path(spec).is_file():
        return False
    from bnn.review.database import is_database

    return is_database(spec)


def _reviewed(where: str, task: Task) -> ImageSet:
    from bnn.review.database import shown
    from bnn.review.entries import NO_DIGIT
    from bnn.review.store import ReviewQueue

    with ReviewQueue.open(where, task, writes=False) as queue:
        of_a_class = [one for one in queue.reviewed() if one.label != NO_DIGIT]
    name = f"the queue {shown(where)}"
    if not of_a_class:
        raise InputError(f"{name} has no image of a class: review some first (bnn serve --queue).")
    images = np.stack([one.image for one in of_a_class])
    found = ImageSet.from_arrays(images, [one.label for one in of_a_class], name=name, task=task)
    return replace(found, sources=[f"{one.number}" for one in of_a_class])


def fresh_part(classifier: Classifier, images: ImageSet) -> ImageSet:
    """Those of `images` that the checkpoint was not made on, each once, where that was on data of one's own.

    How many are left out is said on standard error: of a folder that was learnt, what is left is its part for
    testing.

    Raises:
        InputError: none is left.
    """
    if SEEN not in classifier.record:
        return images
    seen = marked(images.images, classifier.record[SEEN])
    if seen.all():
        raise InputError(f"all images of {images.name} were learnt or calibrated on: give others.")
    if seen.any():
        print(
            f"bnn: {seen.sum():,} of {len(images):,} images of {images.name} were learnt or calibrated on, "
            "and are left out.",
            file=sys.stderr,
        )
    return without_copies(replace(images[~seen], unreadable=images.unreadable))


def require_fresh(classifier: Classifier, images: ImageSet, data_dir: Path | None) -> None:
    """Checks that `images` were not learnt, where those that were can be had to be compared.

    Raises:
        InputError: some were.
    """
    data, config = (classifier.record.get(name) for name in ("data", "config"))
    if not (isinstance(data, Mapping) and isinstance(config, Mapping)):
        return
    name = data.get("name")
    if not isinstance(name, str) or name not in LABELLED:
        return
    try:
        known = ImageSet.from_name(name, data_dir, part="train")
    except InputError:  # not on this machine
        return
    if known.fingerprint() == data.get("fingerprint") and isinstance(config.get("seed"), int):
        learnt, _ = known.split_calibration(config["seed"])
        require_unknown(images.images, learnt.images)
