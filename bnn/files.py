"""Writing files whole or not at all, and by one process at a time."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnn.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)  # no fault of what is asked
_MARK, _STAGED = ".bnn-", ".part"  # how the names of what is being written start and end


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends without an exception.

    Missing folders are made. What is moved is on the disk before, so that a machine that stops leaves one or
    the other. A file that is replaced keeps its permissions; through a symbolic link its target is written.

    Raises:
        InputError: the place cannot be written to, or what is there is no file or is write-protected.
    """
    path = _target(Path(path))
    with _staged_beside(path) as staged:
        try:
            yield staged
        except OSError as error:
            if error.errno not in OF_THE_DISK:
                raise
            raise InputError(_cannot_write(path, error)) from error
        try:
            if path.exists():
                staged.chmod(stat.S_IMODE(path.stat().st_mode))
            _flush(staged)
            staged.replace(path)
            _flush(path.parent)
        except OSError as error:
            raise InputError(_cannot_write(path, error)) from error


@contextmanager
def folder_written_whole(path: str | Path) -> Iterator[Path]:
    """As `written_whole`, a temporary folder that becomes the folder at `path`, which must not be there yet.

    Raises:
        InputError: something is there, or the place cannot be written to.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} is there already: name another place with out (--out).")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = _mark(path)
        remove_left(path.parent, mark)
        staged = path.parent / f"{mark}{secrets.token_hex(4)}{_STAGED}"
        staged.mkdir()
        try:
            with held(staged, wait=True):
                yield staged
                for one in (*staged.rglob("*"), staged):
                    _flush(one)
                staged.rename(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise InputError(_cannot_write(path, error)) from error


def remove_left(folder: Path, mark: str = _MARK) -> None:
    """Removes what commands that were killed left in `folder`, half written, under names that start so."""
    if fcntl is None:
        return
    for left in [one for one in folder.iterdir() if one.name.startswith(mark) and one.suffix == _STAGED]:
        with suppress(OSError):  # gone, or another's
            is_folder = left.is_dir() and not left.is_symlink()
            handle = os.open(left, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW)
            try:
                if _locked(handle, wait=False):
                    shutil.rmtree(left) if is_folder else left.unlink()
            finally:
                os.close(handle)


def require_writable(path: str | Path) -> None:
    """Checks, before long work, that `path` can be written afterwards; missing folders are made.

    Raises:
        InputError: it cannot.
    """
    with _staged_beside(_target(Path(path))):
        pass


def require_free(path: str | Path, *, overwrite: bool = False) -> None:
    """As `require_writable`, and that nothing is there that would be lost, unless it is to `overwrite` it.

    Raises:
        InputError: it cannot be written, or it is there already.
    """
    require_writable(path)
    if Path(path).exists() and not overwrite:
        raise InputError(
            f"{path} is there already: name another place with out (--out), or remove it (--overwrite)."
        )


@contextmanager
def held(folder: Path, *, wait: bool, without: bool = True) -> Iterator[bool]:
    """Whether `folder` is held by this process alone while the block runs; a process that ends lets go of it.

    Args:
        folder: which is there.
        wait: until whoever holds it lets go of it, or else not at all.
        without: what is said where nothing can be locked, as on Windows.

    Raises:
        OSError: the folder cannot be opened.
    """
    if fcntl is None:
        yield without
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _locked(handle, wait=wait, without=without)
    finally:
        os.close(handle)


def _target(path: Path) -> Path:
    """The file that `path` stands for, which may not be there as yet.

    Raises:
        InputError: it is none that may be replaced.
    """
    try:
        path = path.resolve() if path.is_symlink() else path
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # links in a circle, before Python 3.13
        raise InputError(_cannot_write(path, error)) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} cannot be written, for it is a folder: name a file.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} cannot be written, for it is a device or a pipe: name a file.")
    if not (mode & 0o222 and os.access(path, os.W_OK)):  # to the superuser nothing is protected
        if hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY:
            read_only = OSError(errno.EROFS, os.strerror(errno.EROFS))
            raise InputError(_cannot_write(path, read_only)) from read_only
        raise InputError(f"{path} is write-protected: choose another place, or allow it to be written.")
    return path


@contextmanager
def _staged_beside(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = _mark(path)
        remove_left(path.parent, mark)
        staged, handle = _created(path.parent, mark)
    except OSError as error:
        raise InputError(_cannot_write(path, error)) from error
    try:
        yield staged
    finally:
        os.close(handle)
        staged.unlink(missing_ok=True)


def _mark(path: Path) -> str:
    """How names start of what becomes `path`: of one length, so that a name that just fits can be staged."""
    return f"{_MARK}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}-"


def _created(folder: Path, mark: str) -> tuple[Path, int]:
    """A new file whose name starts with `mark`, and its handle, by which it is locked while it is written."""
    while True:
        staged = folder / f"{mark}{secrets.token_hex(4)}{_STAGED}"
        handle = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less what the umask takes
        _locked(handle, wait=True)
        if staged.exists():  # not taken for one that was left, before it was locked
            return staged, handle
        os.close(handle)


def _locked(handle: int, *, wait: bool, without: bool = False) -> bool:
    """Whether the open file is now locked, until it is closed; `without` where nothing can be locked."""
    if fcntl is None:
        return without
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return without
    return True


def _flush(path: Path) -> None:
    """Has the file or folder at `path` written to the disk."""
    if path.is_dir() and os.name == "nt":  # where folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: Path, error: Exception) -> str:
    why = getattr(error, "strerror", None) or "its links lead in a circle"
    return f"{_short(path)} cannot be written ({why}): choose another place."


def _short(path: Path) -> str:
    """`path` for a message; of one that is too long its two ends."""
    text = printable(path)
    return text if len(text) <= 500 else f"{text[:200]}…{text[-200:]}"


def printable(text: str | os.PathLike[str]) -> str:
    """`text`, such as a file's name, with control characters and undecodable bytes written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(text))
