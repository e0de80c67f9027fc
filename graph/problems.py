"""What is wrong with a file: where, what, and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        file: Path as the user wrote it.
        line: Line from 1; 0 means the file as a whole.
        message: What is wrong, what was expected.
        hint: What to do about it; may be empty.
    """

    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message} ({self.hint})" if self.hint else f"{place}: {self.message}"


class Report:
    """Collects the problems of one file, so that all of them are told at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, line: int, message: str, hint: str = "") -> None:
        """Note one problem; the same one twice is one."""
        problem = Problem(self.file, line, message, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def in_order(self) -> list[Problem]:
        """Return the problems by line."""
        return sorted(self.problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known word, or all of them when none is close."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not words:
        return ""
    return f"known: {', '.join(sorted(words)[:20])}"
