"""Questions about sounds and films with their answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.playroom.films import WAY_OF_MOTION, FilmFacts, film_caption
from services.playroom.media_wordings import (
    FILM_CAPTION,
    FILM_QUESTIONS,
    FILM_WORDS,
    IT,
    SAME_NUMBER,
    SOUND_CAPTION,
    SOUND_QUESTIONS,
    SOUND_WORDS,
)
from services.playroom.questions import Question, phrase
from services.playroom.scenes import Scene
from services.playroom.sounds import SoundFacts, plural_of, sound_caption
from services.playroom.words import NUMBERS

SOUND_KINDS = tuple(SOUND_QUESTIONS)
FILM_KINDS = tuple(FILM_QUESTIONS)


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of them, all equally likely."""
    return options[int(rng.integers(len(options)))]


class MediaQuestionMaker:
    """Makes questions about sounds and films; `kept_out` uses the wordings that training never sees."""

    def __init__(self, rng: np.random.Generator, *, kept_out: bool = False) -> None:
        self.rng = rng
        self.kept_out = kept_out

    def caption_sound(self, facts: SoundFacts) -> Question:
        """Asks for the caption of a sound."""
        prompt = phrase(SOUND_CAPTION, self.rng, self.kept_out, sound=pick(self.rng, SOUND_WORDS))
        return Question("sound_caption", prompt, sound_caption(facts))

    def caption_film(self, facts: FilmFacts) -> Question:
        """Asks for the caption of a film."""
        prompt = phrase(FILM_CAPTION, self.rng, self.kept_out, film=pick(self.rng, FILM_WORDS))
        return Question("film_caption", prompt, film_caption(facts))

    def try_ask_sound(self, facts: SoundFacts, kind: str | None = None) -> Question | None:
        """Asks about a sound: `events`, `pitch`, `timbre`, any without one; None for sweeps, which have none."""
        if facts.is_sweep:
            return None
        chosen = kind or pick(self.rng, SOUND_KINDS)
        answer = {"events": NUMBERS[facts.count], "pitch": facts.pitch, "timbre": facts.timbre}[chosen]
        many = pick(self.rng, (plural_of(facts.timbre), "sounds", "tones" if facts.timbre != "hiss" else "events"))
        prompt = phrase(SOUND_QUESTIONS[chosen], self.rng, self.kept_out, sound=pick(self.rng, SOUND_WORDS), many=many)
        return Question(chosen, prompt, answer)

    def try_ask_film(self, facts: FilmFacts, kind: str | None = None) -> Question | None:
        """Asks about a film: `thing`, `color`, `shape`, `way`; None for what moves where nothing does."""
        chosen = kind or pick(self.rng, FILM_KINDS)
        if chosen == "thing" and facts.motion == "standing still":
            return None
        answers = {
            "thing": facts.thing,
            "color": facts.color,
            "shape": facts.shape,
            "way": WAY_OF_MOTION[facts.motion],
        }
        prompt = phrase(FILM_QUESTIONS[chosen], self.rng, self.kept_out, film=pick(self.rng, FILM_WORDS))
        return Question(chosen, prompt, answers[chosen])

    def ask_of_it(self, shown: Scene | SoundFacts | FilmFacts) -> Question | None:
        """Asks about `it`, which is what was handed in last; None where that has several objects or is a sweep."""
        answers: dict[str, str]
        match shown:
            case Scene():
                if len(shown.objects) != 1:
                    return None
                item = shown.objects[0]
                answers = {"color": item.color, "shape": item.shape, "size": item.size, "place": item.place}
            case SoundFacts():
                if shown.is_sweep:
                    return None
                answers = {"pitch": shown.pitch, "timbre": shown.timbre}
            case FilmFacts():
                answers = {"color": shown.color, "shape": shown.shape, "way": WAY_OF_MOTION[shown.motion]}
        kind = pick(self.rng, tuple(answers))
        return Question(kind, phrase(IT[kind], self.rng, self.kept_out), answers[kind])

    def same_number(self, scene: Scene, facts: SoundFacts) -> Question | None:
        """Asks whether there are as many objects as events; None for sweeps."""
        if facts.is_sweep:
            return None
        answer = "yes" if len(scene.objects) == facts.count else "no"
        prompt = phrase(SAME_NUMBER, self.rng, self.kept_out, many=plural_of(facts.timbre))
        return Question("same_number", prompt, answer)
