"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from bnn.errors import InputError
from bnn.files import require_writable, written_whole


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.txt"
    with written_whole(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def stop_half_way() -> None:
        with written_whole(target) as temporary:
            temporary.write_text("new, but")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_is_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with written_whole(target) as temporary:
        temporary.touch()
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_folder_in_the_way_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with (
        pytest.raises(InputError, match="folder cannot be written, for it is"),
        written_whole(target),
    ):
        pass
    with pytest.raises(InputError, match="is a folder"):
        require_writable(target)
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "inside"
    with pytest.raises(InputError, match="inside cannot be written"):
        require_writable(target)
    with pytest.raises(InputError, match="inside cannot be written"), written_whole(target):
        pass


def test_asking_whether_a_file_can_be_written_does_not_change_it(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    require_writable(target)
    require_writable(tmp_path / "other.txt")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
