"""Suites, scores and comparisons, over a gateway that knows the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from anyplex import AsyncClient, Unavailable
from graph.errors import InvalidRequest, NotFound
from services.evaluation import sources
from services.evaluation.answers import Answered, AnswerFile
from services.evaluation.plan import RunOptions
from services.evaluation.run import Evaluation
from services.evaluation.runner import RunSettings
from services.evaluation.scores import compare
from services.evaluation.sources import draw_cases
from services.evaluation.suite import SuiteSpec
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.evaluation.oracle import Oracle

SUITE = SuiteSpec.model_validate(
    {
        "suite": "tiny",
        "rows": {
            "caption/test": {"source": "pictures", "split": "test", "kind": "caption", "count": 12, "seed": 1},
            "color/test": {
                "source": "pictures", "split": "test", "kind": "color", "count": 8, "seed": 1, "at_least": 0.9,
            },
        },
    }
)  # fmt: skip


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as made:
        yield made


def _run(
    gateway: FakeGateway,
    folder: Path,
    wrong: set[int],
    versions: str = "v1",
    other: Path | None = None,
    suite: SuiteSpec = SUITE,
) -> tuple[dict[str, Any], Path, Oracle]:
    oracle = Oracle(suite, wrong)
    gateway.scripts = [oracle] * 1000
    evaluation = Evaluation(suite, RunSettings("next-gpt", concurrency=4), folder, RunOptions(other=other))
    result, run_folder = evaluation.run(lambda: AsyncClient(gateway.address), {"think": versions}, lambda *_: None)
    return result, run_folder, oracle


def test_scores_and_goes_on(gateway: FakeGateway, tmp_path: Path) -> None:
    result, folder, oracle = _run(gateway, tmp_path, wrong={0, 1, 2})
    row = result["rows"]["caption/test"]
    assert (row["right"], row["count"]) == (9, 12)
    assert row["share"] == 0.75
    assert row["wordings"]["trained"]["count"] + row["wordings"]["kept_out"]["count"] == 12
    assert oracle.asked == 20
    page = (folder / "report.md").read_text()
    assert "| caption/test | 9 | 12 | 75.0 % |" in page
    assert "75.0 %" in (folder / "scores.svg").read_text()
    assert (folder / "caption-test.png").read_bytes().startswith(b"\x89PNG")
    assert "## caption/test: 3 of 12 wrong" in page
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    assert len(cases) == 20
    assert cases[0]["turns"][0]["parts"][0]["modality"] == "image"
    assert json.loads((folder / "result.json").read_text())["rows"] == result["rows"]

    answers = folder / "answers.jsonl"
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join(lines[:15]) + "\n" + lines[15][:20])  # stopped in the middle of a line
    again, _, oracle = _run(gateway, tmp_path, wrong={0, 1, 2})
    assert oracle.asked == 5
    assert again["rows"]["caption/test"]["right"] == 9


def test_what_is_kept_is_judged_anew(gateway: FakeGateway, tmp_path: Path) -> None:
    _, folder, _ = _run(gateway, tmp_path, wrong={0, 1, 2})
    answers = AnswerFile(folder / "answers.jsonl")
    answers.rewrite([replace(one, right=not one.right, reason="an older judge") for one in answers.read().values()])
    result, _, oracle = _run(gateway, tmp_path, wrong=set())
    assert oracle.asked == 0
    assert result["rows"]["caption/test"]["right"] == 9
    assert "an older judge" not in {one.reason for one in answers.read().values()}


def test_other_sampling_and_other_expectations_are_asked_again(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(gateway, tmp_path, wrong=set())
    warm = SuiteSpec.model_validate(SUITE.model_dump() | {"sampling": {"temperature": 0.5}})
    assert _run(gateway, tmp_path, wrong=set(), suite=warm)[2].asked == 20
    assert _run(gateway, tmp_path, wrong=set(), suite=warm)[2].asked == 0
    drawn = sources._SOURCES["pictures"]
    monkeypatch.setitem(
        sources._SOURCES, "pictures", lambda *row: (replace(case, expected="a new caption") for case in drawn(*row))
    )
    result, _, oracle = _run(gateway, tmp_path, wrong=set(), suite=warm)
    assert (oracle.asked, result["rows"]["caption/test"]["right"]) == (20, 0)


def test_compares_runs_case_by_case(gateway: FakeGateway, tmp_path: Path) -> None:
    _, first, _ = _run(gateway, tmp_path, wrong={0, 1})
    result, folder, _ = _run(gateway, tmp_path, wrong={1, 2, 3, 4}, versions="v2", other=first)
    row = result["comparison"]["rows"]["caption/test"]
    assert (row["both_right"], row["gained"], row["lost"], row["both_wrong"]) == (7, 1, 3, 1)
    assert row["p"] == pytest.approx(0.625)
    assert row["difference"] == pytest.approx(-2 / 12, abs=1e-4)
    assert row["interval_95"][0] < -2 / 12 < row["interval_95"][1]
    assert row["gained_cases"] == ["caption/test/0"]
    assert "caption/test, lost: `caption/test/2`" in (folder / "report.md").read_text()
    with pytest.raises(NotFound):
        _run(gateway, tmp_path, wrong=set(), other=tmp_path / "nope")


def _with_rows(**rows: dict[str, Any]) -> SuiteSpec:
    """The suite with some rows changed, or with other rows where their names are others."""
    specs = {name.replace("_", "/"): SUITE.rows["color/test"].model_dump() | row for name, row in rows.items()}
    return SuiteSpec.model_validate({"suite": "changed", "rows": specs})


def test_a_comparison_names_the_rows_that_it_lacks(gateway: FakeGateway, tmp_path: Path) -> None:
    _, first, _ = _run(gateway, tmp_path, wrong=set())
    changed = _with_rows(caption_test={"seed": 7}, color_test={}, more_test={})
    result, folder, _ = _run(gateway, tmp_path, wrong=set(), other=first, suite=changed)
    assert list(result["comparison"]["rows"]) == ["color/test"]
    sentence = "Not compared, for want of cases that both runs were asked: caption/test, more/test."
    assert sentence in (folder / "report.md").read_text()


def test_runs_without_a_case_in_common_are_not_compared(gateway: FakeGateway, tmp_path: Path) -> None:
    _, first, _ = _run(gateway, tmp_path, wrong=set())
    with pytest.raises(InvalidRequest, match="no case in common with .*: no row of the suite changed was asked there"):
        _run(gateway, tmp_path, wrong=set(), other=first, suite=_with_rows(more_test={}))
    assert list(tmp_path.iterdir()) == [first]
    with pytest.raises(InvalidRequest, match="no case in common with .*; this run is in "):
        _run(gateway, tmp_path, wrong=set(), other=first, suite=_with_rows(color_test={"seed": 7}))
    (folder,) = tmp_path.glob("changed-*")
    assert json.loads((folder / "result.json").read_text())["rows"]["color/test"]["right"] == 8


def test_failures_count_as_wrong_and_are_asked_again(gateway: FakeGateway, tmp_path: Path) -> None:
    oracle = Oracle(SUITE, set())
    gateway.scripts = [fake.failing(grpc.StatusCode.INTERNAL, "oh", "internal"), *[oracle] * 30]
    evaluation = Evaluation(SUITE, RunSettings("next-gpt", concurrency=1), tmp_path)
    result, _ = evaluation.run(lambda: AsyncClient(gateway.address), {}, lambda *_: None)
    assert result["rows"]["caption/test"]["errors"] == 1
    assert result["rows"]["caption/test"]["right"] == 11
    result, _ = evaluation.run(lambda: AsyncClient(gateway.address), {}, lambda *_: None)
    assert result["rows"]["caption/test"]["right"] == 12


def test_a_dead_gateway_stops_the_run(tmp_path: Path) -> None:
    evaluation = Evaluation(SUITE, RunSettings("next-gpt"), tmp_path)
    with pytest.raises(Unavailable):
        evaluation.run(lambda: AsyncClient("127.0.0.1:1", retry=False), {}, lambda *_: None)


def test_a_limit_takes_the_first_cases() -> None:
    row = SUITE.rows["caption/test"]
    assert [case.fingerprint for case in draw_cases("r", row, 3)] == [
        case.fingerprint for case in draw_cases("r", row)
    ][:3]


def test_answers_that_do_not_fit_are_not_compared(tmp_path: Path) -> None:
    def answered(fingerprint: str) -> dict[str, Answered]:
        return {"r/0": Answered("r/0", "r", "g", False, fingerprint, "p", "e", "a", True)}

    assert compare(answered("x"), answered("y")) == {}
    path = tmp_path / "answers.jsonl"
    path.write_text("{}\n{}\n")
    with pytest.raises(InvalidRequest, match=r"answers\.jsonl:1"):
        AnswerFile(path).read()
