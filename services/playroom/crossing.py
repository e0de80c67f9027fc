"""One medium from another: the rules of the world's table, with what is asked and what has to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from services.playroom import making_wordings as worded
from services.playroom.filling import fill_scene
from services.playroom.films import BACKWARDS, film_from
from services.playroom.media_questions import pick
from services.playroom.questions import phrase
from services.playroom.requests import Shown
from services.playroom.sayings import MOTIONS, PITCHES, SOUND_OF_SHAPE
from services.playroom.scenes import SHOWN_PAIRS, Scene, SceneObject, Split, scene_from
from services.playroom.sentences import DRAW, FILM, PLAY
from services.playroom.sounds import SWEEP, SWEEP_HZ, Sound, sound_from
from services.playroom.wanted import Wanted, WantedFilm, WantedObject, WantedScene, WantedSound, wanted_of
from services.playroom.wordings import Wordings
from services.playroom.words import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_PAIRS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    with_article,
)

PITCH_OF_SIZE: Final = {"large": "low", "small": "high"}
SIZE_OF_PITCH: Final = {pitch: size for size, pitch in PITCH_OF_SIZE.items()}
SHAPE_OF_SOUND: Final = {sound: shape for shape, sound in SOUND_OF_SHAPE.items()}
SWEEP_OF_MOTION: Final = {
    "moving up": "rising",
    "growing": "rising",
    "moving down": "falling",
    "shrinking": "falling",
}
MOTION_OF_SWEEP: Final = {"rising": "moving up", "falling": "moving down"}
VERB_OF_MOTION: Final = {
    **{f"moving {way}": f"move {way}" for way in ("left", "right", "up", "down")},
    "growing": "grow",
    "shrinking": "shrink",
    "standing still": "stand still",
}
_IT: Final = {
    "one": ("it", "it", "it", "the object"),
    "several": ("it", "it", "it", "everything"),
    "sound": ("it", "it", "it", "that", "the sound"),
    "film": ("it", "it", "it", "this film", "the film", "the video"),
}


@dataclass(frozen=True, slots=True)
class Crossing:
    """What is shown, what is asked of it, and what has to come."""

    kind: str
    shown: Shown
    prompt: str
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class _Asking:
    """How requests are drawn."""

    rng: np.random.Generator
    split: Split
    kept_out: bool

    def say(self, wordings: Wordings, **slots: str) -> str:
        return phrase(wordings, self.rng, self.kept_out, **slots)

    def it(self, scene: Scene) -> str:
        return pick(self.rng, _IT["one" if len(scene.objects) == 1 else "several"])

    def pairs(self) -> list[tuple[str, str]]:
        return sorted(HELD_OUT_PAIRS) if self.split is Split.COMPOSITIONAL else SHOWN_PAIRS

    def alike(self, count: int, pairs: list[tuple[str, str]]) -> Scene:
        """Objects alike in all but place."""
        color, shape = pairs[int(self.rng.integers(len(pairs)))]
        item = WantedObject(shape, color, pick(self.rng, SIZES))
        return fill_scene(self.rng, WantedScene((item,) * count))


def _with_all(scene: Scene, changes: Callable[[SceneObject], SceneObject]) -> Scene:
    return replace(scene, objects=tuple(sorted((changes(item) for item in scene.objects), key=lambda item: item.cell)))


def _edited(ask: _Asking, scene: Scene) -> tuple[str, str, Scene]:
    """Draws an edit: its kind, its words, and the scene after it."""
    it, one = ask.it(scene), len(scene.objects) == 1
    match pick(ask.rng, ("recolor", "resize", "reshape", "background", "put")[: 5 if one else 4]):
        case "recolor":
            color = pick(ask.rng, COLORS)
            after = _with_all(scene, lambda item: replace(item, color=color))
            return "recolor", ask.say(worded.RECOLOR, it=it, x=color), after
        case "resize":
            size = pick(ask.rng, SIZES)
            after = _with_all(scene, lambda item: replace(item, size=size))
            return "resize", ask.say(worded.RESIZE, it=it, x=size), after
        case "reshape":
            shape = pick(ask.rng, SHAPES)
            after = _with_all(scene, lambda item: replace(item, shape=shape))
            return "reshape", ask.say(worded.RESHAPE, it=it, x=with_article(shape)), after
        case "background":
            background = pick(ask.rng, BACKGROUNDS)
            after = replace(scene, background=background)
            return "background", ask.say(worded.BACKGROUND, it=it, x=background), after
        case _:
            cell = int(ask.rng.integers(len(PLACES)))
            after = _with_all(scene, lambda item: replace(item, cell=cell))
            return "put", ask.say(worded.PUT, it=it, x=PLACES[cell]), after


def _image_to_image(ask: _Asking) -> Crossing:
    scene = scene_from(ask.rng, ask.split)
    while True:
        kind, prompt, after = _edited(ask, scene)
        shows_held_out = after.names_held_out_pair and ask.split is not Split.COMPOSITIONAL
        if after != scene and not shows_held_out:
            return Crossing(kind, scene, prompt, wanted_of(after))


def _image_to_audio(ask: _Asking) -> Crossing:
    sounding = [pair for pair in ask.pairs() if pair[1] in SOUND_OF_SHAPE]
    scene = ask.alike(int(ask.rng.integers(1, MAX_OBJECTS + 1)), sounding)
    first = scene.objects[0]
    wanted = WantedSound(SOUND_OF_SHAPE[first.shape], PITCH_OF_SIZE[first.size], len(scene.objects))
    return Crossing("play_seen", scene, ask.say(PLAY, x="what you see"), wanted)


def _image_to_video(ask: _Asking) -> Crossing:
    scene = ask.alike(1, ask.pairs())
    motion, first = pick(ask.rng, MOTIONS), scene.objects[0]
    prompt = ask.say(worded.MOVE, it=ask.it(scene), verb=VERB_OF_MOTION[motion], way=motion)
    return Crossing("animate", scene, prompt, WantedFilm(first.color, first.shape, motion, scene.background))


def _sound(ask: _Asking, *, sweeps: bool) -> Sound:
    while (sound := sound_from(ask.rng)).facts.is_sweep is not sweeps:
        pass
    return sound


def _audio_to_image(ask: _Asking) -> Crossing:
    while (sound := _sound(ask, sweeps=False)).facts.pitch not in SIZE_OF_PITCH:
        pass
    facts = sound.facts
    item = WantedObject(SHAPE_OF_SOUND[facts.timbre], size=SIZE_OF_PITCH[facts.pitch])
    return Crossing("draw_heard", sound, ask.say(DRAW, x="what you hear"), WantedScene((item,) * facts.count))


def _audio_to_audio(ask: _Asking) -> Crossing:
    sound = sound_from(ask.rng)
    kind = "again" if sound.facts.is_sweep else pick(ask.rng, ("again", "higher", "lower"))
    it = pick(ask.rng, _IT["sound"])
    wanted = WantedSound(sound.facts.timbre, sound.facts.pitch, sound.facts.count)
    if kind == "again":
        return Crossing(kind, sound, ask.say(worded.AGAIN, it=it), wanted)
    at = PITCHES.index(wanted.pitch) + (1 if kind == "higher" else -1)
    wanted = replace(wanted, pitch=PITCHES[min(len(PITCHES) - 1, max(0, at))])
    return Crossing(kind, sound, ask.say(worded.STEP, it=it, x=kind), wanted)


def _audio_to_video(ask: _Asking) -> Crossing:
    # the two sweeps are a small part of all sounds: drawn straight
    facts = replace(_sound(ask, sweeps=False).facts, timbre=SWEEP, pitch=pick(ask.rng, tuple(SWEEP_HZ)), count=1)
    sound = sound_from(ask.rng, facts)
    wanted = WantedFilm(motion=MOTION_OF_SWEEP[facts.pitch])
    return Crossing("film_heard", sound, ask.say(FILM, x="what you hear"), wanted)


def _video_to_image(ask: _Asking) -> Crossing:
    film = film_from(ask.rng, ask.split)
    facts = film.facts
    item = WantedObject(facts.shape, facts.color, "large", "center")
    prompt = ask.say(DRAW, x=f"{pick(ask.rng, ('it', 'it', 'it', 'the object'))} standing still")
    return Crossing("draw_still", film, prompt, WantedScene((item,), facts.background))


def _video_to_audio(ask: _Asking) -> Crossing:
    while (film := film_from(ask.rng, ask.split)).facts.motion not in SWEEP_OF_MOTION:
        pass
    wanted = WantedSound(SWEEP, SWEEP_OF_MOTION[film.facts.motion])
    return Crossing("play_seen", film, ask.say(PLAY, x="what you see"), wanted)


def _video_to_video(ask: _Asking) -> Crossing:
    film = film_from(ask.rng, ask.split)
    facts = film.facts
    prompt = ask.say(worded.BACKWARDS, it=pick(ask.rng, _IT["film"]))
    wanted = WantedFilm(facts.color, facts.shape, BACKWARDS[facts.motion], facts.background)
    return Crossing("backwards", film, prompt, wanted)


_CROSSINGS: Final[dict[str, Callable[[_Asking], Crossing]]] = {
    "image_to_image": _image_to_image,
    "image_to_audio": _image_to_audio,
    "image_to_video": _image_to_video,
    "audio_to_image": _audio_to_image,
    "audio_to_audio": _audio_to_audio,
    "audio_to_video": _audio_to_video,
    "video_to_image": _video_to_image,
    "video_to_audio": _video_to_audio,
    "video_to_video": _video_to_video,
}
CROSSINGS: Final = tuple(_CROSSINGS)


def cross(rng: np.random.Generator, cell: str, split: Split = Split.TRAIN, *, kept_out: bool = False) -> Crossing:
    """Draws a request that makes one medium from another.

    Args:
        rng: Makes every choice.
        cell: One of `CROSSINGS`.
        split: Where pictures and films come from.
        kept_out: Whether to use wordings that training never sees.
    """
    return _CROSSINGS[cell](_Asking(rng, split, kept_out))
