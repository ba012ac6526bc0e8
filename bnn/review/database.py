"""Which database the queue lies in: opening it, and what is wrong with one that cannot be used."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from bnn.errors import InputError, cause_in
from bnn.files import printable

PATIENCE = 10  # seconds that another program may hold the database
POSTGRESQL = "postgresql"
_HEAD = b"SQLite format 3\0"
_WHY = {  # by the start of SQLite's own name of an error
    "SQLITE_NOTADB": "it is no database: name another file, or one that is not there yet",
    "SQLITE_CORRUPT": "it is damaged: name another file, or take a copy of it from before",
    "SQLITE_CANTOPEN": "it cannot be opened: name a file in a folder that is there and may be written to",
    "SQLITE_READONLY": "it is write-protected: allow it, and its folder, to be written to",
    "SQLITE_BUSY": f"another program has held it for {PATIENCE} seconds: end that, or try again",
    "SQLITE_LOCKED": "another program holds it: end that, or try again",
    "SQLITE_FULL": "the disk is full: make room",
    "SQLITE_IOERR": "the disk cannot be read or written",
}


def is_url(where: str) -> bool:
    """Whether `where` is a database's URL, and no file."""
    return "://" in where


def is_database(where: str) -> bool:
    """Whether `where` is a database's URL, or a file that SQLite made."""
    if is_url(where):
        return True
    try:
        with Path(where).open("rb") as stream:
            return stream.read(len(_HEAD)) == _HEAD
    except OSError:
        return False


def shown(where: str) -> str:
    """`where` for a message, without the password that a URL may hold."""
    if not is_url(where):
        return printable(where)
    with suppress(ArgumentError):
        return make_url(where).render_as_string(hide_password=True)
    return "that URL"


def engine_of(where: str, *, writes: bool, makes: bool) -> Engine:
    """What connects to the database that `where` names, and to no other.

    A file that is made is its owner's alone to read.

    Args:
        where: a file, or a URL of PostgreSQL.
        writes: whether it is written to.
        makes: whether a file is made where there is none.

    Raises:
        InputError: it can be no queue.
    """
    if is_url(where):
        return create_engine(_postgresql(where), pool_pre_ping=True)
    path = Path(where)
    if not (makes or path.is_file()):
        raise InputError(f"there is no file {shown(where)}: name a queue that is there.")
    if writes:
        _require_file(path)
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": PATIENCE})
    event.listen(engine, "connect", _connected)
    # Else two that have read would wait for each other to write.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


@contextmanager
def transaction(engine: Engine, where: str) -> Iterator[Connection]:
    """A transaction, which is there whole when the block has ended, or not at all.

    Raises:
        InputError: the database cannot be used, now or at all.
    """
    with told(where), engine.begin() as connection:
        yield connection


@contextmanager
def told(where: str) -> Iterator[None]:
    """Says in a sentence what is wrong with the database at `where`, where something is.

    Raises:
        InputError: something is.
    """
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:  # the latter as a connection is made
        why = _why(getattr(error, "orig", error))
        raise InputError(f"the queue {shown(where)} cannot be used: {why}.") from error
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # of values that are none of ours
        raise InputError(
            f"the queue {shown(where)} is damaged ({cause_in(error)}): take another copy of it."
        ) from error


def compact(engine: Engine) -> None:
    """Has the database give back what was deleted: in the file, or PostgreSQL's table, nothing of it stays.

    A SQLite file that others are using stays as long as it is; what was deleted is overwritten in any case.
    """
    if engine.dialect.name == POSTGRESQL:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM FULL bnn_refused")
        return
    with closing(engine.raw_connection()) as raw, suppress(sqlite3.OperationalError):
        raw.execute("VACUUM")


def _postgresql(where: str) -> URL:
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise InputError("this is no URL: give postgresql://USER@HOST/DATABASE, or a file.") from error
    if url.get_backend_name() not in (POSTGRESQL, "postgres"):
        raise InputError(f"{shown(where)} is not PostgreSQL's: give postgresql://…, or a file for SQLite.")
    return url.set(drivername=f"{POSTGRESQL}+psycopg")


def _require_file(path: Path) -> None:
    """Makes the file, where there is none, for its owner alone; SQLite itself would let others read it."""
    name = shown(str(path))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(
            f"the queue {name} cannot be opened ({cause_in(error)}): choose another place."
        ) from error
    if not stat.S_ISREG(mode):
        raise InputError(f"the queue {name} is a device or a pipe: name a file.")
    if not mode & 0o222:  # to the superuser nothing is protected
        raise InputError(f"the queue {name} cannot be used: {_WHY['SQLITE_READONLY']}.")


def _connected(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros


def _why(error: BaseException | None) -> str:
    name = str(getattr(error, "sqlite_errorname", ""))
    known = next((why for start, why in _WHY.items() if name.startswith(start)), None)
    return known or " ".join(str(error).split())[:200].rstrip(".")
