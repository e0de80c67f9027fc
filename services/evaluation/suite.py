"""Suites: files that say which cases to ask and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anyplex import Image, Medium
from graph.errors import NotFound, SpecError
from graph.problems import did_you_mean

SUITES_DIR = Path(__file__).parent / "suites"


class RowSpec(BaseModel):
    """One row of a suite: a set of cases that is scored on its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    split: str
    kind: str
    count: int = Field(ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)
    at_least: float | None = Field(default=None, ge=0.0, le=1.0)


class SamplingSpec(BaseModel):
    """How answers are sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(default=96, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)


class SuiteSpec(BaseModel):
    """A suite, as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    summary: str = ""
    sampling: SamplingSpec = SamplingSpec()
    rows: dict[str, RowSpec] = Field(min_length=1)


class Judged(Protocol):
    """What a judge says."""

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not."""
        ...


@dataclass(frozen=True)
class EvaluationCase:
    """One thing to ask.

    Attributes:
        row: Row that it counts for.
        number: Its number in the row.
        group: What it is about, for scores by group ("color").
        kept_out: Whether its wording was kept out of training.
        fingerprint: Hash of everything that is asked; runs are compared where it is equal.
        judge: Says whether an answer is right.
    """

    row: str
    number: int
    group: str
    kept_out: bool
    parts: Sequence[str | Medium]
    prompt: str
    expected: str
    fingerprint: str
    judge: Callable[[str], Judged]

    @property
    def id(self) -> str:
        """Its name in files."""
        return f"{self.row}/{self.number}"


def suite_files(directory: Path = SUITES_DIR) -> dict[str, Path]:
    """Return the suites that come along, by name."""
    return {path.stem: path for path in sorted(directory.glob("*.yaml"))}


def load_suite(name: str) -> SuiteSpec:
    """Read a suite, by its name or its file.

    Raises:
        NotFound: There is no such suite.
        SpecError: It is wrong; ``problems`` tells everything.
    """
    known = suite_files()
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path is None or not path.exists():
        raise NotFound(f"no suite {name!r} ({did_you_mean(name, known)})")
    try:
        return SuiteSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"not a YAML file: {' '.join(str(error).split())}", str(path)) from error
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise SpecError(f"{len(problems)} problems", str(path), problems=problems) from error


def draw_cases(name: str, row: RowSpec, limit: int | None = None) -> list[EvaluationCase]:
    """Draw the cases of a row; a limit takes the first ones, so that they stay the same cases.

    Raises:
        SpecError: The row names a source, split or kind that there is not.
    """
    if row.source not in _SOURCES:
        raise SpecError(f"source {row.source!r} ({did_you_mean(row.source, _SOURCES)})", f"row {name}")
    return _SOURCES[row.source](name, row)[:limit]


def _pictures(name: str, row: RowSpec) -> list[EvaluationCase]:
    from services.playroom.cases import picture_cases
    from services.playroom.questions import KINDS
    from services.playroom.scenes import Split

    splits: Sequence[str] = [split.value for split in Split]
    if row.split not in splits:
        raise SpecError(f"split {row.split!r} ({did_you_mean(row.split, splits)})", f"row {name}")
    kinds = ("caption", "question", *KINDS)
    if row.kind not in kinds:
        raise SpecError(f"kind {row.kind!r} ({did_you_mean(row.kind, kinds)})", f"row {name}")
    return [
        EvaluationCase(
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
        for number, case in enumerate(picture_cases(Split(row.split), row.kind, row.count, row.seed))
    ]


_SOURCES: dict[str, Callable[[str, RowSpec], list[EvaluationCase]]] = {"pictures": _pictures}
