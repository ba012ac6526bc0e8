"""Inputs that are nearly sound, for all that reads what strangers may have made: a result, or one sentence.

    python tests/faults/fuzz.py --count 100000
    python tests/faults/fuzz.py --count 2000 --parsers PNG zip checkpoint
    python tests/faults/fuzz.py --parsers PNG --only 137           that one input, with its traceback

Sound inputs are made, and changed: bits, lengths, numbers, parts that are cut out, repeated, nested or mixed;
checksums are often made right again. A worker process reads them one after another. What is found, and kept
in the folder --findings with the reason: an exception that is no InputError, or has no sentence; more than a
second of the processor; more than 512 MB of memory above what there was before; a worker that dies or hangs.
Exit status 1 then. The last line is a summary as JSON. Memory is read from /proc, hence Linux alone.
"""

import argparse
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
from mutations import mutated
from parsers import PARSERS

from bnn.errors import InputError
from bnn.progress import progress

MOST_SECONDS, MOST_MEMORY = 1.0, 512  # of the processor; MB
PATIENCE = 120.0  # seconds without an answer, on the busiest machine, after which a worker hangs
BATCH = 500  # inputs of a worker
LONGEST = 2000  # characters of a sentence


class Found(NamedTuple):
    """An input that was not read as it should be, and why."""

    parser: str
    number: int
    why: str


class TooLongError(BaseException):
    """An input has taken more than its time."""


class Reader:
    """Reads the inputs of one parser, in the current folder."""

    def __init__(self, parser: str, seed: int) -> None:
        self.parser, self._seed = parser, seed
        self._seeds = PARSERS[parser].seeds()

    def input(self, number: int) -> bytes:
        """That one: of a number, always the same; the first are the sound ones."""
        if number < len(self._seeds):
            return self._seeds[number]
        return mutated(self._seeds, random.Random(f"{self._seed} {self.parser} {number}"))

    def wrong(self, number: int) -> str:
        """What is wrong with how it is read; nothing, if nothing is."""
        content = self.input(number)
        before = _peak_memory(reset=True)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            PARSERS[self.parser].parse(content)
            why = ""
        except InputError as error:
            why = self._wrong_with(str(error), number)
        except TooLongError:
            return f"it takes more than {MOST_SECONDS} s\n{traceback.format_exc()}"
        except Exception:
            return traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took, grown = time.process_time() - began, _peak_memory() - before
        if took > MOST_SECONDS:
            return f"it takes {took:.1f} s"
        return f"it takes {grown} MB" if grown > MOST_MEMORY else why

    def _wrong_with(self, said: str, number: int) -> str:
        if number < len(self._seeds):
            return f"it is sound, and refused: {said}"
        return "" if "\n" not in said and 0 < len(said) <= LONGEST else f"no sentence: {said[:200]!r}"


def _peak_memory(*, reset: bool = False) -> int:
    """Of this process, in MB, since it was reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def _too_long(*_: object) -> NoReturn:
    raise TooLongError


def read_batch(reader: Reader, numbers: Sequence[int], findings: Path) -> list[Found]:
    """What was found among these inputs by a worker, or by several, where one ends amid them."""
    found: list[Found] = []
    while numbers:
        at = mmap.mmap(-1, 8)
        with tempfile.TemporaryDirectory(dir=_in_memory()) as folder, tempfile.TemporaryFile("w+") as told:
            worker = os.fork()
            if not worker:
                _work(reader, numbers, at, Path(folder), told.fileno())
            why = _ended(worker, at)
            told.seek(0)
            found += [Found(reader.parser, *json.loads(line)) for line in told]
        if not why:
            break
        reached = int.from_bytes(at[:8], "little")
        found.append(Found(reader.parser, reached, why))
        numbers = numbers[numbers.index(reached) + 1 :]
    for one in found:
        findings.mkdir(parents=True, exist_ok=True)
        name = f"{reader.parser.replace(' ', '-')}-{one.number}"
        (findings / name).write_bytes(reader.input(one.number))
        (findings / f"{name}.txt").write_text(one.why)
    return found


def _in_memory() -> str | None:
    """A folder of which nothing is written to a disk, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _work(reader: Reader, numbers: Sequence[int], at: mmap.mmap, folder: Path, told: int) -> NoReturn:
    """Reads the inputs in a process of its own, which ends with it, and writes down what is found."""
    status = 1
    try:
        os.chdir(folder)
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # where libtiff complains
            os.dup2(silent, stream)
        signal.signal(signal.SIGPROF, _too_long)
        PARSERS[reader.parser].seeds()  # some lie in the folder beside the input
        for number in numbers:
            at[:8] = number.to_bytes(8, "little")
            if why := reader.wrong(number):
                os.write(told, (json.dumps([number, why]) + "\n").encode())
        status = 0
    finally:
        os._exit(status)


def _ended(worker: int, at: mmap.mmap) -> str:
    """How a worker ended, where it was not by itself; one that hangs is killed."""
    last, since = at[:8], time.monotonic()
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            return "" if status == 0 else f"the worker ended with {os.waitstatus_to_exitcode(status)}"
        if at[:8] != last:
            last, since = at[:8], time.monotonic()
        if time.monotonic() - since > PATIENCE:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            return f"it hangs: nothing came of it for {PATIENCE:.0f} s"
        time.sleep(0.005)


def read_all(
    parsers: Sequence[str], count: int, seed: int, findings: Path
) -> tuple[dict[str, int], list[Found]]:
    """How many inputs each parser has read, of `count` in all, and what was found."""
    whole = sum(PARSERS[name].share for name in parsers)
    counts = {name: -(-count * PARSERS[name].share // whole) for name in parsers}
    found: list[Found] = []
    with progress(sum(counts.values())) as advance:
        for name, some in counts.items():
            reader = Reader(name, seed)
            for start in range(0, some, BATCH):
                numbers = range(start, min(start + BATCH, some))
                now = read_batch(reader, numbers, findings)
                for one in now:
                    *_, last = one.why.strip().splitlines()
                    print(f"{one.parser} {one.number}: {last}", file=sys.stderr)
                found += now
                advance(len(numbers), name)
    return counts, found


def parser() -> argparse.ArgumentParser:
    """The command line's."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--count", type=int, default=100_000, help="inputs in all (default: %(default)s)")
    made.add_argument("--short", action="store_const", const=3000, dest="count", help="3,000 of them")
    made.add_argument("--seed", type=int, default=0, help="of the changes (default: %(default)s)")
    made.add_argument("--parsers", nargs="+", choices=PARSERS, default=list(PARSERS), help="(default: all)")
    made.add_argument("--only", type=int, help="the one input of this number, of the first of --parsers")
    made.add_argument(
        "--findings", type=Path, default=Path("faults"), help="folder of what is found (default: %(default)s)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, prints what was found, and returns the exit status."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    findings, began = given.findings.resolve(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bnn-fuzz-") as folder:
        os.chdir(folder)  # where seeds are made
        if given.only is not None:
            signal.signal(signal.SIGPROF, _too_long)
            why = Reader(given.parsers[0], given.seed).wrong(given.only)
            print(why or "It is read as it should be.")
            return bool(why)
        counts, found = read_all(given.parsers, given.count, given.seed, findings)
    summary = {"inputs": sum(counts.values()), "found": len(found), "seed": given.seed}
    print(json.dumps(summary | {"seconds": round(time.monotonic() - began)} | counts))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
