"""One evaluation from its suite to its report."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anyplex import AsyncClient
from graph.errors import InvalidRequest
from services.evaluation import pictures, report, scores
from services.evaluation.answers import Answered, AnswerFile, CaseFile
from services.evaluation.plan import ANSWERS, RunOptions, plan_run
from services.evaluation.runner import RunSettings, ask_all
from services.evaluation.sources import draw_cases
from services.evaluation.suite import EvaluationCase, RowSpec, SuiteSpec, load_suite, suite_files

CASES = "cases.jsonl"
RESULT = "result.json"
REPORT = "report.md"
SCORES = "scores.svg"
_LISTED_WRONG = 20


class Evaluation:
    """A suite, asked of one system.

    Its folder is named after suite, system, versions and limit: asking again goes on where it stopped. A limited run
    is not judged, and never stands in for a whole one.

    Args:
        suite: What to ask.
        settings: How.
        folder: Where the folders of runs are.
        options: Everything else.
    """

    def __init__(
        self, suite: SuiteSpec, settings: RunSettings, folder: Path, options: RunOptions | None = None
    ) -> None:
        self.suite = suite
        self.settings = settings
        self.options = options or RunOptions()
        self._folder = folder

    def run(
        self,
        make_client: Callable[[], AsyncClient],
        versions: Mapping[str, str],
        progress: Callable[[int, int, int], None],
    ) -> tuple[dict[str, Any], Path]:
        """Ask, judge, write cases, answers, JSON and Markdown; return the result and its folder.

        Args:
            make_client: Opens a connection.
            versions: Versions that answer; part of the run's name.
            progress: Told done, right and all, after each answer.

        Raises:
            AnyplexError: The gateway cannot be reached, or the suite is wrong.
            InvalidRequest: The run to compare with shares no case with this one.
            FailedPrecondition: A program that cases are made with is not installed.
        """
        plan, other = plan_run(self.suite, self.options), self.options.other
        folder = self._run_folder(self.suite.suite, versions)
        if self.options.fresh:
            AnswerFile(folder / ANSWERS).rewrite([])
        started = time.monotonic()
        asking = _Asking(self, folder, [name for name in self.suite.rows if name not in plan.skipped], progress)
        answers = asyncio.run(asking.ask(make_client))
        result = self._result(answers, versions, time.monotonic() - started)
        kept_out = scores.kept_out_lower(result["rows"])
        result |= {"skipped": dict(plan.skipped), "cases": asking.shown, "kept_out_lower": kept_out}
        result["decided"] = scores.decisions(answers)
        result |= self._judged(versions, result["rows"], result["decided"])
        if other is not None and plan.compared is not None:
            rows = scores.compare(answers, plan.compared)
            left_out = [name for name in result["rows"] if name not in rows]
            whole = scores.compare_all(answers, plan.compared)
            result["comparison"] = {"with": other.name, "rows": rows, "all": whole, "left_out": left_out}
        (folder / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / REPORT).write_text(report.markdown(result), encoding="utf-8")
        title = f"{result['suite']}: {result['system']}"
        (folder / SCORES).write_text(pictures.scores_svg(title, result["rows"]), encoding="utf-8")
        if "comparison" in result and not result["comparison"]["rows"]:
            raise InvalidRequest(f"no case in common with {other}; this run is in {folder}")
        return result, folder

    def _run_folder(self, suite: str, versions: Mapping[str, str]) -> Path:
        first = f"-first-{self.options.limit}" if self.options.limit else ""
        return self._folder / f"{suite}-{self.settings.system}-{_digest(versions)}{first}"

    def _judged(
        self, versions: Mapping[str, str], rows: Mapping[str, Any], decided: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return what comes of holding the rows against the baseline and against what the suite asks."""
        if self.options.limit:
            return {"checks": []}
        if self.suite.baseline is None:
            return {"checks": scores.check(self.suite, rows, decided=decided)}
        name = self.suite.baseline.suite
        there, lacks = self._baseline_rows(name, versions)
        against = scores.held_against(self.suite, rows, there)
        return {
            "baseline": {"suite": name, "rows": against, "lacks": lacks},
            "checks": scores.check(self.suite, rows, against, lacks, decided),
        }

    def _baseline_rows(self, name: str, versions: Mapping[str, str]) -> tuple[dict[str, Any], str]:
        """Return the rows of the run of another suite, or none of them and what that run lacks."""
        path = self._run_folder(name, versions) / RESULT
        if not path.exists():
            return {}, f"there is no run of {name}"
        result = json.loads(path.read_text(encoding="utf-8"))
        lacks = scores.lacks(result, load_suite(name) if name in suite_files() else None)
        return ({}, f"the run of {name} is not whole: {lacks}") if lacks else (result["rows"], "")

    def _result(self, answers: Mapping[str, Answered], versions: Mapping[str, str], took_s: float) -> dict[str, Any]:
        return {
            "suite": self.suite.suite,
            "system": self.settings.system,
            "versions": dict(versions),
            "asked_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "took_s": round(took_s, 1),
            "concurrency": self.settings.concurrency,
            "limit": self.options.limit,
            "rows": scores.summarize(self.suite, answers),
        }


class _Asking:
    """Asks row by row; while one row is asked, the cases of the next are made.

    Attributes:
        shown: For every row its sheet of pictures, and what was wrong.
    """

    def __init__(
        self, evaluation: Evaluation, folder: Path, names: list[str], progress: Callable[[int, int, int], None]
    ) -> None:
        self.shown: dict[str, Any] = {}
        self._evaluation = evaluation
        self._folder = folder
        self._names = names
        self._progress = progress
        self._answers: dict[str, Answered] = {}
        self._stopping = threading.Event()

    async def ask(self, make_client: Callable[[], AsyncClient]) -> dict[str, Answered]:
        async with make_client() as client:
            try:
                await self._ask_rows(client)
            except ExceptionGroup as group:
                raise _first(group) from None
            finally:
                self._stopping.set()
        return self._answers

    async def _ask_rows(self, client: AsyncClient) -> None:
        suite, settings = self._evaluation.suite, self._evaluation.settings
        file, case_file = AnswerFile(self._folder / ANSWERS), CaseFile(self._folder / CASES)
        drawing = self._start_drawing(0)
        try:
            for index, name in enumerate(self._names):
                cases = await drawing
                if index + 1 < len(self._names):
                    drawing = self._start_drawing(index + 1)
                case_file.write(name, cases)
                answers = await ask_all(client, cases, suite.sampling, settings, file, self._report)
                self._answers |= answers
                self.shown[name] = await asyncio.to_thread(_show, self._folder, name, cases, answers)
        finally:
            drawing.cancel()

    def _start_drawing(self, index: int) -> asyncio.Task[list[EvaluationCase]]:
        name = self._names[index]
        return asyncio.create_task(asyncio.to_thread(self._draw, name, self._evaluation.suite.rows[name]))

    def _draw(self, name: str, row: RowSpec) -> list[EvaluationCase]:
        cases: list[EvaluationCase] = []
        evaluation = self._evaluation
        for case in draw_cases(name, row, evaluation.options.limit, evaluation.suite.sampling):
            if self._stopping.is_set():
                break
            cases.append(case)
        return cases

    def _report(self, done: int, right: int, count: int) -> None:
        limit = self._evaluation.options.limit
        counts = [self._evaluation.suite.rows[name].count for name in self._names]
        before = sum(item.right for item in self._answers.values())
        total = sum(min(count, limit) if limit else count for count in counts)
        self._progress(len(self._answers) + done, before + right, total)


def _show(folder: Path, name: str, cases: list[EvaluationCase], answers: Mapping[str, Answered]) -> dict[str, Any]:
    """Draw the sheet of a row, and list what was wrong."""
    path = folder / f"{name.replace('/', '-')}.png"
    drawn = pictures.sheet(cases, answers, folder)
    if drawn is not None:
        path.write_bytes(drawn)
    contact = folder / f"{name.replace('/', '-')}-contact.png"
    shown = pictures.contact_sheet(cases, answers, folder) if cases and cases[0].judge_media else None
    if shown is not None:
        contact.write_bytes(shown)
    wrong = [answers[case.id] for case in cases if not answers[case.id].right][:_LISTED_WRONG]
    return {
        "sheet": path.name if drawn is not None else "",
        "contact": contact.name if shown is not None else "",
        "wrong": [[item.id, item.prompt, item.expected, _came(item)] for item in wrong],
    }


def _came(item: Answered) -> str:
    """Return what came, and for media what is wrong with it."""
    if item.decided is None or not item.reason:
        return item.answer or item.error
    return f"{item.answer} ({item.error or item.reason})"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is not a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _digest(versions: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(versions.items())).encode()).hexdigest()[:8]
