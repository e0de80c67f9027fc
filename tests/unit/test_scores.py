"""Tables of scores in pages are those of the results that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.evaluation import report, suite
from services.evaluation.suite import SuiteSpec
from tests.tools import scores

PAGE = "# Page\n\n<!-- scores of some: none yet -->\n<!-- end of scores -->\n\nmore\n"


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scores, "ROOT", tmp_path)
    monkeypatch.setattr(report, "overview", lambda found: [f"| {found['share']} |", "|---|"])
    spec = {"suite": "some", "rows": {"a": {"source": "media", "split": "test", "kind": "fact", "count": 20}}}
    monkeypatch.setattr(suite, "load_suite", lambda name: SuiteSpec.model_validate({**spec, "suite": name}))
    return written(tmp_path / "some-x" / "result.json", share=0.9)


def written(path: Path, **fields: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    content = {"suite": "some", "system": "next-gpt", "asked_at": "2026-01-01 00:00 UTC", "rows": {"a": {"count": 20}}}
    content |= fields
    path.write_text(json.dumps(content))
    return path


def test_a_table_is_filled_in_and_replaced(result: Path) -> None:
    assert list(scores.problems(PAGE)) == []
    page = scores.filled(PAGE, result)
    assert "<!-- scores of some: some-x/result.json -->\nnext-gpt, 2026-01-01 00:00 UTC; " in page
    assert "| 0.9 |\n|---|\n<!-- end of scores -->\n\nmore\n" in page
    assert list(scores.problems(page)) == []
    written(result, share=0.8)
    ((line, problem),) = scores.problems(page)
    assert (line, problem.partition(";")[0]) == (3, "not the scores of some-x/result.json")
    assert "| 0.8 |" in (again := scores.filled(page, result))
    assert "| 0.9 |" not in again
    result.unlink()
    assert list(scores.problems(page)) == [(3, "no file some-x/result.json")]


def test_contact_sheets_of_cells_stand_under_the_table(result: Path) -> None:
    row = {"count": 20, "cell": ["text", "image"], "share": 0.9, "interval_95": [0.8, 0.95], "at_least": None}
    row |= {"at_most": None, "aim": None}
    sheets = {"a": {"contact": "a-contact.png"}}
    page = scores.filled(PAGE, written(result, share=0.9, rows={"a": row}, cases=sheets))
    assert "| **text** | – | 90.0 % (80.0 – 95.0) | – | – |" in page
    assert "![text → image](some-x/a-contact.png)" in page
    assert list(scores.problems(page)) == []


def test_a_suite_without_a_place(result: Path) -> None:
    with pytest.raises(ValueError, match="no place for scores of other"):
        scores.filled(PAGE, written(result, suite="other"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"limit": 5, "rows": {"a": {"count": 5}}}, "only the first 5 cases of a row were asked"),
        ({"skipped": {"b": "espeak-ng"}}, "left out: b"),
        ({"rows": {"a": {"count": 19}}}, "a: 19 cases, the suite has 20"),
        ({"rows": {}}, "a: 0 cases, the suite has 20"),
    ],
)
def test_only_whole_runs_are_told_of(result: Path, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"some-x/result.json is no whole run: {problem}"):
        scores.filled(PAGE, written(result, **fields))
