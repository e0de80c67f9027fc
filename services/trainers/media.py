"""What conversations hand in: pictures, films, sounds and speech, and what each says in words.

Every medium reads as a row of tokens, and every token as the words that belong to it: the cells of a picture, the
frames of a film, the tenths of a second of a sound. A backbone learns from sums of those words' embeddings what
encoders and projectors hand over later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from services.playroom.filming import path_of
from services.playroom.films import N_FRAMES, Film
from services.playroom.scenes import Scene
from services.playroom.sounds import SOUND_S, Sound, sound_caption
from services.playroom.speech import transcript_of
from services.playroom.words import CELL_SIDE_PX, PLACES, RADIUS_PX

CELLS: Final = 9
TOKEN_S: Final = 0.1
"""Seconds of sound in one token."""
MAX_WORDS: Final = 7
"""Of one token."""

SILENCE: Final = (" silence",)
SOUND_MARK: Final = " sound"
FILM_MARK: Final = " film"
_LARGE_FROM_PX: Final = (RADIUS_PX["small"] + RADIUS_PX["large"]) / 2
_TOKENS_PER_LETTER: Final = (0.35, 0.75)
_TWICE: Final = 0.15  # share of words that are spotted in two tokens
_FIRST_CELL_PX: Final = 2.0


@dataclass(frozen=True)
class Speech:
    """A sentence that somebody speaks."""

    sentence: str


Shown: TypeAlias = Scene | Film | Sound | Speech
TokenWords: TypeAlias = Sequence[tuple[str, ...]]


def cell_words(scene: Scene) -> list[tuple[str, ...]]:
    """The words of each cell, its place among them: what an encoder has to tell about it."""
    words: list[tuple[str, ...]] = [(" nothing",)] * CELLS
    for item in scene.objects:
        words[item.cell] = (f" {item.size}", f" {item.color}", f" {item.shape}")
    return [
        (*said, f" {scene.background}", *(f" {word}" for word in place.split()))
        for said, place in zip(words, PLACES, strict=True)
    ]


def cell_of(x_px: float, y_px: float) -> int:
    """The cell that a point of a picture lies in."""
    column, row = (min(2, max(0, int((at - _FIRST_CELL_PX) // CELL_SIDE_PX))) for at in (x_px, y_px))
    return 3 * row + column


def is_large(radius_px: float) -> bool:
    """Whether an object of this radius is rather large than small."""
    return radius_px >= _LARGE_FROM_PX


def frame_words(film: Film) -> list[tuple[str, ...]]:
    """The words of each frame: the object, about how large it is by now, and where."""
    facts = film.facts
    words = []
    for x_px, y_px, radius_px in path_of(facts.motion, film.size):
        size = " large" if is_large(radius_px) else " small"
        place = PLACES[cell_of(x_px, y_px)]
        said = (FILM_MARK, size, f" {facts.color}", f" {facts.shape}", f" {facts.background}")
        words.append((*said, *(f" {word}" for word in place.split())))
    return words


def said_in(shown: Sound | Speech) -> list[str]:
    """The words that a sound or speech comes down to, in order; a sound starts with a mark of its own."""
    if isinstance(shown, Speech):
        return [f" {word}" for word in transcript_of(shown.sentence).split()]
    return [SOUND_MARK, *(f" {word}" for word in sound_caption(shown.facts).split())]


def heard_words(shown: Sound | Speech, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The words of each token, in their order among silence, as a listener would spot them.

    Those of a sound may be spotted anywhere in it, those of speech while they are spoken.
    """
    said = said_in(shown)
    if isinstance(shown, Sound):
        n_tokens = round(SOUND_S / TOKEN_S)
        places = [int(place) for place in np.sort(rng.choice(n_tokens, len(said), replace=False))]
    else:
        places, n_tokens = _spoken_places(said, rng)
    row: list[tuple[str, ...]] = [SILENCE] * n_tokens
    for place, word in zip(places, said, strict=True):
        row[place] = (word,)
        if place + 1 < len(row) and rng.random() < _TWICE:  # the next word may stand over it
            row[place + 1] = (word,)
    return row


def _spoken_places(said: Sequence[str], rng: np.random.Generator) -> tuple[list[int], int]:
    """In which token each word is spotted, and how many tokens there are: long words take longer."""
    pace = float(rng.uniform(*_TOKENS_PER_LETTER))
    at = float(rng.uniform(0.0, 3.0))
    places: list[int] = []
    for word in said:
        lasts = 0.8 + pace * len(word.strip())
        spotted = int(at + lasts * rng.uniform(0.3, 1.0))
        places.append(max(spotted, places[-1] + 1 if places else 0))
        at += lasts
    return places, max(places[-1] + 1, int(at + rng.uniform(0.5, 4.0)))


def words_of(shown: Shown, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The words of each token of a medium."""
    match shown:
        case Scene():
            return cell_words(shown)
        case Film():
            return frame_words(shown)
        case _:
            return heard_words(shown, rng)


def tokens_of(shown: Shown) -> int:
    """About how many tokens a medium is."""
    match shown:
        case Scene():
            return CELLS
        case Film():
            return N_FRAMES
        case Sound():
            return round(SOUND_S / TOKEN_S)
        case _:
            return 4 + 4 * len(shown.sentence.split())
