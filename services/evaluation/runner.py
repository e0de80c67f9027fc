"""Asks a system every case of a suite through its gateway, several at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyplex import AnyplexError, AsyncClient, Cancelled, PermissionDenied, Reply, Unauthenticated, Unavailable
from services.evaluation.answers import Answered, AnswerFile
from services.evaluation.suite import EvaluationCase, SamplingSpec

MEDIA = "media"
"""Folder of what was made, beside the answers."""
# These say that no case will fare better: the run stops, and can go on later.
_HOPELESS = (Unavailable, Unauthenticated, PermissionDenied, Cancelled)


@dataclass(frozen=True)
class RunSettings:
    """How to ask.

    Attributes:
        system: System to ask.
        concurrency: Requests at a time.
        deadline_s: Longest time for one answer.
        pinned: Versions to ask instead of the live ones, by slot.
    """

    system: str
    concurrency: int = 8
    deadline_s: float = 120.0
    pinned: Mapping[str, str] = field(default_factory=dict)


async def ask_all(
    client: AsyncClient,
    cases: Sequence[EvaluationCase],
    sampling: SamplingSpec,
    settings: RunSettings,
    file: AnswerFile,
    report: Callable[[int, int, int], None],
) -> dict[str, Answered]:
    """Ask what the file does not answer yet; every answer is written down as it comes.

    Words that are kept are judged anew, since judges change; media are not: `--fresh` has them judged again.

    Args:
        client: Connection to the gateway.
        cases: What to ask.
        sampling: How to sample.
        settings: How to ask.
        file: Answers there are, and where new ones go.
        report: Told done, right and all, after each answer.

    Returns:
        Answers by id, of these cases alone.

    Raises:
        AnyplexError: The gateway cannot be reached or does not let us in.
    """
    known = file.read()
    wanted = {case.id: case for case in cases}
    kept = {
        id_: _judged_anew(wanted[id_], answer) if id_ in wanted else answer
        for id_, answer in known.items()
        if not answer.error and (id_ not in wanted or wanted[id_].fingerprint == answer.fingerprint)
    }
    file.rewrite(list(kept.values()))
    answers = {id_: answer for id_, answer in kept.items() if id_ in wanted}
    folder = file.path.parent / MEDIA
    waiting = iter([case for case in cases if case.id not in answers])

    async def work() -> None:
        for case in waiting:
            answer = await _ask(client, case, sampling, settings, folder)
            file.append(answer)
            answers[case.id] = answer
            report(len(answers), sum(item.right for item in answers.values()), len(cases))

    async with asyncio.TaskGroup() as group:
        for _ in range(settings.concurrency):
            group.create_task(work())
    return {case.id: answers[case.id] for case in cases}


def _judged_anew(case: EvaluationCase, answer: Answered) -> Answered:
    if case.judge_media is not None or answer.media:
        return answer
    verdict = case.judge(answer.answer)
    wrong = case.words_wrong(answer.answer) if case.words_wrong is not None else 0
    return replace(answer, right=verdict.right, reason=verdict.reason, words_wrong=wrong)


async def _ask(
    client: AsyncClient, case: EvaluationCase, sampling: SamplingSpec, settings: RunSettings, folder: Path
) -> Answered:
    started = time.monotonic()
    answer, error = "", ""
    judged = _Judged(case)
    try:
        reply = await client.generate(
            case.parts,
            history=case.history,
            system=settings.system,
            pinned_versions=settings.pinned,
            seed=case.number,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            deadline_s=settings.deadline_s,
            priority=-1,  # people who wait for an answer go first
        )
        answer = reply.text
        took_s = time.monotonic() - started
        # judges of media take a while: meanwhile the others must be able to go on asking
        await asyncio.to_thread(judged.take, reply, folder)
        error = "; ".join(f"no {failure.modality or 'medium'}: {failure.error}" for failure in reply.failures)
    except _HOPELESS:
        raise
    except AnyplexError as failure:
        took_s = time.monotonic() - started
        error = f"{failure.code}: {failure}"
    return Answered(
        id=case.id,
        row=case.row,
        group=case.group,
        kept_out=case.kept_out,
        fingerprint=case.fingerprint,
        prompt=case.prompt,
        expected=case.expected,
        answer=answer,
        right=judged.right and not error,
        reason=judged.reason,
        error=error,
        took_s=round(took_s, 4),
        words=judged.words,
        words_wrong=judged.words_wrong,
        decided=judged.decided,
        media=judged.files,
    )


class _Judged:
    """What is found out about the answer to a case; before there is one, it is wrong."""

    def __init__(self, case: EvaluationCase) -> None:
        self.right, self.reason = False, ""
        self.words = len(case.expected.split()) if case.words_wrong is not None else 0
        self.words_wrong = self.words
        self.decided = None if case.judge_media is None else False
        self.files: list[str] = []
        self._case = case

    def take(self, reply: Reply, folder: Path) -> None:
        """Judge an answer, and keep what was made with it."""
        case = self._case
        if case.judge_media is None:
            verdict = case.judge(reply.text)
            self.right, self.reason = verdict.right and not reply.media, verdict.reason
            if reply.media:
                self.reason = f"made {', '.join(medium.modality for medium in reply.media)}, and words alone were asked"
        else:
            judged = case.judge_media(reply.text, reply.media)
            self.right, self.reason, self.decided = judged.right, judged.reason, judged.decided
        self.words_wrong = case.words_wrong(reply.text) if case.words_wrong is not None else 0
        for index, medium in enumerate(reply.media):
            folder.mkdir(exist_ok=True)
            name = f"{case.row.replace('/', '-')}-{case.number}-{index}{medium.suffix}"
            self.files.append(str(medium.save(folder / name).relative_to(folder.parent)))
