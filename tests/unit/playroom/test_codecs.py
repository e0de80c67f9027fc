from __future__ import annotations

import numpy as np
import pytest

from services.playroom.codecs import (
    FILM_CODINGS,
    SOUND_CODINGS,
    Coding,
    decode_film,
    decode_sound,
    encode_film,
    encode_sound,
)
from services.playroom.filming import draw_films, encode_gif
from services.playroom.films import draw_film
from services.playroom.sounds import draw_sound
from services.playroom.synthesis import encode_wav, render_sounds


@pytest.mark.parametrize(("name", "closeness"), [("flac", 0.99999), ("mp3", 0.9), ("opus", 0.9)])
def test_sounds_come_back_as_they_were(name: str, closeness: float) -> None:
    samples = render_sounds([draw_sound(5)])[0]
    heard, rate_hz = decode_sound(encode_sound(samples, SOUND_CODINGS[name]))
    assert len(heard) / rate_hz == pytest.approx(2.0, abs=0.1)
    assert np.sqrt(np.square(heard).mean()) == pytest.approx(np.sqrt(np.square(samples).mean()), rel=1.05 - closeness)


def test_wav_is_read_too_and_channels_are_averaged() -> None:
    samples = render_sounds([draw_sound(6)])[0]
    heard, rate_hz = decode_sound(encode_wav(samples))
    assert rate_hz == 16_000
    assert heard == pytest.approx(samples, abs=1e-4)


@pytest.mark.parametrize("name", sorted(FILM_CODINGS))
def test_films_come_back_about_as_they_were(name: str) -> None:
    frames = draw_films([draw_film(3)])[0]
    seen = decode_film(encode_film(frames, FILM_CODINGS[name]))
    assert seen.shape == frames.shape
    assert np.abs(seen.astype(float) - frames).mean() < 6


def test_gif_is_read_frame_by_frame() -> None:
    frames = draw_films([draw_film(4)])[0]
    assert decode_film(encode_gif(frames)).shape == frames.shape


def test_what_has_no_sound_or_film_is_refused() -> None:
    film = encode_film(draw_films([draw_film(3)])[0], FILM_CODINGS["mp4"])
    with pytest.raises(ValueError, match="no sound in"):
        decode_sound(film)
    with pytest.raises(ValueError, match="no film in"):
        decode_film(encode_wav(np.zeros(1600, np.float32)))
    with pytest.raises(ValueError, match="libx264 writes no sound"):
        encode_sound(np.zeros(1600, np.float32), Coding("mp4", "libx264"))
    with pytest.raises(ValueError, match="flac writes no film"):
        encode_film(np.zeros((8, 64, 64, 3), np.uint8), Coding("flac", "flac"))
