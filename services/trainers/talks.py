"""Conversations about all media: films, sounds and speech, mixed, spoken as well as written, over several turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from services.playroom.films import Film
from services.playroom.media_questions import MediaQuestionMaker, pick
from services.playroom.media_wordings import WRITE_DOWN
from services.playroom.questions import Question, phrase
from services.playroom.sayings import ask_fact
from services.playroom.scenes import Scene
from services.playroom.sentences import sentence_from
from services.playroom.sounds import Sound
from services.playroom.speech import MAX_WORDS, transcript_of
from services.trainers.conversations import (
    Conversation,
    ConversationMaker,
    Turn,
    ask_caption,
    tokens_in,
    write_conversation,
)
from services.trainers.media import Shown, Speech

_TURN_TOKENS: Final = 14
_SALAD: Final = 0.7  # what was said has to be written down, not what is usually said
_SHORT_LETTERS: Final = 5
_STUMBLES: Final = 0.6
_TURNED: Final = 0.4
_SMALL_WORDS: Final = (
    "the", "a", "an", "is", "are", "there", "please", "do", "does", "you", "me", "can", "be", "in", "it", "this", "of",
    "to", "say", "tell", "give", "would", "could",
)  # fmt: skip
_SOUNDS_LIKE: Final = {"scene": "seen", "there": "their", "here": "hear", "for": "four", "to": "two"}
"""Words that sound alike; of each pair, loose words have only the second."""
_N_SENTENCES: Final = 40_000


@cache
def _counted_words() -> tuple[tuple[str, ...], tuple[float, ...]]:
    rng = np.random.default_rng(0)
    found: Counter[str] = Counter()
    for index in range(_N_SENTENCES):
        found.update(transcript_of(sentence_from(rng, kept_out=index % 2 == 1)).split())
    shares = np.sqrt(np.array([found[word] for word in sorted(found)]))
    return tuple(sorted(found)), tuple((shares / shares.sum()).tolist())


def spoken_words() -> tuple[str, ...]:
    """Every word of the sentences that are spoken in the playroom."""
    return _counted_words()[0]


def _any_words(rng: np.random.Generator, count: int) -> list[str]:
    """Words in any order, common ones oftener: those are what sentences are mistaken for others by."""
    words, shares = _counted_words()
    return [_told_apart(words[int(i)]) for i in rng.choice(len(words), size=count, p=shares)]


def _told_apart(word: str) -> str:
    """The word, or the one that sounds like it: sentences alone tell which of the two was meant."""
    return _SOUNDS_LIKE.get(word, word)


def sentence_to_hear(rng: np.random.Generator, salad: float = _SALAD) -> str:
    """A sentence of the playroom in a trained wording, or, for a share of `salad`, something that nobody says.

    That is sentences with slips, pieces of several sentences, words in any order, and short words close together, a
    quarter each.
    """
    if rng.random() >= salad:
        return sentence_from(rng)
    match int(rng.integers(4)):
        case 0:
            return _with_slips(sentence_from(rng), rng)
        case 1:
            return _in_pieces(rng)
        case 2:
            return _short_words(rng)
    return " ".join(_any_words(rng, int(rng.integers(1, MAX_WORDS + 1))))


def _short_words(rng: np.random.Generator) -> str:
    """Short words, which run into each other when spoken, with a longer one here and there; rare ones as often."""
    words = spoken_words()
    short = [word for word in words if len(word) <= _SHORT_LETTERS]
    count = int(rng.integers(2, MAX_WORDS + 1))
    return " ".join(_told_apart(pick(rng, short if rng.random() < 0.8 else words)) for _ in range(count))


def stumbled(sentence: str, rng: np.random.Generator) -> str:
    """A question as people ask it who stumble: small words are missing or too many, or its end comes first.

    What it is about stays. Who learns to answer those listens to the words that count, wherever they stand, and does
    not mind wordings that are new.
    """
    words = transcript_of(sentence).split()
    if rng.random() < _TURNED:
        first = int(rng.integers(len(words)))
        words = words[first:] + words[:first]
    said: list[str] = []
    for word in words:
        if word in _SMALL_WORDS and rng.random() < 0.25:
            continue
        if rng.random() < 0.08:
            said.append(pick(rng, _SMALL_WORDS))
        said.append(word)
    return " ".join(said[:MAX_WORDS]) if 2 <= len(said) <= MAX_WORDS else sentence


def _in_pieces(rng: np.random.Generator) -> str:
    """Pieces of one to three words, each out of another sentence: spoken as usual, and nothing tells what follows."""
    said: list[str] = []
    n_words = int(rng.integers(3, MAX_WORDS + 1))
    while len(said) < n_words:
        words = transcript_of(sentence_from(rng)).split()
        first = int(rng.integers(len(words)))
        said += words[first : first + int(rng.integers(1, 4))]
    return " ".join(said[:n_words])


def _with_slips(sentence: str, rng: np.random.Generator) -> str:
    """A sentence in which one or two words are missing, others, or one too many."""
    said = transcript_of(sentence).split()
    for _ in range(int(rng.integers(1, 3))):
        at, kind = int(rng.integers(len(said))), int(rng.integers(3))
        new = [] if kind == 0 and len(said) > 1 else _any_words(rng, 1)
        kept = [said[at]] if kind == 1 and len(said) < MAX_WORDS else []
        said[at : at + 1] = kept + new
    return " ".join(said)


@dataclass(frozen=True)
class Sources:
    """Where the media of conversations come from."""

    scene: Callable[[], Scene]
    film: Callable[[], Film]
    sound: Callable[[], Sound]


class TalkMaker:
    """Draws conversations about media of all kinds; `speak_freely` as for `ConversationMaker`."""

    def __init__(self, rng: np.random.Generator, sources: Sources, *, speak_freely: bool) -> None:
        self.rng = rng
        self.sources = sources
        self.pictures = ConversationMaker(rng, speak_freely=speak_freely)
        self.media = MediaQuestionMaker(rng)

    def caption(self, modality: str) -> Conversation:
        """Asks for a caption, or for what was said, and nothing else."""
        if modality == "speech":
            return write_conversation([self._transcript()], self.rng)
        shown = self._draw(modality)
        return write_conversation([Turn((shown,), self._caption(shown))], self.rng)

    def transcripts(self, n_tokens: int) -> Conversation:
        """Asks what was said, for one sentence after the other; now and then a fact is asked by voice."""
        turns: list[Turn] = []
        while not turns or n_tokens - tokens_in(turns) > 2 * _TURN_TOKENS:
            fact = ask_fact(self.rng)
            is_fact = self.rng.random() < 0.3 and len(fact.prompt.split()) <= MAX_WORDS
            turns.append(self._spoken((), fact) if is_fact else self._transcript())
        return write_conversation(turns, self.rng)

    def same_number(self, n_tokens: int) -> Conversation:
        """Asks whether a picture shows as many objects as a sound has events, for one pair after the other."""
        turns: list[Turn] = []
        while not turns or n_tokens - tokens_in(turns) > 2 * _TURN_TOKENS + 20:
            scene, sound = self.sources.scene(), self.sources.sound()
            if (question := self.media.same_number(scene, sound.facts)) is None:
                continue
            if question.answer == "no" and self.rng.random() < 0.4:  # one in three would be yes
                continue
            turns.append(Turn((scene, sound) if self.rng.random() < 0.5 else (sound, scene), question))
        return write_conversation(turns, self.rng)

    def about(self, shares: Mapping[str, float], n_tokens: int, *, spoken: float, again: float = 0.5) -> Conversation:
        """Talks about media, turn by turn until about `n_tokens` are said.

        Args:
            shares: How often each modality is shown: `image`, `video`, `audio`; they sum up to one.
            n_tokens: How long it gets.
            spoken: Share of the questions that are spoken.
            again: Share of the turns that ask on about what was shown last.
        """
        turns: list[Turn] = []
        shown: Shown | None = None
        while not turns or n_tokens - tokens_in(turns) > 2 * _TURN_TOKENS:
            media: tuple[Shown, ...] = ()
            if shown is None or self.rng.random() >= again:
                shown = self._draw(str(self.rng.choice(list(shares), p=list(shares.values()))))
                media = (shown,)
            question = self._ask(shown, is_new=bool(media))
            if question is None:
                shown = None
                continue
            is_spoken = self.rng.random() < spoken and len(question.prompt.split()) <= MAX_WORDS
            turns.append(self._spoken(media, question) if is_spoken else Turn(media, question))
        return write_conversation(turns, self.rng)

    def _draw(self, modality: str) -> Shown:
        match modality:
            case "image":
                return self.sources.scene()
            case "video":
                return self.sources.film()
            case _:
                return self.sources.sound()

    def _transcript(self) -> Turn:
        sentence = sentence_to_hear(self.rng)
        question = Question("transcript", phrase(WRITE_DOWN, self.rng), transcript_of(sentence))
        return Turn((Speech(sentence),), question)

    def _spoken(self, media: tuple[Shown, ...], question: Question) -> Turn:
        asked = question.prompt if self.rng.random() >= _STUMBLES else stumbled(question.prompt, self.rng)
        return Turn((*media, Speech(asked)), question, is_spoken=True)

    def _caption(self, shown: Shown) -> Question:
        match shown:
            case Scene():
                return ask_caption(shown, self.rng)
            case Film():
                return self.media.caption_film(shown.facts)
            case Sound():
                return self.media.caption_sound(shown.facts)
            case _:
                raise TypeError("speech has no caption")

    def _ask(self, shown: Shown, *, is_new: bool) -> Question | None:
        """A question about what was shown; `it` is what came last."""
        if self.rng.random() < (0.4 if is_new else 0.1):
            return self._caption(shown)
        if not is_new and self.rng.random() < 0.5:
            return self.media.ask_of_it(shown.facts if isinstance(shown, Film | Sound) else shown)  # type: ignore[arg-type]
        match shown:
            case Scene():
                return self.pictures.hard_question(shown)
            case Film():
                return self.media.try_ask_film(shown.facts)
            case Sound():
                return self.media.try_ask_sound(shown.facts)
            case _:
                raise TypeError("speech is not asked about")
