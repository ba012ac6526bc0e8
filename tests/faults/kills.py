"""Commands that are killed, or find a full or read-only disk, at any moment: nothing is lost, and they go on.

    python tests/faults/kills.py --count 500
    python tests/faults/kills.py --count 20 --commands train score
    python tests/faults/kills.py --only 137            one case of those, again

Each command that writes runs once in peace. Then, case by case, it runs again and is struck. It kills itself
by SIGKILL at a file event (before a file is opened to be written, renamed, linked or removed, or a folder is
made), or the kernel ends it at an instant of its processor time, or it is killed, and again as it goes on; or
its disk has too few bytes left, or cannot be written to. What lies there then is what was there before, or
what the command would have written, each file whole. The same command, or --resume, goes on; and what it
leaves is what it leaves in peace: the same bytes, and no file more. (What `bnn compare` measures, and the
logs of a training, differ from run to run: of these the names are held, and that what was measured stays.)
A disk that is full or read-only is one sentence and exit status 3.

Every third case lies on a small ext4 with TMPDIR on a tmpfs, and every third on a tmpfs with TMPDIR on the
disk. Where nothing may be mounted, that is said, and no disk is full. Exit status 1: something went wrong,
and is kept in the folder --findings. The last line is a summary as JSON.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from commands import COMMANDS, Command, Tree, prepared, tree
from disks import NoMountingError, disks
from struck import Ended, Place, run

from bnn.cli.command import FAILED
from bnn.progress import tracked

EVENT, TIME, TWICE, FULL, READ_ONLY = (
    "at a file event",
    "at an instant",
    "twice",
    "full disk",
    "read-only disk",
)
SHARES = {EVENT: 10, TIME: 4, TWICE: 2, FULL: 4, READ_ONLY: 1}
STAGED = ".part"


class Peace(NamedTuple):
    """What a command does undisturbed: how it ended, what was there before, and after."""

    ended: Ended
    before: Tree
    after: Tree


class Case(NamedTuple):
    """What befalls which command where; `amount`, in [0, 1), says when, or how full the disk is."""

    number: int
    name: str
    place: Place
    fault: str
    amount: float

    def __str__(self) -> str:
        return f"case {self.number}: {self.name}, {self.fault} ({self.amount:.4f}), {self.place.name}"


class WrongError(Exception):
    """What a case found."""


class Harness:
    """Strikes the commands of `names`, which read what lies in `base`, in each of `places` in turn."""

    def __init__(self, names: Sequence[str], places: Sequence[Place], base: Path, seed: int) -> None:
        self._places, self._base, self._seed = places, base, seed
        self._peace: dict[tuple[str, str], Peace] = {}
        shares = [COMMANDS[name].share for name in names]
        self._names = random.Random(seed).sample(names, counts=shares, k=sum(shares))

    def case(self, number: int) -> Case:
        """Of a number, always the same."""
        rng = random.Random(f"{self._seed} {number}")
        place = self._places[number % len(self._places)]
        name = self._names[number % len(self._names)]
        faults = [fault for fault in SHARES if place.disk or fault not in (FULL, READ_ONLY)]
        (fault,) = rng.choices(faults, [SHARES[one] for one in faults])
        return Case(number, name, place, fault, rng.random())

    def strike(self, case: Case) -> bool:
        """Whether the command was struck, and went on as it should; False where it had ended before.

        Raises:
            WrongError: it did not.
        """
        command = COMMANDS[case.name]
        peace = self._in_peace(case.name, case.place)
        self._laid_out(command, case.place)
        ended = self._struck(command, case, peace)
        if ended.status == 0:
            return False
        _require_told(ended, case.fault)
        left = tree(case.place.folder)
        _require_whole(command, left, peace)
        if case.fault == TWICE:
            again = ["--resume"] if command.resumes else []
            run([*command.words, *again], case.place, event=1 + int(case.amount * peace.ended.events / 2))
            _require_whole(command, tree(case.place.folder), peace)
        _go_on(command, case.place, peace)
        _require_equal(command, case.place, peace, left)
        return True

    def _in_peace(self, name: str, place: Place) -> Peace:
        if (name, place.name) not in self._peace:
            self._laid_out(COMMANDS[name], place)
            before = tree(place.folder)
            ended = run(COMMANDS[name].words, place)
            if ended.status or "Traceback" in ended.said:
                raise WrongError(f"{name} fails in peace, with {ended.status}: {ended.said}")
            self._peace[name, place.name] = Peace(ended, before, tree(place.folder))
            _require_nothing_in(place.temporary)
        return self._peace[name, place.name]

    def _laid_out(self, command: Command, place: Place) -> None:
        place.emptied()
        for word in command.words:
            if (self._base / word).is_file():
                shutil.copy2(
                    self._base / word, place.folder / word
                )  # with its time, which `bnn score` looks at

    def _struck(self, command: Command, case: Case, peace: Peace) -> Ended:
        disk = case.place.disk
        if case.fault == TIME:
            return run(command.words, case.place, seconds=max(1e-3, case.amount * peace.ended.seconds))
        if case.fault in (EVENT, TWICE):
            return run(command.words, case.place, event=1 + int(case.amount * peace.ended.events))
        assert disk is not None
        changed = [one for name, one in peace.after.items() if peace.before.get(name) != one]
        size = sum(map(len, changed))
        with disk.full(int(case.amount * size)) if case.fault == FULL else disk.read_only():
            return run(command.words, case.place)


def _require_told(ended: Ended, fault: str) -> None:
    if "Traceback" in ended.said:
        raise WrongError(f"a traceback: {ended.said}")
    if fault in (FULL, READ_ONLY):
        *_, last = ended.said.splitlines() or [""]
        if ended.status != FAILED or not last.startswith("bnn: "):
            raise WrongError(f"status {ended.status}, where it should be {FAILED}, and said: {ended.said}")
    elif ended.status not in (-signal.SIGKILL, -signal.SIGPROF):
        raise WrongError(f"status {ended.status} of what was to be killed, which said: {ended.said}")


def _results(command: Command, files: Tree) -> Tree:
    """Those files that are neither logs nor being written."""
    return {
        name: content
        for name, content in files.items()
        if Path(name).parts[0] not in command.logs and not name.endswith((STAGED, os.sep))
    }


def _require_whole(command: Command, left: Tree, peace: Peace) -> None:
    """Checks that each file is as it was before, or as it is to be."""
    for name, content in _results(command, left).items():
        if command.measures or _is_staged(name):
            continue
        if content not in (peace.before.get(name), peace.after.get(name)):
            raise WrongError(
                f"{name} is torn, or should not be there: {content[:60]!r}, {len(content)} bytes"
            )


def _is_staged(name: str) -> bool:
    return any(part.startswith(".bnn-") or part.endswith("-journal") for part in Path(name).parts)


def _go_on(command: Command, place: Place, peace: Peace) -> None:
    """Gives the command again, as someone does who reads what it says."""
    ended = Ended(2, "there is no run to resume", 0, 0.0)
    if command.resumes:
        ended = run([*command.words, "--resume"], place)
    if ended.status == 2 and "there is no run to resume" in ended.said:
        ended = run(command.words, place)
    if ended.status == 2 and "is there already" in ended.said:
        if _results(command, tree(place.folder)) == _results(command, peace.after):
            return
        ended = run([*command.words, "--overwrite"], place)
    if ended.status or "Traceback" in ended.said:
        raise WrongError(f"it does not go on, but ends with {ended.status}: {ended.said}")


def _require_equal(command: Command, place: Place, peace: Peace, left: Tree) -> None:
    found = tree(place.folder)
    results, wanted = _results(command, found), _results(command, peace.after)
    if set(results) != set(wanted):
        raise WrongError(f"other files than in peace: {sorted(set(results) ^ set(wanted))}")
    known = {Path(name).name for name in peace.after}
    others = [name for name in found if name not in results and not name.endswith(os.sep)]
    if strange := [name for name in others if _plain(Path(name).name) not in known]:
        raise WrongError(f"left behind: {strange}")
    if command.measures:  # what was done before stays
        kept = {name: one for name, one in left.items() if name.endswith(".json") and "rows" in name}
        changed = [name for name, content in kept.items() if found[name] != content]
    else:
        changed = [name for name, content in results.items() if content != wanted[name]]
    if changed:
        raise WrongError(f"other bytes than in peace: {changed}")
    _require_nothing_in(place.temporary)


def _plain(name: str) -> str:
    """The name of a log, of which a run that goes on keeps the one before under a number."""
    stem, _, number = name.removesuffix(".csv").rpartition("-")
    return f"{stem}.csv" if number.isdecimal() else name


def _require_nothing_in(folder: Path) -> None:
    if left := tree(folder):
        raise WrongError(f"left behind in TMPDIR: {sorted(left)}")


@contextmanager
def places_under(folder: Path) -> Iterator[list[Place]]:
    """Where commands run: on this disk, and where something can be mounted, on two others."""
    here = Place("TMPDIR on the same disk", folder / "here", folder / "here-tmp")
    with ExitStack() as stack:
        try:
            ext4, tmpfs = stack.enter_context(disks())
        except NoMountingError as reason:
            print(f"No other file systems, and no full disks: {reason}.", file=sys.stderr)
            yield [here]
            return
        yield [
            here,
            Place("ext4, TMPDIR on a tmpfs", ext4.root / "work", tmpfs.root / "tmp", ext4),
            Place("tmpfs, TMPDIR on this disk", tmpfs.root / "work", folder / "there-tmp", tmpfs),
        ]


def strike_all(
    harness: Harness, numbers: Sequence[int], count: int, findings: Path
) -> tuple[Counter[str], list[str]]:
    """`count` faults, of the cases of these `numbers`: how many of each kind, and what went wrong."""
    struck: Counter[str] = Counter()
    wrong: list[str] = []
    left = iter(numbers)
    for _ in tracked(range(count), "striking", count):
        for number in left:
            case = harness.case(number)
            try:
                if not harness.strike(case):
                    continue
            except WrongError as why:
                wrong.append(f"{case}: {why}")
                print(wrong[-1], file=sys.stderr)
                shutil.copytree(case.place.folder, findings / f"case-{number}", dirs_exist_ok=True)
            struck[case.fault] += 1
            struck[case.place.name] += 1
            struck[case.name] += 1
            break
    return struck, wrong


def parser() -> argparse.ArgumentParser:
    """The command line's."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--count", type=int, default=500, help="faults that strike (default: %(default)s)")
    made.add_argument("--short", action="store_const", const=20, dest="count", help="20 of them")
    made.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    made.add_argument(
        "--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="(default: all)"
    )
    made.add_argument("--only", type=int, help="the one case of this number")
    made.add_argument(
        "--findings",
        type=Path,
        default=Path("faults"),
        help="folder of what goes wrong (default: %(default)s)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Strikes, prints what came of it, and returns the exit status."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(1)
    began = time.monotonic()
    for module in dict.fromkeys(module for name in given.commands for module in COMMANDS[name].imports):
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="bnn-kills-") as name, places_under(Path(name)) as places:
        base = Path(name) / "base"
        base.mkdir()
        at_base = Place("", base, Path(name) / "base-tmp")
        at_base.temporary.mkdir()
        prepared(base, lambda words: run(words, at_base).status)
        harness = Harness(given.commands, places, base, given.seed)
        numbers, count = range(3 * given.count), given.count  # some strike where nothing is done any longer
        if given.only is not None:
            print(harness.case(given.only))
            numbers, count = range(given.only, given.only + 1), 1
        struck, wrong = strike_all(harness, numbers, count, given.findings)
    summary = {"faults": sum(struck[fault] for fault in SHARES), "wrong": len(wrong), "seed": given.seed}
    summary |= {"seconds": round(time.monotonic() - began)} | dict(sorted(struck.items()))
    print(json.dumps(summary))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
