"""Playroom language without media: facts of its words as questions, and captions of sounds and films."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.playroom.questions import Question
from services.playroom.wordings import Wordings
from services.playroom.words import BACKGROUNDS, COLORS, NUMBERS, PLACES, SHAPES, SIZES, with_article

TIMBRES: Final = ("beep", "buzz", "chime", "hiss")
PITCHES: Final = ("low", "middle", "high")
SOUND_OF_SHAPE: Final = {"circle": "beep", "square": "buzz", "star": "chime", "cross": "hiss"}
MOTIONS: Final = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "standing still",
)
OPPOSITES: Final = (
    ("left", "right"),
    ("up", "down"),
    ("rising", "falling"),
    ("high", "low"),
    ("growing", "shrinking"),
    ("large", "small"),
    ("top", "bottom"),
    ("black", "white"),
    ("above", "below"),
)
_COUNTING = (*NUMBERS, "four", "five", "six", "seven", "eight", "nine", "ten")
_PLURALS = {"hiss": "hisses", "buzz": "buzzes"}
_CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "a color": COLORS,
    "a shape": SHAPES,
    "a size": SIZES,
    "a place": PLACES,
    "a number": _COUNTING[:4],
    "a sound": TIMBRES,
    "a pitch": PITCHES,
    "a motion": MOTIONS,
}

FACTS: Final[dict[str, Wordings]] = {
    "opposite": Wordings(
        (
            "what is the opposite of {x}?",
            "which word is the opposite of {x}?",
            "name the opposite of {x}",
            "tell me the opposite of {x}",
            "{x} is the opposite of what?",
            "opposite of {x}?",
        ),
        ("say the opposite of {x}", "what is opposite to {x}?"),
    ),
    "higher": Wordings(
        (
            "what is one step higher than {x}?",
            "which pitch is one step higher than {x}?",
            "one step higher than {x}?",
            "go one step higher than {x}",
            "what pitch comes above {x}?",
            "{x}, one step higher?",
            "which pitch follows {x} upwards?",
            "tell me the pitch one step higher than {x}",
            "name what is one step higher than {x}",
        ),
        ("tell me what is one step higher than {x}", "name the pitch one step higher than {x}"),
    ),
    "lower": Wordings(
        (
            "what is one step lower than {x}?",
            "which pitch is one step lower than {x}?",
            "one step lower than {x}?",
            "go one step lower than {x}",
            "what pitch comes below {x}?",
            "{x}, one step lower?",
            "which pitch follows {x} downwards?",
            "tell me the pitch one step lower than {x}",
            "name what is one step lower than {x}",
        ),
        ("tell me what is one step lower than {x}", "name the pitch one step lower than {x}"),
    ),
    "sound_of": Wordings(
        (
            "which sound does {x} make?",
            "what sound does {x} make?",
            "what is the sound of {x}?",
            "tell me the sound of {x}",
            "how does {x} sound?",
            "name the sound that {x} makes",
        ),
        ("what does {x} sound like?", "which sound goes with {x}?"),
    ),
    "shape_of": Wordings(
        (
            "which shape makes {x}?",
            "what shape makes {x}?",
            "which shape sounds like {x}?",
            "tell me which shape makes {x}",
            "what is the shape of {x}?",
            "name the shape that makes {x}",
        ),
        ("which shape goes with {x}?", "{x}: which shape makes it?"),
    ),
    "more": Wordings(
        (
            "what is one more than {x}?",
            "one more than {x}?",
            "{x} and one more?",
            "how many is one more than {x}?",
            "what number comes after {x}?",
            "count one more than {x}",
            "which number follows {x}?",
            "add one to {x}",
            "tell me one more than {x}",
            "which number comes after {x}?",
        ),
        ("tell me what is one more than {x}", "which number is one more than {x}?"),
    ),
    "less": Wordings(
        (
            "what is one less than {x}?",
            "one less than {x}?",
            "{x} but one less?",
            "how many is one less than {x}?",
            "what number comes before {x}?",
            "count one less than {x}",
            "which number goes before {x}?",
            "take one from {x}",
            "tell me one less than {x}",
            "which number comes before {x}?",
        ),
        ("tell me what is one less than {x}", "which number is one less than {x}?"),
    ),
    "category": Wordings(
        (
            "is {x} {first} or {second}?",
            "what is {x}, {first} or {second}?",
            "tell me, is {x} {first} or {second}?",
            "{x}: {first} or {second}?",
            "do we call {x} {first} or {second}?",
            "which is {x}: {first} or {second}?",
        ),
        ("would you call {x} {first} or {second}?", "say if {x} is {first} or {second}"),
    ),
    "larger": Wordings(
        (
            "which is larger, {x} or {y}?",
            "what is larger, {x} or {y}?",
            "which one is larger: {x} or {y}?",
            "tell me which is larger, {x} or {y}",
            "is {x} or {y} larger?",
            "which is bigger, {x} or {y}?",
            "of {x} and {y}, what is larger?",
            "{x} or {y}, which is larger?",
            "say which is bigger, {x} or {y}",
        ),
        ("of {x} and {y}, which is larger?", "say which is larger, {x} or {y}"),
    ),
}


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _slots(kind: str, rng: np.random.Generator) -> tuple[dict[str, str], str]:
    """Draws what a fact is about, and its answer."""
    match kind:
        case "opposite":
            pair = OPPOSITES[int(rng.integers(len(OPPOSITES)))]
            side = int(rng.integers(2))
            return {"x": pair[side]}, pair[1 - side]
        case "higher" | "lower":
            step = 1 if kind == "higher" else -1
            at = int(rng.integers(len(PITCHES)))
            return {"x": PITCHES[at]}, PITCHES[min(2, max(0, at + step))]
        case "sound_of":
            shape = _pick(rng, tuple(SOUND_OF_SHAPE))
            return {"x": with_article(shape)}, with_article(SOUND_OF_SHAPE[shape])
        case "shape_of":
            shape = _pick(rng, tuple(SOUND_OF_SHAPE))
            return {"x": with_article(SOUND_OF_SHAPE[shape])}, with_article(shape)
        case "more" | "less":
            low = int(rng.integers(len(_COUNTING) - 1))
            pair = (_COUNTING[low], _COUNTING[low + 1])
            return ({"x": pair[0]}, pair[1]) if kind == "more" else ({"x": pair[1]}, pair[0])
        case "category":
            right, wrong = (tuple(_CATEGORIES)[i] for i in rng.permutation(len(_CATEGORIES))[:2])
            word = _pick(rng, _CATEGORIES[right])
            named = with_article(word) if right in ("a shape", "a sound") else word
            first, second = (right, wrong) if rng.random() < 0.5 else (wrong, right)
            return {"x": named, "first": first, "second": second}, right
        case _:
            low, high = sorted(int(i) for i in rng.permutation(len(_COUNTING))[:2])
            pair = (_COUNTING[low], _COUNTING[high]) if rng.random() < 0.8 else ("small", "large")
            x, y = pair if rng.random() < 0.5 else pair[::-1]
            return {"x": x, "y": y}, pair[1]


def ask_fact(rng: np.random.Generator, *, kept_out: bool = False) -> Question:
    """Asks for a fact that needs no media."""
    kind = _pick(rng, tuple(FACTS))
    slots, answer = _slots(kind, rng)
    wordings = FACTS[kind]
    return Question(kind, _pick(rng, wordings.kept_out if kept_out else wordings.trained).format(**slots), answer)


def caption_of_sound(rng: np.random.Generator) -> str:
    """A caption of any sound: `two high beeps`, `a rising sweep`."""
    draw = int(rng.integers(38))
    if draw >= 36:
        return ("a rising sweep", "a falling sweep")[draw - 36]
    number = NUMBERS[1:][draw % 3]
    timbre = _pick(rng, TIMBRES)
    noun = timbre if number == "one" else _PLURALS.get(timbre, f"{timbre}s")
    return f"{number} {_pick(rng, PITCHES)} {noun}"


def caption_of_film(rng: np.random.Generator) -> str:
    """A caption of any film: `a red circle moving left on a black background`."""
    thing = with_article(f"{_pick(rng, COLORS)} {_pick(rng, SHAPES)}")
    return f"{thing} {_pick(rng, MOTIONS)} on a {_pick(rng, BACKGROUNDS)} background"
