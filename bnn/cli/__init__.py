"""The `bnn` command: a file a command."""

from bnn.cli.command import main

__all__ = ["main"]
