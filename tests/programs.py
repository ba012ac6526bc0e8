"""Programs that tests start: each ends with all that it started, whatever becomes of its test."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = 1200.0  # seconds that something may take on the busiest machine, where it would else never end


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs, with `options` of `Popen`; afterwards whatever it started is gone too."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError, PermissionError):  # all ended, the latter on macOS
                os.killpg(process.pid, signal.SIGKILL)


def first_line(process: subprocess.Popen[str]) -> str:
    """What a program prints first, or nothing if it ended before, or had to be ended."""
    assert process.stdout is not None
    watch = threading.Timer(PATIENCE, process.kill)
    watch.start()
    try:
        return process.stdout.readline()
    finally:
        watch.cancel()


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Returns as soon as `holds` does; the program must not end before."""
    latest = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < latest, "waited in vain"
        time.sleep(0.02)


def finished(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """How a program ended, and what it printed."""
    with program(*command, **options) as process:
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def printed(*command: str, **options: Any) -> str:
    """What a program printed that must end well."""
    done = finished(*command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
