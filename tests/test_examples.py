"""Things to try: what they are, and that the checkpoint that ships does with each what its group says."""

from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from bnn.app.draw import DRAWS, examples_html, look
from bnn.app.examples import DIGITS, FOOLING, STRANGE, Example, examples
from bnn.app.pad import drawing
from bnn.classifier import Classifier
from bnn.data.drawn import Drawing
from bnn.data.pen import BRUSH, SIZE, arc, render
from bnn.data.pictures import png_url

SHOWN = examples()


@pytest.fixture(scope="module", params=DRAWS)
def of_size(request: pytest.FixtureRequest) -> Classifier:
    return Classifier.load(draws=request.param)


def judged(classifier: Classifier, example: Example) -> str:
    """The verdict on `example`, as HTML, after the way through the pad that it takes on the page."""
    return look(classifier, drawing(png_url(example.image))).verdict


@pytest.mark.parametrize("example", SHOWN, ids=lambda example: example.name)
def test_each_is_ink_on_white_of_the_pads_size(example: Example) -> None:
    pixels = np.asarray(example.image)
    assert (example.image.mode, pixels.shape) == ("L", (SIZE, SIZE))
    if example.name != "noise":
        border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
        assert border.min() > 250
        assert 0.02 < (pixels < 128).mean() < 0.5


def test_names_are_their_own_and_groups_stand_together() -> None:
    names = [example.name for example in SHOWN]
    assert len(set(names)) == len(names)
    groups = [group for group, _ in groupby(SHOWN, lambda example: example.group)]
    assert groups == ["Easy", "Ambiguous", STRANGE, FOOLING]
    fooling = " ".join(example.name for example in SHOWN if example.group == FOOLING)
    assert all(what in fooling for what in ("a heart", "a capital A", "a 1 with a flag"))


def test_they_are_the_same_every_time() -> None:
    for one, other in zip(SHOWN, examples.__wrapped__(), strict=True):
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


@pytest.mark.parametrize("example", SHOWN, ids=lambda example: example.name)
def test_the_classifier_that_ships_does_what_the_group_says(of_size: Classifier, example: Example) -> None:
    found = judged(of_size, example)
    if example.group == "Easy":
        assert f'<p class="headline">{example.name}</p>' in found
    elif example.group == "Ambiguous":
        assert 'class="verdict ambiguous"' in found
        assert all(f"a {digit}" in found for digit in example.name.split(" or "))
    elif example.group == STRANGE:
        assert 'class="verdict unfamiliar"' in found
    elif " taken for a " in example.name:
        assert f'<p class="headline">{example.name[-1]}</p>' in found
    else:
        assert example.name == "a 1 with a flag, refused"
        assert 'class="verdict ambiguous"' in found


def test_what_is_measured_on_is_drawn_by_the_pen_of_the_examples() -> None:
    shown = {example.name: example.image for example in SHOWN}
    for name, strokes in DIGITS.items():
        assert Drawing(name, strokes, BRUSH).picture() == shown[name]


def test_a_stroke_is_as_wide_as_the_pads_pen_wherever_it_goes() -> None:
    across = np.asarray(render([[(0.2, 0.5), (0.8, 0.5)]]))
    down = np.asarray(render([[(0.5, 0.2), (0.5, 0.8)]]))
    for width in ((across[:, SIZE // 2] < 128).sum(), (down[SIZE // 2] < 128).sum()):
        assert abs(int(width) - BRUSH) <= 1
    ends = np.flatnonzero((across < 128).any(0))
    assert ends[[0, -1]] == pytest.approx(np.array([0.2, 0.8]) * SIZE + [-BRUSH / 2, BRUSH / 2], abs=2)


def test_a_single_place_is_a_dot() -> None:
    dot = np.asarray(render([[(0.5, 0.5)]])) < 128
    assert dot.sum() == pytest.approx(np.pi * BRUSH**2 / 4, rel=0.05)


def test_an_arc_lies_on_its_ellipse_from_start_to_end() -> None:
    places = np.array(arc(0.5, 0.4, 0.2, 0.1, 0, 90))
    assert (((places - [0.5, 0.4]) / [0.2, 0.1]) ** 2).sum(1) == pytest.approx(np.ones(len(places)))
    assert places[0] == pytest.approx([0.7, 0.4])
    assert places[-1] == pytest.approx([0.5, 0.5])  # 90 degrees are below


def test_buttons_show_the_very_pictures_and_escape_names() -> None:
    hostile = Example('<i>"', '"><script>', Image.new("L", (SIZE, SIZE), 255))
    html = examples_html([*SHOWN, hostile])
    assert "<script>" not in html
    assert "<i>" not in html
    assert html.count("<button") == len(SHOWN) + 1
    assert html.count("<section>") == 5
    for example in SHOWN:
        assert f'src="{png_url(example.image)}" alt="{example.name}"' in html
