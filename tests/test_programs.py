"""Programs that tests start: nothing of them is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import finished, first_line, printed, started, wait_until

CHILD = "import time; print('there', flush=True); time.sleep(3600)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
child.wait()
"""


def is_running(pid: int) -> bool:
    """A process that is dead but not yet taken notice of counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def fails_with_a_child(children: list[int]) -> None:
    """What a test does that fails while its program and that one's child run."""
    with started([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child, word = parent.stdout.readline().split()
        children.append(int(child))
        assert word == "there"
        assert is_running(int(child))
        raise ZeroDivisionError


def test_children_end_with_their_parents_also_where_a_test_fails() -> None:
    children: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fails_with_a_child(children)
    with started([sys.executable, "-c", CHILD], stdout=subprocess.PIPE) as other:  # something to wait with
        wait_until(lambda: not any(map(is_running, children)), other)
    assert len(children) == 1


def test_a_program_that_fails_says_why() -> None:
    command = [sys.executable, "-c", "import sys; print('out'); sys.exit('in vain')"]
    done = finished(command)
    assert (done.returncode, done.stdout, done.stderr) == (1, "out\n", "in vain\n")
    with pytest.raises(AssertionError, match="in vain"):
        printed(command)
    with (
        started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        pytest.raises(AssertionError, match="in vain"),
    ):
        wait_until(lambda: False, process)


def test_the_first_line_of_a_program_that_prints_none_is_empty() -> None:
    with started([sys.executable, "-c", ""]) as process:
        assert first_line(process) == ""
    with started([sys.executable, "-c", CHILD]) as process:
        assert first_line(process) == "there\n"
