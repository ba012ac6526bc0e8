"""The `bnn` command: a file a command."""

from bnn.cli.main import main

__all__ = ["main"]
