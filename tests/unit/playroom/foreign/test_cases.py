"""Media that other programs make, read by the playroom's judges."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import pytest
from PIL import Image

from services.playroom.captions import parse_caption
from services.playroom.codecs import decode_film, decode_sound
from services.playroom.films import parse_film_caption
from services.playroom.foreign.cases import draw_foreign_cases
from services.playroom.foreign.encoding import FILM_TYPES
from services.playroom.foreign.programs import missing
from services.playroom.judging import read_picture
from services.playroom.listening import read_sound
from services.playroom.media_cases import MediaCase
from services.playroom.scenes import Split
from services.playroom.sounds import parse_sound_caption
from services.playroom.speech import can_speak
from services.playroom.studio import Medium
from services.playroom.watching import read_film

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}")


def _media(case: MediaCase) -> list[Medium]:
    turns = [*(turn.parts for turn in case.earlier), case.parts]
    return [part for parts in turns for part in parts if isinstance(part, Medium)]


_JUDGES: dict[str, tuple[Callable[[bytes], object], Callable[[str], object]]] = {
    "caption": (lambda data: read_picture(Image.open(io.BytesIO(data))), parse_caption),
    "sound_caption": (lambda data: read_sound(*decode_sound(data)), parse_sound_caption),
    "film_caption": (lambda data: read_film(decode_film(data)), parse_film_caption),
}


@pytest.mark.parametrize("task", _JUDGES)
def test_judges_read_what_other_programs_made(task: str) -> None:
    read, parse = _JUDGES[task]
    cases = list(draw_foreign_cases(Split.TEST, task, 12, seed=1))
    assert len({medium.mime_type for case in cases for medium in _media(case)}) >= 3
    for case in cases:
        (medium,) = _media(case)
        assert read(medium.data) == parse(case.expected), medium.mime_type


def test_pictures_and_films_come_in_two_sizes() -> None:
    pictures = [Image.open(io.BytesIO(_media(case)[0].data)) for case in draw_foreign_cases(Split.TEST, "question", 8)]
    assert {picture.size for picture in pictures} == {(64, 64), (128, 128)}
    assert {picture.format for picture in pictures} == {"PNG", "JPEG", "WEBP"}
    films = [decode_film(_media(case)[0].data) for case in draw_foreign_cases(Split.TEST, "film_question", 4)]
    assert {film.shape for film in films} == {(8, 64, 64, 3), (8, 128, 128, 3)}


def test_sounds_are_stereo_at_44_1_khz() -> None:
    sounds = [_media(case)[0] for case in draw_foreign_cases(Split.TEST, "sound_question", 12)]
    assert {sound.mime_type for sound in sounds} == {"audio/wav", "audio/flac", "audio/mpeg", "audio/ogg"}
    for sound in sounds:
        with av.open(io.BytesIO(sound.data)) as file:
            assert file.streams.audio[0].channels == 2
    rates = {decode_sound(sound.data)[1] for sound in sounds}
    assert rates == {44_100, 48_000}  # Opus has no other rate than the latter


def test_the_same_seed_makes_the_same_bytes() -> None:
    for task in ("caption", "sound_caption", "film_caption"):
        first, second = (list(draw_foreign_cases(Split.TEST, task, 3, seed=2)) for _ in range(2))
        assert first == second


def test_earlier_turns_have_their_media_too() -> None:
    cases = list(draw_foreign_cases(Split.TEST, "follow_up", 5))
    for case in cases:
        for medium in _media(case):
            assert medium.mime_type != "order/foreign"
            assert len(medium.data) > 50
    assert {medium.mime_type for case in cases for medium in _media(case)} & set(FILM_TYPES.values())


@pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed (Debian package espeak-ng)")
def test_speech_is_compressed() -> None:
    for case in draw_foreign_cases(Split.TEST, "transcript", 4):
        (medium,) = _media(case)
        samples, rate_hz = decode_sound(medium.data)
        assert medium.mime_type in ("audio/mpeg", "audio/ogg")
        assert medium.said
        assert 0.3 < len(samples) / rate_hz < 4.5
