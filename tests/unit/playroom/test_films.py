from __future__ import annotations

from collections import Counter

import pytest

from services.playroom.films import (
    BACKWARDS,
    WAY_OF_MOTION,
    FilmFacts,
    draw_film,
    film_caption,
    parse_film_caption,
)
from services.playroom.sayings import MOTIONS
from services.playroom.scenes import SHOWN_PAIRS, Split, seed_of
from services.playroom.words import HELD_OUT_PAIRS


def test_captions_read_like_the_example_and_back() -> None:
    facts = FilmFacts("red", "circle", "moving left", "black")
    assert film_caption(facts) == "a red circle moving left on a black background"
    assert parse_film_caption("A red circle moving left on a black background.") == facts
    still = FilmFacts("orange", "star", "standing still", "gray")
    assert film_caption(still) == "an orange star standing still on a gray background"
    for seed in range(500):
        drawn = draw_film(seed).facts
        assert parse_film_caption(film_caption(drawn)) == drawn


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle on a black background",
        "a large red circle moving left on a black background",
        "a red circle moving left",
        "a red circle moving left on a black background and a dog",
    ],
)
def test_what_is_no_caption_is_not_read(text: str) -> None:
    assert parse_film_caption(text) is None


def test_held_out_pairs_are_in_the_compositional_split_alone() -> None:
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        pairs = {(film.color, film.shape) for film in (draw_film(seed_of(split, i), split).facts for i in range(2000))}
        assert pairs == set(SHOWN_PAIRS)
    split = Split.COMPOSITIONAL
    films = [draw_film(seed_of(split, i), split) for i in range(300)]
    assert {(film.facts.color, film.facts.shape) for film in films} == HELD_OUT_PAIRS
    assert all(film.names_held_out_pair for film in films)


def test_every_choice_is_in_its_range() -> None:
    films = [draw_film(seed) for seed in range(3000)]
    assert films[:10] == [draw_film(seed) for seed in range(10)]
    motions = Counter(film.facts.motion for film in films)
    assert set(motions) == set(MOTIONS)
    assert min(motions.values()) > 350
    assert {film.size for film in films} == {"small", "large"}
    assert max(max(map(abs, film.color_offset)) for film in films) == 12
    assert min(film.noise_sigma for film in films) >= 0
    assert 3.9 < max(film.noise_sigma for film in films) <= 4


def test_backwards_is_its_own_opposite() -> None:
    assert set(BACKWARDS) == set(MOTIONS)
    assert all(BACKWARDS[BACKWARDS[motion]] == motion for motion in MOTIONS)
    assert WAY_OF_MOTION["moving up"] == "up"
    assert WAY_OF_MOTION["standing still"] == "still"
