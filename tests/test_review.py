"""The queue of refused images: one reviewer an image, no label lost, deleting for good, errors."""

import csv
import io
import os
import sqlite3
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import finished, program
from reviewers import Given, refusals, wrongs
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql

from bnn.core.task import DIGITS, Task
from bnn.data.imageset import ImageSet
from bnn.errors import InputError
from bnn.review import store
from bnn.review.database import is_database, shown
from bnn.review.entries import (
    DISPUTED,
    MOST_NAME,
    MOST_VOTES,
    MOST_WHY,
    NO_DIGIT,
    OLDEST,
    Added,
    Progress,
    Refusal,
)
from bnn.review.export import exported, write_folder, zipped
from bnn.review.schema import about, refused
from bnn.review.store import HELD_SECONDS, ReviewQueue

HARNESS = Path(__file__).with_name("reviewers.py")
POSTGRESQL = os.environ.get("BNN_TEST_POSTGRESQL")  # the URL of a database that may be emptied
KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRESQL, reason="no server"))]


class Clock:
    """Tells a time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a queue may lie, with nothing in it."""
    if request.param == "sqlite":
        return str(tmp_path / "queue.sqlite")
    assert POSTGRESQL is not None
    with ReviewQueue.open(POSTGRESQL, DIGITS) as queue:
        queue.delete_all()
    return POSTGRESQL


@pytest.fixture
def queue(place: str, clock: Clock) -> Iterator[ReviewQueue]:
    with ReviewQueue.open(place, DIGITS, clock=clock) as queue:
        yield queue


def epistemics(*values: float) -> list[Refusal]:
    return [replace(one, epistemic=value) for one, value in zip(refusals(len(values)), values, strict=True)]


def taken(queue: ReviewQueue, reviewer: str, order: str = DISPUTED) -> int:
    entry = queue.take(reviewer, order)
    assert entry is not None
    return entry.number


def names(queue: ReviewQueue, reviewer: str, order: str) -> list[str]:
    """The files of all images in the order in which a reviewer who names each gets them."""
    found = []
    while (entry := queue.take(reviewer, order)) is not None:
        found.append(entry.name)
        assert queue.label(reviewer, entry.number, 0)
    return found


def test_an_image_comes_back_as_it_was_put_in(queue: ReviewQueue, clock: Clock) -> None:
    one = replace(
        refusals(1)[0],
        votes=np.random.default_rng(0).random((7, 10)).astype(np.float16),
        name="a/b c.png",
        quality="cut off",
        why="Cut off: why.",
    )
    assert queue.add([one]) == Added(added=1)
    entry = queue.take("ada")
    assert entry is not None
    for field in ("image", "votes"):
        np.testing.assert_array_equal(getattr(entry, field), getattr(one, field))
    for field in ("name", "reason", "quality", "why", "epistemic"):
        assert getattr(entry, field) == getattr(one, field)
    assert entry.added == clock.now


def test_the_most_disputed_come_first_or_the_oldest(queue: ReviewQueue) -> None:
    queue.add(epistemics(0.2, 0.7, 0.1, 0.7))
    assert names(queue, "ada", DISPUTED) == ["1.png", "3.png", "0.png", "2.png"]
    queue.delete_all()
    queue.add(epistemics(0.2, 0.7, 0.1, 0.7))
    assert names(queue, "ada", OLDEST) == ["0.png", "1.png", "2.png", "3.png"]
    with pytest.raises(InputError, match="order of images"):
        queue.take("ada", "newest")


def test_no_two_reviewers_get_one_image_and_each_keeps_theirs(queue: ReviewQueue) -> None:
    queue.add(refusals(3))
    first = {reviewer: taken(queue, reviewer) for reviewer in ("ada", "bo", "cy")}
    assert len(set(first.values())) == 3
    assert queue.take("di") is None
    assert {reviewer: taken(queue, reviewer, OLDEST) for reviewer in first} == first  # after a reload
    assert queue.progress() == Progress(waiting=3, looked_at=3)


def test_who_goes_away_gives_the_image_back_when_the_time_is_over(queue: ReviewQueue, clock: Clock) -> None:
    queue.add(refusals(1))
    number = taken(queue, "ada")
    clock.now += HELD_SECONDS - 1
    assert queue.take("bo") is None
    clock.now += 1
    assert queue.progress().looked_at == 0
    assert taken(queue, "bo") == number
    assert not queue.label("ada", number, 4)  # too late: bo looks at it
    assert not queue.skip("ada", number)
    assert not queue.delete("ada", number)
    assert queue.label("bo", number, 5)
    assert not queue.label("ada", number, 4)
    assert [one.label for one in queue.reviewed()] == [5]


def test_a_late_label_counts_where_nobody_else_has_taken_the_image(queue: ReviewQueue, clock: Clock) -> None:
    queue.add(refusals(1))
    number = taken(queue, "ada")
    clock.now += 10 * HELD_SECONDS
    assert queue.label("ada", number, 4)


def test_the_same_label_told_again_is_no_mistake(queue: ReviewQueue) -> None:
    queue.add(refusals(1))
    number = taken(queue, "ada")
    assert queue.label("ada", number, 4)
    assert queue.label("ada", number, 4)  # whose first answer was lost on the way
    assert not queue.label("ada", number, 5)
    assert not queue.label("bo", number, 4)


def test_what_is_skipped_comes_last_to_anyone(queue: ReviewQueue) -> None:
    queue.add(epistemics(0.9, 0.5, 0.1))
    first = taken(queue, "ada")
    assert queue.skip("ada", first)
    assert not queue.skip("ada", first)  # it is no longer theirs
    second = taken(queue, "ada")
    assert second != first
    assert queue.label("ada", second, 1)
    assert names(queue, "bo", DISPUTED) == ["2.png", "0.png"]


def test_undo_takes_back_labels_and_skips_one_after_another(queue: ReviewQueue) -> None:
    queue.add(epistemics(0.9, 0.5, 0.1))
    labelled = taken(queue, "ada")
    queue.label("ada", labelled, 4)
    skipped = taken(queue, "ada")
    queue.skip("ada", skipped)
    back = queue.undo("ada", skipped)
    assert back is not None
    assert back.number == skipped
    assert queue.take("bo", OLDEST) is not None
    again = queue.undo("ada", labelled)
    assert again is not None
    assert again.number == labelled
    assert queue.progress().reviewed == 0
    assert queue.label("ada", labelled, 7)
    assert [one.label for one in queue.reviewed()] == [7]


def test_nobody_undoes_what_is_not_theirs(queue: ReviewQueue) -> None:
    queue.add(refusals(2))
    mine, theirs = taken(queue, "ada"), taken(queue, "bo")
    queue.label("bo", theirs, 1)
    assert queue.undo("ada", theirs) is None
    queue.skip("ada", mine)
    assert taken(queue, "cy") == mine
    assert queue.undo("ada", mine) is None  # cy looks at it now
    assert [one.label for one in queue.reviewed()] == [1]


def test_an_image_is_in_the_queue_once_and_again_after_it_was_deleted(queue: ReviewQueue) -> None:
    one, other = refusals(2)
    assert queue.add([one, replace(one, name="copy.png"), other]) == Added(added=2, known=1)
    number = taken(queue, "ada", OLDEST)
    queue.label("ada", number, 4)
    assert queue.add([one]) == Added(known=1)
    assert queue.delete_reviewed() == 1
    assert queue.add([one]) == Added(added=1)
    assert queue.undo("ada", number) is None  # its number is another's never again


def test_a_full_queue_takes_no_more_and_says_how_many(
    queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_IMAGES", 3)
    five = refusals(5)
    assert queue.has_room()
    assert queue.add(five) == Added(added=3, left_out=2)
    assert not queue.has_room()
    assert queue.add(five) == Added(known=3, left_out=2)


def test_labels_are_classes_or_none_of_them(queue: ReviewQueue) -> None:
    queue.add(refusals(1))
    number = taken(queue, "ada")
    for label in (10, -2, 999):
        with pytest.raises(InputError, match="from 0 to 9"):
            queue.label("ada", number, label)
    assert queue.label("ada", number, NO_DIGIT)
    assert queue.progress() == Progress(labels={NO_DIGIT: 1})


@given(
    name=st.text(max_size=2 * MOST_NAME) | st.just("\0" * 500) | st.just("\ud800x"),
    why=st.text(max_size=2 * MOST_WHY),
    draws=st.integers(1, 3000),
)
def test_names_of_any_kind_are_kept_within_bounds(
    name: str, why: str, draws: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = replace(refusals(1)[0], name=name, why=why, votes=np.zeros((draws, 10), np.float16))
    with ReviewQueue.open(str(tmp_path_factory.mktemp("any") / "q"), DIGITS) as queue:
        queue.add([one])
        entry = queue.take("ada")
    assert entry is not None
    assert len(entry.name) <= MOST_NAME
    assert len(entry.why) <= MOST_WHY
    assert entry.votes.size <= MOST_VOTES
    assert entry.votes.shape == (min(draws, MOST_VOTES // 10), 10)
    if name.isascii() and "\0" not in name:
        assert entry.name == name[:MOST_NAME]


def test_many_at_once_get_images_of_their_own(place: str) -> None:
    with ReviewQueue.open(place, DIGITS) as queue, ThreadPoolExecutor(6) as pool:
        queue.add(refusals(60))

        def reviewing(reviewer: str) -> list[int]:
            mine = []
            while (entry := queue.take(reviewer)) is not None:
                assert queue.label(reviewer, entry.number, 1)
                mine.append(entry.number)
            return mine

        all_taken = [number for mine in pool.map(reviewing, "abcdef") for number in mine]
        assert len(all_taken) == len(set(all_taken)) == 60


# Deleting


def test_what_is_deleted_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path, secret = tmp_path / "queue.sqlite", np.frombuffer(b"a very private drawing" * 36, np.uint8)[:784]
    private = replace(refusals(1)[0], image=secret.reshape(28, 28), name="private name.png")
    with ReviewQueue.open(str(path), DIGITS) as queue:
        queue.add([*refusals(50), private])
        assert b"private name" in path.read_bytes()
        assert b"a very private drawing" in path.read_bytes()
        size = path.stat().st_size
        for _ in range(51):
            entry = queue.take("ada")
            assert entry is not None
            if entry.name == private.name:
                assert queue.delete("ada", entry.number)
            else:
                queue.label("ada", entry.number, 1)
        for trace in (b"private name", b"a very private drawing"):
            assert all(trace not in file.read_bytes() for file in tmp_path.iterdir())
        assert queue.delete_reviewed() == 50
        assert path.stat().st_size < size / 3
        assert queue.progress() == Progress()
    assert [file.name for file in tmp_path.iterdir()] == ["queue.sqlite"]


def test_what_is_deleted_is_overwritten_even_where_the_file_cannot_shrink(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with ReviewQueue.open(str(path), DIGITS) as queue:
        queue.add([replace(one, name="private name.png") for one in refusals(20)])
        with sqlite3.connect(path) as reader:  # who reads while it is deleted
            rows = reader.execute("SELECT name FROM bnn_refused")
            rows.fetchone()
            rows.close()
            queue.delete_all()
        reader.close()
        assert b"private name" not in path.read_bytes()


def test_what_stayed_too_long_is_deleted_whether_or_not_it_was_reviewed(place: str, clock: Clock) -> None:
    with ReviewQueue.open(place, DIGITS, retention=100.0, clock=clock) as queue:
        early, late = refusals(4)[:2], refusals(4)[2:]
        queue.add(early)
        queue.label("ada", taken(queue, "ada"), 3)
        clock.now += 60
        queue.add(late)
        assert queue.expire() == 0
        clock.now += 41
        assert queue.expire() == 2
        assert queue.progress().together == 2
    with ReviewQueue.open(place, DIGITS, clock=clock) as queue:
        clock.now += 1e9
        assert queue.expire() == 0


# Crashes


@pytest.mark.slow
def test_reviewers_who_are_killed_lose_no_label_and_get_no_image_twice() -> None:
    done = finished(sys.executable, str(HARNESS), "--kills", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("6 kills")


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRESQL, reason="no server")
def test_so_it_is_with_postgresql() -> None:
    done = finished(sys.executable, str(HARNESS), "--kills", "6", "--queue", str(POSTGRESQL))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["given 1 0.0 a", "says 1 4", "given 2 9.0 b", "says 2 5", "said 2 5"], []),
        (["says 1 3", "given 2 0.0 a", "says 2 5"], ["image 1 has the label 4, which nobody gave it"]),
        (
            ["says 1 4", "said 1 4", "said 1 4", "says 2 5"],
            ["image 1 was to have the labels [4, 4], and has 4"],
        ),
        (
            ["says 1 4", "says 2 5", "given 1 0.0 a", f"given 1 {HELD_SECONDS - 1} b"],
            ["image 1 was given to b while a held it"],
        ),
        (["says 1 4", "says 2 5", "given 1 0.0 a", f"given 1 {HELD_SECONDS} b"], []),
        (["says 1 4", "says 2 5", "given 1 0.0 a", "given 1 1.0 a"], []),
    ],
)
def test_the_harness_sees_what_is_lost_or_given_twice(
    tmp_path: Path, lines: list[str], said: list[str]
) -> None:
    where = str(tmp_path / "queue.sqlite")
    with ReviewQueue.open(where, DIGITS) as queue:
        queue.add(refusals(2))
        for label in (4, 5):
            queue.label("ada", taken(queue, "ada", OLDEST), label)
    (tmp_path / "1.log").write_text("\n".join(lines))
    assert wrongs(where, tmp_path, 2)[0] == said
    assert wrongs(where, tmp_path, 3)[0][0] == "1 images have no label"
    assert Given(0.0, 1.0, "a") < Given(1.0, 2.0, "a")


def test_a_crash_amid_a_change_leaves_the_queue_as_it_was(tmp_path: Path) -> None:
    where = str(tmp_path / "queue.sqlite")
    with ReviewQueue.open(where, DIGITS) as queue:
        queue.add(refusals(3))
    crashing = (
        "import os, sys, sqlalchemy as sa; from bnn.review.database import engine_of, transaction\n"
        "engine = engine_of(sys.argv[1], writes=True, makes=False)\n"
        "with transaction(engine, sys.argv[1]) as c:\n"
        "    c.exec_driver_sql('UPDATE bnn_refused SET label = 1')\n"
        "    c.exec_driver_sql('DELETE FROM bnn_queue')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    with program(sys.executable, "-c", crashing, where) as process:
        assert process.wait() == -9
    with ReviewQueue.open(where, DIGITS) as queue:
        assert queue.progress() == Progress(waiting=3)


# What cannot be used


def holding(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def other_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()


def changed(**values: Any) -> Callable[[Path], None]:
    """A queue whose one row about itself says something else."""

    def make(path: Path) -> None:
        with ReviewQueue.open(str(path), DIGITS) as queue, queue._engine.begin() as connection:
            connection.execute(update(about).values(**values))

    return make


def protected(path: Path) -> None:
    with ReviewQueue.open(str(path), DIGITS):
        path.chmod(0o400)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (holding(b"no database at all" * 100), "it is no database: name another file"),
        (holding(b"SQLite format 3\0" + bytes(5000)), "no database|damaged|no queue"),
        (other_tables, "holds no queue of refused images"),
        (changed(version=2), "is of version 2, and this program knows version 1"),
        (changed(task='{"names": ["a", "b"], "layout": "mnist"}'), "is for other classes"),
        (changed(task='{"names": ["a"], "layout": 3}'), "damaged|classes"),
        (changed(task='{"names": ["a", '), "is damaged"),
        (changed(task='{"names": {}}'), "is damaged"),
        (changed(task="3"), "is damaged"),
        (changed(task="[" * 100_000), "is damaged"),
        (protected, "write-protected"),
        (Path.mkdir, "cannot be opened"),
    ],
)
def test_a_file_that_is_no_queue_is_told_in_one_sentence_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "queue.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(InputError, match=rf"^[^\n]*{said}[^\n]*\.$"):
        ReviewQueue.open(str(path), DIGITS)
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize("values", [{"label": 10}, {"label": -2}, {"image": b"short"}])
def test_what_is_damaged_in_an_image_of_the_queue_is_told(tmp_path: Path, values: dict[str, Any]) -> None:
    where = str(tmp_path / "queue.sqlite")
    with ReviewQueue.open(where, DIGITS) as queue:
        queue.add(epistemics(0.5))
        entry = queue.take("ann")
        assert entry is not None
        queue.label("ann", entry.number, 3)
        with queue._engine.begin() as connection:
            connection.execute(update(refused).values(**values))
        with pytest.raises(InputError, match=r"^the queue [^\n]+ is damaged [^\n]+\.$"):
            queue.reviewed()


def test_a_queue_that_another_program_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.review.database.PATIENCE", 0.05)
    where = str(tmp_path / "queue.sqlite")
    with ReviewQueue.open(where, DIGITS) as queue:
        queue.add(refusals(1))
        holder = sqlite3.connect(where, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"^the queue .* cannot be used: another program has held it"):
            queue.take("ada")
        holder.execute("ROLLBACK")
        holder.close()
        assert queue.take("ada") is not None


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nowhere/queue.sqlite", "cannot be opened"),
        ("mysql://a:secret@b/c", r"mysql://a:\*\*\*@b/c is not PostgreSQL's"),
        ("://", "is no URL"),
        ("postgresql://a:secret@127.0.0.1:1/b?connect_timeout=2", "cannot be used"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_without_its_password(
    where: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgresql`)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^[^\n]*{said}[^\n]*\.$") as error:
        ReviewQueue.open(where, DIGITS)
    assert "secret" not in str(error.value)
    assert "secret" not in shown(where)
    assert list(tmp_path.iterdir()) == []


def test_reading_makes_no_file_and_needs_no_leave_to_write(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    for writes in (False, True):
        with pytest.raises(InputError, match="there is no file"):
            ReviewQueue.open(str(path), None, writes=writes)
    assert not path.exists()
    task = Task(("cat", "dog"), "as-is")
    with ReviewQueue.open(str(path), task):
        path.chmod(0o400)
    with ReviewQueue.open(str(path), writes=False) as queue:
        assert (queue.task.names, queue.task.layout) == (task.names, task.layout)
        assert queue.reviewed() == []
    assert is_database(str(path))
    assert not is_database(str(tmp_path))


def test_the_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with ReviewQueue.open(str(path), DIGITS) as queue:
        queue.add(refusals(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# PostgreSQL


def test_postgresql_is_asked_to_pass_over_what_others_are_taking() -> None:
    asked: list[str] = []

    class Told(ReviewQueue):
        def _given(self, reviewer: str, which: Any, **values: Any) -> None:
            taking = (
                update(refused).where(which).values(held_by=reviewer, **values).returning(refused.c.number)
            )
            asked.append(str(taking.compile(dialect=postgresql.dialect())))

    nothing: Any = None
    Told(nothing, "", DIGITS).take("ada")
    (text,) = asked
    assert "FOR UPDATE SKIP LOCKED" in text
    assert text.startswith("UPDATE bnn_refused SET")
    assert "RETURNING" in text
    assert "FOR UPDATE" in str(select(about).with_for_update().compile(dialect=postgresql.dialect()))


# Export


HOSTILE = '=HYPERLINK("x")\n../../etc/passwd'


def reviewed(where: str, labels: list[int], task: Task = DIGITS) -> ReviewQueue:
    """A queue of so many images that have these labels."""
    queue = ReviewQueue.open(where, task)
    some = [
        replace(one, name=HOSTILE, votes=np.zeros((2, task.classes), np.float16))
        for one in refusals(len(labels))
    ]
    queue.add(some)
    for label in labels:
        assert queue.label("ada", taken(queue, "ada", OLDEST), label)
    return queue


def test_the_export_is_a_folder_a_class_that_reads_back_the_same(tmp_path: Path) -> None:
    labels = [3, NO_DIGIT, 9, 3, 0]
    with reviewed(str(tmp_path / "q"), labels) as queue:
        found = queue.reviewed()
        write_folder(found, DIGITS.names, tmp_path / "out")
        files = dict(exported(found, DIGITS.names))
    read = ImageSet.from_folder(tmp_path / "out" / "labelled", labelled=True)
    assert read.unreadable == []
    by_number = {int(Path(source).stem): index for index, source in enumerate(read.sources)}
    for one in found:
        if one.label == NO_DIGIT:
            assert one.number not in by_number
            continue
        index = by_number[one.number]
        assert int(read.truth()[index]) == one.label
        np.testing.assert_array_equal((read.images[index, 0].numpy() * 255).round(), one.image)
    assert len(list((tmp_path / "out" / "no-digit").iterdir())) == 1
    rows = list(csv.DictReader(io.StringIO(files["labels.csv"].decode(), newline="")))
    assert [row["label"] for row in rows] == ["3", "none", "9", "3", "0"]
    assert {row["name"] for row in rows} == {f"'{HOSTILE}"}  # no formula to a spreadsheet
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows)
    with zipfile.ZipFile(io.BytesIO(zipped(found, DIGITS.names))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    with pytest.raises(InputError, match="is there already"):
        write_folder(found, DIGITS.names, tmp_path / "out")


def test_class_names_lead_out_of_no_folder(tmp_path: Path) -> None:
    task = Task(("../up", "..", "a/b", "plain name", ".hidden", "c\\d"), "as-is")
    with reviewed(str(tmp_path / "q"), list(range(task.classes)), task) as queue:
        write_folder(queue.reviewed(), task.names, tmp_path / "out")
    folders = [path for path in (tmp_path / "out" / "labelled").iterdir() if path.is_dir()]
    assert len(folders) == task.classes
    assert all(len(list(folder.glob("*.png"))) == 1 for folder in folders)
    assert len(list((tmp_path / "out").rglob("*.png"))) == task.classes
    assert (tmp_path / "out" / "labelled" / "plain name").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"q", "out"}


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with reviewed(str(tmp_path / "q"), [1]) as queue:
        found = queue.reviewed()
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(InputError, match="No space left"):
        write_folder(found, DIGITS.names, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["q"]
