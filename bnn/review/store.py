"""The queue itself: images go in, each is given to one reviewer at a time, and labels come out.

A reviewer who takes an image holds it for `HELD_SECONDS`. Whoever goes away without a word, or crashes, only
lets that time run out: then the image is given to someone else, and a label that still comes is refused.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    delete,
    func,
    insert,
    inspect,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bnn.core.networks import IMAGE_SIZE
from bnn.core.task import Task
from bnn.errors import InputError, choose
from bnn.review.database import POSTGRESQL, compact, engine_of, is_url, shown, told, transaction
from bnn.review.entries import DISPUTED, NO_DIGIT, OLDEST, Added, Entry, Progress, Refusal, Reviewed
from bnn.review.schema import METADATA, MOST_TOKEN, VERSION, about, refused

MOST_IMAGES = 20_000  # of a queue: some 2 kB each with 50 draws, and 22 kB at most
HELD_SECONDS = 300.0
ORDERS: Mapping[str, tuple[ColumnElement[Any], ...]] = {
    DISPUTED: (refused.c.epistemic.desc(), refused.c.number),
    OLDEST: (refused.c.number,),
}
_INSERT: Mapping[str, Callable[..., Any]] = {"sqlite": sqlite.insert, POSTGRESQL: postgresql.insert}
_SEEN = [refused.c[name] for name in ("number", "name", "image", "votes", "epistemic")] + [
    refused.c[name] for name in ("reason", "quality", "why", "added")
]


class ReviewQueue:
    """A queue of refused images, which lies in a database.

    Whatever is called may raise an `InputError`: the database cannot be used any longer. Several threads,
    processes and machines may use one queue, whose clocks should agree to within seconds.

    Attributes:
        task: whose classes the labels are.
        retention: seconds that an image stays in the queue, whether or not it was reviewed; None for ever.
    """

    def __init__(
        self,
        engine: Engine,
        where: str,
        task: Task,
        *,
        retention: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.task, self.retention = task, retention
        self._engine, self._where, self._clock = engine, where, clock

    @classmethod
    def open(
        cls,
        where: str,
        task: Task | None = None,
        *,
        retention: float | None = None,
        writes: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """The queue that lies at `where`; it is made where there is none.

        Args:
            where: a file, for SQLite, or a URL of PostgreSQL.
            task: whose classes the labels are, and whose layout the images have; by default that of the
                queue, which must be there then.
            retention: see the class.
            writes: whether anything is to be changed; if not, none is made.
            clock: tells the seconds since 1970.

        Raises:
            InputError: the database cannot be used, or holds something else, or a queue of another version
                or task.
        """
        engine = engine_of(where, writes=writes, makes=writes and task is not None)
        try:
            with transaction(engine, where) as connection:
                task = _task_in(connection, where, task, writes=writes)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, where, task, retention=retention, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def add(self, refusals: Iterable[Refusal]) -> Added:
        """Puts images into the queue, but those that are in it already, or find no room."""
        now, counts = self._clock(), {"added": 0, "known": 0, "left_out": 0}
        with transaction(self._engine, self._where) as connection:
            connection.execute(select(about.c.version).with_for_update())  # one at a time counts, and adds
            room = MOST_IMAGES - _count(connection)
            for one in refusals:
                became = _added(connection, one, now, has_room=room > 0)
                room -= became == "added"
                counts[became] += 1
        return Added(**counts)

    def has_room(self) -> bool:
        """Whether another image may be added."""
        with transaction(self._engine, self._where) as connection:
            return _count(connection) < MOST_IMAGES

    def take(self, reviewer: str, order: str = DISPUTED) -> Entry | None:
        """Gives `reviewer` the next image to look at, which nobody else gets for `HELD_SECONDS`.

        It is the one that they hold already, if any; images that were skipped come last. None where no image
        waits that is not held by others.

        Args:
            reviewer: anything of up to `MOST_TOKEN` characters that no other reviewer is known by.
            order: of the images, a name in `ORDERS`.

        Raises:
            InputError: there is no such order.
        """
        first = choose(ORDERS, order, "order of images")
        mine = case((refused.c.held_by == reviewer, 0), else_=1)
        following = (
            select(refused.c.number)
            .where(refused.c.label.is_(None), self._is_free_for(reviewer))
            .order_by(mine, refused.c.skips, *first)
            .limit(1)
            .with_for_update(skip_locked=True)  # SQLite, which writes one transaction at a time, needs none
        )
        return self._given(reviewer, refused.c.number == following.scalar_subquery())

    def label(self, reviewer: str, number: int, label: int) -> bool:
        """Gives an image its `label`, a class or `NO_DIGIT`, and says whether it has it now.

        It has not where `reviewer` held it too long, and someone else has taken it, or where it was deleted.

        Raises:
            InputError: there is no such class.
        """
        if label != NO_DIGIT:
            self.task.require_labels([label])
        is_mine = and_(refused.c.label.is_(None), refused.c.held_by == reviewer)
        is_again = and_(refused.c.label == label, refused.c.labelled_by == reviewer)  # an answer was lost
        values = {"label": label, "labelled": self._clock(), "labelled_by": reviewer}
        return self._changed(number, or_(is_mine, is_again), **values, held_by=None, held_until=None)

    def skip(self, reviewer: str, number: int) -> bool:
        """Gives an image back, to come after all others, and says whether `reviewer` had it."""
        is_mine = and_(refused.c.label.is_(None), refused.c.held_by == reviewer)
        values = {"held_by": None, "held_until": None, "skips": refused.c.skips + 1}
        return self._changed(number, is_mine, **values)

    def undo(self, reviewer: str, number: int) -> Entry | None:
        """Takes back the label that `reviewer` gave an image, or that they skipped it: they hold it again.

        None where that cannot be: someone else has taken or labelled it, or it was deleted.
        """
        is_mine = and_(refused.c.label.is_not(None), refused.c.labelled_by == reviewer)
        is_free = and_(refused.c.label.is_(None), self._is_free_for(reviewer))
        no_label = {"label": None, "labelled": None, "labelled_by": None}
        return self._given(reviewer, and_(refused.c.number == number, or_(is_mine, is_free)), **no_label)

    def delete(self, reviewer: str, number: int) -> bool:
        """Deletes the image that `reviewer` looks at, and says whether they had it."""
        is_theirs = and_(refused.c.number == number, refused.c.label.is_(None), refused.c.held_by == reviewer)
        return bool(self._deleted(is_theirs))

    def delete_reviewed(self) -> int:
        """Deletes all images that have a label, and gives how many they were."""
        return self._deleted(refused.c.label.is_not(None))

    def delete_all(self) -> int:
        """Deletes all images, and gives how many they were."""
        return self._deleted(refused.c.number.is_not(None))

    def expire(self) -> int:
        """Deletes what has been there for longer than the `retention`, and gives how many they were."""
        if self.retention is None:
            return 0
        return self._deleted(refused.c.added < self._clock() - self.retention)

    def progress(self) -> Progress:
        """How far the review is."""
        is_held = and_(refused.c.label.is_(None), refused.c.held_until > self._clock())
        with transaction(self._engine, self._where) as connection:
            counted = select(refused.c.label, func.count().label("images")).group_by(refused.c.label)
            counts = {row.label: row.images for row in connection.execute(counted)}
            held = connection.execute(select(func.count()).where(is_held)).scalar_one()
        return Progress.of(counts, held)

    def reviewed(self) -> list[Reviewed]:
        """The images that have a label, in the order in which they came."""
        names = ("number", "name", "image", "label", "reason", "quality", "added", "labelled")
        found = select(*(refused.c[name] for name in names)).where(refused.c.label.is_not(None))
        with transaction(self._engine, self._where) as connection:
            rows = connection.execute(found.order_by(refused.c.number)).mappings().all()
            return [self._reviewed(dict(row)) for row in rows]

    def _is_free_for(self, reviewer: str) -> ColumnElement[bool]:
        """Whether nobody else holds an image now."""
        until = refused.c.held_until
        return or_(until.is_(None), until <= self._clock(), refused.c.held_by == reviewer)

    def _given(self, reviewer: str, which: ColumnElement[bool], **values: Any) -> Entry | None:
        """Has `reviewer` hold the image, and gives it to them."""
        if len(reviewer) > MOST_TOKEN:
            raise InputError(f"a reviewer is known by up to {MOST_TOKEN} characters.")
        until = self._clock() + HELD_SECONDS
        taking = update(refused).where(which).values(held_by=reviewer, held_until=until, **values)
        with transaction(self._engine, self._where) as connection:
            row = connection.execute(taking.returning(*_SEEN)).mappings().one_or_none()
            return None if row is None else self._entry(dict(row))

    def _entry(self, row: dict[str, Any]) -> Entry:
        votes = np.frombuffer(row["votes"], "<f2").reshape(-1, self.task.classes)
        return Entry(**row | {"image": _image(row["image"]), "votes": votes})

    def _reviewed(self, row: dict[str, Any]) -> Reviewed:
        if not NO_DIGIT <= row["label"] < self.task.classes:
            raise ValueError(f"image {row['number']} has a label of no class")
        return Reviewed(**row | {"image": _image(row["image"])})

    def _changed(self, number: int, which: ColumnElement[bool], **values: Any) -> bool:
        changing = update(refused).where(refused.c.number == number, which).values(**values)
        with transaction(self._engine, self._where) as connection:
            return connection.execute(changing).rowcount == 1

    def _deleted(self, which: ColumnElement[bool]) -> int:
        with transaction(self._engine, self._where) as connection:
            count = connection.execute(delete(refused).where(which)).rowcount
        if count:
            with told(self._where):
                compact(self._engine)
        return count


def _task_in(connection: Connection, where: str, task: Task | None, *, writes: bool) -> Task:
    """The task of the queue that the database holds; one for `task` is made where it may."""
    there = inspect(connection).get_table_names()
    if about.name not in there:
        if task is None or not writes or (there and not is_url(where)):
            raise InputError(f"{shown(where)} holds no queue of refused images: name another one.")
        METADATA.create_all(connection)
        kept = json.dumps({"names": list(task.names), "layout": task.layout})
        connection.execute(insert(about).values(version=VERSION, task=kept))
        return task
    version = connection.execute(select(about.c.version)).scalar_one_or_none()
    if version != VERSION:
        raise InputError(
            f"the queue {shown(where)} is of version {version}, and this program knows version {VERSION}: "
            "use the program that made it, or name another queue."
        )
    kept = json.loads(connection.execute(select(about.c.task)).scalar_one())
    found = Task(tuple(kept["names"]), kept["layout"])
    if task is not None and (task.names, task.layout) != (found.names, found.layout):
        raise InputError(
            f"the queue {shown(where)} is for other classes, or for images in another layout, than this "
            "checkpoint: name another queue."
        )
    return task or found


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(refused)).scalar_one()


def _added(
    connection: Connection, one: Refusal, now: float, *, has_room: bool
) -> Literal["added", "known", "left_out"]:
    """What becomes of a refusal: the name of a count in `Added`."""
    digest = hashlib.sha256(one.image.tobytes()).digest()
    if not has_room:
        is_known = connection.execute(select(refused.c.number).where(refused.c.digest == digest)).first()
        return "known" if is_known else "left_out"
    values = {name: getattr(one, name) for name in ("name", "epistemic", "reason", "quality", "why")}
    adding = _INSERT[connection.dialect.name](refused).values(
        **values,
        digest=digest,
        image=one.image.tobytes(),
        votes=one.votes.astype("<f2").tobytes(),
        added=now,
        skips=0,
    )
    unless_known = adding.on_conflict_do_nothing(index_elements=[refused.c.digest])
    number = connection.execute(unless_known.returning(refused.c.number)).scalar_one_or_none()
    return "known" if number is None else "added"


def _image(pixels: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(pixels, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE)
