"""The folder of uploads: bounded, swept, and gone with its server, also where that was killed."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnn.app.bounds import AsgiApp, Message, Receive, Send, refuse
from bnn.files import held

KEPT_SECONDS = 600  # uploads older than this are deleted
TOGETHER = 20  # times the largest upload that all may have together
_PREFIX = "bnn-page-"
_ROOM = 8192  # bytes that a file takes besides its content, with the folder that Gradio makes for it
_YOUNG = 60  # seconds that a folder may have no owner yet
_UPLOAD = "/gradio_api/upload"


class Stored:
    """How much lies in a folder of uploads; at most `most` bytes.

    Uploads count as they come, whatever becomes of them, until the folder is looked at again.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self.size = 0

    def count(self, size: int) -> bool:
        """Takes note of so many bytes more, and says whether there is room for them."""
        if self.size + size > self._most:
            return False
        self.size += size
        return True

    def sweep(self, before: float) -> None:
        """Deletes what was last changed `before` that time, and looks how much is left."""
        size = 0
        for path in list(self._folder.rglob("*")):
            with suppress(OSError):  # it went meanwhile, or is a folder with something in it
                found = path.lstat()
                if found.st_mtime >= before:
                    size += _ROOM // 2 + found.st_size
                elif stat.S_ISDIR(found.st_mode):
                    path.rmdir()
                else:
                    path.unlink()
        self.size = size


def within(app: AsgiApp, stored: Stored) -> AsgiApp:
    """`app`, but an upload for which there is no room gets status 507."""

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != _UPLOAD:
            await app(scope, receive, send)
            return
        is_full = not stored.count(_ROOM)
        answered = False

        async def received() -> Message:
            nonlocal is_full
            if not is_full:
                message = await receive()
                is_full = not stored.count(len(message.get("body", b"")))
            return {"type": "http.disconnect"} if is_full else message

        async def sent(message: Message) -> None:
            nonlocal answered
            if answered or not is_full:
                answered = True
                await send(message)

        try:
            await app(scope, received, sent)
        except Exception:  # of an upload that broke off, as it seems to Gradio
            if not is_full:
                raise
        if is_full and not answered:
            await refuse(send, 507, "Too much has been uploaded here: try again in a quarter of an hour.")

    return run


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder for uploads while the context lasts, where Gradio looks for it.

    What servers that were killed have left is deleted first.
    """
    delete_orphans(Path(tempfile.gettempdir()))
    before = os.environ.get("GRADIO_TEMP_DIR")
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder,
        held(Path(folder), wait=False),
    ):
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def delete_orphans(parent: Path) -> None:
    """Deletes folders of uploads in `parent` that are ours and whose server is there no longer."""
    if os.name == "nt":  # where it cannot be seen whose they are
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it went meanwhile
            found = folder.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if is_ours and found.st_mtime < time.time() - _YOUNG:
                with held(folder, wait=False, without=False) as is_left:
                    if is_left:
                        shutil.rmtree(folder, ignore_errors=True)
