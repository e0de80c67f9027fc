"""One evaluation from its suite to its report."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anyplex import AsyncClient
from graph.errors import NotFound
from services.evaluation import pictures
from services.evaluation import report as reports
from services.evaluation.answers import Answered, AnswerFile
from services.evaluation.runner import RunSettings, ask_all
from services.evaluation.suite import EvaluationCase, SuiteSpec, draw_cases

ANSWERS = "answers.jsonl"
RESULT = "result.json"
REPORT = "report.md"
SCORES = "scores.svg"
WRONG = "wrong.png"
_SHOWN_WRONG = 12


class Evaluation:
    """A suite, asked of one system.

    Its folder is named after suite, system and versions: asking again goes on where it stopped.

    Args:
        suite: What to ask.
        settings: How.
        folder: Where the folders of runs are.
        limit: Most cases of a row; None for all.
        fresh: Ask everything again.
    """

    def __init__(
        self, suite: SuiteSpec, settings: RunSettings, folder: Path, limit: int | None = None, fresh: bool = False
    ) -> None:
        self.suite = suite
        self.settings = settings
        self.limit = limit
        self._folder = folder
        self._fresh = fresh

    def run(
        self,
        make_client: Callable[[], AsyncClient],
        versions: Mapping[str, str],
        progress: Callable[[int, int, int], None],
        other: Path | None = None,
    ) -> tuple[dict[str, Any], Path]:
        """Ask, judge, write answers, JSON and Markdown; return the result and its folder.

        Args:
            make_client: Opens a connection.
            versions: Versions that answer; part of the run's name.
            progress: Told done, right and all, after each answer.
            other: Folder of a run to compare with.

        Raises:
            AnyplexError: The gateway cannot be reached, or the suite is wrong.
        """
        compared = _read_other(other) if other is not None else None
        cases = [case for name, row in self.suite.rows.items() for case in draw_cases(name, row, self.limit)]
        folder = self._folder / f"{self.suite.suite}-{self.settings.system}-{_digest(versions)}"
        file = AnswerFile(folder / ANSWERS)
        if self._fresh:
            file.rewrite([])
        started = time.monotonic()
        answers = asyncio.run(self._ask(make_client, cases, file, progress))
        result = self._result(answers, versions, time.monotonic() - started)
        if other is not None and compared is not None:
            result["comparison"] = {"with": other.name, "rows": reports.compare(answers, compared)}
        (folder / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / REPORT).write_text(reports.markdown(result), encoding="utf-8")
        _draw(folder, result, cases, answers)
        return result, folder

    async def _ask(
        self,
        make_client: Callable[[], AsyncClient],
        cases: list[EvaluationCase],
        file: AnswerFile,
        progress: Callable[[int, int, int], None],
    ) -> dict[str, Answered]:
        async with make_client() as client:
            try:
                return await ask_all(client, cases, self.suite.sampling, self.settings, file, progress)
            except ExceptionGroup as group:
                raise _first(group) from None

    def _result(self, answers: Mapping[str, Answered], versions: Mapping[str, str], took_s: float) -> dict[str, Any]:
        wrong = [answer for answer in answers.values() if not answer.right][:_SHOWN_WRONG]
        return {
            "suite": self.suite.suite,
            "system": self.settings.system,
            "versions": dict(versions),
            "asked_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "took_s": round(took_s, 1),
            "concurrency": self.settings.concurrency,
            "limit": self.limit,
            "rows": reports.summarize(self.suite, answers),
            "wrong": [[item.id, item.prompt, item.expected, item.answer or item.error] for item in wrong],
        }


def _draw(
    folder: Path, result: Mapping[str, Any], cases: Sequence[EvaluationCase], answers: Mapping[str, Answered]
) -> None:
    """Write the pictures of a run."""
    title = f"{result['suite']}: {result['system']}"
    (folder / SCORES).write_text(pictures.scores_svg(title, result["rows"]), encoding="utf-8")
    sheet = pictures.wrong_sheet(cases, answers)
    if sheet is None:
        (folder / WRONG).unlink(missing_ok=True)
    else:
        (folder / WRONG).write_bytes(sheet)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is not a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _read_other(path: Path) -> dict[str, Answered]:
    file = path / ANSWERS if path.is_dir() else path
    if not file.exists():
        raise NotFound(f"no answers of a run at {path}")
    return AnswerFile(file).read()


def _digest(versions: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(versions.items())).encode()).hexdigest()[:8]
