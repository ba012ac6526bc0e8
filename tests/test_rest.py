"""Plain HTTP for programs: the decisions of the Python API, what is refused and how, the curl examples."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import PATIENCE
from prometheus_client.parser import text_string_to_metric_families
from serving import free_port

from bnn import ImageSet, read
from bnn.app import Address, api_keys_in, served
from bnn.app.keys import MOST_REQUESTS, _whose
from bnn.app.login import MOST_WRONG
from bnn.app.uploads import MOST_IMAGES
from bnn.classifier import Classifier
from bnn.data.archives import MOST_BYTES
from bnn.data.pictures import picture
from bnn.decisions import plain_reading
from bnn.errors import InputError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ROOT = Path(__file__).parent.parent
FOUR, STAR, NUMBER = (ROOT / "docs" / name for name in ("four.png", "star.png", "number.png"))
KEYS = [("till", "k" * 20), ("scanner", "key:with-a-colon-0123456789")]
ROUTES = [
    ("POST", "/v1/classify"),
    ("POST", "/v1/classify-batch"),
    ("POST", "/v1/read"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/v1/openapi.json"),
]


@pytest.fixture(scope="module")
def client(classifier: Classifier) -> Iterator[httpx.Client]:
    address = Address(port=free_port(), max_upload=MOST_BYTES + 1_000_000)
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
        yield client


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def problem(answer: httpx.Response) -> tuple[int, str]:
    """The status and the one sentence of what went wrong."""
    told = answer.json()
    assert list(told) == ["error"]
    assert told["error"].count("\n") == 0
    return answer.status_code, told["error"]


@pytest.mark.parametrize("path", [FOUR, STAR])
def test_one_image_is_decided_on_as_by_predict_however_it_is_sent(
    client: httpx.Client, classifier: Classifier, path: Path
) -> None:
    (expected,) = classifier.predict(path).plain()
    sent: list[dict[str, Any]] = [
        {"content": path.read_bytes(), "headers": {"content-type": "image/png"}},
        {"content": path.read_bytes()},
        {"files": {"anything": (path.name, path.read_bytes())}},
        {"json": {"image": base64_of(path)}},
    ]
    for options in sent:
        answer = client.post("/v1/classify", **options)
        assert answer.status_code == 200
        assert answer.json() == expected


def test_many_images_get_a_line_each_in_their_order_and_the_bad_ones_say_why(
    client: httpx.Client, classifier: Classifier, tmp_path: Path
) -> None:
    paths = []
    for number, image in enumerate(ImageSet.from_name("digits", limit=140).images[:, 0].numpy()):
        paths.append(tmp_path / f"{number}.png")
        picture(image).save(paths[-1])
    paths[3].write_bytes(b"no image")
    expected = iter(classifier.predict([path for path in paths if path != paths[3]]).plain())
    answer = client.post("/v1/classify-batch", files=[("images", (p.name, p.read_bytes())) for p in paths])
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = {line["image"]: line for line in map(json.loads, answer.text.splitlines())}
    bad = lines.pop(3)
    assert (bad["file"], bad["error"].startswith("it is not an image")) == ("3.png", True)
    assert list(lines) == [number for number in range(140) if number != 3]
    for number, line in lines.items():
        assert line == {"image": number, "file": f"{number}.png", **next(expected)}
    again = client.post("/v1/classify-batch", json={"images": [base64_of(paths[0]), base64_of(paths[3])]})
    assert [json.loads(line)["image"] for line in again.text.splitlines()] == [0, 1]
    assert json.loads(again.text.splitlines()[0])["probs"] == lines[0]["probs"]


def test_a_picture_is_read_as_by_read(client: httpx.Client, classifier: Classifier) -> None:
    answer = client.post("/v1/read", content=NUMBER.read_bytes())
    assert answer.json() == json.loads(json.dumps(plain_reading(read(NUMBER, classifier))))


@pytest.mark.parametrize(
    ("path", "options", "status", "said"),
    [
        ("classify", {}, 400, "one image"),
        ("classify", {"content": b"no image"}, 422, "not an image"),
        ("read", {"content": b"no image"}, 422, "not an image"),
        ("classify", {"files": [("a", b"x"), ("b", b"y")]}, 400, "classify-batch"),
        ("classify", {"data": {"image": "text"}, "files": {"a": b"x"}}, 400, "fields"),
        ("classify", {"json": {"image": "%%%"}}, 400, "BASE64"),
        ("classify", {"json": {"images": []}}, 400, "BASE64"),
        ("classify", {"json": {"image": "", "more": 1}}, 400, "BASE64"),
        ("classify", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "BASE64"),
        (
            "classify",
            {"content": b"[" * 99_999, "headers": {"content-type": "application/json"}},
            400,
            "BASE64",
        ),
        ("classify", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "oundary"),
        ("classify", {"content": bytes(MOST_BYTES + 1)}, 413, "20,000,000"),
        ("classify", {"content": bytes(MOST_BYTES + 1_000_001)}, 413, "21,000,000"),
        ("classify", {"content": iter([bytes(MOST_BYTES), bytes(1_000_001)])}, 413, "21,000,000"),
        ("classify-batch", {"json": {"images": []}}, 400, "Give image files"),
        ("classify-batch", {"json": {"images": ["AA=="] * (MOST_IMAGES + 1)}}, 413, "1,000"),
        ("nothing", {}, 404, "Not Found"),
        ("classify/", {"content": b"x"}, 404, "Not Found"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence(
    client: httpx.Client, path: str, options: dict[str, Any], status: int, said: str
) -> None:
    found, told = problem(client.post(f"/v1/{path}", **options))
    assert found == status
    assert said in told


def test_too_many_pixels_and_marks_are_refused_before_they_are_judged(
    client: httpx.Client, tmp_path: Path
) -> None:
    dots = np.zeros((400, 400), np.float32)
    dots[10:390:20, 10:390:20] = dots[11:391:20, 10:390:20] = 1
    picture(dots).save(tmp_path / "dots.png")
    assert "300 marks" in problem(client.post("/v1/read", content=(tmp_path / "dots.png").read_bytes()))[1]
    head = (tmp_path / "dots.png").read_bytes()
    large = head[:16] + (90_000).to_bytes(4, "big") + (90_000).to_bytes(4, "big") + head[24:]
    assert problem(client.post("/v1/classify", content=large))[0] == 422


def test_the_openapi_page_lists_these_routes_and_no_other(client: httpx.Client) -> None:
    page = client.get("/v1/openapi.json").json()
    listed = {(method.upper(), path) for path, of in page["paths"].items() for method in of}
    assert listed == {*ROUTES, ("GET", "/health")} - {("GET", "/v1/openapi.json")}
    for _, path in ROUTES[:3]:
        content = page["paths"][path]["post"]["requestBody"]["content"]
        assert {"multipart/form-data", "application/json"} <= content.keys()
    decision = page["components"]["schemas"]["Decision"]["properties"]
    assert decision.keys() == client.post("/v1/classify", content=FOUR.read_bytes()).json().keys()


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_count_requests_times_and_images_by_reason(client: httpx.Client) -> None:
    before = values(client.get("/metrics").text)
    client.post("/v1/classify", content=FOUR.read_bytes())
    client.post("/v1/classify", content=STAR.read_bytes())
    client.post("/v1/classify", content=b"no image")
    client.post("/v1/made-up-by-anyone")
    after = values(client.get("/metrics").text)
    grown = {
        ("bnn_requests_total", "/v1/classify", "200"): 2,
        ("bnn_requests_total", "/v1/classify", "422"): 1,
        ("bnn_requests_total", "other", "404"): 1,
        ("bnn_request_seconds_count", "/v1/classify"): 3,
        ("bnn_images_total", "answered"): 1,
        ("bnn_images_total", "unfamiliar"): 1,
        ("bnn_images_total", "unreadable"): 1,
    }
    assert {name: after[name] - before.get(name, 0) for name in grown} == grown
    assert "made-up" not in str(after)


def test_it_is_ready_and_answers_while_a_batch_is_judged(client: httpx.Client) -> None:
    assert client.get("/ready").json() == {"status": "ready", "waiting": 0}
    files = [("images", FOUR.read_bytes())] * 300
    with client.stream("POST", "/v1/classify-batch", files=files) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert client.post("/v1/classify", content=FOUR.read_bytes()).json()["label"] == 4
        assert sum(1 for _ in lines) == 299


def test_where_pixels_are_too_many_together_those_before_are_judged_nevertheless(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = picture(np.zeros((28, 28))).size
    monkeypatch.setattr("bnn.app.rest.MOST_PIXELS_TOGETHER", 2 * size[0] * size[1])
    few = ImageSet.from_name("digits", limit=4).images[:, 0].numpy()
    streams = [BytesIO() for _ in few]
    for image, stream in zip(few, streams, strict=True):
        picture(image).save(stream, "PNG")
    answer = client.post("/v1/classify-batch", files=[("images", stream.getvalue()) for stream in streams])
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["image"] for line in lines] == [0, 1, None]
    assert "in parts" in lines[2]["error"]


def test_who_comes_when_too_many_wait_is_told_to_come_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.app.rest.MOST_WAITING", 0)
    for path in ("classify", "classify-batch", "read"):
        answer = client.post(f"/v1/{path}", files={"images": FOUR.read_bytes()})
        assert problem(answer)[0] == 503
        assert answer.headers["retry-after"] == "1"
    assert (client.get("/ready").status_code, client.get("/health").status_code) == (503, 200)


def test_bodies_that_are_sent_at_once_are_bounded_together(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn.app.rest.HELD", 0.001)
    assert problem(client.post("/v1/classify", content=bytes(30_000)))[0] == 503
    monkeypatch.undo()
    assert problem(client.post("/v1/classify", content=bytes(30_000)))[0] == 422


def test_the_curl_examples_run_as_written(client: httpx.Client) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    text = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
    commands = [line for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE) if "curl" in line]
    assert len(commands) == 9
    told = []
    for command in commands:
        here = command.replace("http://127.0.0.1:7860/", str(client.base_url)).replace("curl ", "curl -sf ")
        done = subprocess.run(here, shell=True, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, command
        told.append(done.stdout)
    assert [json.loads(one)["label"] for one in told[:3]] == [4, None, 4]
    assert [json.loads(line)["label"] for line in told[3].splitlines()] == [4, None]
    assert json.loads(told[4])["text"] == "4 0 7 1"
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    assert shown.keys() == json.loads(told[0]).keys()


# Keys


@pytest.fixture(scope="module", params=[(), [("ada", "lovelace")]], ids=["no passwords", "passwords"])
def locked(classifier: Classifier, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    address = Address(port=free_port(), api_keys=KEYS, accounts=request.param)
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
        yield client


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_with_keys_every_route_but_the_health_asks_for_one(locked: httpx.Client) -> None:
    for method, path in ROUTES:
        answer = locked.request(method, path)
        assert problem(answer) == (401, "Give a key: Authorization: Bearer KEY.")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.get("/health").status_code == 200
    for _, key in KEYS:
        answer = locked.post("/v1/classify", content=FOUR.read_bytes(), headers=bearing(key))
        assert answer.json()["label"] == 4
        assert locked.get("/metrics", headers=bearing(key)).status_code == 200


def test_a_key_opens_nothing_of_the_page_and_a_login_nothing_of_this(locked: httpx.Client) -> None:
    is_open = locked.get("/config").status_code == 200
    assert (locked.get("/config", headers=bearing(KEYS[0][1])).status_code == 200) is is_open
    if not is_open:
        given = {"username": "ada", "password": "lovelace"}
        with httpx.Client(base_url=locked.base_url, timeout=PATIENCE) as visitor:
            assert visitor.post("/login", data=given).status_code == 200
            assert visitor.get("/config").status_code == 200
            assert visitor.post("/v1/classify", content=FOUR.read_bytes()).status_code == 401


def test_another_origin_gets_nothing_with_a_key_either(locked: httpx.Client) -> None:
    for method, path in ROUTES:
        headers = bearing(KEYS[0][1]) | {"origin": "http://evil.org"}
        answer = locked.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_wrong_keys_are_told_and_many_of_them_hold_up_the_right_one(classifier: Classifier) -> None:
    address = Address(port=free_port(), api_keys=KEYS)
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
        for wrong in range(MOST_WRONG):
            assert client.get("/ready").status_code == 401  # which is no try
            assert problem(client.get("/ready", headers=bearing(f"wrong {wrong}")))[0] == 401
        assert problem(client.get("/ready", headers=bearing(KEYS[0][1])))[0] == 429
        assert client.get("/health").status_code == 200


def test_with_passwords_and_no_keys_it_is_closed(classifier: Classifier) -> None:
    address = Address(port=free_port(), accounts=[("ada", "lovelace")])
    with served(classifier, address), httpx.Client(base_url=address.url, timeout=PATIENCE) as client:
        for method, path in ROUTES:
            for headers in ({}, bearing("x"), bearing("lovelace")):
                assert client.request(method, path, headers=headers).status_code in (401, 429)


def test_too_many_requests_are_told_to_wait(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.app.login.Tries._of", lambda *_: (MOST_REQUESTS, 0.0))
    answer = client.get("/ready")
    assert problem(answer)[0] == 429
    assert answer.headers["retry-after"] == "10"


def test_a_fault_is_told_as_one_and_shows_nothing(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("bnn.app.rest._Judge.classify", breaks)
    assert problem(client.post("/v1/classify", content=b"x")) == (
        500,
        "This is a fault of the program: please report it.",
    )
    monkeypatch.undo()
    assert client.post("/v1/classify", content=FOUR.read_bytes()).status_code == 200
    assert "a secret" in caplog.text  # which is written after the answer


@given(st.text(max_size=40))
def test_no_text_is_a_key_but_the_keys(text: str) -> None:
    assert _whose(text, KEYS) == next((name for name, key in KEYS if key == text), None)
    assert _whose(KEYS[1][1], KEYS) == "scanner"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds none"),
        ("till k", "line 1"),
        ("till:short", "can be guessed"),
        ("till:" + "ü" * 20, "plain"),
        ("till:" + "k " * 9 + "k", "plain"),
        (":" + "k" * 20, "line 1"),
        (f"{'till' * 50_000}:short", r"^[^\n]{1,400}can be guessed"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "keys").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        api_keys_in(tmp_path / "keys")
    (tmp_path / "keys").write_text("# whose: which\n" + "\n".join(map(":".join, KEYS)), encoding="utf-8")
    assert api_keys_in(tmp_path / "keys") == KEYS
