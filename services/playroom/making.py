"""Requests that want media, and requests that want none: what the sixteen directions of the playroom ask for.

`make_request` draws one of a cell, with its right answer: what it says, and the captions of what it makes. Media are
drawn as what they show; whoever renders them (`studio`) chooses formats and voices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from services.playroom import making_wordings as worded
from services.playroom.captions import caption_of
from services.playroom.crossing import CROSSINGS, cross
from services.playroom.describing import describe
from services.playroom.fact_sentences import facts_about
from services.playroom.films import film_from
from services.playroom.media_questions import MediaQuestionMaker, pick
from services.playroom.media_wordings import WRITE_DOWN
from services.playroom.naming import name_film, name_scene, name_sound
from services.playroom.questions import Question, QuestionMaker, phrase
from services.playroom.requests import Exchange, Input, Making, Request, Shown, Spoken, answer_of
from services.playroom.sayings import ask_fact
from services.playroom.scenes import Scene, Split, scene_from
from services.playroom.sentences import DRAW, FILM, PLAY, sentence_from
from services.playroom.sounds import Sound, sound_from
from services.playroom.speech import MAX_WORDS, transcript_of
from services.playroom.wanted import Wanted, WantedScene, wanted_of
from services.playroom.wordings import CAPTION, Wordings

MADE: Final = ("image", "audio", "video")
"""The modalities that can be made."""
TEXT_CELLS: Final = ("text_to_image", "text_to_audio", "text_to_video")
MAKING_CELLS: Final = (*TEXT_CELLS, *CROSSINGS)
"""The twelve cells of the world's table in which a medium comes out."""
ANSWER_CELLS: Final = ("text_to_text", "image_to_text", "audio_to_text", "video_to_text")
TABLE: Final = (*ANSWER_CELLS, *MAKING_CELLS)
"""The sixteen cells of the world's table."""
ANSWER_ONLY: Final = "answer_only"
CELLS: Final = (*TABLE, "several", "three_facts", "follow_up", "spoken_edit", ANSWER_ONLY)
"""All that can be asked for: the table; several media in one request; a drawing and three facts about it; a change of
what was made or handed in a turn before; a medium and what to do with it spoken; and only an answer."""
CELLS_UNSEEN: Final = ("text_to_text", "audio_to_text", "text_to_audio", "audio_to_audio")
"""Nothing is seen in these, so that `compositional` has none of them."""

_FRAMES: Final[dict[str, Wordings]] = {"image": DRAW, "audio": PLAY, "video": FILM}
_KINDS: Final = {"image": "draw", "audio": "play", "video": "film"}
_SPOKEN_SHARE: Final = {"audio_to_image": 0.5, "audio_to_audio": 0.25, "audio_to_video": 0.5}
"""So often speech asks for the medium, and no sound is what it is made from."""

_TRANSCRIPT_SHARE: Final = 0.5
_SPOKEN_QUESTIONS: Final = 0.15


def is_short(sentence: str) -> bool:
    """Whether a sentence is short enough to be spoken."""
    return len(sentence.split()) <= MAX_WORDS


@dataclass(frozen=True, slots=True)
class _Maker:
    """Draws the requests of one split."""

    rng: np.random.Generator
    split: Split
    kept_out: bool

    def say(self, wordings: Wordings, **slots: str) -> str:
        return phrase(wordings, self.rng, self.kept_out, **slots)

    def name(self, modality: str, whole_share: float = 0.5) -> Wanted:
        """Draws what a request by description wants."""
        match modality:
            case "image":
                return name_scene(self.rng, self.split, whole_share=whole_share)
            case "audio":
                return name_sound(self.rng)
            case _:
                return name_film(self.rng, self.split, whole_share=whole_share)

    def ask_for(self, wanted: Wanted) -> str:
        """Words a request for something by its description."""
        return self.say(_FRAMES[wanted.modality], x=describe(self.rng, wanted, kept_out=self.kept_out))

    def request(
        self, cell: str, kind: str, inputs: tuple[Input, ...], prompt: str, answer: tuple[str | Making, ...]
    ) -> Request:
        return Request(cell, kind, inputs, prompt, answer, self.kept_out)

    def from_text(self, cell: str) -> Request:
        modality = cell.removeprefix("text_to_")
        wanted = self.name(modality)
        return self.request(cell, _KINDS[modality], (), self.ask_for(wanted), answer_of(wanted))

    def spoken(self, cell: str) -> Request:
        """A request by description, spoken."""
        modality = cell.removeprefix("audio_to_")
        while True:
            wanted = self.name(modality, whole_share=0.1)
            sentence = self.ask_for(wanted)
            if is_short(sentence):
                break
        prompt = self.say(worded.DO_AS_SAID) if self.rng.random() < 0.5 else ""
        return self.request(cell, f"{_KINDS[modality]}_said", (Spoken(sentence),), prompt, answer_of(wanted))

    def crossed(self, cell: str) -> Request:
        must_speak = cell in ("audio_to_image", "audio_to_video") and self.split is Split.COMPOSITIONAL
        if must_speak or self.rng.random() < _SPOKEN_SHARE.get(cell, 0.0):
            return self.spoken(cell)
        found = cross(self.rng, cell, self.split, kept_out=self.kept_out)
        return self.request(cell, found.kind, (found.shown,), found.prompt, answer_of(found.wanted))

    def several(self, cell: str) -> Request:
        """Two media by description, or all three."""
        order = self.rng.permutation(len(MADE))[: 3 if self.rng.random() < 0.2 else 2]
        wanted = [self.name(MADE[i], whole_share=0.2) for i in order]
        prompt = self.ask_for(wanted[0])
        for each in wanted[1:]:
            # a question in the middle of a sentence is none
            prompt = self.say(worded.AND, first=prompt.rstrip("?"), second=self.ask_for(each).rstrip("?"))
        return self.request(cell, cell, (), prompt, answer_of(*wanted))

    def three_facts(self, cell: str) -> Request:
        """A picture of one object, and what can be said about it."""
        while True:
            wanted = name_scene(self.rng, self.split)
            facts = facts_about(wanted) if isinstance(wanted, WantedScene) and len(wanted.objects) == 1 else ()
            if len(facts) >= 3:
                break
        asked = self.ask_for(wanted).rstrip("?")
        prompt = self.say(worded.THREE_FACTS, first=asked, it=pick(self.rng, ("it", "it", "it", "the picture")))
        return self.request(cell, cell, (), prompt, (*answer_of(wanted), *facts[:3]))

    def crossed_any(self) -> Request:
        """What any medium that is shown is made into; nothing spoken."""
        while True:
            cell = pick(self.rng, CROSSINGS)
            if self.split is Split.COMPOSITIONAL and cell.startswith("audio"):
                continue
            found = cross(self.rng, cell, self.split, kept_out=self.kept_out)
            return self.request(cell, found.kind, (found.shown,), found.prompt, answer_of(found.wanted))

    def spoken_edit(self, cell: str) -> Request:
        """A medium, and spoken what to make of it."""
        while not is_short((request := self.crossed_any()).prompt):
            pass
        spoken = Spoken(request.prompt)
        return replace(request, cell=cell, inputs=(*request.inputs, spoken), prompt="")

    def follow_up(self, cell: str) -> Request:
        """A medium, made or handed in a turn ago, and what to make of it."""
        request = self.crossed_any()
        shown = request.inputs[0]
        if isinstance(shown, Spoken):
            raise TypeError("follow_up: a medium expected, not speech")
        trained = replace(self, kept_out=False)
        if self.rng.random() < 0.6:
            making = Making(wanted_of(shown))
            earlier = Exchange((), trained.ask_for(making.wanted), making.says, (shown,))
        else:
            asked = trained.ask(shown, caption=bool(self.rng.random() < 0.5))
            earlier = Exchange((shown,), asked.prompt, asked.answer)
        return replace(request, cell=cell, inputs=(), earlier=(earlier,))

    def ask(self, shown: Shown, *, caption: bool) -> Question:
        """Asks about a medium, or for its caption; for the caption, where it allows no question."""
        media = MediaQuestionMaker(self.rng, kept_out=self.kept_out)
        question: Question | None = None
        match shown:
            case Scene():
                freely = self.split is Split.COMPOSITIONAL
                maker = QuestionMaker(self.rng, kept_out=self.kept_out, speak_freely=freely)
                question = None if caption else maker.try_ask(shown)
                return question or Question("caption", self.say(CAPTION), caption_of(shown))
            case Sound():
                question = None if caption else media.try_ask_sound(shown.facts)
                return question or media.caption_sound(shown.facts)
            case _:
                question = None if caption else media.try_ask_film(shown.facts)
                return question or media.caption_film(shown.facts)

    def transcript(self) -> tuple[tuple[Input, ...], Question]:
        """Speech to write down, half of it requests that must not be carried out."""
        source = pick(self.rng, ("draw", "play", "animate", "edit")) if self.rng.random() < 0.5 else None
        sentence = sentence_from(self.rng, self.split, kept_out=self.kept_out, source=source)
        question = Question("transcript", self.say(WRITE_DOWN), transcript_of(sentence))
        return (Spoken(sentence),), question

    def answered(self, cell: str) -> Request:
        """Asks for words alone, about a medium or none."""
        inputs: tuple[Input, ...]
        match cell.removesuffix("_to_text"):
            case "text":
                inputs, question = (), ask_fact(self.rng, kept_out=self.kept_out)
            case "audio" if self.rng.random() < _TRANSCRIPT_SHARE:
                inputs, question = self.transcript()
            case given:
                shown = self.shown(given)
                inputs, question = (shown,), self.ask(shown, caption=bool(self.rng.random() < 0.5))
        return self.request(cell, question.kind, inputs, question.prompt, (question.answer,))

    def shown(self, modality: str) -> Shown:
        """A medium."""
        match modality:
            case "image":
                return scene_from(self.rng, self.split)
            case "audio":
                return sound_from(self.rng)
            case _:
                return film_from(self.rng, self.split)

    def answer_only(self, cell: str) -> Request:
        """Asks for words alone; here and there what is asked is spoken."""
        asked = self.answered(pick(self.rng, ANSWER_CELLS))
        if self.rng.random() < _SPOKEN_QUESTIONS and is_short(asked.prompt) and "audio" not in asked.cell:
            asked = replace(asked, inputs=(*asked.inputs, Spoken(asked.prompt)), prompt="")
        return replace(asked, cell=cell)


_MAKERS: Final[dict[str, Callable[[_Maker, str], Request]]] = {
    **dict.fromkeys(TEXT_CELLS, _Maker.from_text),
    **dict.fromkeys(CROSSINGS, _Maker.crossed),
    **dict.fromkeys(ANSWER_CELLS, _Maker.answered),
    "several": _Maker.several,
    "three_facts": _Maker.three_facts,
    "follow_up": _Maker.follow_up,
    "spoken_edit": _Maker.spoken_edit,
    ANSWER_ONLY: _Maker.answer_only,
}


def make_request(rng: np.random.Generator, cell: str, split: Split = Split.TRAIN, kept_out: bool = False) -> Request:
    """Draws a request of a cell, with its right answer.

    Args:
        rng: Makes every choice.
        cell: One of `CELLS`.
        split: Where pictures and films come from, and what requests for them name; `compositional` ones show or name
            a pair of color and shape that training never does.
        kept_out: Whether to use wordings that training never sees.

    Raises:
        ValueError: There is no such cell, or the split has none of it.
    """
    if cell not in _MAKERS:
        raise ValueError(f"make_request: no cell {cell!r}, expected one of {', '.join(CELLS)}")
    if split is Split.COMPOSITIONAL and cell in CELLS_UNSEEN:
        raise ValueError(f"make_request: nothing is seen in {cell}, so {split} has none of it")
    return _MAKERS[cell](_Maker(rng, split, kept_out), cell)
