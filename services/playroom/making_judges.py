"""Judging answers with media: whether the right ones were made, what each of them shows, and what is said."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from services.playroom.codecs import decode_film, decode_sound
from services.playroom.fact_sentences import wrong_with_facts
from services.playroom.films import film_caption
from services.playroom.judging import read_picture
from services.playroom.listening import read_sound
from services.playroom.media_cases import judge_answer
from services.playroom.requests import Making, Request
from services.playroom.sounds import sound_caption
from services.playroom.studio import Medium
from services.playroom.wanted import Wanted, WantedObject, WantedScene, WantedSound
from services.playroom.watching import read_film

_MAX_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class MakingVerdict:
    """Whether an answer is right, and if not, why.

    Attributes:
        decided: Whether just those modalities came that were asked for, each as often.
    """

    right: bool
    decided: bool
    reason: str = ""


def wrong_with(wanted: Wanted, medium: Medium) -> str:
    """Says what is wrong with a medium; empty where it is as wanted. Bytes that cannot be read are wrong."""
    import av

    try:
        return _read_and_compare(wanted, medium.data)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, av.FFmpegError) as error:
        return f"cannot be read: {' '.join(str(error).split())[:200]}"


def _read_and_compare(wanted: Wanted, data: bytes) -> str:
    match wanted:
        case WantedScene():
            with Image.open(io.BytesIO(data)) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    return f"{picture.width}×{picture.height} pixels, at most {_MAX_PIXELS} are judged"
                seen = read_picture(picture)
            return wanted.differs(seen) if seen is not None else "shows nothing that the judge can read"
        case WantedSound():
            heard = read_sound(*decode_sound(data))
            return wanted.differs(heard) if heard is not None else "sounds like nothing that the judge can read"
        case _:
            watched = read_film(decode_film(data))
            return wanted.differs(watched) if watched is not None else "shows nothing that the judge can read"


def caption_of_medium(medium: Medium) -> str:
    """Reads a medium as the caption that it deserves; empty where the judge cannot tell or the bytes say nothing."""
    import av

    try:
        match medium.modality:
            case "image":
                with Image.open(io.BytesIO(medium.data)) as picture:
                    seen = read_picture(picture) if picture.width * picture.height <= _MAX_PIXELS else None
                objects = sorted(seen.objects) if seen else []
                return (
                    WantedScene(tuple(WantedObject(*item) for item in objects), seen.background).caption if seen else ""
                )
            case "audio":
                heard = read_sound(*decode_sound(medium.data))
                return sound_caption(heard) if heard else ""
            case _:
                watched = read_film(decode_film(medium.data))
                return film_caption(watched) if watched else ""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, av.FFmpegError):
        return ""


def has_decided_rightly(makings: Sequence[Making], made: Sequence[str]) -> bool:
    """Whether just the modalities came that had to, each as often."""
    return Counter(making.modality for making in makings) == Counter(made)


def judge_reply(request: Request, text: str, media: Sequence[Medium]) -> MakingVerdict:
    """Judges the answer to a request: its media one by one, and its words where words were asked for.

    Media of one modality are held against those wanted in the order in which they came.
    """
    makings, made = request.makes, [medium.modality for medium in media]
    decided = has_decided_rightly(makings, made)
    if not decided:
        wanted = ", ".join(making.modality for making in makings) or "no medium"
        return MakingVerdict(False, False, f"made {', '.join(made) or 'no medium'}, {wanted} wanted; said {text!r}")
    if not makings:
        verdict = judge_answer(request.kind, text, request.says)
        return MakingVerdict(verdict.right, True, verdict.reason)
    waiting = list(media)
    wrong: list[str] = []
    for making in makings:
        medium = next(each for each in waiting if each.modality == making.modality)
        waiting.remove(medium)
        wrong.append(wrong_with(making.wanted, medium))
    if request.kind == "three_facts" and isinstance(makings[0].wanted, WantedScene):
        wrong.append(wrong_with_facts(text, makings[0].wanted))
    reason = "; ".join(each for each in wrong if each)
    return MakingVerdict(not reason, True, reason)
