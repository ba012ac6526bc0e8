"""The folder of uploads: bounded, swept, and gone with its server, also where that was killed."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
from programs import PATIENCE, first_line, program
from serving import free_port

from bnn.app import Address, served
from bnn.app.stored import Stored, delete_orphans, upload_folder
from bnn.classifier import Classifier

ROOT = Path(__file__).parent.parent
OLD = 1000.0  # seconds since 1970


def aged(path: Path, changed: float = OLD) -> Path:
    os.utime(path, (changed, changed))
    return path


def test_old_uploads_are_deleted_and_new_ones_kept_and_counted(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old", tmp_path / "b" / "new"
    for path, changed in ((old, 100), (new, 300)):
        path.parent.mkdir()
        path.write_bytes(bytes(5000))
        aged(path, changed)
        aged(path.parent, changed)
    stored = Stored(tmp_path, 10**6)
    stored.sweep(200)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "new"]
    aged(old.parent, 100)
    stored.sweep(200)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "new"]
    assert 5000 <= stored.size <= 20_000


def test_what_comes_counts_until_the_folder_is_looked_at(tmp_path: Path) -> None:
    stored = Stored(tmp_path, 1000)
    assert stored.count(600)
    assert not stored.count(600)
    assert stored.count(400)
    assert not stored.count(1)
    stored.sweep(0)
    assert stored.count(1000)


def test_folders_of_servers_that_were_killed_are_deleted_and_no_others(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    for name in ("bnn-page-killed", "bnn-page-young", "other"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "upload").touch()
    (tmp_path / "bnn-page-link").symlink_to(elsewhere)
    (tmp_path / "bnn-page-file").touch()
    for name in ("bnn-page-killed", "other"):
        aged(tmp_path / name)
    delete_orphans(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"elsewhere", "bnn-page-young", "other", "bnn-page-link", "bnn-page-file"}
    assert (elsewhere / "file").exists()


def test_a_folder_in_use_is_never_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with upload_folder() as folder:
        aged(folder)
        delete_orphans(tmp_path)
        assert folder.exists()
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_after_kill_9_the_next_start_cleans_up(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, str(ROOT / "serve.py"), "--draws", "2", "--port", str(port))
    start = partial(program, *command, env=os.environ | {"TMPDIR": str(tmp_path)})
    with start() as killed:
        first_line(killed)
        files = {"files": ("a.png", b"secret")}
        (path,) = httpx.post(
            f"http://127.0.0.1:{port}/gradio_api/upload", files=files, timeout=PATIENCE
        ).json()
        killed.send_signal(signal.SIGKILL)
        killed.wait(PATIENCE)
    (left,) = tmp_path.glob("bnn-page-*")
    assert Path(path).read_bytes() == b"secret"
    aged(left, time.time() - 3600)
    with start() as server:
        first_line(server)
        assert not left.exists()
        assert len(list(tmp_path.glob("bnn-page-*"))) == 1
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE)
    assert not list(tmp_path.glob("bnn-page-*"))


@pytest.mark.slow
def test_uploads_beyond_the_total_are_refused_and_the_page_stays(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.app.serve.TOGETHER", 2)
    address = Address(port=free_port(), max_upload=1_000_000)
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])

        def upload(size: int) -> int:
            return client.post("/gradio_api/upload", files={"files": ("a.png", os.urandom(size))}).status_code

        assert [upload(900_000) for _ in range(4)] == [200, 200, 507, 507]
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 2_000_000
        statuses = [upload(1) for _ in range(40)]  # many small ones take room too
        assert statuses[-1] == 507
        assert client.get("/config").status_code == 200
