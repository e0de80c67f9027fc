"""Captions: a scene in one sentence, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.playroom.scenes import Scene
from services.playroom.words import BACKGROUNDS, COLORS, PLACES, SHAPES, SIZES

_PLACE = "|".join(sorted(PLACES, key=len, reverse=True))
_OBJECT = re.compile(
    rf"\ban? ({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) (?:at|in|on) the ({_PLACE})\b"
)
_BACKGROUND = re.compile(rf"\bon an? ({'|'.join(BACKGROUNDS)}) background\b")
_FILLER = re.compile(r"[\s,.]|\band\b")


@dataclass(frozen=True)
class CaptionFacts:
    """What a caption says: (shape, color, size, place) of every object, and the background."""

    objects: frozenset[tuple[str, str, str, str]]
    background: str


def facts_of(scene: Scene) -> CaptionFacts:
    """What a caption of a scene has to say."""
    return CaptionFacts(frozenset(item.attributes for item in scene.objects), scene.background)


def join_nouns(nouns: Sequence[str]) -> str:
    """Joins phrases: `a`, `a and b`, `a, b and c`."""
    if len(nouns) == 1:
        return nouns[0]
    return f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def caption_of(scene: Scene) -> str:
    """Writes the caption of a scene, objects in reading order."""
    items = sorted(scene.objects, key=lambda item: item.cell)
    listed = join_nouns([f"{item.noun} at the {item.place}" for item in items])
    return f"{listed}, on a {scene.background} background"


def parse_caption(text: str) -> CaptionFacts | None:
    """Reads a caption; None where it is none, says something twice, or says anything else besides."""
    lowered = text.strip().lower()
    objects = [(match[3], match[2], match[1], match[4]) for match in _OBJECT.finditer(lowered)]
    backgrounds = _BACKGROUND.findall(lowered)
    rest = _FILLER.sub("", _BACKGROUND.sub("", _OBJECT.sub("", lowered)))
    if rest or not objects or len(backgrounds) != 1 or len(set(objects)) != len(objects):
        return None
    return CaptionFacts(frozenset(objects), backgrounds[0])
