"""Writing files whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnn.errors import InputError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends without an exception.

    Missing folders are made.

    Raises:
        InputError: the place cannot be written to.
    """
    path = Path(path)
    with _temporary_beside(path) as temporary:
        yield temporary
        try:
            temporary.chmod(0o644)  # mkstemp's files are the owner's alone
            temporary.replace(path)
        except OSError as error:
            raise InputError(_cannot_write(path, error)) from error


def require_writable(path: str | Path) -> None:
    """Checks, before long work, that `path` can be written afterwards; missing folders are made.

    Raises:
        InputError: it cannot.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: name a file to write.")
    with _temporary_beside(Path(path)):
        pass


def require_free(path: str | Path, *, overwrite: bool = False) -> None:
    """As `require_writable`, and that nothing is there that would be lost, unless it is to `overwrite` it.

    Raises:
        InputError: it cannot be written, or it is there already.
    """
    if Path(path).is_file() and not overwrite:
        raise InputError(
            f"{path} is there already: name another place with out (--out), or remove it (--overwrite)."
        )
    require_writable(path)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(_cannot_write(path, error)) from error
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror}): choose another place."


def printable(text: str | os.PathLike[str]) -> str:
    """`text`, such as a file's name, with control characters and undecodable bytes written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(text))
