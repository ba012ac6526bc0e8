"""Programs that tests start."""

import os
import select
import sys

import pytest
from programs import PATIENCE, finished, first_line, printed, program, wait_until

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100_000)"], close_fds=False)
print("started", flush=True)
time.sleep(100_000)
"""


def test_a_program_takes_along_what_it_started() -> None:
    alive, held = os.pipe()  # readable at the end of the last process that holds the other side
    try:
        with program(sys.executable, "-c", PARENT, pass_fds=[held]) as process:
            os.close(held)
            assert first_line(process) == "started\n"
            assert select.select([alive], [], [], 0)[0] == []
        assert select.select([alive], [], [], PATIENCE)[0] == [alive]
    finally:
        os.close(alive)


def test_the_first_line_of_a_program_that_prints_none_is_empty() -> None:
    with program(sys.executable, "-c", "") as process:
        assert first_line(process) == ""


def test_a_program_that_fails_says_why() -> None:
    command = (sys.executable, "-c", "import sys; print('out'); sys.exit('in vain')")
    done = finished(*command)
    assert (done.returncode, done.stdout, done.stderr) == (1, "out\n", "in vain\n")
    with pytest.raises(AssertionError, match="in vain"):
        printed(*command)
    with program(*command) as process, pytest.raises(AssertionError, match="in vain"):
        wait_until(lambda: False, process)
