"""The control for files, without a browser: what it hands over, its sample, and what it leaves out."""

import io
import re
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bnn.app.examples import examples
from bnn.app.files import SAMPLE_SIDE, data_url, files_choice, sample_archive, uploaded
from bnn.app.many import decisions
from bnn.app.uploads import MOST_IMAGES, MOST_NAME, SavedFile, Unusable, read_files
from bnn.classifier import Classifier
from bnn.data.archives import CLUTTER
from bnn.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["name", "path"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["name", "path"]) | st.text(), inner),
)


def test_what_was_uploaded_keeps_its_order_and_names() -> None:
    value = [{"name": "b/1.png", "path": "/x/1"}, {"name": "lost.png"}, {"name": "a.zip", "path": "/x/2"}]
    first, lost, last = uploaded(value)
    assert (first, last) == (SavedFile("/x/1", "b/1.png"), SavedFile("/x/2", "a.zip"))
    assert isinstance(lost, Unusable)
    assert lost.name == "lost.png"
    assert "could not be uploaded" in lost.why


@pytest.mark.parametrize("nothing", [None, []])
def test_nothing_uploaded_is_nothing(nothing: Any) -> None:
    assert uploaded(nothing) == []


def is_file(one: Any) -> bool:
    named = isinstance(one, dict) and isinstance(one.get("name"), str)
    return named and ("path" not in one or isinstance(one["path"], str))


@given(JSON)
def test_any_other_value_is_refused_in_a_sentence(value: Any) -> None:
    if value is None or (isinstance(value, list) and all(map(is_file, value))):
        assert [file.name for file in uploaded(value)] == [one["name"] for one in value or []]
        return
    with pytest.raises(InputError, match=r"^(uploads must be|an upload must have) [^\n]*\.$"):
        uploaded(value)


@pytest.mark.parametrize(
    "value", ["a.png", {"name": "a", "path": "b"}, [{"name": "a", "path": None}], [["a"]]]
)
def test_values_that_are_nearly_right_are_refused(value: Any) -> None:
    with pytest.raises(InputError):
        uploaded(value)


def test_the_sample_holds_every_example_small_and_is_judged_as_they_are(
    classifier: Classifier, tmp_path: Any
) -> None:
    content, tried = sample_archive(examples()), examples()
    assert content == sample_archive(tried)
    assert len(content) < 100_000  # the page carries it
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [f"{one.group}/{one.name}.png" for one in tried]
        sizes = {Image.open(archive.open(name)).size for name in archive.namelist()}
    assert sizes == {(SAMPLE_SIDE + 2, SAMPLE_SIDE + 2)}
    path = tmp_path / "sample.zip"
    path.write_bytes(content)
    told = {"noise": "faint", "an upside-down 4": "mirrored or turned?"}
    for row in decisions(classifier, read_files([SavedFile.at(str(path))])).rows:
        group, name = row["file"].removesuffix(".png").split("/")
        if name in told:
            assert row["quality"] == told[name]
        elif group != "Not digits":  # of which others may look turned
            assert row["quality"] == ""
        if group == "Easy":
            assert row["label"] == int(name)
        elif group == "Not digits":
            assert row["label"] is None


def test_the_control_has_its_bounds_and_the_sample_with_it() -> None:
    control = files_choice(b"sample", "files")
    assert control.props["most"] == MOST_IMAGES
    assert (
        control.props["sample"]
        == data_url("application/zip", b"sample")
        == "data:application/zip;base64,c2FtcGxl"
    )
    # So many files with the longest names, each character of three bytes, fit into one request.
    assert MOST_IMAGES * (3 * MOST_NAME + 300) < 2_000_000


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "a/.hidden.png",
        ".git/x",
        "a/.git/b/c.png",
        "__MACOSX/a.png",
        "a/._b.png",
        "a/Thumbs.db",
        "desktop.ini",
    ],
)
def test_hidden_files_and_what_systems_add_are_clutter(name: str) -> None:
    assert re.search(CLUTTER, name)


@pytest.mark.parametrize(
    "name", ["a.png", "a/b.c/d.png", "../../a.png", "./a.png", "a/MACOSX/b", "myThumbs.db", ""]
)
def test_other_files_are_not(name: str) -> None:
    assert not re.search(CLUTTER, name)
