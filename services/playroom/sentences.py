"""What is spoken: questions and requests of the playroom, at most eight words long."""

from __future__ import annotations

from typing import Final

import numpy as np

from services.playroom.films import film_from
from services.playroom.media_questions import MediaQuestionMaker, pick
from services.playroom.questions import QuestionMaker, phrase
from services.playroom.sayings import MOTIONS, ask_fact
from services.playroom.scenes import SHOWN_PAIRS, Split, scene_from
from services.playroom.sounds import ALL_SOUNDS, sound_caption, sound_from
from services.playroom.speech import MAX_WORDS
from services.playroom.wordings import CAPTION, Wordings
from services.playroom.words import BACKGROUNDS, COLORS, PLACES, SHAPES, SIZES, with_article

DRAW: Final = Wordings(
    trained=(
        "draw {x}",
        "paint {x}",
        "please draw {x}",
        "draw me {x}",
        "show me a picture of {x}",
        "make a picture of {x}",
        "i want a picture of {x}",
        "can you draw {x}?",
        "would you draw {x}?",
        "can you paint {x}?",
        "could you paint {x}?",
        "could you make a picture of {x}?",
        "could you show me a picture of {x}?",
        "can i see a picture of {x}?",
        "may i see a picture of {x}?",
        "draw a picture of {x}",
        "please paint {x}",
        "let me see a picture of {x}",
        "give me a picture of {x}",
        "i want to see a picture of {x}",
    ),
    kept_out=("could you draw {x}?", "paint me {x}"),
)
PLAY: Final = Wordings(
    trained=(
        "play {x}",
        "let me hear {x}",
        "please play {x}",
        "play me {x}",
        "i want to hear {x}",
        "make the sound of {x}",
        "can you play {x}?",
        "would you play {x}?",
        "could you let me hear {x}?",
        "can i hear {x}?",
        "could i hear {x}?",
        "may i have the sound of {x}?",
        "i want the sound of {x}",
        "give me the sound of {x}",
        "could you make the sound of {x}?",
    ),
    kept_out=("could you play {x}?", "may i hear {x}?"),
)
FILM: Final = Wordings(
    trained=(
        "film {x}",
        "animate {x}",
        "please film {x}",
        "show me a clip of {x}",
        "make a film of {x}",
        "make a video of {x}",
        "can you film {x}?",
        "would you film {x}?",
        "can you animate {x}?",
        "could you animate {x}?",
        "could you show me a clip of {x}?",
        "could you make a film of {x}?",
        "i want a film of {x}",
        "i want a video of {x}",
        "i want to see a clip of {x}",
        "give me a clip of {x}",
        "may i see a clip of {x}?",
        "can i see a film of {x}?",
        "please animate {x}",
        "please make a clip of {x}",
    ),
    kept_out=("could you film {x}?", "i want a clip of {x}"),
)
_FIXED_EDITS = (
    "play what you see",
    "draw what you hear",
    "play it again",
    "higher",
    "lower",
    "play it backwards",
    "draw it standing still",
)
SOURCES: Final = ("picture", "sound", "film", "fact", "caption", "draw", "play", "animate", "edit")


def _thing(rng: np.random.Generator) -> str:
    """An object as a request names it; pairs that no picture shows are not asked for."""
    color, shape = SHOWN_PAIRS[int(rng.integers(len(SHOWN_PAIRS)))]
    size = f"{pick(rng, SIZES)} " if rng.random() < 0.5 else ""
    return with_article(f"{size}{color} {shape}")


def _edit(rng: np.random.Generator) -> str:
    options = (
        pick(rng, _FIXED_EDITS),
        f"make it {pick(rng, (*COLORS, *SIZES, *(with_article(shape) for shape in SHAPES)))}",
        f"make the background {pick(rng, BACKGROUNDS)}",
        f"put it at the {pick(rng, PLACES)}",
        f"make it move {pick(rng, ('left', 'right', 'up', 'down'))}",
    )
    return pick(rng, options)


def _draw_request(rng: np.random.Generator, kept_out: bool) -> str:
    place = f" at the {pick(rng, PLACES)}" if rng.random() < 0.3 else ""
    return phrase(DRAW, rng, kept_out, x=f"{_thing(rng)}{place}")


def _sentence(rng: np.random.Generator, source: str, split: Split, kept_out: bool) -> str | None:
    """A sentence from a source, however long; None where what was drawn allows none."""
    media = MediaQuestionMaker(rng, kept_out=kept_out)
    match source:
        case "picture":
            maker = QuestionMaker(rng, kept_out=kept_out, speak_freely=split is Split.COMPOSITIONAL)
            question = maker.try_ask(scene_from(rng, split))
        case "sound":
            question = media.try_ask_sound(sound_from(rng).facts)
        case "film":
            question = media.try_ask_film(film_from(rng, split).facts)
        case "fact":
            question = ask_fact(rng, kept_out=kept_out)
        case "caption":
            return phrase(CAPTION, rng, kept_out)
        case "draw":
            return _draw_request(rng, kept_out)
        case "play":
            facts = ALL_SOUNDS[int(rng.integers(len(ALL_SOUNDS)))]
            return phrase(PLAY, rng, kept_out, x=sound_caption(facts))
        case "animate":
            return phrase(FILM, rng, kept_out, x=f"{_thing(rng)} {pick(rng, MOTIONS)}")
        case _:
            return _edit(rng)
    return question.prompt if question else None


def sentence_from(
    rng: np.random.Generator, split: Split = Split.TRAIN, *, kept_out: bool = False, source: str | None = None
) -> str:
    """Draws a sentence that is short enough to be spoken.

    Args:
        rng: Makes every choice.
        split: Where the pictures and films come from that questions are about.
        kept_out: Whether to use wordings that training never sees (edits have one wording each).
        source: One of `SOURCES`; any without it.
    """
    chosen = source or pick(rng, SOURCES)
    while True:
        sentence = _sentence(rng, chosen, split, kept_out)
        if sentence is not None and len(sentence.split()) <= MAX_WORDS:
            return sentence
