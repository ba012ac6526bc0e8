"""Small file systems that can be filled and write-protected."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SIZE = 48 << 20  # bytes of each
_NEW_NAMESPACE = 0x20000  # CLONE_NEWNS, of <sched.h>
_BALLAST = ".ballast"


class NoMountingError(Exception):
    """Nothing can be mounted here, and why."""


@dataclass(frozen=True)
class Disk:
    """A file system of `SIZE` bytes, mounted at `root`."""

    name: str
    root: Path

    @contextmanager
    def full(self, left: int) -> Iterator[None]:
        """While it lasts, so many bytes are left."""
        ballast = self.root / _BALLAST
        with ballast.open("wb") as stream, suppress(OSError):  # what it lies in takes some itself
            while (size := self._free() - left) > 0:
                os.posix_fallocate(stream.fileno(), os.fstat(stream.fileno()).st_size, size)
        try:
            yield
        finally:
            ballast.unlink()

    def _free(self) -> int:
        there = os.statvfs(self.root)
        return there.f_bavail * there.f_frsize

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """While it lasts, nothing can be written."""
        _run("mount", "-o", "remount,ro", str(self.root))
        try:
            yield
        finally:
            _run("mount", "-o", "remount,rw", str(self.root))


@contextmanager
def disks() -> Iterator[list[Disk]]:
    """An ext4 and a tmpfs that this process and its children alone see; they go with them, however they end.

    Raises:
        NoMountingError: it may not mount any.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NAMESPACE):
        raise NoMountingError(f"a mount namespace is refused ({os.strerror(ctypes.get_errno())})")
    with tempfile.TemporaryDirectory(prefix="bnn-disks-") as name:
        folder = Path(name)
        mounted: list[Disk] = []
        try:
            _run("mount", "--make-rprivate", "/")
            for kind in ("ext4", "tmpfs"):
                (root := folder / kind).mkdir()
                _mount(kind, root, folder / f"{kind}.image")
                mounted.append(Disk(kind, root))
                shutil.rmtree(root / "lost+found", ignore_errors=True)
            yield mounted
        finally:
            for disk in mounted:
                with suppress(NoMountingError):
                    _run("umount", "--lazy", str(disk.root))


def _mount(kind: str, root: Path, image: Path) -> None:
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(root))
        return
    with image.open("wb") as stream:
        stream.truncate(SIZE)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    _run("mount", "-o", "loop", str(image), str(root))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NoMountingError(f"there is no {command[0]}") from error
    except subprocess.CalledProcessError as error:
        raise NoMountingError(f"{command[0]}: {error.stderr.strip()}") from error
