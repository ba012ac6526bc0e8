"""Images by the million: each kind of source from any row on, and what hostile and damaged ones come to."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
from shards import KINDS, digits, idx, parquet, png, tarred, written, zipped

from bnn.data import archives, sources
from bnn.data.places import files_at
from bnn.data.preprocess import read_images
from bnn.data.sources import DAMAGED_SOURCE, Item, Source, image_of, items, scanned
from bnn.errors import InputError

COUNT, EVERY = 17, 5
SPOILT = ("zip", "tar", "tar.gz", "idx", "idx.gz", "bytes", "pixels")


def source_at(path: Path, every: int = EVERY) -> Source:
    ((place, stamp),) = files_at(str(path))
    return scanned(place, stamp, every)


def parts(source: Source, every: int = EVERY) -> list[list[Item]]:
    """What is read of each chunk by itself."""
    return [
        list(items(source, start, min(start + every, source.rows), every))
        for start in range(0, source.rows, every)
    ]


def rows(source: Source, every: int = EVERY) -> list[Item]:
    return [item for part in parts(source, every) for item in part]


def whys(path: Path) -> list[str]:
    """Of every row of the file why it cannot be read, or nothing."""
    found = []
    for item in rows(source_at(path)):
        try:
            read_images(image_of(item))
            found.append("")
        except InputError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_images_from_any_chunk_on(kind: str, tmp_path: Path) -> None:
    images = digits(COUNT)
    source = source_at(written(kind, images, tmp_path))
    assert source.rows == COUNT
    read = [read_images(image_of(item)).images for item in rows(source)]
    assert np.array_equal(np.stack([one[0, 0].numpy() for one in read]), images.astype(np.float32) / 255)
    assert len({item.name for item in rows(source)}) == COUNT


def test_members_keep_their_names_and_clutter_is_no_image(tmp_path: Path) -> None:
    image = png(digits(1)[0])
    members = [("a/1.png", image), ("__MACOSX/a/._1.png", b""), (".hidden", b""), ("a/Thumbs.db", b"")]
    for name, make in (("a.zip", zipped), ("a.tar", tarred)):
        (tmp_path / name).write_bytes(make(members))
        assert [item.name for item in rows(source_at(tmp_path / name))] == ["/a/1.png"]


def test_tricks_with_paths_write_nothing_and_are_no_more_than_names(tmp_path: Path) -> None:
    image = png(digits(1)[0])
    members = [
        (name, image) for name in ("../../up.png", "/abs.png", "C:\\x.png", "a\nb\x1b[2J.png", "x" * 9000)
    ]
    for name, make in (("a.zip", zipped), ("a.tar", tarred)):
        (tmp_path / name).write_bytes(make(members))
        found = rows(source_at(tmp_path / name))
        assert [item.image for item in found] == [image] * len(members)
        assert all(item.name.isprintable() and len(item.name) <= 1001 for item in found)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "a.zip"]
    assert not (tmp_path.parents[1] / "up.png").exists()


def test_links_and_devices_in_a_tar_are_told_and_not_followed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"x{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    assert whys(tmp_path / "a.tar") == ["it is a link or a device: pack the file itself."] * 4


def test_what_unpacks_to_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BYTES", 1_000_000)
    small, bomb = png(digits(1)[0]), bytes(30_000_000)
    members = [("a.png", small), ("bomb.png", bomb), ("b.png", small)]
    (tmp_path / "a.zip").write_bytes(zipped(members))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tarred(members), 1))
    (tmp_path / "a.parquet").write_bytes(parquet(image=[small, bytes(1_000_001), small]))
    tracemalloc.start()
    for name in ("a.zip", "a.tar.gz", "a.parquet"):
        assert whys(tmp_path / name) == ["", "it has more than 1 MB.", ""]
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_an_archive_whose_list_would_lie_before_its_start_is_damaged(tmp_path: Path) -> None:
    content = bytearray(zipped([("a.png", png(digits(1)[0]))]))
    at = content.rindex(b"PK\5\6")
    content[at + 12 : at + 16] = struct.pack("<L", len(content) + 10_000)  # the list's size
    (tmp_path / "a.zip").write_bytes(content)
    (why,) = whys(tmp_path / "a.zip")
    assert why.startswith("the file is damaged: ")


def header(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header of a member of that `size`, as it is written there."""
    head = bytearray(tarfile.TarInfo("x.png").tobuf()[:512])
    head[124:136], head[156:157] = size, kind
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return bytes(head)


@pytest.mark.parametrize(
    ("content", "readable"),
    [
        (header(b"\xff" * 11 + b"\x00"), 0),  # a size below 0: the next header is this one again
        (header(b"\x80" + b"\x7f" * 11), 0),  # larger than any disk
        (header(b"77777777777\0", tarfile.XHDTYPE), 0),  # eight gigabytes that tell of the member
        (header(b"77777777777\0", tarfile.GNUTYPE_LONGNAME), 0),
        (header(b"00000000000\0", tarfile.XHDTYPE) * 3000, 0),  # heads of heads of heads
        (tarred([("a.png", b"x")])[:1024] + b"no header here".ljust(512) + tarred([("b.png", b"y")]), 1),
        (tarred([("a.png", b"x")])[:1024], 1),  # cut between two members
    ],
    ids=["negative", "endless", "pax", "name", "nested", "spoilt", "cut"],
)
def test_hostile_tars_end_with_a_reason(content: bytes, readable: int, tmp_path: Path) -> None:
    packed = gzip.compress(content + bytes(50_000_000 if content[156:157] in b"xL" else 0), 1)
    for name, stored in (("a.tar", content), ("b.tar.gz", packed)):
        (tmp_path / name).write_bytes(stored)
        source = source_at(tmp_path / name)
        found = rows(source)
        assert source.rows == len(found) <= readable + 2
        assert [item.image is not None for item in found[:readable]] == [True] * readable
        assert "damaged" in (found[-1].why or source.why)


def test_a_header_that_unpacks_to_much_is_not_read(tmp_path: Path) -> None:
    bomb = gzip.compress(header(b"00370000000\0", tarfile.XHDTYPE) + bytes(65_000_000), 1)
    (tmp_path / "a.tar.gz").write_bytes(bomb)
    tracemalloc.start()
    assert source_at(tmp_path / "a.tar.gz").kind in (DAMAGED_SOURCE, "tar")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_many_headers_stay_in_the_memory_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred([(f"{number}.png", b"") for number in range(5000)]))
    tracemalloc.start()
    assert source_at(tmp_path / "a.tar", 1000).rows == 5000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_encrypted_and_oddly_packed_entries_are_told(tmp_path: Path) -> None:
    content = bytearray(zipped([("secret.png", b"x"), ("open.png", png(digits(1)[0]))]))
    for head, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(head) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    assert whys(tmp_path / "a.zip") == ["it is encrypted.", ""]
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.png", bytes(10**6))
    assert "packed in an unusual way" in whys(tmp_path / "b.zip")[0]


def test_an_idx_file_that_claims_more_than_it_has_tells_so_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(struct.pack(">IIII", 0x803, 2**32 - 1, 28, 28) + digits(3).tobytes())
    assert [bool(why) for why in whys(tmp_path / "a")] == [False, False, False, True]
    (tmp_path / "b").write_bytes(struct.pack(">IIII", 0x803, 5, 2**31, 2**31))
    assert "damaged" in whys(tmp_path / "b")[0]


def test_a_parquet_file_without_images_says_what_it_should_have(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(label=[1, 2], text=["a", "b"]))
    (why,) = whys(tmp_path / "a.parquet")
    assert "no column of images" in why
    odd = parquet(image=[png(digits(1)[0]), None, b"", b"no image"])
    (tmp_path / "b.parquet").write_bytes(odd)
    assert [why.partition(" (")[0] for why in whys(tmp_path / "b.parquet")] == [
        "",
        "it is empty.",
        "it is empty.",
        "it is not an image",
    ]
    ragged = parquet(image=[[[1, 2], [3]], [[0.5, float("nan")], [0, 1]], [[300.0, 0], [0, 0]]])
    (tmp_path / "c.parquet").write_bytes(ragged)
    assert all(whys(tmp_path / "c.parquet"))


@given(st.sampled_from(SPOILT), st.data())
def test_whatever_is_spoilt_there_is_a_row_for_each_that_was_counted(kind: str, data: st.DataObject) -> None:
    name, make = KINDS[kind]
    content = bytearray(make(digits(6)))
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content) - 1), "length") :]
    for _ in range(data.draw(st.integers(0, 6), "flips")):
        place = data.draw(st.integers(0, max(0, len(content) - 1)), "place")
        content[place : place + 1] = bytes([data.draw(st.integers(0, 255), "value")])
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        source = source_at(path, 4)
        read = parts(source, 4)
        assert [len(part) for part in read] == [
            min(4, source.rows - start) for start in range(0, source.rows, 4)
        ]
        assert not any("\n" in why for why in whys(path))


def test_a_source_that_is_gone_is_no_unreadable_image(tmp_path: Path) -> None:
    path = written("tar", digits(3), tmp_path)
    source = source_at(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(items(source, 0, 3, EVERY))
    (tmp_path / "b-idx").write_bytes(idx(digits(3)))
    shrunk = source_at(tmp_path / "b-idx")
    (tmp_path / "b-idx").write_bytes(idx(digits(2)))
    assert [item.image is None for item in items(shrunk, 0, 3, EVERY)] == [False, False, True]


def test_places_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "nowhere", tmp_path / "pipe", "nothing://x/y", "file:///nowhere/at/all", "a\0b"):
        with pytest.raises(InputError) as raised:
            files_at(str(place))
        assert "\n" not in str(raised.value)


def test_urls_are_read_as_paths_are(tmp_path: Path) -> None:
    images = digits(3)
    written("tar", images, tmp_path)
    (tmp_path / "one.png").write_bytes(png(images[0]))
    found = files_at(f"file://{tmp_path}")
    assert [place for place, _ in found] == [f"file://{tmp_path}/{name}" for name in ("a.tar", "one.png")]
    tar, one = (scanned(place, stamp, EVERY) for place, stamp in found)
    assert [item.image for item in rows(tar)] == [png(image) for image in images]
    assert [item.image for item in rows(one)] == [png(images[0])]
    assert archives.MOST_BYTES == 20_000_000
