"""Cases, answers and verdicts on disk: one JSON object a line, written as they come, so that a run can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from anyplex import Medium
from graph.errors import InvalidRequest
from services.evaluation.suite import EvaluationCase


@dataclass(frozen=True)
class Answered:
    """One case with its answer.

    Attributes:
        id: The case: row and number.
        error: Code and message where the request failed; such a case counts as not right.
        took_s: Time until the answer was complete.
        words: Words that were expected, where words are counted.
        words_wrong: How many of them are wrong, missing or too many.
        decided: Whether just those media were made that were asked for; None where none may be asked for.
        media: Files of what was made, beside this one, in the order in which they came.
    """

    id: str
    row: str
    group: str
    kept_out: bool
    fingerprint: str
    prompt: str
    expected: str
    answer: str
    right: bool
    reason: str = ""
    error: str = ""
    took_s: float = 0.0
    words: int = 0
    words_wrong: int = 0
    decided: bool | None = None
    media: list[str] = field(default_factory=list)


class AnswerFile:
    """The answers of one run.

    Args:
        path: Where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Answered]:
        """Return what is there, by id; a last line that was cut off is dropped.

        Raises:
            InvalidRequest: It is not a file of answers.
        """
        if not self.path.exists():
            return {}
        found: dict[str, Answered] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                answered = Answered(**json.loads(line))
            except (ValueError, TypeError) as error:
                if number == len(lines):
                    break  # whoever wrote it was stopped in the middle of it
                raise InvalidRequest("not an answer of an evaluation", f"{self.path}:{number}") from error
            found[answered.id] = answered
        return found

    def rewrite(self, answers: list[Answered]) -> None:
        """Start over with these."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".new")
        scratch.write_text("".join(_line(answer) for answer in answers), encoding="utf-8")
        scratch.replace(self.path)

    def append(self, answer: Answered) -> None:
        """Add one."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(answer))


def _line(answer: Answered) -> str:
    return json.dumps(asdict(answer), ensure_ascii=False) + "\n"


class CaseFile:
    """What a run asks: for every case its turns, media by their hash.

    Args:
        path: Where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, row: str, cases: list[EvaluationCase]) -> None:
        """Keep the cases of a row, instead of those it had before."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["row"] != row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".new")
        scratch.write_text("".join([*kept, *(_case_line(case) for case in cases)]), encoding="utf-8")
        scratch.replace(self.path)


def _case_line(case: EvaluationCase) -> str:
    turns = [{"role": role, "parts": [_part(part) for part in parts]} for role, parts in case.turns]
    fields = {
        "id": case.id,
        "row": case.row,
        "group": case.group,
        "kept_out": case.kept_out,
        "fingerprint": case.fingerprint,
        "turns": turns,
        "expected": case.expected,
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _part(part: str | Medium) -> str | dict[str, object]:
    if isinstance(part, str):
        return part
    return {
        "modality": part.modality,
        "mime_type": part.mime_type,
        "size_bytes": part.size_bytes,
        "sha256": sha256(part.read()).hexdigest(),
    }
