"""What lies in ``examples/`` is what the names say: read back by the judges of the playroom."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from services.playroom.codecs import decode_film, decode_sound
from services.playroom.films import film_caption
from services.playroom.listening import read_sound
from services.playroom.sounds import sound_caption
from services.playroom.speech import MAX_SPEECH_S, can_speak, transcript_of
from services.playroom.watching import read_film

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_make", EXAMPLES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(text: str) -> str:
    return text.replace(" ", "-")


def test_sounds(make: ModuleType) -> None:
    for name, facts in make.SOUNDS.items():
        assert read_sound(*decode_sound((EXAMPLES / name).read_bytes())) == facts
        assert named(sound_caption(facts)).removeprefix("a-") == Path(name).stem


def test_films(make: ModuleType) -> None:
    for name, facts in make.FILMS.items():
        assert read_film(decode_film((EXAMPLES / name).read_bytes())) == facts
        assert named(film_caption(facts)).removeprefix("a-").startswith(f"{Path(name).stem}-on-")


def test_speech(make: ModuleType) -> None:
    for name, (sentence, _) in make.SPEECH.items():
        samples_T, rate_hz = decode_sound((EXAMPLES / name).read_bytes())
        assert 0.5 < len(samples_T) / rate_hz <= MAX_SPEECH_S
        assert named(transcript_of(sentence)) == Path(name).stem


def test_they_are_what_the_program_makes(make: ModuleType) -> None:
    if not can_speak():
        pytest.skip("espeak-ng is not installed (Debian package espeak-ng)")
    for name, data in make.made():
        assert len(data) <= make.MOST_BYTES
        assert (EXAMPLES / name).stat().st_size == pytest.approx(len(data), rel=0.5)
