"""Where a file is to be written there is something else, and what commands that were killed have left."""

import errno
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from programs import program, wait_until

from bnn.errors import InputError
from bnn.files import folder_written_whole, remove_left, require_free, require_writable, written_whole


def write(path: Path, text: str = "new") -> None:
    with written_whole(path) as staged:
        staged.write_text(text)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_is_not_replaced(pipe: Path) -> None:
    for ask in (write, require_writable, lambda path: require_free(path, overwrite=True)):
        with pytest.raises(InputError, match=r"pipe cannot be written, for it is a device or a pipe"):
            ask(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(pipe.parent.iterdir()) == [pipe]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(InputError, match=r"/dev/null cannot be written, for it is a device or a pipe"):
        require_free("/dev/null", overwrite=True)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_through_a_link_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("first", "second"):
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    with pytest.raises(InputError, match="is there already"):
        require_free(link)


def test_links_in_a_circle_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match=r"^\S+ cannot be written \([^\n]+\): choose another place\.$"):
        write(tmp_path / "a")


def test_a_link_to_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(InputError, match="is a device or a pipe"):
        write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_a_write_protected_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    path.chmod(0o444)
    with pytest.raises(InputError, match="is write-protected"):
        write(path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o200])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "mine"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o002, 0o664), (0o022, 0o644)])
def test_a_new_file_has_the_permissions_that_the_mask_leaves(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_name_is_written_and_a_longer_one_is_one_sentence(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"
    for path in (tmp_path / (name + "xx"), tmp_path.joinpath(*["y" * 200] * 30)):
        for ask in (write, require_writable, require_free):
            with pytest.raises(InputError, match=r"^[^\n]{20,600}: choose another place\.$"):
                ask(path)


def test_a_file_on_a_read_only_disk_is_a_fault_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr("bnn.files.os.access", lambda *_: False)
    monkeypatch.setattr("bnn.files.os.statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(InputError, match="Read-only file system") as raised:
        require_writable(tmp_path / "mine")
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EROFS  # which makes it exit status 3


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with folder_written_whole(tmp_path / "new" / "folder") as staged:
            (staged / "deep").mkdir()
            (staged / "deep" / "file").write_text("content")
            assert not (tmp_path / "new" / "folder").exists()
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["folder"]
    assert (tmp_path / "new" / "folder" / "deep" / "file").read_text() == "content"
    assert stat.S_IMODE((tmp_path / "new" / "folder").stat().st_mode) == 0o777 & ~mask
    with pytest.raises(InputError, match="is there already"), folder_written_whole(tmp_path / "new"):
        pass


def test_of_a_folder_that_could_not_be_finished_nothing_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with folder_written_whole(tmp_path / "folder") as staged:
            (staged / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


WRITES = """
import sys, time
from pathlib import Path
from bnn.files import written_whole
with written_whole(sys.argv[1]) as staged:
    staged.write_text("half")
    Path(sys.argv[1] + ".begun").touch()
    time.sleep(1e6)
"""


def test_what_a_killed_command_left_is_removed_and_nothing_that_is_being_written(tmp_path: Path) -> None:
    path, begun = tmp_path / "file", tmp_path / "file.begun"
    with program(sys.executable, "-c", WRITES, str(path)) as process:
        wait_until(begun.exists, process)
        write(path)
        left = set(tmp_path.iterdir()) - {path, begun}
        assert len(left) == 1  # that is being written
        process.kill()
        process.wait()
    write(path, "newer")
    assert set(tmp_path.iterdir()) == {path, begun}
    assert path.read_text() == "newer"


WRITES_A_FOLDER = WRITES.replace("written_whole", "folder_written_whole").replace(
    "staged.", "(staged / 'x')."
)


def test_what_a_killed_command_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    path, begun = tmp_path / "folder", tmp_path / "folder.begun"
    with program(sys.executable, "-c", WRITES_A_FOLDER, str(path)) as process:
        wait_until(begun.exists, process)
        (being_written,) = set(tmp_path.iterdir()) - {begun}
        remove_left(tmp_path)
        assert (being_written / "x").read_text() == "half"
        process.kill()
        process.wait()
    with folder_written_whole(path) as staged:
        (staged / "x").write_text("whole")
    assert set(tmp_path.iterdir()) == {path, begun}
    assert (path / "x").read_text() == "whole"
