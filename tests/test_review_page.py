"""Keeping and reviewing on the page, without a browser; plain HTTP's queue; the commands that use it."""

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from programs import PATIENCE, program, wait_until
from reviewers import refusals as made_up
from serving import free_port

from bnn.app import Address, served
from bnn.app.examples import examples
from bnn.app.keeping import kept_html, refusals
from bnn.app.page import build_page
from bnn.app.review import acted, download_html, keys_of
from bnn.classifier import Classifier
from bnn.cli.command import main
from bnn.core.checkpoint import Checkpoint
from bnn.core.task import DIGITS, Task
from bnn.data.imageset import ImageSet
from bnn.data.preprocess import read_images
from bnn.data.quality import BLANK, SEVERAL
from bnn.errors import InputError
from bnn.review import store
from bnn.review.entries import NO_DIGIT, Added, Progress
from bnn.review.store import ReviewQueue
from bnn.rules.abstention import calibrated_count

ROOT = Path(__file__).parents[1]
FOUR, STAR, NUMBER = (ROOT / "docs" / name for name in ("four.png", "star.png", "number.png"))
COUNT = 100  # digits that are reviewed
TOKEN = "0123456789abcdef" * 2
HOSTILE = "<img src=x onerror=alert(1)>\"'&\n\x1b.png"
WITHOUT = "import sys, bnn.app, bnn.cli.fresh; print('sqlalchemy' in sys.modules)"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[ReviewQueue]:
    with ReviewQueue.open(str(tmp_path / "queue.sqlite"), DIGITS) as queue:
        yield queue


def act(what: str, **more: Any) -> dict[str, Any]:
    return {"act": what, "reviewer": TOKEN, "serial": 7, "order": "oldest"} | more


def names_of(classifier: Classifier, queue: ReviewQueue | None) -> list[str]:
    """The tabs of the page."""

    async def config() -> Any:
        return build_page(classifier, queue).get_config_file()

    parts = asyncio.run(config())["components"]
    return [part["props"]["label"] for part in parts if part["type"] == "tabitem"]


# What is kept


@pytest.mark.slow
def test_without_a_queue_the_page_has_no_such_tab_and_loads_no_database(
    classifier: Classifier, queue: ReviewQueue
) -> None:
    assert names_of(classifier, None) == ["Draw", "Many images", "Trust"]
    assert names_of(classifier, queue) == ["Draw", "Many images", "Trust", "Review"]
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_what_is_kept_is_what_was_refused_as_the_networks_saw_it(classifier: Classifier) -> None:
    tried = examples()
    blank, several = Image.new("L", (60, 60), 255), Image.open(NUMBER)
    prepared = read_images([*(one.image for one in tried), blank, several])
    assert list(prepared.quality[-2:]) == [BLANK, SEVERAL]
    names = [*(one.name for one in tried), "blank", "several"]
    prediction = classifier.predict(prepared)
    kept = {one.name: one for one in refusals(prediction, names, prepared)}
    expected = {name for name, label in zip(names, prediction.labels, strict=True) if label < 0}
    assert set(kept) == expected - {"blank", "several"}
    assert prediction.votes is not None
    for name, one in kept.items():
        index = names.index(name)
        seen = prepared.images[index, 0].numpy()
        assert np.abs(one.image / 255 - seen).max() <= 0.5 / 255 + 1e-6
        np.testing.assert_allclose(one.votes, prediction.votes[:, index], atol=1e-3)
        assert one.reason == prediction.reasons[index]
        assert one.epistemic == pytest.approx(prediction.epistemic[index])


def test_words_say_what_became_of_it() -> None:
    assert "nothing was kept" in kept_html(Added())
    assert kept_html(Added(added=3, known=1)) == "<p>Kept for review: 3. There already: 1.</p>"
    assert "Not kept: 2. The queue is full" in kept_html(Added(left_out=2))


# The tab


def test_acts_lead_from_one_image_to_the_next(queue: ReviewQueue) -> None:
    queue.add(made_up(3))
    first = acted(queue, act("take"))
    assert 'data-serial="7" data-number="1"' in first.picture
    assert "0 of 3 reviewed" in first.picture
    assert "How the 2 networks vote" in first.votes
    second = acted(queue, act("label", number=1, label=4))
    assert 'data-number="2"' in second.picture
    assert "1 of 3 reviewed" in second.picture
    third = acted(queue, act("skip", number=2))
    assert 'data-number="3"' in third.picture
    back = acted(queue, act("undo", number=2))
    assert 'data-number="2"' in back.picture
    acted(queue, act("delete", number=2))
    last = acted(queue, act("label", number=3, label=NO_DIGIT))
    assert 'data-number=""' in last.picture
    assert "Nothing waits for you here." in last.picture
    assert last.votes == ""
    assert queue.progress() == Progress(labels={4: 1, NO_DIGIT: 1})


def test_who_comes_too_late_is_told_and_gets_another(queue: ReviewQueue) -> None:
    queue.add(made_up(2))
    acted(queue, act("take"))
    other = acted(queue, act("take", reviewer="f" * 32))
    assert 'data-number="2"' in other.picture
    shown = acted(queue, act("label", reviewer="f" * 32, number=1, label=3))
    assert "Somebody else had taken" in shown.picture
    assert 'data-number="2"' in shown.picture
    assert queue.progress().reviewed == 0


ODD = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.sampled_from(["act", "reviewer", "serial", "order", "number", "label", "x"]), ODD))
def test_anything_else_that_a_browser_sends_is_refused(value: dict[str, Any]) -> None:
    never: Any = None  # it is not asked
    with pytest.raises(gr.Error, match="cannot be done"):
        acted(never, value)


@pytest.mark.parametrize(
    "wrong",
    [{"reviewer": "f" * 31}, {"number": -1}, {"number": "1"}, {"act": "delete_all"}, {"order": "newest"}],
)
def test_an_act_that_is_nearly_right_is_refused(queue: ReviewQueue, wrong: dict[str, Any]) -> None:
    with pytest.raises(gr.Error):
        acted(queue, act("take") | wrong)


def test_a_label_that_is_no_class_is_told_and_changes_nothing(queue: ReviewQueue) -> None:
    queue.add(made_up(1))
    acted(queue, act("take"))
    assert "Nothing was done" in acted(queue, act("label", number=1, label=10)).picture
    assert queue.progress().reviewed == 0


def test_names_and_reasons_are_escaped(queue: ReviewQueue) -> None:
    queue.add([replace(made_up(1)[0], name=HOSTILE, why=HOSTILE)])
    shown = acted(queue, act("take")).picture
    assert "<img src=x" not in shown
    assert shown.count("<img ") == 1
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown


def test_a_database_that_is_away_is_told_on_the_page(
    queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise InputError("the queue x cannot be used: it is away.")

    monkeypatch.setattr(ReviewQueue, "take", fails)
    assert "Nothing was done: the queue x cannot be used" in acted(queue, act("take")).picture
    monkeypatch.setattr(ReviewQueue, "reviewed", fails)
    with pytest.raises(gr.Error, match="Nothing was prepared: the queue x"):
        download_html(queue)


def test_the_download_is_a_zip_of_what_was_reviewed(queue: ReviewQueue) -> None:
    assert "Nothing has been reviewed" in download_html(queue)
    queue.add(made_up(3))
    for number, label in ((1, 4), (2, NO_DIGIT)):
        acted(queue, act("take"))
        acted(queue, act("label", number=number, label=label))
    html = download_html(queue)
    assert "2 images, 1 of them of none" in html
    packed = base64.b64decode(html.split("base64,")[1].split('"')[0])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["labelled/4/000001.png", "no-digit/000002.png", "labels.csv"]


# Classes that are not the ten digits


@pytest.mark.parametrize(
    ("names", "digits"),
    [
        (tuple("0123456789"), [*"0123456789"]),
        (("cat", "dog"), ["0", "1"]),  # which their buttons show
        (("3", "7", "10", "x"), ["3", "7", "", ""]),  # never another class's name
        (tuple("abcdefghijkl"), [*"0123456789", "", ""]),
    ],
)
def test_a_class_has_the_key_of_its_name_or_of_its_place(names: tuple[str, ...], digits: list[str]) -> None:
    assert keys_of(names) == digits


@pytest.fixture
def pets(untrained: Callable[..., Classifier]) -> Classifier:
    return untrained("mlp", {"hidden": 16}, Task(("cat", "dog/puppy", "eel"), "as-is"))


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)) for _ in range(count)]


def test_other_classes_are_kept_shown_and_exported_by_their_names(
    pets: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, names = str(tmp_path / "queue.sqlite"), [f"{i}.png" for i in range(200)]
    prepared = read_images(pictures(200), pets.task.layout)
    kept = refusals(pets.predict(prepared), names, prepared)
    assert len(kept) > 3
    assert not any("digit" in one.why for one in kept)
    with ReviewQueue.open(where, pets.task) as queue:
        queue.add(kept[:3])
        shown = acted(queue, act("take"))
        assert "eel: " in shown.votes
        assert "digit" not in re.sub(r"<[^>]*>", " ", shown.picture + shown.votes)
        assert (
            "Nothing was done: a label must be from 0 to 2"
            in acted(queue, act("label", number=1, label=3)).picture
        )
        for number, label in ((1, 0), (2, 1), (3, NO_DIGIT)):
            acted(queue, act("label", number=number, label=label))
        packed = base64.b64decode(download_html(queue).split("base64,")[1].split('"')[0])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == [
            *("labelled/cat/000001.png", "labelled/dog%2Fpuppy/000002.png", "none/000003.png", "labels.csv")
        ]
        assert b"dog/puppy" in archive.read("labels.csv")
    assert main(["review", where]) == 0
    assert "dog/puppy │ 1" in capsys.readouterr().out


def test_other_classes_are_calibrated_on_and_adapted_to(
    pets: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bnn.training.adaptation.STEPS", 10)
    pets.save(start := tmp_path / "pets.safetensors")
    where, out = str(tmp_path / "queue.sqlite"), tmp_path / "new.safetensors"
    with ReviewQueue.open(where, pets.task) as queue:
        queue.add(replace(one, votes=np.zeros((2, 3), np.float16)) for one in made_up(61))
        for number in range(60):
            entry = queue.take("ada", "oldest")
            assert entry is not None
            queue.label("ada", entry.number, number % 3)
        entry = queue.take("ada", "oldest")
        assert entry is not None
        queue.label("ada", entry.number, NO_DIGIT)
    asked = [str(start), "--digits", where, "--rule", "entropy", "--refuse", "0.3", "--out", str(out)]
    assert main(["calibrate", *asked]) == 0
    made = Classifier.load(out)
    assert made.task == pets.task
    assert made.record["calibration"]["digits"] == calibrated_count(60)
    assert main(["adapt", *asked, "--overwrite"]) == 0
    assert "On 20 images held out" in capsys.readouterr().out
    assert main(["calibrate", "--digits", where, "--out", str(tmp_path / "other.safetensors")]) == 2
    assert "is for other classes" in capsys.readouterr().err


# Plain HTTP


@pytest.fixture(scope="module")
def serving(
    classifier: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, ReviewQueue]]:
    where = str(tmp_path_factory.mktemp("served") / "queue.sqlite")
    address = Address(port=free_port())
    with (
        ReviewQueue.open(where, DIGITS) as queue,
        served(classifier, address, queue),
        httpx.Client(base_url=address.url, timeout=PATIENCE) as client,
    ):
        yield client, queue


HTTP = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TestPlainHTTP:
    """What programs have put into the queue: nothing unless they ask."""

    pytestmark = HTTP

    def test_nothing_is_kept_unless_it_is_asked_for(self, serving: tuple[httpx.Client, ReviewQueue]) -> None:
        client, queue = serving
        plain = client.post("/v1/classify", content=STAR.read_bytes()).json()
        assert plain["label"] is None
        assert "queued" not in plain
        files = [("images", (path.name, path.read_bytes())) for path in (STAR, FOUR)]
        lines = client.post("/v1/classify-batch", files=files).text.splitlines()
        assert all("queued" not in json.loads(line) for line in lines)
        assert queue.progress().together == 0

    def test_what_is_refused_is_kept_where_it_is_asked_for(
        self, serving: tuple[httpx.Client, ReviewQueue]
    ) -> None:
        client, queue = serving
        queue.delete_all()
        ask: dict[str, Any] = {"params": {"queue": "true"}}
        plain = client.post("/v1/classify", content=STAR.read_bytes()).json()
        star = {"image": ("star.png", STAR.read_bytes())}
        assert client.post("/v1/classify", files=star, **ask).json() == plain | {"queued": True}
        assert client.post("/v1/classify", content=FOUR.read_bytes(), **ask).json()["queued"] is False
        assert queue.progress() == Progress(waiting=1)
        files = [("images", (path.name, path.read_bytes())) for path in (STAR, FOUR)]
        files += [("images", ("no.png", b"no image"))]
        lines = [
            json.loads(line)
            for line in client.post("/v1/classify-batch", files=files, **ask).text.splitlines()
        ]
        assert [line.get("queued") for line in lines] == [True, False, None]  # the star, for the second time
        entry = queue.take("ada")
        assert entry is not None
        assert entry.name == "star.png"
        assert queue.progress().together == 1

    def test_how_the_review_does_is_among_the_metrics(
        self, serving: tuple[httpx.Client, ReviewQueue]
    ) -> None:
        client, queue = serving
        queue.delete_all()
        queue.add(made_up(3))
        entry = queue.take("ada")
        assert entry is not None
        queue.label("ada", entry.number, 4)
        told = client.get("/metrics").text
        assert 'bnn_queue_images{state="waiting"} 2.0' in told
        assert 'bnn_queue_images{state="reviewed"} 1.0' in told

    def test_a_full_queue_is_told_before_anything_is_judged(
        self, serving: tuple[httpx.Client, ReviewQueue], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, _ = serving
        monkeypatch.setattr(store, "MOST_IMAGES", 0)
        for path in ("classify", "classify-batch"):
            answer = client.post(f"/v1/{path}", files={"images": STAR.read_bytes()}, params={"queue": "true"})
            assert answer.status_code == 507
            assert answer.json()["error"].startswith("The queue is full")

    def test_a_queue_that_cannot_be_used_keeps_nobody_from_a_decision(
        self, serving: tuple[httpx.Client, ReviewQueue], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise InputError("the queue x cannot be used: it is away.")

        client, _ = serving
        monkeypatch.setattr(ReviewQueue, "add", fails)
        answer = client.post("/v1/classify", content=STAR.read_bytes(), params={"queue": "true"})
        assert (answer.status_code, answer.json()["queued"]) == (200, False)
        monkeypatch.setattr(ReviewQueue, "has_room", fails)
        monkeypatch.setattr(ReviewQueue, "progress", fails)
        answer = client.post("/v1/classify", content=STAR.read_bytes(), params={"queue": "true"})
        assert (answer.status_code, "it is away" in answer.json()["error"]) == (503, True)
        assert client.get("/metrics").status_code == 200

    def test_without_a_queue_asking_for_it_is_told(self, classifier: Classifier) -> None:
        address = Address(port=free_port())
        with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
            for path in ("classify", "classify-batch"):
                answer = client.post(
                    f"/v1/{path}", files={"images": STAR.read_bytes()}, params={"queue": "1"}
                )
                assert (answer.status_code, "--queue" in answer.json()["error"]) == (400, True)

    def test_who_has_no_password_reaches_nothing_of_the_queue(
        self, classifier: Classifier, queue: ReviewQueue
    ) -> None:
        queue.add([replace(made_up(1)[0], name="private.png")])
        address = Address(port=free_port(), accounts=[("ada", "lovelace")], api_keys=[("till", "k" * 20)])
        with (
            served(classifier, address, queue),
            httpx.Client(base_url=address.url, timeout=PATIENCE) as client,
        ):
            asked = {"data": [act("take")], "fn_index": 0, "session_hash": "x"}
            for path in ("gradio_api/queue/join", "gradio_api/run/predict", "gradio_api/call/acted"):
                assert client.post(f"/{path}", json=asked).status_code in (401, 404)
            for path in ("config", "gradio_api/info", "metrics"):
                assert client.get(f"/{path}").status_code == 401
            answer = client.post("/v1/classify", content=STAR.read_bytes(), params={"queue": "true"})
            assert answer.status_code == 401
        assert queue.progress() == Progress(waiting=1)


@pytest.mark.slow
def test_the_server_deletes_what_is_too_old_and_ends_well(tmp_path: Path) -> None:
    where = tmp_path / "queue.sqlite"
    old = 1e9
    with ReviewQueue.open(str(where), DIGITS, clock=lambda: old) as queue:
        queue.add(made_up(2))
    with ReviewQueue.open(str(where), DIGITS) as queue:
        queue.add(made_up(3))
    command = ("bnn.cli.command", "serve", "--port", str(free_port()), "--draws", "2")
    starting = f"import sys; from {command[0]} import main; sys.exit(main(sys.argv[1:]))"
    options = ("--queue", str(where), "--keep-days", "1")
    with program(sys.executable, "-c", starting, *command[1:], *options) as process:

        def is_swept() -> bool:
            with ReviewQueue.open(str(where), writes=False) as queue:
                return queue.progress() == Progress(waiting=1)

        wait_until(is_swept, process)
        assert process.stdout is not None
        assert "Draw a digit at" in process.stdout.readline()
        process.terminate()
        assert process.wait() == 0


# Commands


@pytest.fixture
def reviewed(tmp_path: Path) -> tuple[Path, ImageSet]:
    """A queue of scikit-learn's digits, which stand for refused ones, each with its true label; and these."""
    digits = ImageSet.from_name("digits", part="train", limit=COUNT)
    where = tmp_path / "queue.sqlite"
    with ReviewQueue.open(str(where), DIGITS) as queue:
        base = made_up(1)[0]
        images = (digits.images[:, 0].numpy() * 255).round().astype(np.uint8)
        queue.add(replace(base, image=image) for image in images)
        queue.add(made_up(1))
        for label in [*digits.truth().tolist(), NO_DIGIT]:
            entry = queue.take("ada", "oldest")
            assert entry is not None
            assert queue.label("ada", entry.number, label)
    return where, digits


def test_a_reviewed_queue_is_calibrated_on(
    reviewed: tuple[Path, ImageSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, digits = reviewed
    out = tmp_path / "new.safetensors"
    asked = ["calibrate", "--digits", str(where), "--rule", "entropy", "--refuse", "0.2", "--out", str(out)]
    assert main(asked) == 0
    count = calibrated_count(len(digits))  # of all but the one of no class
    assert f"on {count} images" in capsys.readouterr().out
    measured = Classifier.load(out).record["calibration"]
    assert measured["digits"] == count
    assert measured["accuracy"] > 0.8  # by the labels that they were given
    assert where.stat().st_mode & 0o777 == 0o600


def test_a_reviewed_queue_is_adapted_to_and_before_and_after_are_told(
    reviewed: tuple[Path, ImageSet],
    tmp_path: Path,
    make_checkpoint: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bnn.training.adaptation.STEPS", 10)
    where, digits = reviewed
    checkpoint: Checkpoint = make_checkpoint()
    Classifier(checkpoint).save(start := tmp_path / "start.safetensors")
    out = tmp_path / "new.safetensors"
    asked = ["adapt", str(start), "--digits", str(where), "--rule", "entropy", "--refuse", "0.3"]
    assert main([*asked, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"On {round(len(digits) / 3)} images held out" in told
    for head in ("as it was", "calibrated", "adapted", "right when forced to answer"):
        assert head in told
    numbers = Classifier.load(out).record["adaptation"]
    assert numbers["after"]["nll"] < numbers["before"]["nll"]


def test_a_queue_of_which_nothing_is_reviewed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "queue.sqlite")
    with ReviewQueue.open(where, DIGITS) as queue:
        queue.add(made_up(2))
    asked = ["calibrate", "--digits", where, "--out", str(tmp_path / "new.safetensors")]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert "has no image of a class: review some first" in error
    assert error.count("\n") == 1


def test_the_command_tells_writes_and_deletes(
    reviewed: tuple[Path, ImageSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, digits = reviewed
    out = tmp_path / "done"
    assert main(["review", str(where)]) == 0
    assert "101 of 101 images reviewed" in " ".join(capsys.readouterr().out.split())
    assert main(["review", str(where), "--out", str(out), "--delete", "reviewed"]) == 0
    assert "Deleted 101 images" in capsys.readouterr().out
    again = ImageSet.from_folder(out / "labelled", labelled=True)
    assert again.truth().bincount().tolist() == digits.truth().bincount().tolist()
    for wrong in (["--out", str(tmp_path / "x")], ["--delete", "some"]):
        assert main(["review", str(where), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["review", str(where), "--out", str(out), "--delete", "all"]) == 2
    assert main(["review", str(tmp_path / "none"), "--delete", "all"]) == 2
    assert not (tmp_path / "none").exists()


def test_serving_says_at_once_what_is_wrong_with_the_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    for wrong, said in (
        (["--queue", str(tmp_path / "text")], "it is no database"),
        (["--keep-days", "3"], "--keep-days"),
        (["--queue", str(tmp_path / "q"), "--keep-days", "0"], "--keep-days"),
        (["--queue", "mysql://a:secret@b/c"], "not PostgreSQL's"),
    ):
        assert main(["serve", "--draws", "2", *wrong]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert "secret" not in error
