"""`bnn compare`: several posteriors of one network, trained at equal cost, in one table."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bnn import __version__
from bnn.core.features import Features
from bnn.data.generated import GENERATED
from bnn.data.imageset import ImageSet
from bnn.errors import InputError, shown
from bnn.evaluation.comparison import (
    QUALITY,
    Posed,
    Row,
    by_guide,
    measure,
    plot,
    report,
    spread,
    verdict,
    written,
)
from bnn.files import held, require_writable, written_whole
from bnn.ood.scores import PixelDensity
from bnn.progress import duration
from bnn.rules.calibrated import CalibratedRule
from bnn.tables import table
from bnn.training.config import TrainConfig
from bnn.training.cost import configured_as, costs_of, fit_in_steps, planned
from bnn.training.datamodule import TrainingData
from bnn.training.train import Lesson, lesson_of, name_of, require_trainable

ENDLESS = 10**6  # epochs: how many steps there are is known when one has been measured
PLAN, ROWS, RESULT = "plan.json", "rows", "comparison"
VARY = ("guide", "seed", "epochs")  # from row to row
SHORT = [column for column in QUALITY if column.head.startswith(("accuracy", "NLL", "ECE", "answered"))]


def compare_command(
    config: TrainConfig,
    guides: Sequence[str],
    seeds: Sequence[int],
    seconds: float,
    out: Path,
    *,
    ood: Sequence[str] = (),
    limit: int | None = None,
    data_dir: Path | None = None,
    download: bool = False,
) -> bool:
    """Trains each of `guides` with each of `seeds` for so many `seconds`, and writes the tables to `out`.

    What a step of a guide costs is measured first, and kept with its number of steps. Each row is kept as
    soon as it is measured; what is there already is not trained again.

    Args:
        config: what is the same for all.
        guides, seeds: what varies; a guide of several components as in 5xmap.
        seconds: of the processor, for each training, with all its components.
        out: folder of the plan, the rows and the tables.
        ood: sets that need not show any class, see `ImageSet.from_spec`; by default all generated ones.
        limit: images of each of these at most.
        data_dir, download: see `ImageSet.from_name`.

    Returns:
        Whether some image could not be used; they are listed on standard error.

    Raises:
        InputError: an option cannot be used, or `out` holds a comparison with other options.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"--seconds must be a number above 0, and {seconds:g} is not.")
    _require_each_once(guides, "guides")
    _require_each_once(seeds, "seeds")
    spec, config = config.data, replace(config, data=name_of(config.data))
    lesson = lesson_of(spec, config, data_dir, download)
    lesson.tell_left_out()
    data = {seed: lesson.split(replace(config, seed=seed)) for seed in seeds}
    for guide in guides:
        _require_usable(configured_as(guide, config), data[seeds[0]])
    strange = [
        ImageSet.from_spec(
            one, data_dir, labelled=False, task=lesson.task, download=download, seed=0, limit=limit
        )
        for one in (ood or GENERATED)
    ]
    _require_each_once([one.name for one in strange], "sets (--ood)")
    unreadable = [pair for one in strange for pair in one.unreadable]
    for file, why in unreadable:
        print(f"bnn: {file}: {why}", file=sys.stderr)
    options = _options(config, lesson, seconds, [one.name for one in strange], limit)
    with _held_alone(out):
        plan = _plan_in(out, options)
        new = {guide: configured_as(guide, config) for guide in guides if guide not in plan}
        costs = costs_of([replace(one, seed=seeds[0]) for one in new.values()], data[seeds[0]])
        for (guide, one), cost in zip(new.items(), costs, strict=True):
            steps = planned(guide, cost, seconds)
            _require_steps(one, data[seeds[0]], steps)
            plan[guide] = {"step": cost.step, "finish": cost.finish, "steps": steps}
        _keep(out / PLAN, {"options": options, "guides": plan})
        rows = _rows(config, [(guide, plan[guide]) for guide in guides], data, strange, out)
        _write(rows, options, out)
    _print_short(rows, out)
    return bool(lesson.left_out or unreadable)


def _require_each_once(names: Sequence[object], what: str) -> None:
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"name at least one of the {what}, each once, not {', '.join(map(str, names)) or 'none'}."
        )


def _require_usable(config: TrainConfig, data: TrainingData) -> None:
    """Checks what `config` asks for, and that halves of the held-out images can show its promise."""
    require_trainable(replace(config, epochs=ENDLESS), data)
    CalibratedRule.require_fittable(len(data.calibration_images) // 2, config.promise)


def _require_steps(config: TrainConfig, data: TrainingData, steps: int) -> None:
    """Checks that so many are enough for the guide."""
    epochs = max(1, steps // len(data.train_dataloader()))
    try:
        require_trainable(replace(config, epochs=epochs), data)
    except InputError as error:
        raise InputError(
            f"{steps} steps are too few for {config.guide}: give more --seconds, or leave it out ({error})"
        ) from error


def _options(
    config: TrainConfig, lesson: Lesson, seconds: float, ood: Sequence[str], limit: int | None
) -> dict[str, Any]:
    """What all rows of a comparison have in common, plain values."""
    others = {"seconds": seconds, "ood": list(ood), "limit": limit, "images": lesson.images.fingerprint()}
    return _of_all(config) | others


def _of_all(config: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in config.plain().items() if name not in VARY}


@contextmanager
def _held_alone(out: Path) -> Iterator[None]:
    """`out` of this process alone.

    Raises:
        InputError: it cannot be written to, or another process is at work in it.
    """
    require_writable(out / PLAN)
    with held(out, wait=False) as alone:
        if not alone:
            raise InputError(f"another comparison is at work in {out}: wait for it, or name another (--out).")
        yield


def _plan_in(out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What was planned in `out` for each guide, with the same `options`.

    Raises:
        InputError: it was with others.
    """
    if not (out / PLAN).exists():
        return {}
    plan = _read(out / PLAN)
    try:
        # Before an option was, all was as its default has it.
        before, guides = _of_all(TrainConfig()) | dict(plan["options"]), dict(plan["guides"])
        _ = [(float(one["step"]), int(one["steps"])) for one in guides.values()]
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise InputError(f"{out / PLAN} is no plan of a comparison: name another folder (--out).") from error
    changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if changed:
        were = ", ".join(f"{name} {shown(before.get(name))}" for name in changed)
        raise InputError(
            f"{out} holds a comparison with {were}: give the same to go on with it, or name another folder "
            "(--out)."
        )
    return guides


def _rows(
    config: TrainConfig,
    plans: Sequence[tuple[str, Mapping[str, Any]]],
    data: Mapping[int, TrainingData],
    strange: Sequence[ImageSet],
    out: Path,
) -> list[Row]:
    """All rows, guide by guide; those that are not in `out` are made, seed by seed, and kept there."""
    files = {(guide, seed): out / ROWS / f"{guide}-{seed}.json" for seed in data for guide, _ in plans}
    to_make = [pair for pair, file in files.items() if not file.exists()]
    posed: dict[int, Posed] = {}
    began = time.monotonic()
    for done, (guide, seed) in enumerate(to_make):
        plan = dict(plans)[guide]
        _tell(done, len(to_make), f"{guide}, seed {seed}, {plan['steps']:,} steps", time.monotonic() - began)
        configured = replace(configured_as(guide, config), seed=seed)
        fitted = fit_in_steps(configured, data[seed], plan["steps"])
        if seed not in posed:  # and the others' are done
            features = Features(fitted.network, fitted.posterior)
            posed = {seed: _posed(replace(config, seed=seed), data[seed], strange, features)}
        row = Row(
            guide=guide,
            seed=seed,
            steps=plan["steps"],
            train_seconds=fitted.seconds,
            step_seconds=plan["step"],
            **measure(fitted.network, fitted.posterior, posed[seed]),
        )
        _keep(files[guide, seed], row.plain())
    return [
        Row.from_plain(_read(files[guide, seed]), f"{files[guide, seed]}")
        for guide, _ in plans
        for seed in data
    ]


def _posed(config: TrainConfig, data: TrainingData, strange: Sequence[ImageSet], features: Features) -> Posed:
    """What the posteriors of one seed are measured on; of `features` nothing is asked."""
    train = data.train_images
    density = PixelDensity.fit(train.images, train.truth(), features, config.seed)
    return Posed(train, data.calibration_images, strange, density, config.promise, config.draws, config.seed)


def _tell(done: int, total: int, what: str, took: float) -> None:
    left = f", about {duration(took / done * (total - done))} left" if done else ""
    print(f"bnn: training {done + 1} of {total}: {what}{left}.", file=sys.stderr, flush=True)


def _write(rows: Sequence[Row], options: Mapping[str, Any], out: Path) -> None:
    """The tables, the plot and the numbers, each file whole or not at all."""
    files = {
        f"{RESULT}.md": report(rows, _about(rows, options)),
        f"{RESULT}.svg": plot(rows),
    }
    for name, text in files.items():
        with written_whole(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    plain = {"version": __version__, "options": dict(options), "rows": [row.plain() for row in rows]}
    _keep(out / f"{RESULT}.json", plain)


def _about(rows: Sequence[Row], options: Mapping[str, Any]) -> str:
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(row.seed for row in rows))
    return (
        f"{options['data']}, the network {options['network']}, {options['seconds']:g} seconds of the "
        f"processor a training, seeds {seeds}, beta {options['beta']:g}, lr {options['lr']:g}, batches of "
        f"{options['batch_size']}, {options['draws']} draws."
    )


def _keep(path: Path, values: Mapping[str, Any]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(
            json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline=""
        )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: remove it.") from error


def _print_short(rows: Sequence[Row], out: Path) -> None:
    heads = (column.head.replace(" under the promise", "").replace(" (", "\n(") for column in SHORT)
    shown_table = table("guide", *heads)
    for guide, own in by_guide(rows).items():
        cells = (written(spread([column.of(row) for row in own]), column.form) for column in SHORT)
        shown_table.add_row(guide, *cells)
    console = Console()
    console.print(shown_table)
    for line in (verdict(rows), f"Wrote {out / RESULT}.md, .json and .svg."):
        console.print(Text(line), soft_wrap=True)
