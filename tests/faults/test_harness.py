"""A sample of what `make faults` does; and that it would find what it is there to find."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from programs import PATIENCE, finished

FAULTS = Path(__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc, and disks are mounted"),
]


def ran(program: str, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """The exit status of a part of the harness, its summaries, and what it said besides."""
    done = finished(sys.executable, program, *words, cwd=FAULTS, env=os.environ | {"PYTHONPATH": path()})
    assert done.stdout, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def path() -> str:
    """Where programs that lie elsewhere find the harness, and the package."""
    return os.pathsep.join([str(FAULTS), str(FAULTS.parents[1]), os.environ.get("PYTHONPATH", "")])


def written(folder: Path, script: str) -> str:
    (folder / "script.py").write_text(script)
    return str(folder / "script.py")


KILLS = """
import sys
from contextlib import contextmanager
import bnn.core.checkpoint
import kills

@contextmanager
def in_place(path):
    path.write_bytes(b"half")
    for _ in range(50):
        path.chmod(0o644)
    yield path

status = kills.main(["--count=6", "--commands", "train", "score", *sys.argv[1:]])
bnn.core.checkpoint.written_whole = in_place
again = kills.main(["--count=3", "--commands", "calibrate", *sys.argv[1:]])
sys.exit(10 * status + again)
"""


def test_commands_go_on_after_a_kill_or_a_full_disk_and_one_that_writes_in_place_is_found(
    tmp_path: Path,
) -> None:
    found = tmp_path / "found"
    status, (sound, torn), said = ran(written(tmp_path, KILLS), "--findings", str(found))
    assert (sound["faults"], sound["wrong"]) == (6, 0), said
    assert torn["wrong"] >= 1
    assert "tiny.safetensors is torn" in said
    assert status == 1
    assert any(found.iterdir())


FUZZ = """
import os, sys
import fuzz
from bnn.errors import InputError
from parsers import Parser

def two_lines(content):
    if content != b"sound":
        raise InputError("one.\\ntwo.")

def refuses(content):
    raise InputError("no.")

def large(content):
    content and bytearray(600_000_000)

def endless(content):
    while content != b"sound": pass

status = fuzz.main(["--count=500", "--seed=11", *sys.argv[1:]])
faulty = {
    "a traceback": lambda content: content == b"sound" or {}["x"],
    "two lines": two_lines,
    "large": large,
    "endless": endless,
    "dies": lambda content: content == b"sound" or os.abort(),
    "refuses what is sound": refuses,
}
fuzz.MOST_SECONDS = 5.0  # so that memory is out before time is, however slow it comes
for name, parse in faulty.items():
    fuzz.PARSERS[name] = Parser(lambda: [b"sound"], parse, 1)
again = fuzz.main(["--count=12", "--parsers", *faulty, *sys.argv[1:]])
sys.exit(10 * status + again)
"""


def test_hostile_inputs_are_a_result_or_a_sentence_and_a_parser_for_which_they_are_not_is_found(
    tmp_path: Path,
) -> None:
    found = tmp_path / "found"
    status, (sound, faulty), said = ran(written(tmp_path, FUZZ), "--findings", str(found))
    assert (sound["found"], sound["inputs"] >= 500) == (0, True), said
    assert faulty["found"] >= 6
    assert status == 1
    for what in (
        "a traceback 1: KeyError: 'x'",
        "two lines 1: no sentence",
        "large 0: it takes 57",  # in MB of 1024² bytes
        "endless 1: fuzz.TooLongError",
        "dies 1: the worker ended with -6",
        "refuses what is sound 0: it is sound, and refused: no.",
    ):
        assert what in said
    assert (found / "dies-1").is_file()


def test_visitors_are_answered_rightly_among_hostile_clients() -> None:
    patient = f"--slowest={PATIENCE}"  # on the busiest machine
    status, (summary,), said = ran("visitors.py", "--visitors=3", "--seconds=4", patient)
    assert (status, summary["wrong"]) == (0, 0), said
    assert summary["hostile"]["sent"]["half-open requests"] > 0


def test_a_wrong_answer_a_slow_health_and_growing_memory_are_found() -> None:
    from visitors import Watched, growth, judged

    told = Counter({"right": 5, "refused": 1, "wrong: another answer than alone": 1})
    memory = [(0.0, 100), (10.0, 300), (25.0, 330), (90.0, 340)]
    seen = Watched([(0.0, 0.1), (1.0, 1.5)], memory)
    summary, wrong = judged("visitors", told, seen, slowest=1.0)
    assert (summary["drawings"], summary["right"], summary["health slowest s"]) == (7, 5, 1.5)
    assert [one.split(":")[1].split()[0] for one in wrong] == ["1", "/health"]
    assert growth(memory, seconds=100.0) == 10  # the first fifth settles
    assert judged("visitors", Counter(right=1), seen, slowest=2.0)[1] == []
    assert judged("visitors", Counter(), seen, slowest=2.0)[1] == ["visitors: no drawing was answered"]
