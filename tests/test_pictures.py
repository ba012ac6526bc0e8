"""The script that takes the documentation's pictures: which it takes, how large, and of what."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="Playwright is not installed (extra `tests`)")

from browser import CHROMIUM, SCREENS
from PIL import Image, ImageSequence
from take_pictures import FILM_WIDTH, HOLD, PICTURES, SCHEMES, main

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

TABS = ("draw", "many-empty", "many", "trust")
NAMES = {
    "hero.png",
    "demo.gif",
    *(f"{screen}-{scheme}-{tab}.png" for screen, scheme, tab in product(SCREENS, SCHEMES, TABS)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taken") / "pictures"
    with pytest.MonkeyPatch.context() as coarser:
        coarser.setattr("take_pictures.STEP", 0.2)  # half as many frames, of which each takes a while
        main(["--out", str(folder)])
    return folder


def grey(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("L")


def test_all_pictures_are_taken_and_small_and_the_documentation_has_them(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == NAMES
    assert {path.name for path in PICTURES.iterdir()} == NAMES
    for place in (folder, PICTURES):
        assert sum(path.stat().st_size for path in place.iterdir()) < 1_500_000
        assert (place / "demo.gif").stat().st_size < 1_000_000


@pytest.mark.parametrize("screen", SCREENS)
def test_each_tab_is_shown_on_each_screen_light_and_dark(folder: Path, screen: str) -> None:
    taken = {name: grey(folder / name) for name in NAMES if name.startswith(screen)}
    size = SCREENS[screen]["viewport"]
    assert {image.size for image in taken.values()} == {(size["width"], size["height"])}
    assert len({image.tobytes() for image in taken.values()}) == len(taken)
    for tab in TABS:
        light, dark = (np.asarray(taken[f"{screen}-{scheme}-{tab}.png"]) for scheme in SCHEMES)
        assert np.median(light) > 200
        assert np.median(dark) < 60
        assert min(light.std(), dark.std()) > 10  # not blank


def test_the_animation_shows_what_is_drawn_step_by_step(folder: Path) -> None:
    with Image.open(folder / "demo.gif") as film:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(film):
            frames.append(frame.convert("L").tobytes())
            durations.append(frame.info["duration"])
        assert film.width == FILM_WIDTH
    answers = {frame for frame, duration in zip(frames, durations, strict=True) if duration >= HOLD}
    assert len(answers) == 4
    assert len(set(frames)) > 40
    assert 5_000 < sum(durations) < 20_000
