"""What a run is going to do: everything that can be wrong with it is told before anything is started or asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graph.errors import FailedPrecondition, InvalidRequest, NotFound, SpecError
from services.evaluation.answers import Answered, AnswerFile
from services.evaluation.sources import missing_programs, row_problems
from services.evaluation.suite import SuiteSpec

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class RunOptions:
    """What may be said about a run besides its suite.

    Attributes:
        limit: Most cases of a row; None for all.
        fresh: Ask everything again.
        skip_missing: Leave out rows whose cases need programs that are not installed, instead of failing.
        other: Folder of a run to compare with.
    """

    limit: int | None = None
    fresh: bool = False
    skip_missing: bool = False
    other: Path | None = None


@dataclass(frozen=True)
class RunPlan:
    """A run that can be made.

    Attributes:
        skipped: Rows that are left out, with what they lack.
        compared: Answers of the run to compare with, by case.
    """

    skipped: Mapping[str, str]
    compared: Mapping[str, Answered] | None


def plan_run(suite: SuiteSpec, options: RunOptions) -> RunPlan:
    """Check a suite, row by row, and what a run of it needs.

    Raises:
        SpecError: The suite names what there is not; ``problems`` tells everything.
        FailedPrecondition: A program that cases are made with is not installed.
        NotFound: There is no run to compare with.
        InvalidRequest: The run to compare with shares no row with this suite.
    """
    _check_names(suite)
    compared = _read_other(suite, options.other) if options.other is not None else None
    return RunPlan(_skipped(suite, options.skip_missing), compared)


def _check_names(suite: SuiteSpec) -> None:
    problems = [problem for name, row in suite.rows.items() for problem in row_problems(name, row)]
    if problems:
        raise SpecError(f"{len(problems)} problems", f"suite {suite.suite}", problems=problems)


def _skipped(suite: SuiteSpec, skip_missing: bool) -> dict[str, str]:
    missing = {name: ", ".join(lacking) for name, row in suite.rows.items() if (lacking := missing_programs(row))}
    if missing and not skip_missing:
        listed = "; ".join(f"{name} needs {programs}" for name, programs in missing.items())
        raise FailedPrecondition(f"suite {suite.suite}: {listed}; install them, or leave these rows out")
    if len(missing) == len(suite.rows):
        raise FailedPrecondition(f"suite {suite.suite}: every row needs programs that are not installed")
    return missing


def _read_other(suite: SuiteSpec, path: Path) -> dict[str, Answered]:
    file = path / ANSWERS if path.is_dir() else path
    if not file.exists():
        raise NotFound(f"no answers of a run at {path}; they stay on the machine that asked")
    answers = AnswerFile(file).read()
    if not any(answer.row in suite.rows for answer in answers.values()):
        raise InvalidRequest(f"no case in common with {path}: no row of the suite {suite.suite} was asked there")
    return answers
