"""Uploads: every kind of file and archive, however hostile, ends in images or in one sentence."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bnn.app import uploads
from bnn.app.uploads import SavedFile, Unusable, Upload, contents, read_files
from bnn.data.preprocess import prepare
from bnn.errors import InputError

HOSTILE = [
    "../../outside.png",
    "/etc/outside.png",
    "C:\\outside.png",
    "<script>alert(1)</script>.png",
    "a\nb\x1b[2J\x7f.png",
    "\u202egnp.exe",
    "\"'&.png",
    "a/b/c.png",
    "=1+1.png",
]


@pytest.fixture(autouse=True)
def unpacked_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test, there must be no files but those that it wrote itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("extract", "extractall", "_extract_member"):
        monkeypatch.setattr(zipfile.ZipFile, name, lambda *_, **__: pytest.fail("unpacked to disk"))
    yield
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".zip", ".png", ".txt"}
    assert not list(tmp_path.parent.glob("outside*"))


def png(level: int = 0, side: int = 20) -> bytes:
    image = Image.new("L", (side, side), 255)
    image.paste(level, (side // 3, side // 5, side // 2, side - 4))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def zipped(entries: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return stream.getvalue()


def at(*paths: str) -> list[SavedFile | Unusable]:
    return [SavedFile.at(path) for path in paths]


def stored(content: bytes, name: str = "a.zip") -> list[SavedFile | Unusable]:
    """`content` as an uploaded file."""
    Path(name).write_bytes(content)
    return at(name)


def whys(files: list[SavedFile | Unusable]) -> dict[str, str]:
    return {item.name: item.why for item in contents(files) if isinstance(item, Unusable)}


def test_files_and_archives_in_any_mixture_keep_their_order_and_names() -> None:
    stored(png(0), "first.png")
    stored(zipped({"b.png": png(40), "folder/": b"", "folder/c.png": png(80)}), "two.zip")
    stored(png(120), "last.png")
    read = read_files(at("first.png", "two.zip", "last.png"))
    assert read.names == ["first.png", "b.png", "folder/c.png", "last.png"]
    assert read.unusable == []
    images = [Image.open(io.BytesIO(png(level))) for level in (0, 40, 80, 120)]
    assert read.prepared.images.equal(prepare(images))


def test_no_files_are_no_images() -> None:
    read = read_files([])
    assert (read.names, read.unusable, tuple(read.prepared.images.shape)) == ([], [], (0, 1, 28, 28))


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_systems_add_to_archives_is_left_out(packing: int) -> None:
    clutter = ["__MACOSX/._a.png", "folder/._a.png", "Thumbs.db", "folder/desktop.ini", "__MACOSX/x/y.png"]
    clutter += [".DS_Store", "folder/.hidden.png", ".git/x.png", "folder/.cache/x/y.png"]
    paths = stored(zipped({"a.png": png(), **dict.fromkeys(clutter, b"clutter")}, packing))
    assert [item.name for item in contents(paths)] == ["a.png"]


def test_what_is_no_image_is_listed_and_the_rest_is_judged() -> None:
    entries = {
        "good.png": png(),
        "empty.png": b"",
        "words.png": b"these are words",
        "cut.png": png()[:60],
        "page.html": b"<script>alert(1)</script>",
        "nested.zip": zipped({"inner.png": png()}),
    }
    read = read_files(stored(zipped(entries)))
    assert read.names == ["good.png"]
    told = {one.name: one.why for one in read.unusable}
    assert list(told) == ["empty.png", "words.png", "cut.png", "page.html", "nested.zip"]
    assert told["empty.png"] == "it is empty."
    for name in ("words.png", "page.html", "nested.zip"):
        assert told[name].startswith("it is not an image (of ")
    assert told["cut.png"].startswith("it cannot be read as an image: ")


def test_an_empty_file_and_an_empty_archive() -> None:
    read = read_files([*stored(b"", "empty.png"), *stored(zipped({}), "none.zip")])
    assert (read.names, [one.why for one in read.unusable]) == ([], ["it is empty."])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(name: str) -> None:
    read = read_files(stored(zipped({name: png(), f"bad{name}": b""})))
    assert read.names == [zipfile.ZipInfo(name).filename]
    assert [one.name for one in read.unusable] == [zipfile.ZipInfo(f"bad{name}").filename]


def test_a_nameless_entry_is_an_image_like_others_and_an_endless_name_is_cut() -> None:
    endless = "x" * 60_000 + ".png"
    read = read_files(stored(zipped({"": png(), endless: png(), f"y{endless}": b""})))
    assert read.names == ["", "x" * (uploads.MOST_NAME - 1) + "…"]
    assert len(read.unusable[0].name) == uploads.MOST_NAME


def test_a_file_keeps_the_name_that_its_visitor_gave_it() -> None:
    stored(png(), "stored-as-this.png")
    stored(zipped({"inner.png": png()}), "stored-as-that.txt")
    stored(b"", "stored-as-nothing.png")
    given = {
        "stored-as-this.png": "a/b/1.png",
        "stored-as-that.txt": "a/c.zip",
        "stored-as-nothing.png": "a/0.png",
    }
    read = read_files([SavedFile(path, name) for path, name in given.items()])
    assert read.names == ["a/b/1.png", "inner.png"]
    assert [one.name for one in read.unusable] == ["a/0.png"]


def test_what_is_no_file_any_longer_or_was_never_uploaded_is_listed_and_the_rest_is_judged() -> None:
    Path("folder.png").mkdir()
    lost = Unusable("lost.png", "it could not be uploaded.")
    read = read_files([*at("gone.png", "folder.png"), lost, *stored(png(), "here.png")])
    assert read.names == ["here.png"]
    assert {one.name: one.why for one in read.unusable} == {
        "gone.png": "it is here no longer: upload it again.",
        "folder.png": "it is here no longer: upload it again.",
        "lost.png": "it could not be uploaded.",
    }


def test_an_encrypted_entry_is_named() -> None:
    content = bytearray(zipped({"secret.png": png(), "open.png": png()}))
    for head, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(head) + flags] |= 1
    paths = stored(bytes(content))
    assert whys(paths) == {"secret.png": "it is encrypted."}
    assert read_files(paths).names == ["open.png"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_without_bound_are_not_unpacked(packing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = stored(zipped({"bomb.png": bytes(10**6)}, packing))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert "packed in an unusual way" in whys(paths)["bomb.png"]


def damage(content: bytes, what: bytes, offset: int, value: bytes) -> bytes:
    place = content.index(what) + offset
    return content[:place] + value + content[place + len(value) :]


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: damage(content, CENTRAL, 16, b"\0\0\0\0"),  # the checksum
        lambda content: damage(content, CENTRAL, 24, struct.pack("<L", 10)),  # shorter than it is
        lambda content: damage(content, LOCAL, 0, b"XXXX"),
        lambda content: damage(content, LOCAL, 30, b"b"),  # another name
        lambda content: damage(content, CENTRAL, 42, struct.pack("<L", 10**8)),  # where there is nothing
    ],
    ids=["checksum", "size", "header", "name", "place"],
)
def test_a_damaged_entry_is_named_and_the_others_are_read(spoil: Callable[[bytes], bytes]) -> None:
    content = spoil(zipped({"a.png": png(), "b.png": png()}))
    read = read_files(stored(content))
    assert read.names == ["b.png"]
    assert [one.name for one in read.unusable] == ["a.png"]
    assert read.unusable[0].why == "it cannot be unpacked: the archive is damaged there."


def test_cut_off_and_damaged_archives_are_listed() -> None:
    whole = zipped({f"{index}.png": png() for index in range(20)})
    for end in (4, 30, len(whole) // 2, len(whole) - 1):
        read = read_files(stored(whole[:end], "cut.zip"))
        assert (read.names, [one.name for one in read.unusable]) == ([], ["cut.zip"])
    read = read_files(stored(damage(whole, CENTRAL, 0, b"XXXX"), "spoilt.zip"))
    assert read.names == []
    assert read.unusable[0].name == "spoilt.zip"
    assert read.unusable[0].why.startswith("the archive is damaged: ")


@given(
    flips=st.dictionaries(st.integers(0, 10**4), st.integers(0, 255), min_size=1, max_size=8),
    packing=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]),
)
def test_damaged_archives_raise_nothing(
    tmp_path_factory: pytest.TempPathFactory, flips: dict[int, int], packing: int
) -> None:
    content = bytearray(zipped({"a.png": b"a" * 50, "ü.png": b"b" * 50}, packing))
    for place, byte in flips.items():
        content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content)
    for item in contents(at(str(path))):
        assert isinstance(item, Upload | Unusable)
        assert not isinstance(item, Unusable) or item.why.endswith(".")


# Bounds


def test_too_many_images_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_IMAGES", 3)
    three = {f"{index}.png": png() for index in range(3)}
    assert len(read_files(stored(zipped(three | {"folder/": b"", "__MACOSX/x": b""}))).names) == 3
    stored(png(), "fourth.png")
    with pytest.raises(InputError, match=r"^these are more than 3 images: upload them in parts\.$"):
        read_files(at("a.zip", "fourth.png"))
    with pytest.raises(InputError, match="more than 3 images"):  # what cannot be read counts too
        read_files(stored(zipped(dict.fromkeys("abcd", b""))))


def test_a_thousand_entries_are_read_and_one_more_is_too_many() -> None:
    many = {f"{index}": b"" for index in range(uploads.MOST_IMAGES)}
    assert len(list(contents(stored(zipped(many))))) == uploads.MOST_IMAGES
    with pytest.raises(InputError, match="more than 1,000 images"):
        list(contents(stored(zipped(many | {"more": b""}))))


def test_a_file_that_is_too_large_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 1_000_000)
    exactly, more = bytes(1_000_000), bytes(1_000_001)
    stored(zipped({"exactly": exactly, "more": more, "bomb": bytes(10**8)}))
    stored(exactly, "exactly.png")
    stored(more, "more.png")
    found = list(contents(at("a.zip", "exactly.png", "more.png")))
    assert [item.name for item in found if isinstance(item, Upload)] == ["exactly", "exactly.png"]
    too_large = [item for item in found if isinstance(item, Unusable)]
    assert [(item.name, item.why) for item in too_large] == [
        (name, "it has more than 1 MB.") for name in ("more", "bomb", "more.png")
    ]


def test_a_bomb_that_hides_its_size_is_unpacked_no_further_than_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Watched:
        def __init__(self) -> None:
            self._inner, self.unpacked = inflater(-15), 0
            watched.append(self)

        def decompress(self, data: bytes, most: int) -> bytes:
            got = self._inner.decompress(data, most)
            self.unpacked += len(got)
            return got

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    inflater, watched = zlib.decompressobj, list[Watched]()
    content = zipped({"bomb.png": bytes(5 * 10**6)})
    for head, place in ((CENTRAL, 24), (LOCAL, 22)):
        content = damage(content, head, place, struct.pack("<L", 100))
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: Watched())
    assert whys(stored(content)) == {"bomb.png": "it cannot be unpacked: the archive is damaged there."}
    assert sum(one.unpacked for one in watched) <= 10_000


def test_all_together_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES_TOGETHER", 2_000_000)
    part = zipped({f"{index}": bytes(500_000) for index in range(2)})
    stored(part, "b.zip")
    assert len(list(contents([*stored(part), *at("b.zip")]))) == 4
    with pytest.raises(InputError, match=r"^these have more than 2 MB: upload them in parts\.$"):
        list(contents([*at("a.zip", "b.zip"), *stored(b"x", "more.png")]))


def test_entries_that_are_unpacked_in_vain_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES_TOGETHER", 1_000_000)
    content = zipped({f"{index}": bytes(400_000) for index in range(3)})
    for _ in range(3):
        content = damage(content, CENTRAL + b"\x14", 16, b"\1\2\3\4").replace(CENTRAL, b"DONE", 1)
    content = content.replace(b"DONE", CENTRAL)
    with pytest.raises(InputError, match="more than 1 MB"):
        list(contents(stored(content)))


def test_pixels_are_bounded_one_by_one_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PIXELS", 2500)
    monkeypatch.setattr(uploads, "MOST_PIXELS_TOGETHER", 7500)
    paths = stored(zipped({"a": png(side=50), "b": png(side=51), "c": png(side=50), "d": png(side=50)}))
    read = read_files(paths)
    assert read.names == ["a", "c", "d"]
    assert [(one.name, one.why) for one in read.unusable] == [
        ("b", "it has more than 2,500 pixels: make it smaller.")
    ]
    with pytest.raises(
        InputError, match=r"^these have more than .* pixels together: upload them in parts\.$"
    ):
        read_files([*paths, *stored(png(side=20), "more.png")])


def test_what_the_names_are_of_is_what_was_read() -> None:
    rng = np.random.default_rng(0)
    levels = {f"{index}.png": int(rng.integers(0, 200)) for index in range(12)}
    uploaded = {item.name: item for item in contents(stored(zipped({k: png(v) for k, v in levels.items()})))}
    for name, level in levels.items():
        item = uploaded[name]
        assert isinstance(item, Upload)
        assert item.content == png(level)
