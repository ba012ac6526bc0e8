"""Whether images are fresh to a checkpoint: of what it learnt it is surer than it should be."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bnn.classifier import Classifier
from bnn.data.copies import SEEN, marked, require_unknown
from bnn.data.digits import LABELLED
from bnn.data.imageset import ImageSet
from bnn.data.own import without_copies
from bnn.errors import InputError


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
