"""Describing what is wanted: captions in paraphrases, as requests name what they ask for."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.playroom.captions import join_nouns
from services.playroom.media_questions import pick
from services.playroom.sounds import SWEEP
from services.playroom.wanted import ANY_SHAPE, Wanted, WantedFilm, WantedObject, WantedScene, WantedSound
from services.playroom.wordings import Wordings
from services.playroom.words import NUMBERS, with_article

_PLAIN_SHARE = 0.5
"""So often a description is the caption, word for word."""
_KEPT_OUT_SHARE = 0.25
"""So often a form is one that training never sees, where that is asked for at all."""

SIZE_AND_COLOR: Final = Wordings(
    trained=(
        "{size} {color} {shape}",
        "{color} {size} {shape}",
        "{color} {shape} that is {size}",
        "{size} {shape} that is {color}",
    ),
    kept_out=("{size} {shape} in {color}", "{shape} that is {size} and {color}"),
)
COLOR_ALONE: Final = Wordings(
    trained=("{color} {shape}", "{shape} that is {color}"), kept_out=("{shape} in {color}", "{shape} of color {color}")
)
SIZE_ALONE: Final = Wordings(
    trained=("{size} {shape}", "{shape} that is {size}"), kept_out=("{shape} of size {size}", "{shape}, a {size} one,")
)
AT_PLACE: Final = Wordings(
    trained=("{x} at the {place}", "{x} in the {place}", "{x} placed at the {place}", "at the {place} {x}"),
    kept_out=("{x} set at the {place}", "{x} that is at the {place}"),
)
ON_BACKGROUND: Final = Wordings(
    trained=(
        "{x}, on a {b} background",
        "{x} on a {b} background",
        "{x} with a {b} background",
        "{x} on {b}",
        "{x}, and make the background {b}",
        "on a {b} background {x}",
    ),
    kept_out=("{x} in front of a {b} background", "{x}, all of it on {b}"),
)
MOTION_FORMS: Final[dict[str, Wordings]] = {
    "moving": Wordings(
        trained=("moving {way}", "that moves {way}", "going {way}", "which goes {way}"),
        kept_out=("as it moves {way}", "that is moving {way}"),
    ),
    "growing": Wordings(
        trained=("growing", "that grows", "getting larger", "which grows"),
        kept_out=("as it grows", "that is growing"),
    ),
    "shrinking": Wordings(
        trained=("shrinking", "that shrinks", "getting smaller", "which shrinks"),
        kept_out=("as it shrinks", "that is shrinking"),
    ),
    "standing": Wordings(
        trained=("standing still", "that stands still", "that does not move", "which stays where it is"),
        kept_out=("as it stands still", "that is standing still"),
    ),
}
PITCHED: Final = Wordings(
    trained=("{number} {pitch} {nouns}", "{number} {nouns} with a {pitch} pitch", "{number} {nouns}, {pitch} in pitch"),
    kept_out=("{number} {nouns} of {pitch} pitch", "{number} {nouns} at a {pitch} pitch"),
)
SWEEPS: Final[dict[str, Wordings]] = {
    "rising": Wordings(
        trained=("a rising sweep", "a sweep that rises", "a sweep going up"),
        kept_out=("a sweep that goes up", "a sweep that is rising"),
    ),
    "falling": Wordings(
        trained=("a falling sweep", "a sweep that falls", "a sweep going down"),
        kept_out=("a sweep that goes down", "a sweep that is falling"),
    ),
    "": Wordings(trained=("a sweep",), kept_out=("a sweep of any kind", "some sweep")),
}


def _form(wordings: Wordings, rng: np.random.Generator, kept_out: bool) -> str:
    """Picks a form; the first one is the caption's own and comes most."""
    if kept_out and rng.random() < _KEPT_OUT_SHARE:
        return pick(rng, wordings.kept_out)
    return wordings.trained[0] if rng.random() < _PLAIN_SHARE else pick(rng, wordings.trained)


def _plural(shape: str) -> str:
    return f"{shape}es" if shape == "cross" else f"{shape}s"


def _object(rng: np.random.Generator, item: WantedObject, kept_out: bool) -> str:
    shape = item.shape or ANY_SHAPE
    if item.size and item.color:
        words = _form(SIZE_AND_COLOR, rng, kept_out)
    elif item.size or item.color:
        words = _form(SIZE_ALONE if item.size else COLOR_ALONE, rng, kept_out)
    else:
        words = "{shape}"
    noun = with_article(words.format(size=item.size, color=item.color, shape=shape))
    return _form(AT_PLACE, rng, kept_out).format(x=noun, place=item.place) if item.place else noun


def _counted(objects: tuple[WantedObject, ...]) -> str:
    """`three small blue squares`: objects alike in all that is named, and at no named places."""
    first = objects[0]
    words = (NUMBERS[len(objects)], first.size, first.color, _plural(first.shape or ANY_SHAPE))
    return " ".join(word for word in words if word)


def _shuffled(rng: np.random.Generator, objects: tuple[WantedObject, ...]) -> tuple[WantedObject, ...]:
    """Objects in any order, but those without a place in their own: the caption lists them as they are named."""
    unplaced = iter([item for item in objects if not item.place])
    shuffled = [objects[i] for i in rng.permutation(len(objects))]
    return tuple(item if item.place else next(unplaced) for item in shuffled)


def _scene(rng: np.random.Generator, wanted: WantedScene, kept_out: bool) -> str:
    objects = wanted.objects
    if len(objects) > 1 and len(set(objects)) == 1 and rng.random() < _PLAIN_SHARE:
        listed = _counted(objects)
    else:
        if rng.random() < _PLAIN_SHARE:
            objects = _shuffled(rng, objects)
        listed = join_nouns([_object(rng, item, kept_out) for item in objects])
    return _behind(rng, listed, wanted.background, kept_out)


def _behind(rng: np.random.Generator, what: str, background: str, kept_out: bool) -> str:
    return _form(ON_BACKGROUND, rng, kept_out).format(x=what, b=background) if background else what


def _film(rng: np.random.Generator, wanted: WantedFilm, kept_out: bool) -> str:
    what = _object(rng, WantedObject(wanted.shape, wanted.color), kept_out)
    if wanted.motion:
        kind, _, way = wanted.motion.partition(" ")
        what = f"{what} {_form(MOTION_FORMS[kind], rng, kept_out).format(way=way)}"
    return _behind(rng, what, wanted.background, kept_out)


def _sound(rng: np.random.Generator, wanted: WantedSound, kept_out: bool) -> str:
    if wanted.timbre == SWEEP:
        return _form(SWEEPS[wanted.pitch], rng, kept_out)
    number = NUMBERS[wanted.count] if wanted.count > 1 else pick(rng, ("one", "a", "a single"))
    if not wanted.pitch:
        return f"{number} {wanted.nouns}"
    return _form(PITCHED, rng, kept_out).format(number=number, pitch=wanted.pitch, nouns=wanted.nouns)


def describe(rng: np.random.Generator, wanted: Wanted, *, kept_out: bool = False) -> str:
    """Describes what is wanted as a request names it: half the time by its caption, otherwise in other words.

    Args:
        rng: Makes every choice.
        wanted: What to describe.
        kept_out: Whether forms may be chosen that training never sees.
    """
    if rng.random() < _PLAIN_SHARE:
        return wanted.caption
    match wanted:
        case WantedScene():
            return _scene(rng, wanted, kept_out)
        case WantedSound():
            return _sound(rng, wanted, kept_out)
        case _:
            return _film(rng, wanted, kept_out)
