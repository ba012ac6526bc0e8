"""The `bnn` command where the disk is full, nobody reads, or what it is given never ends."""

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import finished

from bnn.classifier import Classifier
from bnn.cli import command
from bnn.data.digits import load_mnist
from bnn.data.imageset import ImageSet, image_files
from bnn.data.preprocess import MAX_BYTES, prepare
from bnn.decisions import decisions_csv
from bnn.errors import InputError

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from bnn.cli import main; sys.exit(main())"


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The status of a command that ends with `error`."""

    def failing(arguments: object) -> int:
        raise error

    monkeypatch.setattr(command, "_predict", failing)
    return command.main(["predict", "some.png"])


FULL = OSError(28, "No space left on device", "report.json")
CAUSED = InputError("x cannot be written (No space left on device): choose another place.")
CAUSED.__cause__ = FULL
RUST = InputError("x cannot be written.")
RUST.__cause__ = Exception("Error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FULL, 3, "bnn: report.json: No space left on device.\n"),
        (CAUSED, 3, "bnn: x cannot be written (No space left on device): choose another place.\n"),
        (RUST, 3, "bnn: x cannot be written.\n"),
        (MemoryError(), 3, "bnn: there is not enough memory.\n"),
        (OSError(36, "File name too long", "x" * 9000), 2, f"bnn: {'x' * 500}File name too long.\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "bnn: /x: Permission denied.\n"),
        (InputError("no such thing."), 2, "bnn: no such thing.\n"),
        (KeyboardInterrupt(), 130, "bnn: interrupted.\n"),
        (SystemExit(1), 141, ""),
    ],
)
def test_each_failure_has_its_status_and_its_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    assert run(monkeypatch, error) == status
    assert capsys.readouterr().err == said


def test_a_fault_of_the_program_is_no_unreadable_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ZeroDivisionError("division by zero")) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("bnn: this is a fault of the program: please report it.\n")


@pytest.mark.slow
@pytest.mark.parametrize("options", ["--json", "--draws=2"])
def test_a_closed_pipe_ends_it_silently(options: str) -> None:
    files = " ".join(["docs/four.png"] * 40)
    line = (
        f"'{sys.executable}' -c '{MAIN}' predict --draws=2 {options} {files} | true; echo ${{PIPESTATUS[0]}}"
    )
    done = finished("bash", "-c", line, cwd=ROOT)
    assert done.stdout == "141\n"
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("options", ["--json", "--draws=2"])
def test_where_what_it_prints_finds_a_full_disk_it_says_so(options: str) -> None:
    line = f"'{sys.executable}' -c '{MAIN}' predict --draws=2 {options} docs/four.png > /dev/full"
    done = finished("bash", "-c", line, cwd=ROOT)
    assert done.returncode == 3
    assert done.stderr == "bnn: No space left on device.\n"


def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(InputError, match="is a device or a pipe, not an image"):
            prepare(path)


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(100 * MAX_BYTES)
    with pytest.raises(InputError, match="and an image at most"):
        prepare(path)


def idx(kind: int, shape: tuple[int, ...], values: bytes) -> bytes:
    return struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + values


SOUND = {"images": idx(8, (4, 28, 28), bytes(4 * 784)), "labels": idx(8, (4,), bytes((0, 1, 2, 3)))}
DAMAGED: dict[str, tuple[str, bytes]] = {
    "an unknown type": ("images", idx(0x0A, (4, 28, 28), bytes(4 * 784))),
    "doubles": ("images", idx(14, (4, 28, 28), np.full(4 * 784, np.nan, ">f8").tobytes())),
    "floats": ("images", idx(13, (4, 28, 28), np.full(4 * 784, -1, ">f4").tobytes())),
    "negative labels": ("labels", idx(9, (4,), bytes((0, 1, 2, 255)))),
    "labels of fractions": ("labels", idx(13, (4,), np.array([0, 1, 2, np.nan], ">f4").tobytes())),
    "no labels": ("labels", idx(8, (0,), b"")),
    "of another shape": ("images", idx(8, (4, 28), bytes(4 * 28))),
    "empty": ("images", b""),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_idx_files_of_any_type_are_one_sentence(tmp_path: Path, damage: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    part, content = DAMAGED[damage]
    for name in ("train", "t10k"):
        for kind, suffix in (("images", "idx3"), ("labels", "idx1")):
            (raw / f"{name}-{kind}-{suffix}-ubyte").write_bytes(content if kind == part else SOUND[kind])
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        load_mnist(tmp_path, train=True)


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(ROOT / "docs" / "four.png").save(path, "PNG")
        return path

    return make


def test_linked_folders_are_read(tmp_path: Path, drawn: Callable[[str], Path]) -> None:
    drawn("elsewhere/one.png")
    drawn("digits/4/two.png")
    (tmp_path / "digits" / "3").symlink_to(tmp_path / "elsewhere")
    digits = ImageSet.from_folder(tmp_path / "digits", labelled=True)
    assert list(digits.sources) == ["3/one.png", "4/two.png"]
    assert digits.truth().tolist() == [3, 4]


def test_links_in_a_circle_end(tmp_path: Path, drawn: Callable[[str], Path]) -> None:
    drawn("digits/4/two.png")
    (tmp_path / "digits" / "4" / "back").symlink_to(tmp_path / "digits")
    (tmp_path / "digits" / "again").symlink_to(tmp_path / "digits" / "4")
    found = [str(path.relative_to(tmp_path / "digits")) for path in image_files(tmp_path / "digits")]
    assert found == ["4/two.png", "again/two.png"]


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@sum.png", "\tx.png", "\r=1.png"])
def test_a_files_name_is_no_formula_of_a_spreadsheet(classifier: Classifier, name: str) -> None:
    prediction = classifier.predict(ROOT / "docs" / "four.png")
    text = decisions_csv([({"file": [name]}, prediction)])
    assert text.splitlines()[1].lstrip('"').startswith("'") or text.split("\r\n")[1].startswith("\"'")
    plain = decisions_csv([({"file": ["four.png"]}, prediction)])
    assert plain.splitlines()[1].startswith("four.png,")
