"""Many images, without a browser: what the table, the galleries and the downloads say of them."""

import base64
import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bnn.app.examples import examples
from bnn.app.many import GROUPS, Decisions, as_plain, decisions, shown
from bnn.app.table import HEADERS, table_html
from bnn.app.uploads import Images, Unusable
from bnn.classifier import Classifier
from bnn.data.preprocess import Prepared, read_images
from bnn.decisions import decisions_csv
from bnn.files import printable
from bnn.prediction import Prediction
from bnn.rules.thresholds import EntropyRule

HOSTILE = "<script>alert(1)</script>\"'&\n\x1b.png"
NAMES = st.text(st.characters(codec="utf-8"))


class Tags(HTMLParser):
    """The tags and texts of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def read() -> Images:
    """All examples, a blank image, and two files that are no images."""
    tried = examples()
    images = [*(example.image for example in tried), Image.new("L", (30, 30), 255)]
    names = [*(f"{example.name}.png" for example in tried), "blank.png"]
    return Images(names, read_images(images), [Unusable("bad.png", "it is empty."), Unusable("b.txt", "no.")])


@pytest.fixture(scope="module")
def prediction(classifier: Classifier, read: Images) -> Prediction:
    return classifier.decide(classifier.evidence(read.prepared.images), read.prepared.quality)


@pytest.fixture(scope="module")
def decided(classifier: Classifier, read: Images) -> Decisions:
    return decisions(classifier, read)


def renamed(decided: Decisions, name: str) -> Decisions:
    """One image and one unusable file, both called `name`."""
    return Decisions([name], decided.prediction[:1], decided.images[:1], [Unusable(name, f"no: {name}")])


def csv_of(decided: Decisions) -> str:
    return decisions_csv([({"file": decided.names}, decided.prediction)])


def downloads(summary: str) -> dict[str, str]:
    """The files that links in `summary` hold, by name."""
    links = [attrs for tag, attrs in Tags(summary).tags if tag == "a"]
    found = {}
    for link in links:
        kind, packed = str(link["href"]).split(";base64,")
        assert kind in ("data:text/csv", "data:application/json")
        found[str(link["download"])] = base64.b64decode(packed, validate=True).decode()
    return found


def test_decisions_are_the_classifiers_in_the_order_of_the_files(
    decided: Decisions, read: Images, prediction: Prediction
) -> None:
    assert [row["file"] for row in decided.rows] == read.names
    assert [{k: v for k, v in row.items() if k != "file"} for row in decided.rows] == prediction.plain()
    assert decided.images is read.prepared.images
    assert decided.unusable == read.unusable


def test_csv_comes_back_as_the_decisions(decided: Decisions, prediction: Prediction) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(decided), newline="")))
    assert [row["file"] for row in rows] == [row["file"] for row in decided.rows]
    for i, row in enumerate(rows):
        label = -1 if row["decision"] == "refused" else int(row["decision"])
        assert label == prediction.labels[i]
        assert row["reason"] == prediction.reasons[i]
        probs = np.array([row[f"p_{digit}"] for digit in range(10)], np.float32)
        assert np.array_equal(probs, prediction.probs[i])  # to the bit
        for name in ("total", "aleatoric", "epistemic", "ood_score", "refusal_score"):
            assert np.float32(row[name]) == getattr(prediction, name)[i]
        assert tuple(map(int, row["candidates"].split())) == prediction.candidates[i]


def test_json_comes_back_as_the_decisions(decided: Decisions, prediction: Prediction) -> None:
    told = json.loads(json.dumps(as_plain(decided)), parse_constant=pytest.fail)
    assert told["unreadable"] == [{"file": one.name, "why": one.why} for one in decided.unusable]
    assert [row["label"] for row in told["images"]] == [
        None if label < 0 else label for label in prediction.labels.tolist()
    ]
    assert np.array_equal(np.array([row["probs"] for row in told["images"]], np.float32), prediction.probs)
    assert [tuple(row["candidates"]) for row in told["images"]] == prediction.candidates


def test_the_links_hold_the_whole_files(decided: Decisions) -> None:
    held = downloads(shown(decided).summary)
    assert held["decisions.csv"] == csv_of(decided)
    assert json.loads(held["decisions.json"]) == as_plain(decided)


@given(NAMES)
def test_any_name_survives_in_both_downloads(decided: Decisions, name: str) -> None:
    held = downloads(shown(renamed(decided, name)).summary)
    (row,) = csv.DictReader(io.StringIO(held["decisions.csv"], newline=""))
    assert row["file"] == (f"'{name}" if name.startswith(tuple("=+-@\t\r")) else name)  # no formula
    assert json.loads(held["decisions.json"])["images"][0]["file"] == name
    assert json.loads(held["decisions.json"])["unreadable"][0]["file"] == name


@given(NAMES.map(lambda name: f"{HOSTILE}{name}"))
def test_names_are_escaped_wherever_they_are_shown(decided: Decisions, name: str) -> None:
    told = shown(renamed(decided, name))
    for html in (told.summary, told.table, told.gallery):
        assert {tag for tag, _ in Tags(html).tags} <= {
            *("table", "caption", "small", "span", "thead", "tbody", "tr", "th", "td", "button"),
            *("p", "strong", "a", "ul", "li", "code"),
            *("h2", "h3", "div", "figure", "img", "figcaption"),
        }
        assert "\x1b" not in html
    (figure,) = (attrs for tag, attrs in Tags(told.gallery).tags if tag == "figure")
    assert figure["title"] == printable(name)
    assert printable(name) in Tags(told.summary).texts
    assert rows(told.table)[0][0] == printable(name)


def rows(table: str) -> list[list[str]]:
    """The cells of the table's body."""
    (body,) = re.findall("<tbody>(.*)</tbody>", table)
    found = re.findall("<tr>(.*?)</tr>", body)
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row)] for row in found]


def test_a_row_an_image_and_a_cell_a_head(decided: Decisions, prediction: Prediction) -> None:
    table = rows(shown(decided).table)
    assert {len(cells) for cells in table} == {len(HEADERS)}
    assert [cells[0] for cells in table] == [row["file"] for row in decided.rows]
    for cells, label, reason, probs in zip(
        table, prediction.labels.tolist(), prediction.reasons, prediction.probs, strict=True
    ):
        assert cells[1] == ("refused" if label < 0 else str(label))
        assert cells[2] == reason
        assert float(cells[3]) == pytest.approx(probs.max(), abs=1e-4)
        assert all(float(number) >= 0 for number in cells[3:6])


def test_the_tables_heads_and_names_are_heads_to_screen_readers_too(decided: Decisions) -> None:
    table = shown(decided).table
    heads = re.findall(r'<th scope="col" aria-sort="none"><button type="button">(.*?)</button></th>', table)
    assert heads == list(HEADERS)
    assert table.count('<th scope="row">') == len(decided.rows)
    assert table_html([]) == ""


def test_groups_count_every_image_once(decided: Decisions, prediction: Prediction) -> None:
    told, counts = shown(decided), Counter(prediction.reasons.tolist())
    assert len(counts) == 3  # there are images of each kind
    texts = " ".join(Tags(told.summary).texts)
    assert f"Images judged: {len(decided.rows)}" in texts
    assert all(f"{counts[reason]} {reason}" in texts for reason in GROUPS)
    headings = [int(found) for found in re.findall(r"\((\d+)\)</h\d>", told.gallery)]
    assert headings == [counts[reason] for reason in GROUPS]
    assert sum(headings) == told.gallery.count("<figure") == len(decided.rows)
    assert "2 files could not be used" in told.summary


def test_galleries_hold_each_image_under_its_reason_in_order(decided: Decisions) -> None:
    gallery = shown(decided).gallery
    for reason in GROUPS:
        (part,) = re.findall(rf'<div class="gallery {reason}">(.*?)</div>', gallery)
        names = [unescape(name) for name in re.findall(r'<figure title="(.*?)">', part)]
        assert names == [row["file"] for row in decided.rows if row["reason"] == reason]


def test_pictures_are_what_the_networks_saw(decided: Decisions) -> None:
    for attrs in (attrs for tag, attrs in Tags(shown(decided).gallery).tags if tag == "img"):
        index = [row["file"] for row in decided.rows].index(attrs["alt"])
        content = base64.b64decode(str(attrs["src"]).removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(content)), np.float32) / 255
        np.testing.assert_allclose(pixels, decided.images[index, 0].numpy(), atol=0.5 / 255 + 1e-6)


def captions(decided: Decisions) -> dict[str, str]:
    found = re.findall(r'<figure title="(.*?)">.*?<figcaption>(.*?)</figcaption>', shown(decided).gallery)
    return {unescape(name): told for name, told in found}


def test_captions_tell_answers_doubts_and_blanks(decided: Decisions) -> None:
    told = captions(decided)
    assert told["blank.png"] == "blank"
    for row in decided.rows:
        if row["label"] is not None:
            assert told[row["file"]] == str(row["label"])
        elif row["reason"] == "ambiguous" and len(row["candidates"]) == 2:
            assert told[row["file"]] == " or ".join(map(str, row["candidates"]))


def test_another_rule_changes_the_decisions_alone(classifier: Classifier, read: Images) -> None:
    never = decisions(classifier.with_rule(EntropyRule(-1.0, 0.5)), read)
    assert "0 answered" in shown(never).summary
    assert [row["probs"] for row in never.rows] == [row["probs"] for row in decisions(classifier, read).rows]


def test_nothing_but_bad_files_is_told_without_downloads(classifier: Classifier) -> None:
    nothing = Images([], Prepared.joined([]), [Unusable("bad.png", "it is empty.")])
    told = shown(decisions(classifier, nothing))
    assert (told.table, told.gallery) == ("", "")
    assert downloads(told.summary) == {}
    assert "1 file could not be used" in told.summary
    assert "it is empty." in told.summary


def test_progress_goes_through_every_image(classifier: Classifier, read: Images) -> None:
    seen: list[int] = []

    def counted(chunks: Any) -> Any:
        for chunk in chunks:
            seen.append(len(chunk))
            yield chunk

    twice = replace(read, names=read.names * 2, prepared=Prepared.joined([read.prepared] * 2))
    rows = decisions(classifier, twice, counted).rows
    assert sum(seen) == len(rows) == 2 * len(read.names)
    for one, other in zip(rows[: len(read.names)], rows[len(read.names) :], strict=True):
        assert [one[name] for name in ("file", "label", "reason", "probs")] == [
            other[name] for name in ("file", "label", "reason", "probs")
        ]
