"""`bnn evaluate`: a report on thousands of images, as files and in short."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnn.classifier import ALL, Classifier
from bnn.cli.fresh import fresh_part
from bnn.core import checkpoint as checkpoint_file
from bnn.core.checkpoint import Checkpoint
from bnn.core.task import DIGITS
from bnn.data.copies import SEEN
from bnn.data.imageset import ImageSet, labelled_names
from bnn.errors import InputError, shown
from bnn.evaluation.evaluate import ROBUSTNESS, evaluate, recorded
from bnn.evaluation.printed import print_short
from bnn.evaluation.report import write_report
from bnn.files import require_free, require_writable


def evaluate_command(
    classifier: Classifier,
    in_distribution: str | None,
    out_of_distribution: Sequence[str],
    out: Path,
    *,
    shifted: Sequence[str] = (),
    robustness: int = ROBUSTNESS,
    draws: str = ALL,
    data_dir: Path | None = None,
    download: bool = False,
    seed: int = 0,
    limit: int | None = None,
    record: Path | None = None,
    overwrite: bool = False,
) -> bool:
    """`bnn evaluate`: writes the report to the folder `out` and prints its numbers in short.

    Args:
        classifier: to be judged.
        in_distribution, out_of_distribution, shifted: see `ImageSet.from_spec`; by default the
            in-distribution set is MNIST where the classes are digits.
        out: folder of the report; missing folders are made.
        robustness, draws: see `evaluate`.
        data_dir, download, seed, limit: see `ImageSet.from_name`.
        record: the classifier's checkpoint file, if it is to keep the numbers.
        overwrite: whether the report takes the place of one that is in `out` already.

    Returns:
        Whether some file could not be read.

    Raises:
        InputError: a set cannot be had, the report cannot be written or would replace another, or the
            numbers to be recorded are not those of the checkpoint as it is.
    """
    require_free(out / "report.json", overwrite=overwrite)
    seen = None if record is None else _as_it_is(classifier, record, draws)
    options: dict[str, Any] = {"task": classifier.task, "seed": seed, "download": download, "limit": limit}
    in_distribution = in_distribution or _learnt(classifier)
    sets = {
        "in_distribution": in_distribution,
        "out_of_distribution": list(out_of_distribution),
        "shifted": list(shifted),
    }
    report = evaluate(
        classifier,
        _fresh(classifier, in_distribution, data_dir, **options),
        [ImageSet.from_spec(spec, data_dir, labelled=False, **options) for spec in out_of_distribution],
        [_shifted(classifier, spec, data_dir, **options) for spec in shifted],
        robustness=robustness,
        draws=draws,
        seed=seed,
        settings={"sets": sets | {"limit": limit, "robustness": robustness, "seed": seed}},
    )
    write_report(report, out)
    if record is not None and seen is not None:
        checkpoint_file.update(record, seen, lambda present: recorded(present, report))
    print_short(report, out)
    return bool(report.unreadable)


def _learnt(classifier: Classifier) -> str:
    """What is judged where nothing is named."""
    if classifier.task.names == DIGITS.names and SEEN not in classifier.record:
        return "mnist"
    name = dict(classifier.record.get("data", {})).get("name", "images")
    if name in labelled_names(classifier.task):
        return str(name)
    raise InputError(
        f"it has learnt data of one's own ({shown(name)}): name with --in-distribution where they lie, or "
        "others of the same classes; what it has seen of them is left out."
    )


def _fresh(
    classifier: Classifier, spec: str, data_dir: Path | None, *, limit: int | None, seed: int, **options: Any
) -> ImageSet:
    """The labelled images that `spec` names, of which none was learnt; the limit is of what is left."""
    if SEEN not in classifier.record:
        return ImageSet.from_spec(spec, data_dir, labelled=True, limit=limit, seed=seed, **options)
    images = ImageSet.from_spec(spec, data_dir, labelled=True, seed=seed, **options)
    left = fresh_part(classifier, images)
    return left if limit is None else replace(left.part(limit, seed), unreadable=left.unreadable)


def _shifted(classifier: Classifier, spec: str, data_dir: Path | None, **options: Any) -> ImageSet:
    """All of a known set, but only the test part of the one that was learnt."""
    data = classifier.record.get("data")
    learnt = str(data.get("name")) if isinstance(data, Mapping) else ""
    part = "test" if spec.lower() == learnt.lower() else "all"  # as sets are named in any case
    return ImageSet.from_spec(spec, data_dir, labelled=True, part=part, **options)


def _as_it_is(classifier: Classifier, path: Path, draws: str) -> Checkpoint:
    """The checkpoint at `path`, of which `classifier` must not differ, nor be asked for fewer `draws`."""
    require_writable(path)
    saved = checkpoint_file.load(path)
    judged = (len(classifier.ensemble), classifier.seed, classifier.rule.to_dict())
    if draws != ALL or judged != (saved.draws, saved.seed, saved.rule):
        raise InputError(
            "only what the checkpoint does as it is can be recorded in it: leave out --record, or --draws, "
            "--rule and the rule's options."
        )
    return saved
