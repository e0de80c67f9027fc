"""The judge of films against the generator. `PLAYROOM_JUDGE_SAMPLES=2000` runs it at the size the world asks for."""

from __future__ import annotations

import os

import numpy as np
import pytest

from services.playroom.filming import Pixels, decode_gif, draw_films, encode_gif
from services.playroom.films import Film, FilmFacts, draw_film
from services.playroom.scenes import Split, seed_of
from services.playroom.watching import read_film

SAMPLES = int(os.environ.get("PLAYROOM_JUDGE_SAMPLES", "120"))


def _as_gif(frames: Pixels) -> Pixels:
    return decode_gif(encode_gif(frames))


@pytest.mark.parametrize("gif", [False, True], ids=["raw", "gif"])
def test_judge_agrees_with_the_generator(gif: bool) -> None:
    agreed = 0
    for index in range(SAMPLES):
        split = Split.COMPOSITIONAL if index % 2 else Split.TEST
        film = draw_film(seed_of(split, index), split)
        frames = draw_films([film])[0]
        agreed += read_film(_as_gif(frames) if gif else frames) == film.facts
    print(f"judge of films, {'GIF' if gif else 'raw'}: {agreed} of {SAMPLES} agree")
    assert agreed / SAMPLES >= 0.99 if SAMPLES < 2000 else agreed / SAMPLES >= 0.995


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
