"""What a run of `bnn score` does: its sources, cut into chunks, as a manifest beside what it writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bnn.data.places import files_at
from bnn.data.sources import LOOSE, Source, scanned
from bnn.errors import InputError, shown
from bnn.files import held, printable, require_writable, written_whole
from bnn.progress import tracked

FORMAT = 1
MANIFEST = "_manifest.json"  # readers of Parquet pass over what starts so
PER_FOLDER = 1000  # parts in a folder: with a million in one, every step there is slow


class Chunk(NamedTuple):
    """Rows `start` to `stop` of a source, or as many sources of one row: what one part file holds."""

    number: int
    sources: Sequence[Source]
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows its part has."""
        return self.stop - self.start

    def part_in(self, out: Path) -> Path:
        """Its part file under `out`."""
        return out / f"{self.number // PER_FOLDER:05}" / f"part-{self.number:08}.parquet"


@dataclass(frozen=True)
class Plan:
    """What is scored.

    Attributes:
        asked: what the decisions depend on, as plain values: another run with the same has the same parts.
        size: rows of a chunk.
        sources: in their order.
    """

    asked: Mapping[str, Any]
    size: int
    sources: Sequence[Source]

    @property
    def rows(self) -> int:
        """How many rows all parts have together."""
        return sum(source.rows for source in self.sources)

    def chunks(self) -> Iterator[Chunk]:
        """The parts: loose images first, so many together, and then each source by itself."""
        loose = [source for source in self.sources if source.kind == LOOSE]
        others = [source for source in self.sources if source.kind != LOOSE]
        number = 0
        for start in range(0, len(loose), self.size):
            some = loose[start : start + self.size]
            yield Chunk(number, some, 0, len(some))
            number += 1
        for source in others:
            for start in range(0, source.rows, self.size):
                yield Chunk(number, [source], start, min(start + self.size, source.rows))
                number += 1


def planned(places: Sequence[str], out: Path, size: int, asked: Mapping[str, Any]) -> Plan:
    """The plan of the run in the folder `out`: the one that it was begun with, or a new one.

    Args:
        places: files, folders and URLs.
        out: where the parts go.
        size: rows of a chunk.
        asked: see `Plan`.

    Raises:
        InputError: a place cannot be read, two are one, `out` holds something else, or the run there was
            begun with other options, another checkpoint or other images.
    """
    if size < 1:
        raise InputError(f"a part has at least 1 image, and {size} is not (--chunk).")
    asked = {**asked, "chunk": size, "format": FORMAT}
    found = [file for place in places for file in files_at(place)]
    if len({place for place, _ in found}) < len(found):
        raise InputError("a file is named twice among the images: name each once.")
    require_writable(out / MANIFEST)
    with held(out, wait=True):  # processes that share the work begin together
        if (out / MANIFEST).exists():
            plan = _read(out)
            _require_same(plan, asked, found, out)
            return plan
        if any(not one.name.startswith(".") for one in out.iterdir()):
            raise InputError(f"{printable(out)} holds other files: name a new folder (--out).")
        sources = [
            scanned(place, stamp, size) for place, stamp in tracked(found, "counting images", len(found))
        ]
        plan = Plan(asked, size, sources)
        if not plan.rows:
            raise InputError("there is no image among what is named.")
        with written_whole(out / MANIFEST) as staged:
            staged.write_text(_text(plan), encoding="utf-8")
        return plan


def _text(plan: Plan) -> str:
    head = json.dumps(plan.asked, ensure_ascii=True)
    sources = ",\n".join(json.dumps(asdict(source), ensure_ascii=True) for source in plan.sources)
    return f'{{"asked": {head},\n"sources": [\n{sources}\n]}}\n'


def _read(out: Path) -> Plan:
    try:
        told = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        asked, sources = dict(told["asked"]), [Source(**source) for source in told["sources"]]
        return Plan(asked, int(asked["chunk"]), sources)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise InputError(f"{printable(out / MANIFEST)} is damaged: name a new folder (--out).") from error


def _require_same(plan: Plan, asked: Mapping[str, Any], found: Sequence[tuple[str, str]], out: Path) -> None:
    """Checks that a run that was begun as `plan` is asked for again."""
    others = [name for name in {**plan.asked, **asked} if plan.asked.get(name) != asked.get(name)]
    if others:
        which = " and ".join(name if name in asked else shown(name) for name in others[:5])
        raise InputError(
            f"{printable(out)} holds scores of another {which}: give the same, or name a new folder (--out)."
        )
    before = [(source.place, source.stamp) for source in plan.sources]
    if before != list(found):
        other = next((here for here, there in zip(found, before, strict=False) if here != there), None)
        which = f", such as {shown(other[0])}" if other else ""
        raise InputError(
            f"{printable(out)} holds scores of other images, or they have changed since{which}: name a new "
            "folder (--out)."
        )
