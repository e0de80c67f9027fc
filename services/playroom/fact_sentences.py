"""Facts as sentences: what can be said about the one object of a picture, and whether what was said is true."""

from __future__ import annotations

import re
from typing import Final

from services.playroom.wanted import WantedScene
from services.playroom.words import BACKGROUNDS, COLORS, PLACES, SHAPES, SIZES, with_article

_SUBJECT = r"(?:it|the object|the \w+)"
_PATTERNS: Final = {
    "color": re.compile(rf"{_SUBJECT} is ({'|'.join(COLORS)})|(?:its|the) color is ({'|'.join(COLORS)})"),
    "shape": re.compile(rf"{_SUBJECT} is an? ({'|'.join(SHAPES)})|(?:its|the) shape is (?:an? )?({'|'.join(SHAPES)})"),
    "size": re.compile(rf"{_SUBJECT} is ({'|'.join(SIZES)})|(?:its|the) size is ({'|'.join(SIZES)})"),
    "place": re.compile(
        rf"{_SUBJECT} is (?:at|in) the ({'|'.join(PLACES)})|(?:its|the) place is the ({'|'.join(PLACES)})"
    ),
    "background": re.compile(
        rf"the background is ({'|'.join(BACKGROUNDS)})|{_SUBJECT} is on an? ({'|'.join(BACKGROUNDS)}) background"
    ),
}
_SENTENCE_END = re.compile(r"[.;,\n]|\band\b")


def facts_about(wanted: WantedScene) -> tuple[str, ...]:
    """What a request named about its one object, as sentences: color, shape, size, place, background."""
    item = wanted.objects[0]
    said = (
        (item.color, f"it is {item.color}"),
        (item.shape, f"it is {with_article(item.shape or 'object')}"),
        (item.size, f"it is {item.size}"),
        (item.place, f"it is at the {item.place}"),
        (wanted.background, f"the background is {wanted.background}"),
    )
    return tuple(sentence for word, sentence in said if word)


def _read(text: str) -> list[tuple[str, str]]:
    """What is said, as (attribute, word)."""
    found = []
    for piece in _SENTENCE_END.split(text.lower()):
        for attribute, pattern in _PATTERNS.items():
            match = pattern.fullmatch(piece.strip())
            if match:
                found.append((attribute, next(word for word in match.groups() if word)))
    return found


def wrong_with_facts(text: str, wanted: WantedScene, count: int = 3) -> str:
    """Says what is wrong with the facts that a text states about a picture; empty where nothing is.

    Args:
        text: The whole answer; what is no fact in it does not count.
        wanted: What was asked for; what is free in it cannot be told, so that saying it is wrong.
        count: How many different facts there have to be.
    """
    item = wanted.objects[0]
    true = {
        "color": item.color,
        "shape": item.shape,
        "size": item.size,
        "place": item.place,
        "background": wanted.background,
    }
    said = _read(text)
    false = [f"{attribute} {word}" for attribute, word in said if true[attribute] != word]
    if false:
        return f"not true: {', '.join(false)}"
    told = {attribute for attribute, _ in said}
    return "" if len(told) == count else f"{len(told)} facts, {count} expected"
