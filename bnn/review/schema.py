"""The tables of the queue, for SQLite and PostgreSQL alike."""

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

from bnn.review.entries import MOST_NAME, MOST_WHY, MOST_WORD

VERSION = 1  # of the tables; raised by one when they change
MOST_TOKEN = 64  # characters by which a reviewer is known

METADATA = MetaData()

about = Table(  # one row
    "bnn_queue",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("task", Text, nullable=False),  # JSON: class names and layout
)

refused = Table(
    "bnn_refused",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # SHA-256 of the image
    Column("name", String(MOST_NAME), nullable=False),
    Column("image", LargeBinary, nullable=False),  # 28×28 bytes
    Column("votes", LargeBinary, nullable=False),  # (S, C) float16, little-endian
    Column("epistemic", Double, nullable=False),
    Column("reason", String(MOST_WORD), nullable=False),
    Column("quality", String(MOST_WORD), nullable=False),
    Column("why", String(MOST_WHY), nullable=False),
    Column("added", Double, nullable=False),
    Column("skips", Integer, nullable=False, default=0),
    Column("held_by", String(MOST_TOKEN)),  # the reviewer who looks at it, or looked at it last
    Column("held_until", Double),  # after which others may get it
    Column("label", Integer),
    Column("labelled", Double),
    Column("labelled_by", String(MOST_TOKEN)),
    sqlite_autoincrement=True,  # a number is never used again: another image would get an old one's undo
)
Index("bnn_refused_label", refused.c.label)
