"""The judge of films against the generator. `PLAYROOM_JUDGE_SAMPLES=2000` runs it at the size the world asks for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from services.playroom.codecs import FILM_CODINGS, decode_film, encode_film
from services.playroom.filming import Pixels, decode_gif, draw_films, encode_gif
from services.playroom.films import Film, FilmFacts, draw_film
from services.playroom.scenes import Split, seed_of
from services.playroom.watching import read_film
from services.playroom.words import SHAPES

SAMPLES = int(os.environ.get("PLAYROOM_JUDGE_SAMPLES", "120"))


def _as_gif(frames: Pixels) -> Pixels:
    return decode_gif(encode_gif(frames))


def _as_jpeg(frames: Pixels) -> Pixels:
    pictures = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=80)
        pictures.append(np.asarray(Image.open(buffer)))
    return np.stack(pictures)


def _through(name: str) -> Callable[[Pixels], Pixels]:
    return lambda frames: decode_film(encode_film(frames, FILM_CODINGS[name]))


_WAYS: dict[str, Callable[[Pixels], Pixels]] = {
    "raw": lambda frames: frames,
    "gif": _as_gif,
    "jpeg80": _as_jpeg,
    **{name: _through(name) for name in FILM_CODINGS},
}


@pytest.mark.parametrize("way", _WAYS)
def test_judge_agrees_with_the_generator(way: str) -> None:
    agreed = 0
    for index in range(SAMPLES):
        split = Split.COMPOSITIONAL if index % 2 else Split.TEST
        film = draw_film(seed_of(split, index), split)
        agreed += read_film(_WAYS[way](draw_films([film])[0])) == film.facts
    print(f"judge of films, {way}: {agreed} of {SAMPLES} agree")
    assert agreed / SAMPLES >= 0.99 if SAMPLES < 2000 else agreed / SAMPLES >= 0.995


@pytest.mark.parametrize("background", ["gray", "white"])
@pytest.mark.parametrize("color", ["green", "purple", "cyan"])
def test_judge_tells_shapes_whose_light_is_that_of_the_background(color: str, background: str) -> None:
    for shape in SHAPES:
        facts = FilmFacts(color, shape, "moving up", background)
        assert read_film(_as_jpeg(draw_films([Film(facts, "small")])[0])) == facts


def test_judge_watches_larger_and_longer_films() -> None:
    for index in range(10):
        film = draw_film(index)
        frames = draw_films([film])[0].repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
        assert read_film(frames) == film.facts


def _film(motion: str, color: str = "red") -> Pixels:
    return draw_films([Film(FilmFacts(color, "circle", motion, "black"), "large")])[0]


_NOISE = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
_JUMPING = _film("moving left")[[0, 7, 1, 6, 2, 5, 3, 4]]
_TWO = np.maximum(_film("moving left"), _film("moving right", "blue"))


@pytest.mark.parametrize(
    "frames",
    [_NOISE, np.full((8, 64, 64, 3), 245, np.uint8), _JUMPING, _TWO, _NOISE[0]],
    ids=["noise", "empty", "jumping", "two objects", "no film"],
)
def test_judge_says_when_it_cannot_tell(frames: Pixels) -> None:
    assert read_film(frames) is None
