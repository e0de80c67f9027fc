"""Where the cases of rows come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING

from anyplex import Audio, Image, MadeMedium, Medium, Message, Video
from graph.errors import SpecError
from graph.problems import did_you_mean
from services.evaluation.suite import EvaluationCase, RowSpec, SamplingSpec

if TYPE_CHECKING:
    from services.playroom import studio
    from services.playroom.making_cases import MakingCase
    from services.playroom.making_judges import MakingVerdict
    from services.playroom.media_cases import MediaCase
    from services.playroom.scenes import Split

_MEDIA: dict[str, type[Medium]] = {"image": Image, "audio": Audio, "video": Video}

_AS_USUAL = SamplingSpec()


def draw_cases(
    name: str, row: RowSpec, limit: int | None = None, sampling: SamplingSpec = _AS_USUAL
) -> Iterator[EvaluationCase]:
    """Draw the cases of a row one by one; a limit takes the first ones, so that they stay the same cases.

    Args:
        name: Of the row.
        row: Where its cases come from.
        limit: Most cases.
        sampling: How answers are sampled; part of the fingerprints.

    Raises:
        SpecError: The row names a source, split or kind that there is not.
    """
    check_row(name, row)
    return (_sealed(case, sampling) for case in islice(_SOURCES[row.source](name, row), limit))


def _sealed(case: EvaluationCase, sampling: SamplingSpec) -> EvaluationCase:
    """Add to the fingerprint what makes it another case although the same is put in."""
    rest = json.dumps([case.fingerprint, case.expected, sampling.model_dump()], sort_keys=True)
    return replace(case, fingerprint=sha256(rest.encode()).hexdigest()[:16])


def check_row(name: str, row: RowSpec) -> None:
    """Check what a row names.

    Raises:
        SpecError: There is no such source, split or kind.
    """
    if problems := row_problems(name, row):
        raise SpecError(problems[0], problems=problems)


def row_problems(name: str, row: RowSpec) -> list[str]:
    """Return everything that is wrong with what a row names, a line each."""
    from services.playroom import making_cases
    from services.playroom.making import CELLS_UNSEEN
    from services.playroom.media_cases import TASKS
    from services.playroom.questions import KINDS
    from services.playroom.scenes import Split

    kinds = {"pictures": ["caption", "question", *KINDS], "making": making_cases.KINDS}
    named: list[tuple[str, str, Sequence[str]]] = [
        ("source", row.source, list(_SOURCES)),
        ("split", row.split, [split.value for split in Split]),
    ]
    if row.source in _SOURCES:
        named.append(("kind", row.kind, kinds.get(row.source, TASKS)))
    problems = [
        f"row {name}: {what} {value!r} ({did_you_mean(value, known)})"
        for what, value, known in named
        if value not in known
    ]
    if row.source == "making" and row.split == Split.COMPOSITIONAL and row.kind in CELLS_UNSEEN:
        problems.append(f"row {name}: nothing is seen in {row.kind}, so that {row.split} has none of it")
    return problems


def missing_programs(row: RowSpec) -> list[str]:
    """Return the programs that the cases of a row are made with and that are not installed; each with a remedy."""
    from services.playroom.foreign.programs import missing
    from services.playroom.making_cases import SPOKEN_CELLS
    from services.playroom.media_cases import SPOKEN_TASKS
    from services.playroom.speech import PROGRAM, can_speak

    found = (
        []
        if row.kind not in (*SPOKEN_TASKS, *SPOKEN_CELLS) or can_speak()
        else [f"{PROGRAM} (Debian package {PROGRAM})"]
    )
    return found + (missing() if row.source == "foreign" else [])


def _split(row: RowSpec) -> Split:
    from services.playroom.scenes import Split

    return Split(row.split)


def _pictures(name: str, row: RowSpec) -> Iterator[EvaluationCase]:
    from services.playroom.cases import picture_cases

    for number, case in enumerate(picture_cases(_split(row), row.kind, row.count, row.seed)):
        yield EvaluationCase(
            row=name,
            number=number,
            group=case.kind,
            kept_out=case.kept_out,
            parts=[Image(case.picture, mime_type=case.mime_type), case.prompt],
            prompt=case.prompt,
            expected=case.expected,
            fingerprint=sha256(case.picture + case.prompt.encode()).hexdigest()[:16],
            judge=case.judge,
        )


def _media(name: str, row: RowSpec) -> Iterator[EvaluationCase]:
    from services.playroom.media_cases import draw_media_cases

    return _from_playroom(name, draw_media_cases(_split(row), row.kind, row.count, row.seed))


def _foreign(name: str, row: RowSpec) -> Iterator[EvaluationCase]:
    from services.playroom.foreign.cases import draw_foreign_cases

    return _from_playroom(name, draw_foreign_cases(_split(row), row.kind, row.count, row.seed))


def _from_playroom(name: str, cases: Iterable[MediaCase]) -> Iterator[EvaluationCase]:
    from services.playroom.speech import words_wrong

    for number, case in enumerate(cases):
        history: list[Message] = []
        for turn in case.earlier:
            history += [Message("user", _parts(turn.parts)), Message("assistant", turn.answer)]
        counts = case.kind == "transcript"
        yield EvaluationCase(
            row=name,
            number=number,
            group=case.kind,
            kept_out=case.kept_out,
            parts=_parts(case.parts),
            prompt=_prompt(case.parts),
            expected=case.expected,
            fingerprint=_fingerprint(*(turn.parts for turn in case.earlier), case.parts),
            judge=case.judge,
            history=history,
            words_wrong=partial(words_wrong, expected=case.expected) if counts else None,
        )


def _making(name: str, row: RowSpec) -> Iterator[EvaluationCase]:
    from services.playroom.making_cases import draw_making_cases

    for number, case in enumerate(draw_making_cases(_split(row), row.kind, row.count, row.seed)):
        history: list[Message] = []
        for turn in case.earlier:
            answer = [turn.says, *_parts(turn.made)]
            history += [Message("user", _parts(turn.parts)), Message("assistant", answer)]
        yield EvaluationCase(
            row=name,
            number=number,
            group=case.group,
            kept_out=case.request.kept_out,
            parts=_parts(case.parts),
            prompt=_prompt(case.parts),
            expected=case.expected,
            fingerprint=_fingerprint(*((*turn.parts, *turn.made) for turn in case.earlier), case.parts),
            judge=partial(_judge_words, case),
            history=history,
            judge_media=partial(_judge_making, case),
        )


def _judge_words(case: MakingCase, text: str) -> MakingVerdict:
    return case.judge(text, ())


def _judge_making(case: MakingCase, text: str, media: Sequence[MadeMedium]) -> MakingVerdict:
    from services.playroom import studio

    return case.judge(text, [studio.Medium(each.modality, each.mime_type, each.data) for each in media])


def _parts(parts: Sequence[str | studio.Medium]) -> list[str | Medium]:
    return [
        part if isinstance(part, str) else _MEDIA[part.modality](part.data, mime_type=part.mime_type) for part in parts
    ]


def _prompt(parts: Sequence[str | studio.Medium]) -> str:
    """What is asked in the last turn, in words; what is said in quotes."""
    words = [part if isinstance(part, str) else part.said and f'"{part.said}"' for part in parts]
    return " ".join(word for word in words if word)


def _fingerprint(*turns: Sequence[str | studio.Medium]) -> str:
    digest = sha256()
    for part in chain.from_iterable(turns):
        data = part.encode() if isinstance(part, str) else part.data
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


_SOURCES: dict[str, Callable[[str, RowSpec], Iterator[EvaluationCase]]] = {
    "pictures": _pictures,
    "media": _media,
    "foreign": _foreign,
    "making": _making,
}
