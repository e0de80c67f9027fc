"""Suites: files that say which cases to ask, how, and what is asked of the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anyplex import MadeMedium, Medium, Message
from graph.errors import NotFound, SpecError
from graph.problems import did_you_mean

SUITES_DIR = Path(__file__).parent / "suites"
Measure = Literal["right", "words_wrong"]


class RowSpec(BaseModel):
    """One row of a suite: a set of cases that is scored on its own.

    Attributes:
        title: Line of the table of scores; rows of one title stand beside each other, by split.
        measure: What its share is of: cases that are ``right``, or words that are wrong (``words_wrong``).
        at_least: Least share of right cases.
        at_most: Greatest share of wrong words.
        aim: What is hoped for, and not asked.
        cell: What goes in and what comes out, for the table of directions: ``[text, image]``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    source: str
    split: str
    kind: str
    count: int = Field(ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)
    measure: Measure = "right"
    at_least: float | None = Field(default=None, ge=0.0, le=1.0)
    at_most: float | None = Field(default=None, ge=0.0, le=1.0)
    aim: float | None = Field(default=None, ge=0.0, le=1.0)
    cell: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _check_bar(self) -> Self:
        wrong = "at_most" if self.measure == "right" else "at_least"
        if getattr(self, wrong) is not None:
            raise ValueError(f"{wrong}: does not go with the measure {self.measure!r}")
        return self


class BaselineSpec(BaseModel):
    """Another suite whose rows of the same names are held against this one's.

    Attributes:
        suite: Its name; its run of the same system and versions has to be there.
        at_most_lower: How much worse a row may score here than there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    at_most_lower: float = Field(ge=0.0, le=1.0)


class SamplingSpec(BaseModel):
    """How answers are sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(default=96, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)


class SuiteSpec(BaseModel):
    """A suite, as written.

    Attributes:
        kept_out_at_most_lower: How much worse a row of the test split may score in wordings that were kept out of
            training.
        baseline: A suite to hold this one against.
        decides_at_least: Least share of answers, over all rows, that make just the media that were asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    summary: str = ""
    sampling: SamplingSpec = SamplingSpec()
    kept_out_at_most_lower: float | None = Field(default=None, ge=0.0, le=1.0)
    baseline: BaselineSpec | None = None
    decides_at_least: float | None = Field(default=None, ge=0.0, le=1.0)
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


class JudgedMedia(Judged, Protocol):
    """What a judge says of an answer and what was made with it."""

    @property
    def decided(self) -> bool:
        """Whether just those media came that were asked for."""
        ...


@dataclass(frozen=True)
class EvaluationCase:
    """One thing to ask.

    Attributes:
        row: Row that it counts for.
        number: Its number in the row.
        group: What it is about, for scores by group ("color").
        kept_out: Whether its wording was kept out of training.
        prompt: What is asked, in words; speech in quotes.
        fingerprint: Hash of everything that is asked, of what is expected and of how answers are sampled; where it is
            equal, answers are kept and runs compared.
        judge: Says whether an answer is right.
        history: Turns before this one.
        words_wrong: Counts the wrong words of an answer; None where words are not counted.
        judge_media: Says whether an answer and what was made with it are right; None where nothing may be made.
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
    history: Sequence[Message] = ()
    words_wrong: Callable[[str], int] | None = None
    judge_media: Callable[[str, Sequence[MadeMedium]], JudgedMedia] | None = None

    @property
    def id(self) -> str:
        """Its name in files."""
        return f"{self.row}/{self.number}"

    @property
    def turns(self) -> list[tuple[str, list[str | Medium]]]:
        """Who says what, earlier turns first."""
        earlier = [(message.role, _as_list(message.parts)) for message in self.history]
        return [*earlier, ("user", list(self.parts))]


def _as_list(parts: object) -> list[str | Medium]:
    several = parts if isinstance(parts, (list, tuple)) else [parts]
    return [part for part in several if isinstance(part, (str, Medium))]


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
