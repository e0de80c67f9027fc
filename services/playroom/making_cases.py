"""Cases of requests that want media: rendered, with what has to come, and a judge of what did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.playroom.filling import fill
from services.playroom.films import Film
from services.playroom.making import CELLS, make_request
from services.playroom.making_judges import MakingVerdict, judge_reply
from services.playroom.media_cases import Part
from services.playroom.requests import Input, Request, Spoken
from services.playroom.scenes import Scene, Split, seed_of
from services.playroom.sounds import Sound
from services.playroom.speech import fits, speak, utterance_from
from services.playroom.studio import Medium, OwnStudio, Studio
from services.playroom.wanted import WantedFilm, WantedScene

_MAKING_DOMAIN: Final = 3
"""Requests and scenes of one seed have nothing to do with each other."""
_N_INDICES: Final = 10**6
SPOKEN_CELLS: Final = (
    "audio_to_text",
    "audio_to_image",
    "audio_to_audio",
    "audio_to_video",
    "spoken_edit",
    "answer_only",
)
"""Those that need espeak-ng."""


def _one_object(request: Request) -> bool:
    wanted = request.makes[0].wanted
    return isinstance(wanted, WantedScene) and len(wanted.objects) == 1


_PARTS_OF_CELLS: Final[dict[str, tuple[str, Callable[[Request], bool]]]] = {
    "text_to_image/one_object": ("text_to_image", _one_object)
}
KINDS: Final = (*CELLS, *_PARTS_OF_CELLS)
"""What cases can be drawn of: cells, and parts of them."""


@dataclass(frozen=True)
class EarlierTurn:
    """A turn before the case's own: what was handed in and asked, what was said and made."""

    parts: tuple[Part, ...]
    says: str
    made: tuple[Medium, ...] = ()


@dataclass(frozen=True)
class MakingCase:
    """What goes in, and what has to come.

    Attributes:
        parts: Words and media in the order in which they are handed in.
        group: What it is about, for scores by group.
        seed: Of the case; for whoever answers it by the truth.
    """

    request: Request
    parts: tuple[Part, ...]
    group: str
    seed: int
    earlier: tuple[EarlierTurn, ...] = ()

    @property
    def expected(self) -> str:
        """What has to come, in words: the answer, or the captions of what has to be made."""
        return self.request.says

    def judge(self, text: str, media: Sequence[Medium]) -> MakingVerdict:
        """Judges an answer and what was made with it."""
        return judge_reply(self.request, text, media)

    def truth(self, studio: Studio | None = None) -> tuple[str, tuple[Medium, ...]]:
        """Answers rightly: what has to be said, and media drawn by the playroom itself."""
        rng = np.random.default_rng((self.seed, _MAKING_DOMAIN))
        drawn = studio or OwnStudio()
        media = tuple(_rendered(fill(rng, making.wanted), rng, drawn) for making in self.request.makes)
        return self.request.says, media


def _rendered(shown: Scene | Sound | Film, rng: np.random.Generator, studio: Studio) -> Medium:
    match shown:
        case Scene():
            return studio.picture(shown, rng)
        case Sound():
            return studio.sound(shown, rng)
        case _:
            return studio.film(shown, rng)


def _given(item: Input, rng: np.random.Generator, studio: Studio) -> Medium | None:
    """Renders what is handed in; None where speech comes out too long."""
    if not isinstance(item, Spoken):
        return _rendered(item, rng, studio)
    samples_T = speak(utterance_from(rng, item.sentence))
    return studio.speech(item.sentence, samples_T, rng) if fits(samples_T) else None


def _group(request: Request) -> str:
    """What a case is about: the kind, and for descriptions how much of what they ask for is named."""
    if request.kind not in ("draw", "film"):
        return request.kind
    wanted = request.makes[0].wanted
    if isinstance(wanted, WantedScene):
        whole = bool(wanted.background) and all(len(item.named) == 4 for item in wanted.objects)
        count = len(wanted.objects)
        about = f"{count} object{'s' if count > 1 else ''}"
    else:
        whole = isinstance(wanted, WantedFilm) and "" not in (wanted.motion, wanted.background, wanted.color)
        about = request.kind
    return f"{about}, {'all' if whole else 'part'} of it named"


def _case(request: Request, rng: np.random.Generator, seed: int, studio: Studio) -> MakingCase | None:
    """Renders a request; None where its speech comes out too long."""

    def rendered(inputs: tuple[Input, ...], prompt: str) -> tuple[Part, ...] | None:
        media = [_given(item, rng, studio) for item in inputs]
        found = tuple(medium for medium in media if medium is not None)
        if len(found) < len(media):
            return None
        words = (prompt,) if prompt else ()
        return (*words, *found) if found and rng.random() < 0.25 else (*found, *words)

    earlier: list[EarlierTurn] = []
    for turn in request.earlier:
        before = rendered(turn.inputs, turn.prompt)
        if before is None:
            return None
        earlier.append(EarlierTurn(before, turn.says, tuple(_rendered(made, rng, studio) for made in turn.made)))
    parts = rendered(request.inputs, request.prompt)
    return None if parts is None else MakingCase(request, parts, _group(request), seed, tuple(earlier))


def draw_making_cases(
    split: Split, kind: str, count: int, seed: int = 0, studio: Studio | None = None
) -> Iterator[MakingCase]:
    """Draws cases of a split one by one.

    Args:
        split: Where pictures and films come from, and what requests for them name.
        kind: One of `KINDS`.
        count: How many.
        seed: Chooses among seeds of the split; half of the wordings are kept-out ones.
        studio: Makes the media; the playroom's own, with WAV and GIF, without it.

    Raises:
        ValueError: There is no such kind, or the split has none of it.
        SpeechError: The kind needs speech, and espeak-ng is missing or fails.
    """
    if kind not in KINDS:
        raise ValueError(f"making_cases: no kind {kind!r}, expected one of {', '.join(KINDS)}")
    cell, is_wanted = _PARTS_OF_CELLS.get(kind, (kind, lambda request: True))
    drawn_by = studio or OwnStudio()
    index = int(np.random.default_rng((seed, count, KINDS.index(kind))).integers(_N_INDICES))
    made = 0
    while made < count:
        case_seed = seed_of(split, index % _N_INDICES)
        index += 1
        rng = np.random.default_rng((case_seed, _MAKING_DOMAIN, KINDS.index(kind)))
        request = make_request(rng, cell, split, bool(rng.random() < 0.5))
        case = _case(request, rng, case_seed, drawn_by) if is_wanted(request) else None
        if case is not None:
            made += 1
            yield case
