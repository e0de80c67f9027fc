"""What requests by description name: all that a caption says, or part of it, the rest left free."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from services.playroom.films import FilmFacts, film_from
from services.playroom.scenes import Scene, SceneObject, Split, scene_from
from services.playroom.sounds import SoundFacts, sound_from
from services.playroom.wanted import WantedFilm, WantedObject, WantedScene, WantedSound
from services.playroom.words import HELD_OUT_PAIRS

_WHOLE_SHARE: Final = 0.5
"""So often a request names all that the caption does."""
_ALIKE_SHARE: Final = 0.15
"""So often several objects of which only part is named are alike: `two red circles`."""


def _keep(rng: np.random.Generator, word: str, share: float) -> str:
    return word if rng.random() < share else ""


def _named_object(rng: np.random.Generator, item: SceneObject) -> WantedObject:
    # a pair that is held out is named whole: it is what the compositional split is about
    whole = (item.color, item.shape) in HELD_OUT_PAIRS
    return WantedObject(
        shape=_keep(rng, item.shape, 1.0 if whole else 0.95),
        color=_keep(rng, item.color, 1.0 if whole else 0.85),
        size=_keep(rng, item.size, 0.5),
        place=_keep(rng, item.place, 0.4),
    )


def part_of_scene(rng: np.random.Generator, scene: Scene) -> tuple[Scene, WantedScene]:
    """Draws what a request names of a scene; where several objects are named alike, the scene comes back alike too."""
    objects = tuple(_named_object(rng, item) for item in scene.objects)
    if len(objects) > 1 and rng.random() < _ALIKE_SHARE:
        wholly = [item for item in objects if (item.color, item.shape) in HELD_OUT_PAIRS]
        one = replace((wholly or list(objects))[0], place="")
        objects = (one,) * len(objects)
        alike = [
            replace(item, shape=one.shape or item.shape, color=one.color or item.color, size=one.size or item.size)
            for item in scene.objects
        ]
        scene = replace(scene, objects=tuple(alike))
    return scene, WantedScene(objects, _keep(rng, scene.background, 0.3))


def name_scene(rng: np.random.Generator, split: Split, *, whole_share: float = _WHOLE_SHARE) -> WantedScene:
    """Draws what a request for a picture names."""
    scene = scene_from(rng, split)
    if rng.random() < whole_share:
        return WantedScene(tuple(WantedObject(*item.attributes) for item in scene.objects), scene.background)
    return part_of_scene(rng, scene)[1]


def part_of_sound(rng: np.random.Generator, facts: SoundFacts) -> WantedSound:
    """Draws what a request names of a sound."""
    wanted = WantedSound(facts.timbre, facts.pitch, facts.count)
    draw = rng.random()
    if draw < 0.12:
        return replace(wanted, pitch="")
    return replace(wanted, timbre="") if draw < 0.16 and not facts.is_sweep else wanted


def name_sound(rng: np.random.Generator) -> WantedSound:
    """Draws what a request for a sound names."""
    return part_of_sound(rng, sound_from(rng).facts)


def part_of_film(rng: np.random.Generator, facts: FilmFacts) -> WantedFilm:
    """Draws what a request names of a film."""
    whole = (facts.color, facts.shape) in HELD_OUT_PAIRS
    return WantedFilm(
        color=_keep(rng, facts.color, 1.0 if whole else 0.85),
        shape=_keep(rng, facts.shape, 1.0 if whole else 0.95),
        motion=_keep(rng, facts.motion, 0.9),
        background=_keep(rng, facts.background, 0.4),
    )


def name_film(rng: np.random.Generator, split: Split, *, whole_share: float = _WHOLE_SHARE) -> WantedFilm:
    """Draws what a request for a film names."""
    facts = film_from(rng, split).facts
    if rng.random() < whole_share:
        return WantedFilm(facts.color, facts.shape, facts.motion, facts.background)
    return part_of_film(rng, facts)
