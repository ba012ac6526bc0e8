"""The documentation: it builds without a warning, asks no other host, and its examples run as written."""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module, util
from pathlib import Path
from threading import Thread
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import bnn
from bnn.core.ensemble import PredictiveEnsemble
from bnn.core.networks import NETWORKS, build_network, feature_layer
from bnn.core.posterior import POSTERIORS, posterior_from
from bnn.core.stacked import require_runnable
from bnn.core.task import DIGITS, Task
from bnn.core.uncertainty import Predictive
from bnn.data.digits import LABELLED
from bnn.data.imageset import ImageSet
from bnn.data.preprocess import LAYOUTS, prepare
from bnn.errors import InputError
from bnn.ood.combination import COMBINATIONS, Fisher
from bnn.ood.detector import Detector, detector_from
from bnn.ood.score import Observed
from bnn.ood.scores import SCORES
from bnn.rules.promise import Promise
from bnn.rules.table import RULES, rule_from_dict
from bnn.training.augmentation import AUGMENTATIONS

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# What a browser fetches by itself, unlike a link, which a reader follows.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
OUTSIDE = re.compile(r"""(?:url\(\s*|@import\s+|src\s*=\s*)["']?(?:https?:)?//""")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; without MkDocs the test is skipped."""
    if not util.find_spec("mkdocs"):
        pytest.skip("MkDocs is not installed (extra `docs`)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class _Fetched(HTMLParser):
    """Collects what a browser would fetch for a page, and what its links lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif given.get("rel") != "canonical" and FETCHED.get(tag) in given:
            self.fetched.append(given[FETCHED[tag]])


def read(page: Path) -> _Fetched:
    parser = _Fetched()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_no_page_has_a_browser_ask_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    outside = [(page.name, url) for page in pages for url in read(page).fetched if urlsplit(url).netloc]
    assert not outside
    for text in (*site.rglob("*.css"), *pages):
        assert not OUTSIDE.search(text.read_text(encoding="utf-8")), text.name


def test_every_link_and_picture_of_the_site_is_there(site: Path) -> None:
    pages = {page: read(page) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, found in pages.items():
        for url in (*found.links, *found.fetched):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or url == ".":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page.name}: {url}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{page.name}: {url}"


def test_the_surface_page_has_every_public_name(site: Path) -> None:
    ids = read(site / "api" / "bnn.html").ids
    assert {f"bnn.{name}" for name in bnn.__all__} <= ids


def test_a_browser_asks_no_other_host_and_finds_no_error(site: Path) -> None:
    pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")
    from browser import CHROMIUM, SLOW, chromium

    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    asked: list[str] = []
    told: list[str] = []
    with served(site) as address, chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        for path in ("index.html", "metrics.html", "contributing.html", "api/bnn.html"):
            page.goto(f"{address}/{path}", wait_until="networkidle")
        # typed, as a visitor does: the search listens to keys, and not to what `fill` puts there
        page.get_by_role("textbox", name="Search").press_sequentially("conformal")
        page.locator(".md-search-result__item").first.wait_for(timeout=SLOW)
    assert asked
    assert all(url.startswith((f"{address}/", "data:", "blob:")) for url in asked)
    assert not told


def test_the_start_page_s_example_runs_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").replace("```", "")
    example = doctest.DocTestParser().get_doctest(text, {}, "index.md", None, None)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted >= 4
    assert result.failed == 0


def test_what_the_contributors_table_names_is_there() -> None:
    rows = re.findall(r"^\| (?!what)([^|`]+) \| ([^|]+) \| ([^|]+) \|$", CONTRIBUTING, re.MULTILINE)
    assert len(rows) > 10
    for what, where, name in rows:
        files = re.findall(r"bnn/[\w/]+\.py", f"{where} {name}")
        sources = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        tables = re.findall(r"`([A-Z]{3,})`", name)
        assert files, what
        assert all(re.search(rf"^{table}\b.*=", sources, re.MULTILINE) for table in tables), what


def contributed(name: str) -> Any:
    """What CONTRIBUTING.md defines under that name, as if it stood in the file that its block names."""
    blocks = re.findall(r"```python\n# (bnn/\S+)\.py\n(.*?)```", CONTRIBUTING, re.DOTALL)
    ((file, code),) = [
        (file, code) for file, code in blocks if re.search(rf"^(class|def) {name}\b", code, re.M)
    ]
    names = dict(vars(import_module(file.replace("/", "."))))
    exec(code, names)
    return names[name]


def test_a_network_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "linear", contributed("Linear"))
    network = build_network("linear", {}, DIGITS)
    require_runnable(network, (1, 28, 28), DIGITS.classes)
    assert feature_layer(network) == "out"


def test_a_posterior_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = contributed("Noisy")
    assert "noisy" not in POSTERIORS  # the example is none of those that are there
    monkeypatch.setitem(POSTERIORS, "noisy", kind)
    network = build_network("mlp", {"hidden": 16}, DIGITS)
    weights = {name: value.detach() for name, value in network.named_parameters()}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    posterior = posterior_from("noisy", kind(weights).tensors(), shapes)
    drawn = posterior.sample(2000, seed=0)
    for name, value in weights.items():
        assert (drawn[name].mean(0) - value).abs().max() < 6 * 0.1 / 2000**0.5 * value.abs().max()
        torch.testing.assert_close(drawn[name].std(0), 0.1 * value.abs(), rtol=0.15, atol=1e-6)
    images = torch.rand(3, 1, 28, 28)
    few = posterior.sample(4, seed=0)
    assert PredictiveEnsemble(network, few).probs(images).shape == (4, 3, 10)
    with pytest.raises(InputError):
        posterior_from("noisy", weights | {"out.bias": torch.full((10,), torch.nan)}, shapes)


def test_an_ood_score_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = contributed("Ink")
    monkeypatch.setitem(SCORES, "ink", kind)
    images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    nothing: Any = None  # it asks for no features
    reference = {"ink": kind.fit(images, nothing, nothing, 0).score(Observed(images, nothing, nothing))}
    fitted = Detector(nothing, [kind.fit(images, nothing, nothing, 0)], Fisher.fit(reference))
    again = detector_from(["ink"], "fisher", fitted.tensors(), DIGITS, nothing)
    strange = torch.cat([images[:1], torch.ones(1, 1, 28, 28)])
    said = Predictive.of(torch.full((1, 2, 10), 0.1))
    ood = again.evidence(strange, said).ood
    assert ood[1] > 10 * ood[0]
    alone = again.evidence(strange[1:], said[1:]).ood
    assert alone[0] == ood[1]
    with pytest.raises(InputError):
        detector_from(
            ["ink"], "fisher", fitted.tensors() | {"score/ink/mean": torch.tensor(torch.nan)}, DIGITS, nothing
        )


def test_a_combination_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = contributed("Strangest")
    monkeypatch.setitem(COMBINATIONS, "strangest", kind)
    reference = {
        name: torch.randn(50, generator=torch.Generator().manual_seed(n)) for n, name in enumerate("ab")
    }
    combination = kind.from_tensors(kind.fit(reference).tensors(), ("a", "b"))
    surprises = combination.surprises({"a": torch.tensor([9.0, -9.0]), "b": torch.tensor([0.0, 0.0])})
    assert combination.joined(surprises).tolist() == [surprises["a"][0].item(), surprises["b"][1].item()]


def test_a_rule_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = contributed("DisagreementRule")
    monkeypatch.setitem(RULES, "disagreement", kind)
    logits = torch.randn(5, 200, 3, generator=torch.Generator().manual_seed(0))
    probs = logits.mul(torch.linspace(0, 3, 200)[:, None]).softmax(-1)
    rule = rule_from_dict(kind.fit(probs, torch.arange(200) % 3, Promise(refuse=0.1)).to_dict())
    decided = rule.decide(probs)
    refused = decided.labels < 0
    assert 0 < refused.sum() <= 0.2 * len(refused)
    assert decided.scores[refused].min() > decided.scores[~refused].max()


def test_a_data_set_can_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELLED, "mine", contributed("load_mine"))
    images = np.zeros((3, 28, 28), np.uint8)
    images[1] = 255
    np.savez(tmp_path / "mine-test.npz", images=images, labels=[7, 8, 9])
    mine = ImageSet.from_name("mine", tmp_path)
    assert mine.truth().tolist() == [7, 8, 9]
    assert mine.images.mean((1, 2, 3)).tolist() == [0, 1, 0]
    np.savez(tmp_path / "mine-train.npz", images=np.array([print]), labels=[0])  # which only pickle can hold
    with pytest.raises(InputError, match="mine-train"):
        ImageSet.from_name("mine", tmp_path, part="train")


def test_a_task_can_have_its_own_layout_and_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast(dict[str, Any], LAYOUTS), "squeezed", contributed("_squeezed"))
    monkeypatch.setitem(AUGMENTATIONS, "mirrored", contributed("mirrored"))
    (written,) = re.findall(r"`(Task\(.*?\))`", CONTRIBUTING)
    task: Task = eval(written, {"Task": Task})
    left = Image.fromarray(np.array([[255, 0]], np.uint8).repeat(40, axis=0).repeat(50, axis=1))
    seen = prepare(left, task.layout)
    assert seen[0, 0, :, :14].min() == 1
    assert seen[0, 0, :, 14:].max() == 0
    varied: Tensor = AUGMENTATIONS[task.augmentation](seen.expand(50, -1, -1, -1))
    is_left, is_right = ((varied == image).flatten(1).all(1) for image in (seen, seen.flip(-1)))
    assert (is_left | is_right).all()
    assert 0 < is_left.sum() < 50


def test_a_metric_can_be_added() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    assert contributed("top2")(probs, np.array([1, 2, 2])) == pytest.approx(2 / 3)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the files in `folder` can be had."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
