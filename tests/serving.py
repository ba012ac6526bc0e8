"""What tests of a served page share: a free port, archives."""

import io
import socket
import zipfile
from collections.abc import Mapping


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def archive(files: Mapping[str, bytes]) -> bytes:
    """The zip archive of `files`, their contents by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return stream.getvalue()
