"""How a sound input becomes a hostile one: what is changed, cut out, repeated, nested or mixed."""

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

MOST = 400_000  # bytes of an input
_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_WORDS = (b"-1", b"1e999", b"nan", b"1" + b"0" * 30, b"null", b"[]", b"{}", b'""', b"0", b"true", b"9" * 5000)
_BRACKETS = (b"[", b"{", b'{"a":', b"(", b"<a>")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_HEADER_END = re.compile(rb"\]\}\}(?![\",}]) *")  # of a checkpoint, with what fills it up

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytearray]


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of `seeds`, changed in one to four ways; of what has checksums, they are often right again."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(MUTATIONS)(content, rng, seeds)[:MOST]
    return _mended(bytes(content)) if rng.random() < 0.7 else bytes(content)


def _flipped(content: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> bytearray:
    for _ in range(rng.randint(1, 8)):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _number(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    """A length or a place, most often near the start, is a number at the edge of its range."""
    size = rng.choice((1, 2, 4, 8))
    place = rng.randrange(max(1, min(len(content), rng.choice((64, 1024, MOST)))))
    value = rng.choice(_EDGES) % 256**size
    content[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
    return content


def _word(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    """A number written in figures is another."""
    if found := list(_NUMBER.finditer(content[:20_000])):
        one = rng.choice(found)
        content[one.start() : one.end()] = rng.choice(_WORDS)
    return content


def _cut_short(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    return content[: rng.randrange(len(content) + 1)]


def _span(content: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(content) + 1)
    return slice(start, start + rng.choice((1, 4, 16, 256, 4096)))


def _cut_out(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    del content[_span(content, rng)]
    return content


def _repeated(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    where = _span(content, rng)
    content[where.start : where.start] = content[where] * rng.choice((1, 2, 100, 1000))
    return content


def _nested(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    where = rng.randrange(len(content) + 1)
    content[where:where] = rng.choice(_BRACKETS) * rng.choice((10, 1000, 50_000))
    return content


def _spliced(content: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> bytearray:
    other = rng.choice(seeds)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _overwritten(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> bytearray:
    where = _span(content, rng)
    content[where] = rng.randbytes(len(content[where]))
    return content


MUTATIONS: Sequence[Mutation] = (
    *(_flipped, _number, _number, _word, _word, _cut_short),
    *(_cut_out, _repeated, _nested, _spliced, _overwritten),
)


def _mended(content: bytes) -> bytes:
    """`content` with a PNG's checksums, or the length of a checkpoint's header, as they must be."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_mended(content)
    if content[8:9] == b"{" and (end := _HEADER_END.search(content)):
        return struct.pack("<Q", end.end() - 8) + content[8:]
    return content


def _png_mended(content: bytes) -> bytes:
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(content):
            break
        chunk = content[place + 4 : end]
        parts.append(content[place : place + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)))
        place = end + 4
    return b"".join(parts) + content[place:]
