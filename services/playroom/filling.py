"""Filling in what a request left free: one medium out of all that it allows, each free word equally likely."""

from __future__ import annotations

import numpy as np

from services.playroom.films import Film, FilmFacts
from services.playroom.media_questions import pick
from services.playroom.sayings import MOTIONS, PITCHES, TIMBRES
from services.playroom.scenes import Scene, SceneObject
from services.playroom.sounds import SWEEP, SWEEP_HZ, Sound, SoundFacts, sound_from
from services.playroom.wanted import Wanted, WantedFilm, WantedObject, WantedScene, WantedSound
from services.playroom.words import (
    BACKGROUNDS,
    COLOR_OFFSET,
    COLORS,
    HELD_OUT_PAIRS,
    MAX_NOISE_SIGMA,
    MAX_SHIFT_PX,
    PLACES,
    SHAPES,
    SIZES,
)


def _pair(rng: np.random.Generator, color: str, shape: str, freely: bool) -> tuple[str, str]:
    """Color and shape; what is named stays, and what is free makes no pair that training never shows."""
    while True:
        pair = (color or pick(rng, COLORS), shape or pick(rng, SHAPES))
        if freely or pair not in HELD_OUT_PAIRS or (color and shape):
            return pair


def _offset(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(-COLOR_OFFSET, COLOR_OFFSET + 1, 3).tolist()
    return (red, green, blue)


def _object(rng: np.random.Generator, wanted: WantedObject, cell: int, freely: bool) -> SceneObject:
    color, shape = _pair(rng, wanted.color, wanted.shape, freely)
    x_px, y_px = rng.uniform(-MAX_SHIFT_PX, MAX_SHIFT_PX, 2).tolist()
    return SceneObject(shape, color, wanted.size or pick(rng, SIZES), cell, (x_px, y_px), _offset(rng))


def fill_scene(rng: np.random.Generator, wanted: WantedScene, *, freely: bool = False) -> Scene:
    """Draws a scene that is as wanted; `freely` lets free words make pairs that are held out of training."""
    taken = {PLACES.index(item.place) for item in wanted.objects if item.place}
    free = [int(cell) for cell in rng.permutation(len(PLACES)) if cell not in taken]
    cells = [PLACES.index(item.place) if item.place else free.pop() for item in wanted.objects]
    objects = [_object(rng, item, cell, freely) for item, cell in zip(wanted.objects, cells, strict=True)]
    return Scene(
        objects=tuple(sorted(objects, key=lambda item: item.cell)),
        background=wanted.background or pick(rng, BACKGROUNDS),
        noise_sigma=float(rng.uniform(0.0, MAX_NOISE_SIGMA)),
        noise_seed=int(rng.integers(2**31)),
    )


def fill_sound(rng: np.random.Generator, wanted: WantedSound) -> Sound:
    """Draws a sound that is as wanted."""
    pitches = tuple(SWEEP_HZ) if wanted.timbre == SWEEP else PITCHES
    facts = SoundFacts(wanted.timbre or pick(rng, TIMBRES), wanted.pitch or pick(rng, pitches), wanted.count)
    return sound_from(rng, facts)


def fill_film(rng: np.random.Generator, wanted: WantedFilm, *, freely: bool = False) -> Film:
    """Draws a film that is as wanted; `freely` lets free words make pairs that are held out of training."""
    color, shape = _pair(rng, wanted.color, wanted.shape, freely)
    motion = wanted.motion or pick(rng, MOTIONS)
    return Film(
        facts=FilmFacts(color, shape, motion, wanted.background or pick(rng, BACKGROUNDS)),
        size=pick(rng, SIZES),
        color_offset=_offset(rng),
        noise_sigma=float(rng.uniform(0.0, MAX_NOISE_SIGMA)),
        noise_seed=int(rng.integers(2**31)),
    )


def fill(rng: np.random.Generator, wanted: Wanted, *, freely: bool = False) -> Scene | Sound | Film:
    """Draws a medium that is as wanted; `freely` lets free words make pairs that are held out of training."""
    match wanted:
        case WantedScene():
            return fill_scene(rng, wanted, freely=freely)
        case WantedSound():
            return fill_sound(rng, wanted)
        case _:
            return fill_film(rng, wanted, freely=freely)
