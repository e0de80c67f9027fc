"""Makes the sounds, films and speech beside it, by the generators of the playroom: ``python examples/make.py``.

Speech needs espeak-ng. Every file is one way to write such a medium; all are drawn from fixed seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from services.playroom.codecs import FILM_CODINGS, SOUND_CODINGS, encode_film, encode_sound
from services.playroom.filming import draw_films, encode_gif
from services.playroom.films import Film, FilmFacts
from services.playroom.sounds import Sound, SoundFacts
from services.playroom.speech import Utterance, speak
from services.playroom.synthesis import Floats, encode_wav, render_sounds

FOLDER = Path(__file__).resolve().parent
CODINGS = {".mp3": "mp3", ".flac": "flac", ".ogg": "opus", ".mp4": "mp4", ".webm": "webm"}
MOST_BYTES = 50_000
WORDS_PER_MINUTE = 150

SOUNDS = {
    "two-high-beeps.wav": SoundFacts("beep", "high", 2),
    "three-low-buzzes.mp3": SoundFacts("buzz", "low", 3),
    "rising-sweep.flac": SoundFacts("sweep", "rising"),
}
FILMS = {
    "red-circle-moving-left.mp4": FilmFacts("red", "circle", "moving left", "black"),
    "blue-star-growing.gif": FilmFacts("blue", "star", "growing", "white"),
    "green-ring-moving-up.webm": FilmFacts("green", "ring", "moving up", "gray"),
}
SPEECH = {
    "what-color-is-the-star.ogg": ("what color is the star?", "en-us"),
    "how-many-objects-are-there.mp3": ("how many objects are there?", "en-gb-x-rp+f2"),
    "what-is-the-opposite-of-left.ogg": ("what is the opposite of left?", "en-us+m3"),
    "draw-a-large-blue-square.ogg": ("draw a large blue square", "en-us+f4"),
}


def written(name: str, samples_T: Floats) -> bytes:
    """Return a sound in the format that the ending of its name tells."""
    ending = Path(name).suffix
    # of 8 bits: 16 would make two seconds larger than an example should be
    return (
        encode_wav(samples_T, bits=8) if ending == ".wav" else encode_sound(samples_T, SOUND_CODINGS[CODINGS[ending]])
    )


def filmed(name: str, film: Film) -> bytes:
    """Return a film in the format that the ending of its name tells."""
    (frames_FHWC,) = draw_films([film])
    ending = Path(name).suffix
    return encode_gif(frames_FHWC) if ending == ".gif" else encode_film(frames_FHWC, FILM_CODINGS[CODINGS[ending]])


def made() -> Iterator[tuple[str, bytes]]:
    """Yield every file: its name and what is in it."""
    for name, heard in SOUNDS.items():
        yield name, written(name, render_sounds([Sound(heard, peak_dbfs=-9.0)])[0])
    for name, watched in FILMS.items():
        yield name, filmed(name, Film(watched, "large"))
    for name, (sentence, voice) in SPEECH.items():
        yield name, written(name, speak(Utterance(sentence, voice, WORDS_PER_MINUTE)))


def main() -> int:
    """Write all files; return 1 if one is too large."""
    sizes = {}
    for name, data in made():
        (FOLDER / name).write_bytes(data)
        sizes[name] = len(data)
        sys.stdout.write(f"{name}: {len(data)} bytes\n")
    return int(max(sizes.values()) > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
