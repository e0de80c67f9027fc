from __future__ import annotations

import math
import time

import numpy as np
import pytest

from services.playroom.filming import cover_disc, decode_gif, draw_films, encode_gif, path_of
from services.playroom.films import Film, FilmFacts, draw_film


def _film(motion: str, size: str = "large", **exactly: float) -> Film:
    return Film(FilmFacts("red", "square", motion, "black"), size, **exactly)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("motion", "first", "last"),
    [
        ("moving left", (52, 32, 5), (12, 32, 5)),
        ("moving right", (12, 32, 5), (52, 32, 5)),
        ("moving up", (32, 52, 5), (32, 12, 5)),
        ("moving down", (32, 12, 5), (32, 52, 5)),
        ("growing", (32, 32, 4), (32, 32, 12)),
        ("shrinking", (32, 32, 12), (32, 32, 4)),
        ("standing still", (32, 32, 5), (32, 32, 5)),
    ],
)
def test_motions_go_linearly_from_end_to_end(
    motion: str, first: tuple[float, float, float], last: tuple[float, float, float]
) -> None:
    path = np.array(path_of(motion, "small"))
    assert len(path) == 8
    assert path == pytest.approx(np.linspace(first, last, 8))


def test_frames_show_the_object_where_its_path_has_it() -> None:
    frames = draw_films([_film("moving right")])[0]
    assert frames.shape == (8, 64, 64, 3)
    for frame, (x, y, radius) in zip(frames, path_of("moving right", "large"), strict=True):
        red = frame[..., 0].astype(float) - 15
        columns = red.sum(0) / red.sum()
        assert columns @ (np.arange(64) + 0.5) == pytest.approx(x, abs=0.1)
        assert red.sum() / 205 == pytest.approx((1.8 * radius) ** 2, rel=0.03)
        assert tuple(frame[int(y), int(x)]) == (220, 40, 40)


def test_discs_cover_what_they_should() -> None:
    assert cover_disc("circle", 32, 32, 12).sum() == pytest.approx(math.pi * 144, rel=0.005)


def test_noise_is_fresh_in_every_frame_and_repeats_by_seed() -> None:
    films = [_film("standing still", noise_sigma=2.0, noise_seed=1)] * 2
    frames = draw_films(films).astype(float)
    assert (frames[0] == frames[1]).all()
    differences = frames[0, 1:, :20] - frames[0, :-1, :20]
    assert differences.std() == pytest.approx(2 * math.sqrt(2), rel=0.05)


def test_gif_keeps_frames_also_where_nothing_moves() -> None:
    still = draw_films([_film("standing still")])[0]
    assert (decode_gif(encode_gif(still)) == still).all()
    moving = draw_films([_film("growing", noise_sigma=3.0)])[0]
    read = decode_gif(encode_gif(moving))
    assert read.shape == moving.shape
    assert np.abs(read.astype(float) - moving).mean() < 3


def test_drawing_films_is_fast() -> None:
    films = [draw_film(seed) for seed in range(400)]
    draw_films(films)
    start_s = time.process_time()
    draw_films(films)
    print(f"films drawn per second of one core: {len(films) / (time.process_time() - start_s):.0f}")
