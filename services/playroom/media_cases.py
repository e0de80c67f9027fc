"""Cases of every medium: what goes in, turn by turn, what has to come, and a judge of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from services.playroom.captions import caption_of, parse_caption
from services.playroom.cases import Verdict
from services.playroom.changes import change_scene
from services.playroom.films import FilmFacts, draw_film, parse_film_caption
from services.playroom.media_questions import MediaQuestionMaker, pick
from services.playroom.media_wordings import WRITE_DOWN
from services.playroom.questions import Question, QuestionMaker, is_right, phrase
from services.playroom.sayings import ask_fact
from services.playroom.scenes import Scene, Split, draw_scene, seed_of
from services.playroom.sentences import sentence_from
from services.playroom.sounds import SoundFacts, draw_sound, parse_sound_caption
from services.playroom.speech import MAX_WORDS, fits, speak, transcript_of, utterance_from, words_wrong
from services.playroom.studio import Medium, OwnStudio, Studio
from services.playroom.wordings import CAPTION, CHANGED

Part: TypeAlias = str | Medium


@dataclass(frozen=True)
class Turn:
    """What was handed in before, and the right answer to it."""

    parts: tuple[Part, ...]
    answer: str


@dataclass(frozen=True)
class MediaCase:
    """What goes in, and what has to come.

    Attributes:
        task: One of `TASKS`.
        kind: Of the question; what the answer is judged as.
        parts: Words and media in the order in which they are handed in.
        kept_out: Whether the wording was kept out of training.
        earlier: Turns before this one.
    """

    task: str
    kind: str
    parts: tuple[Part, ...]
    expected: str
    kept_out: bool
    earlier: tuple[Turn, ...] = ()

    def judge(self, answer: str) -> Verdict:
        """Judges an answer: captions by what they say, transcripts and the rest as words."""
        return judge_answer(self.kind, answer, self.expected)


_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "caption": parse_caption,
    "sound_caption": parse_sound_caption,
    "film_caption": parse_film_caption,
}


def judge_answer(kind: str, answer: str, expected: str) -> Verdict:
    """Judges the answer to a question of a kind."""
    if kind in _PARSERS:
        said = _PARSERS[kind](answer)
        if said is None:
            return Verdict(False, f"not a {kind.replace('_', ' ')}: {answer!r}")
        right = said == _PARSERS[kind](expected)
    elif kind == "transcript":
        right = words_wrong(answer, expected) == 0
    else:
        right = is_right(answer, expected)
    return Verdict(right, "" if right else f"expected {expected!r}, got {answer!r}")


_N_INDICES = 10**6
_BETWEEN_MEDIA = _N_INDICES // 2
"""How far apart the seeds of two media of one case are."""


class _CaseMaker:
    """Makes the cases of one split, each from an index of the split."""

    def __init__(self, split: Split, rng: np.random.Generator, studio: Studio) -> None:
        self.split = split
        self.rng = rng
        self.studio = studio
        self.speak_freely = split is Split.COMPOSITIONAL
        self.makers: dict[str, Callable[[int, bool], MediaCase | None]] = {
            "sound_caption": self.sound,
            "sound_question": self.sound_question,
            "film_caption": self.film,
            "film_question": self.film_question,
            "transcript": self.transcript,
            "spoken_question": self.spoken_question,
            "spoken_fact": self.spoken_fact,
            "same_number": self.same_number,
            "changed": self.changed,
            "follow_up": self.follow_up,
            "fact": self.fact,
            "caption": self.picture,
            "question": self.picture_question,
        }

    def _case(self, task: str, media: tuple[Medium, ...], question: Question, kept_out: bool) -> MediaCase:
        words_first = bool(media) and self.rng.random() < 0.25
        parts: tuple[Part, ...] = (question.prompt, *media) if words_first else (*media, question.prompt)
        return MediaCase(task, question.kind, parts, question.answer, kept_out)

    def _scene(self, index: int) -> Scene:
        return draw_scene(seed_of(self.split, index), self.split)

    def _questions(self, kept_out: bool) -> QuestionMaker:
        return QuestionMaker(self.rng, kept_out=kept_out, speak_freely=self.speak_freely)

    def _media_questions(self, kept_out: bool) -> MediaQuestionMaker:
        return MediaQuestionMaker(self.rng, kept_out=kept_out)

    def _heard(self, index: int, count: int | None = None) -> tuple[Medium, SoundFacts]:
        """A sound; with `count`, of that many events unless it is a sweep."""
        sound = draw_sound(seed_of(self.split, index))
        if count is not None and not sound.facts.is_sweep:
            sound = replace(sound, facts=replace(sound.facts, count=count))
        return self.studio.sound(sound, self.rng), sound.facts

    def _watched(self, index: int) -> tuple[Medium, FilmFacts]:
        film = draw_film(seed_of(self.split, index), self.split)
        return self.studio.film(film, self.rng), film.facts

    def _spoken(self, sentence: str) -> Medium | None:
        """A sentence as speech; None where it comes out too long."""
        if len(sentence.split()) > MAX_WORDS:
            return None
        samples_T = speak(utterance_from(self.rng, sentence))
        return self.studio.speech(sentence, samples_T, self.rng) if fits(samples_T) else None

    def picture(self, index: int, kept_out: bool) -> MediaCase:
        scene = self._scene(index)
        seen = self.studio.picture(scene, self.rng)
        return MediaCase("caption", "caption", (seen, phrase(CAPTION, self.rng, kept_out)), caption_of(scene), kept_out)

    def picture_question(self, index: int, kept_out: bool) -> MediaCase | None:
        scene = self._scene(index)
        question = self._questions(kept_out).try_ask(scene)
        if question is None:
            return None
        seen = self.studio.picture(scene, self.rng)
        return MediaCase("question", question.kind, (seen, question.prompt), question.answer, kept_out)

    def sound(self, index: int, kept_out: bool) -> MediaCase:
        heard, facts = self._heard(index)
        return self._case("sound_caption", (heard,), self._media_questions(kept_out).caption_sound(facts), kept_out)

    def sound_question(self, index: int, kept_out: bool) -> MediaCase | None:
        heard, facts = self._heard(index)
        question = self._media_questions(kept_out).try_ask_sound(facts)
        return self._case("sound_question", (heard,), question, kept_out) if question else None

    def film(self, index: int, kept_out: bool) -> MediaCase:
        watched, facts = self._watched(index)
        return self._case("film_caption", (watched,), self._media_questions(kept_out).caption_film(facts), kept_out)

    def film_question(self, index: int, kept_out: bool) -> MediaCase | None:
        watched, facts = self._watched(index)
        question = self._media_questions(kept_out).try_ask_film(facts)
        return self._case("film_question", (watched,), question, kept_out) if question else None

    def transcript(self, index: int, kept_out: bool) -> MediaCase | None:
        sentence = sentence_from(self.rng, self.split, kept_out=kept_out)
        spoken = self._spoken(sentence)
        question = Question("transcript", phrase(WRITE_DOWN, self.rng, kept_out), transcript_of(sentence))
        return self._case("transcript", (spoken,), question, kept_out) if spoken else None

    def spoken_question(self, index: int, kept_out: bool) -> MediaCase | None:
        scene = self._scene(index)
        question = self._questions(kept_out).try_ask(scene)
        spoken = self._spoken(question.prompt) if question else None
        if question is None or spoken is None:
            return None
        parts = (self.studio.picture(scene, self.rng), spoken)
        return MediaCase("spoken_question", question.kind, parts, question.answer, kept_out)

    def spoken_fact(self, index: int, kept_out: bool) -> MediaCase | None:
        question = ask_fact(self.rng, kept_out=kept_out)
        spoken = self._spoken(question.prompt)
        return MediaCase("spoken_fact", question.kind, (spoken,), question.answer, kept_out) if spoken else None

    def fact(self, index: int, kept_out: bool) -> MediaCase:
        return self._case("fact", (), ask_fact(self.rng, kept_out=kept_out), kept_out)

    def same_number(self, index: int, kept_out: bool) -> MediaCase | None:
        scene = self._scene(index)
        # one in three agrees by chance; a quarter more makes it one in two
        count = len(scene.objects) if self.rng.random() < 0.25 else None
        heard, facts = self._heard(index, count)
        question = self._media_questions(kept_out).same_number(scene, facts)
        media = (self.studio.picture(scene, self.rng), heard)
        media = media if self.rng.random() < 0.5 else media[::-1]
        return self._case("same_number", media, question, kept_out) if question else None

    def changed(self, index: int, kept_out: bool) -> MediaCase:
        before = self._scene(index)
        after, attribute = change_scene(before, self.rng, speak_freely=self.speak_freely)
        question = Question("changed", phrase(CHANGED, self.rng, kept_out), f"the {attribute}")
        media = (self.studio.picture(before, self.rng), self.studio.picture(after, self.rng))
        return self._case("changed", media, question, kept_out)

    def _shown(self, index: int) -> tuple[Medium, Scene | SoundFacts | FilmFacts]:
        """A medium of any modality."""
        match pick(self.rng, ("image", "audio", "video")):
            case "image":
                scene = self._scene(index)
                return self.studio.picture(scene, self.rng), scene
            case "audio":
                return self._heard(index)
            case _:
                return self._watched(index)

    def _ask(self, shown: Scene | SoundFacts | FilmFacts, kept_out: bool, caption: bool) -> Question | None:
        """Asks about what was shown."""
        media = self._media_questions(kept_out)
        match shown:
            case Scene() if caption:
                return Question("caption", phrase(CAPTION, self.rng, kept_out), caption_of(shown))
            case Scene():
                return self._questions(kept_out).try_ask(shown)
            case SoundFacts():
                return media.caption_sound(shown) if caption else media.try_ask_sound(shown)
            case _:
                return media.caption_film(shown) if caption else media.try_ask_film(shown)

    def follow_up(self, index: int, kept_out: bool) -> MediaCase | None:
        """One or two media, each in a turn of its own; then a question about the last, with no new one."""
        turns: list[Turn] = []
        shown: Scene | SoundFacts | FilmFacts | None = None
        for place in range(int(self.rng.integers(1, 3))):
            medium, shown = self._shown((index + place * _BETWEEN_MEDIA) % _N_INDICES)
            asked = self._ask(shown, False, bool(self.rng.random() < 0.5))
            if asked is None:
                return None
            turns.append(Turn((medium, asked.prompt), asked.answer))
        if shown is None:
            return None
        if self.rng.random() < 0.6:
            question = self._media_questions(kept_out).ask_of_it(shown)
        else:
            question = self._ask(shown, kept_out, False)
        if question is None:
            return None
        case = self._case("follow_up", (), question, kept_out)
        return replace(case, earlier=tuple(turns))


TASKS: Final = (
    "sound_caption",
    "sound_question",
    "film_caption",
    "film_question",
    "transcript",
    "spoken_question",
    "spoken_fact",
    "same_number",
    "changed",
    "follow_up",
    "fact",
    "caption",
    "question",
)
"""What cases can be about; new ones go last, for the place of a task is part of its seed."""
SPOKEN_TASKS: Final = ("transcript", "spoken_question", "spoken_fact")
"""Those that need espeak-ng."""


def draw_media_cases(
    split: Split, task: str, count: int, seed: int = 0, studio: Studio | None = None
) -> Iterator[MediaCase]:
    """Draws cases of a split one by one.

    Args:
        split: Where scenes, sounds and films come from.
        task: One of `TASKS`.
        count: How many.
        seed: Chooses among seeds of the split and wordings; half of the wordings are kept-out ones.
        studio: Makes the media; the playroom's own, with WAV and GIF, without it.

    Raises:
        ValueError: There is no such task.
        SpeechError: The task needs speech, and espeak-ng is missing or fails.
    """
    if task not in TASKS:
        raise ValueError(f"media_cases: no task {task!r}, expected one of {', '.join(TASKS)}")
    rng = np.random.default_rng((seed, count, TASKS.index(task)))
    maker = _CaseMaker(split, rng, studio or OwnStudio())
    index = int(rng.integers(_N_INDICES))
    made = 0
    while made < count:
        case = maker.makers[task](index, bool(rng.random() < 0.5))
        index = (index + 1) % _N_INDICES
        if case is not None:
            made += 1
            yield case


def media_cases(split: Split, task: str, count: int, seed: int = 0, studio: Studio | None = None) -> list[MediaCase]:
    """Draws cases of a split; the arguments are those of `draw_media_cases`.

    Raises:
        ValueError: There is no such task.
        SpeechError: The task needs speech, and espeak-ng is missing or fails.
    """
    return list(draw_media_cases(split, task, count, seed, studio))
