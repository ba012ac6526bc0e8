"""`bnn score`: a row an image whatever it comes in, and the same rows however often it was killed."""

import json
import os
import random
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import MakeCheckpoint

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq
from programs import printed
from shards import KINDS, digits, png, tarred, written, zipped

from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.core import checkpoint as checkpoint_file
from bnn.data.sources import Source
from bnn.errors import InputError
from bnn.scoring.engines import Job, done_by_processes
from bnn.scoring.parts import SCHEMA, UNREADABLE
from bnn.scoring.plan import MANIFEST, Chunk

MAIN = "import sys; from bnn.cli import main; sys.exit(main())"
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained checkpoint, as a file."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    checkpoint_file.save(make_checkpoint(), path)
    return path


def score(checkpoint: Path, out: Path, *words: object) -> int:
    return main(["score", *map(str, words), "--checkpoint", str(checkpoint), "--out", str(out)])


def refused(capsys: pytest.CaptureFixture[str], checkpoint: Path, out: Path, *words: object) -> str:
    """The one sentence that it ends with."""
    capsys.readouterr()
    assert score(checkpoint, out, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("bnn: ")
    assert error.count("\n") == 1
    return error


def table(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out).to_pylist()
    return rows


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_has_the_decisions_of_its_images(
    kind: str, checkpoint: Path, tmp_path: Path
) -> None:
    images = digits(11)
    path = written(kind, images, tmp_path)
    assert score(checkpoint, tmp_path / "out", path, "--chunk=4") == 0
    found = pq.read_table(tmp_path / "out")
    assert found.schema.equals(SCHEMA)
    rows = found.to_pylist()
    wanted = Classifier.load(checkpoint).predict(images, draws="adaptive")
    assert [row["reason"] for row in rows] == wanted.reasons.tolist()
    assert [-1 if row["label"] is None else row["label"] for row in rows] == wanted.labels.tolist()
    assert wanted.draws_used is not None
    assert [row["draws_used"] for row in rows] == wanted.draws_used.tolist()
    for name in ("total", "ood_score", "refusal_score"):
        assert [row[name] for row in rows] == getattr(wanted, name).tolist()
    assert [(row["source"], row["row"]) for row in rows] == [(str(path), row) for row in range(11)]
    assert len({row["id"] for row in rows}) == 11


def test_what_cannot_be_read_is_a_row_with_its_reason(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    (images / "deep" / "er").mkdir(parents=True)
    (images / "deep" / "er" / "good.png").write_bytes(png(digits(1)[0]))
    (images / "cut.png").write_bytes(png(digits(1)[0])[:60])
    (images / "notes.txt").write_text("no image")
    (images / ".hidden").write_text("not looked at")
    (images / "a.zip").write_bytes(zipped([("good.png", png(digits(1)[0])), ("bad.png", b"no image")]))
    (images / "broken.zip").write_bytes(b"PK\3\4 and no more")
    (images / "b.tar").write_bytes(tarred([("good.png", png(digits(1)[0]))])[:1024])
    assert score(checkpoint, tmp_path / "out", images) == 1
    assert "all images: 8, " in capsys.readouterr().out
    rows = table(tmp_path / "out")
    why = {str(row["id"]).removeprefix(f"{images}/"): row["why"] and str(row["why"]) for row in rows}
    assert len(why) == len(rows) == 8
    assert {name for name, said in why.items() if said is None} == {
        "deep/er/good.png",
        "a.zip/good.png",
        "b.tar/good.png",
    }
    assert all((row["reason"] == UNREADABLE) == (row["why"] is not None) for row in rows)
    assert all(row["decision"] is row["label"] is row["draws_used"] is None for row in rows if row["why"])
    assert "damaged" in str(why["broken.zip"])
    assert "not an image" in str(why["notes.txt"])


def test_a_finished_run_is_left_as_it_is_and_another_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written("zip", digits(7), tmp_path), tmp_path / "out"
    assert score(checkpoint, out, path, "--chunk=3") == 0
    before = files(out)
    assert set(before) == {MANIFEST, *(f"00000/part-0000000{number}.parquet" for number in range(3))}
    assert score(checkpoint, out, path, "--chunk=3") == 0
    assert "7 images were scored before, and 0 are left" in capsys.readouterr().err
    assert "another chunk" in refused(capsys, checkpoint, out, path, "--chunk=2")
    assert "another draws" in refused(capsys, checkpoint, out, path, "--chunk=3", "--draws=2")
    assert "another rule" in refused(capsys, checkpoint, out, path, "--chunk=3", "--rule=median")
    assert "other images" in refused(capsys, checkpoint, out, path, checkpoint, "--chunk=3")
    assert "named twice" in refused(capsys, checkpoint, out, path, tmp_path, "--chunk=3")
    other = tmp_path / "other.safetensors"
    checkpoint_file.save(checkpoint_file.load(checkpoint), other)
    assert score(other, out, path, "--chunk=3") == 0  # the same, under another name
    path.write_bytes(KINDS["zip"][1](digits(7, seed=1)))
    assert "have changed" in refused(capsys, checkpoint, out, path, "--chunk=3")
    assert files(out) == before


def test_what_cannot_be_asked_is_one_sentence_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written("idx", digits(3), tmp_path), tmp_path / "out"
    for words in (
        ["--workers=0"],
        ["--chunk=0"],
        ["--share=0/2"],
        ["--share=3/2"],
        ["--share=x"],
        ["--rule=no"],
        ["nowhere.tar"],
        ["nothing://x"],
    ):
        refused(capsys, checkpoint, out, path, *words)
        assert not out.exists() or not files(out)
    (full := tmp_path / "full").mkdir()
    (full / "mine.txt").write_text("mine")
    assert "holds other files" in refused(capsys, checkpoint, full, path)
    out.mkdir(exist_ok=True)
    for damage in ('{"asked": 3}', "[" * 100_000, '{"asked": {"chunk": 1e999}, "sources": []}'):
        (out / MANIFEST).write_text(damage)
        assert "is damaged" in refused(capsys, checkpoint, out, path)
    other = {"asked": {"chunk": 1, "x" * 100_000: 1}, "sources": []}
    (out / MANIFEST).write_text(json.dumps(other))
    assert len(refused(capsys, checkpoint, out, path)) < 1000


def test_a_part_that_is_damaged_or_lacks_rows_is_written_anew(checkpoint: Path, tmp_path: Path) -> None:
    path, out = written("idx", digits(9), tmp_path), tmp_path / "out"
    assert score(checkpoint, out, path, "--chunk=3") == 0
    before = files(out)
    first, second, third = sorted(out.rglob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-5])
    pq.write_table(pq.read_table(second).slice(1), second)
    third.unlink()
    assert score(checkpoint, out, path, "--chunk=3") == 0
    assert files(out) == before


def test_shares_together_are_the_whole(checkpoint: Path, tmp_path: Path) -> None:
    path = written("webdataset", digits(20), tmp_path)
    for share in ("2/3", "1/3", "3/3"):
        assert score(checkpoint, tmp_path / "shares", path, "--chunk=3", f"--share={share}") == 0
    assert score(checkpoint, tmp_path / "whole", path, "--chunk=3") == 0
    assert files(tmp_path / "shares") == files(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_write_what_one_does(checkpoint: Path, tmp_path: Path) -> None:
    path = written("tar", digits(20), tmp_path)
    assert score(checkpoint, tmp_path / "one", path, "--chunk=3") == 0
    assert score(checkpoint, tmp_path / "two", path, "--chunk=3", "--workers=2") == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_an_engine_and_its_address_must_fit(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("idx", digits(2), tmp_path)
    assert "with --engine ray" in refused(capsys, checkpoint, tmp_path / "out", path, "--address=auto")
    assert "no engine 'x'" in refused(capsys, checkpoint, tmp_path / "out", path, "--engine=x")


KILLED = """
import os, signal, sys
import bnn.cli.score, pyarrow
from bnn.cli import main
pyarrow.array([1])  # which imports pandas, once for all children
out, seen = sys.argv[1], 0
def of_the_files(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and out in str(arguments[0]):
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
fatal = None
sys.addaudithook(of_the_files)
for number in map(int, sys.argv[2].split(",")):
    child = os.fork()
    if not child:
        fatal = number
        os._exit(main(sys.argv[3:]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_runs_go_on_and_end_as_one_that_was_not(checkpoint: Path, tmp_path: Path) -> None:
    some, more = written("tar.gz", digits(10), tmp_path), written("bytes", digits(9), tmp_path)
    words = [str(some), str(more), "--chunk=2", "--checkpoint", str(checkpoint), "--out"]
    assert score(checkpoint, tmp_path / "whole", some, more, "--chunk=2") == 0
    out = tmp_path / "killed"
    rng = random.Random(0)
    fatal = [*range(1, 9), *(rng.randrange(3, 30) for _ in range(12)), 10**9]
    arguments = [str(out), ",".join(map(str, fatal)), "score", *words, str(out)]
    said = printed(sys.executable, "-c", KILLED, *arguments).splitlines()
    statuses = [int(line) for line in said if line.lstrip("-").isdecimal()]
    assert statuses.count(-9) >= 8
    assert statuses[-1] == 0
    assert files(out) == files(tmp_path / "whole")  # no temporary file is left either
    assert len({(row["source"], row["row"]) for row in table(out)}) == len(table(out)) == 19


FLAT = """
import json, resource, sys
from bnn.cli import main
peaks = []
for images in sys.argv[2:]:
    assert main(["score", images, "--checkpoint", sys.argv[1], "--out", images + ".out", "--draws=1"]) == 1
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_ten_times_as_many_images_take_the_same_memory(checkpoint: Path, tmp_path: Path) -> None:
    image, paths = png(digits(1)[0]), []
    for count in (2000, 20_000):  # one in ten to be judged, for time
        members = [(f"{number}.png", b"" if number % 10 else image) for number in range(count)]
        paths.append(tmp_path / f"{count}.tar")
        paths[-1].write_bytes(tarred(members))
    said = printed(sys.executable, "-c", FLAT, str(checkpoint), *map(str, paths))
    few, many = json.loads(said.splitlines()[-1])
    assert many < 1.1 * few


@pytest.mark.slow
def test_a_worker_that_is_ended_is_one_sentence(tmp_path: Path) -> None:
    source = Source(str(tmp_path / "x.png"), "0 0")
    job = Job(partial(os._exit, 9), "all", 1, tmp_path)
    with pytest.raises(InputError, match="ended from outside"):
        list(done_by_processes(job, [Chunk(0, [source], 0, 1)], 1))
