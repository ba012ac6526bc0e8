"""The `bnn` command: a file a command."""

from bnn.cli import main

__all__ = ["main"]
