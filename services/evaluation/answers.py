"""Answers and verdicts on disk: one JSON object a line, written as they come, so that a run can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from graph.errors import InvalidRequest


@dataclass(frozen=True)
class Answered:
    """One case with its answer.

    Attributes:
        id: The case: row and number.
        error: Code and message where the request failed; such a case counts as not right.
        took_s: Time until the answer was complete.
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
