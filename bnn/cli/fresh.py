"""Whether images are fresh to a checkpoint: of what it learnt it is surer than it should be."""

from collections.abc import Mapping
from pathlib import Path

from bnn.classifier import Classifier
from bnn.data.copies import require_unknown
from bnn.data.digits import LABELLED
from bnn.data.imageset import ImageSet
from bnn.errors import InputError


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
