"""Requests that want media: what is handed in, what is asked, what the answer says and makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.playroom.films import Film
from services.playroom.scenes import Scene
from services.playroom.sounds import Sound
from services.playroom.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence that is handed in as speech; whoever renders it draws the voice."""

    sentence: str


Shown: TypeAlias = Scene | Sound | Film
Input: TypeAlias = Shown | Spoken


def modality_of(given: Input) -> str:
    """The modality of what is handed in."""
    match given:
        case Scene():
            return "image"
        case Film():
            return "video"
        case _:
            return "audio"


@dataclass(frozen=True, slots=True)
class Making:
    """A medium that the answer has to make.

    Attributes:
        wanted: What it has to show or sound like; what is free in it, whoever makes it may choose.
    """

    wanted: Wanted

    @property
    def modality(self) -> str:
        """Of the medium."""
        return self.wanted.modality

    @property
    def caption(self) -> str:
        """What conditions the generator: the caption, with some of what is free settled."""
        return self.wanted.settled.caption

    @property
    def says(self) -> str:
        """The sentence that goes with it: `here are two high beeps`."""
        return f"here {'are' if self.wanted.is_plural else 'is'} {self.wanted.caption}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier turn: what was handed in and asked, what was answered, and what was made with it."""

    inputs: tuple[Input, ...]
    prompt: str
    says: str
    made: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer.

    Attributes:
        cell: One of `making.CELLS`.
        kind: What is asked for: `draw`, `recolor`, …; where only an answer is, the kind of the question, as
            `media_cases.judge_answer` knows it.
        inputs: What is handed in, in order; the prompt goes before or after it alike.
        prompt: The written words; empty where the spoken ones say all.
        answer: What the answer says and makes, in order: sentences, each medium after the one that goes with it.
        kept_out: Whether it is worded as training never is.
        earlier: Turns before this one; what `it` is was handed in or made in the last of them.
    """

    cell: str
    kind: str
    inputs: tuple[Input, ...]
    prompt: str
    answer: tuple[str | Making, ...]
    kept_out: bool
    earlier: tuple[Exchange, ...] = ()

    @property
    def says(self) -> str:
        """All that the answer says."""
        return ". ".join(item for item in self.answer if isinstance(item, str))

    @property
    def makes(self) -> tuple[Making, ...]:
        """All that the answer makes, in order."""
        return tuple(item for item in self.answer if isinstance(item, Making))


def answer_of(*wanted: Wanted) -> tuple[str | Making, ...]:
    """An answer that makes media, each after its sentence."""
    makings = [Making(each) for each in wanted]
    return tuple(item for making in makings for item in (making.says, making))
