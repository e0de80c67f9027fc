"""The suites that come along, and what a suite may say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyplex import AsyncClient, Audio, Image, Video
from graph.errors import FailedPrecondition, NotFound, SpecError
from services.evaluation import plan, sources
from services.evaluation.plan import RunOptions, plan_run
from services.evaluation.report import markdown, overview, short_checks
from services.evaluation.run import Evaluation
from services.evaluation.runner import RunSettings
from services.evaluation.scores import kept_out_lower
from services.evaluation.sources import check_row, draw_cases, missing_programs
from services.evaluation.suite import RowSpec, SuiteSpec, load_suite, suite_files
from services.playroom.foreign.programs import missing
from services.playroom.speech import can_speak
from tests.fakes.gateway import FakeGateway
from tests.unit.evaluation.oracle import Oracle

_ROWS: dict[str, dict[str, Any]] = {
    "sound": {"source": "media", "split": "test", "kind": "sound_caption", "count": 6, "title": "sounds"},
    "film": {"source": "media", "split": "test", "kind": "film_caption", "count": 6, "title": "films"},
    "again": {"source": "media", "split": "test", "kind": "follow_up", "count": 6},
    "fact": {"source": "media", "split": "test", "kind": "fact", "count": 8, "at_least": 0.5, "aim": 0.9},
}


def _suite(name: str = "tiny", rows: dict[str, Any] | None = None, **fields: Any) -> SuiteSpec:
    return SuiteSpec.model_validate({"suite": name, "rows": rows or _ROWS, **fields})


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as made:
        yield made


def _run(gateway: FakeGateway, folder: Path, suite: SuiteSpec, wrong: set[int], **options: Any) -> dict[str, Any]:
    gateway.scripts = [Oracle(suite, wrong, options.get("limit"))] * 1000
    evaluation = Evaluation(suite, RunSettings("next-gpt", concurrency=2), folder, RunOptions(**options))
    return evaluation.run(lambda: AsyncClient(gateway.address), {"think": "v1"}, lambda *_: None)[0]


@pytest.mark.parametrize("name", sorted(suite_files()))
def test_suites_that_come_along_are_sound(name: str) -> None:
    suite = load_suite(name)
    assert suite.suite == name
    for row_name, row in suite.rows.items():
        check_row(row_name, row)
        least = {"pictures": 300, "any-to-any": 200 if row.cell else 100}.get(name, 500)
        assert row.count >= least
        if not missing_programs(row) and row.source != "foreign":
            assert len(list(draw_cases(row_name, row.model_copy(update={"count": 2})))) == 2


def test_the_foreign_suite_asks_what_understanding_asks() -> None:
    foreign, own = load_suite("foreign"), load_suite("understanding")
    assert foreign.baseline is not None
    assert foreign.baseline.suite == "understanding"
    for name, row in foreign.rows.items():
        assert (row.kind, row.split, row.measure) == (own.rows[name].kind, own.rows[name].split, own.rows[name].measure)


@pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} is not installed")
def test_foreign_cases_are_cases() -> None:
    row = RowSpec(source="foreign", split="test", kind="caption", count=2)
    cases = list(draw_cases("r", row))
    assert all(isinstance(case.parts[0], Image) for case in cases)
    assert [case.fingerprint for case in cases] == [case.fingerprint for case in draw_cases("r", row)]


def test_cases_have_media_and_earlier_turns() -> None:
    parts = [
        part for name in ("sound", "film") for case in draw_cases(name, _suite().rows[name]) for part in case.parts
    ]
    assert {type(part) for part in parts} == {str, Audio, Video}
    for case in draw_cases("again", _suite().rows["again"]):
        assert [message.role for message in case.history] in (["user", "assistant"], ["user", "assistant"] * 2)
        assert [role for role, _ in case.turns] == [*(message.role for message in case.history), "user"]


def test_a_suite_is_asked_with_all_its_media_and_turns(gateway: FakeGateway, tmp_path: Path) -> None:
    result = _run(gateway, tmp_path, _suite(), {0})
    assert {name: row["right"] for name, row in result["rows"].items()} == {
        "sound": 5,
        "film": 5,
        "again": 5,
        "fact": 7,
    }
    folder = next(tmp_path.glob("tiny-*"))
    for name in _ROWS:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.md").read_text()
    assert "| fact | 87.5 % " in page
    assert "✓, ≥ 50.0 %, aim 90.0 %" in page
    assert page.index("## sound: 1 of 6 wrong") < page.index("| sound/0 |")


@pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed (Debian package espeak-ng)")
def test_words_are_counted_where_a_row_is_about_words(gateway: FakeGateway, tmp_path: Path) -> None:
    rows = {"said": {**_ROWS["sound"], "kind": "transcript", "measure": "words_wrong", "at_most": 0.03}}
    result = _run(gateway, tmp_path, _suite(rows=rows), {0})
    row = result["rows"]["said"]
    first = next(draw_cases("said", _suite(rows=rows).rows["said"]))
    assert row["words_wrong"] == len(first.expected.split())
    assert row["share"] == round(row["words_wrong"] / row["words"], 4)
    drawn = (next(tmp_path.glob("tiny-*")) / "scores.svg").read_text()
    assert f"{100 * row['share']:.1f} %  ({row['words_wrong']} of {row['words']} words wrong)<" in drawn
    assert [item["what"] for item in result["checks"]] == ["words wrong"]
    assert not result["checks"][0]["passed"]


def test_wordings_that_were_kept_out_are_held_against_the_others(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(rows={"fact": {**_ROWS["fact"], "count": 40, "at_least": 0.0}}, kept_out_at_most_lower=0.03)
    kept_out = {case.number for case in draw_cases("fact", suite.rows["fact"]) if case.kept_out}
    result = _run(gateway, tmp_path / "1", suite, kept_out)
    assert result["rows"]["fact"]["wordings"]["lower"]["share"] == 1.0
    assert short_checks(result) == ["fact: kept-out wordings 100.0 points lower, asked: ≤ 3.0 points lower"]
    assert " ✗, ≤ 3.0 |" in next(line for line in overview(result) if line.startswith("| fact |"))
    better = _run(gateway, tmp_path / "2", suite, set(range(40)) - kept_out)
    assert short_checks(better) == []
    assert " ✓, ≤ 3.0 |" in next(line for line in overview(better) if line.startswith("| fact |"))
    assert (
        "| kept-out wordings, rows of test on average (reported; what is asked is asked of each row) | 100.0 ("
        in markdown(result)
    )


def test_kept_out_wordings_are_averaged_over_the_rows_of_the_test_split() -> None:
    def row(split: str, lower: float) -> dict[str, Any]:
        worse = {"share": lower, "interval_95": [lower - 0.03, lower + 0.04]}
        return {"split": split, "wordings": {"lower": worse}}

    found = kept_out_lower({"a": row("test", 0.02), "b": row("test", 0.04), "c": row("compositional", 0.9)})
    assert found is not None
    assert found["share"] == 0.03
    assert found["interval_95"] == pytest.approx([0.03 - 0.03 / math.sqrt(2), 0.03 + 0.04 / math.sqrt(2)], abs=1e-4)
    assert kept_out_lower({"c": row("compositional", 0.9)}) is None


def test_a_suite_is_held_against_another(gateway: FakeGateway, tmp_path: Path) -> None:
    rows = {"fact": {**_ROWS["fact"], "count": 20}}
    own = _suite("own", rows)
    other = _suite("other", rows, baseline={"suite": "own", "at_most_lower": 0.03})
    result = _run(gateway, tmp_path, other, set())
    assert "there is no run of own" in short_checks(result)[0]
    _run(gateway, tmp_path, own, set())
    assert short_checks(_run(gateway, tmp_path, other, set())) == []
    result = _run(gateway, tmp_path, other, {3, 4}, fresh=True)
    assert result["baseline"]["rows"]["fact"]["share"] == 0.1
    assert short_checks(result) == ["fact: against own 10.0 points lower, asked: ≤ 3.0 points lower"]
    head, _, line, *_ = overview(result)
    assert head.endswith("| points lower than own |")
    assert line.endswith(" ✗, ≤ 3.0 |")


def test_a_limited_run_leaves_the_whole_one_alone_and_is_not_judged(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(rows={"fact": {**_ROWS["fact"], "count": 20}}, baseline={"suite": "own", "at_most_lower": 0.03})
    _run(gateway, tmp_path, suite, set())
    (whole,) = tmp_path.iterdir()
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    for fresh in (False, True):
        result = _run(gateway, tmp_path, suite, {0, 1, 2}, limit=3, fresh=fresh)
        assert result["rows"]["fact"]["right"] == 0
        assert short_checks(result) == []
        page = (tmp_path / f"{whole.name}-first-3" / "report.md").read_text()
        assert "**Not judged: only the first 3 cases of a row were asked.**" in page
        assert "✗" not in page
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("own", {"limit": 20}, "the run of own is not whole: only the first 20 cases of a row were asked"),
        ("own", {"skipped": {"sound": "espeak-ng"}}, "the run of own is not whole: left out: sound"),
        ("understanding", {}, "the run of understanding is not whole: caption/test: 0 cases, the suite has 500"),
    ],
)
def test_only_whole_runs_are_baselines(
    gateway: FakeGateway, tmp_path: Path, name: str, fields: dict[str, Any], problem: str
) -> None:
    rows = {"fact": {**_ROWS["fact"], "count": 20}}
    _run(gateway, tmp_path, _suite(name, rows), set())
    (there,) = tmp_path.glob("*/result.json")
    there.write_text(json.dumps({**json.loads(there.read_text()), **fields}))
    result = _run(gateway, tmp_path, _suite("other", rows, baseline={"suite": name, "at_most_lower": 0.03}), set())
    assert short_checks(result) == [f"fact: against {name} is not known, asked: ≤ 3.0 points lower; {problem}"]


def test_missing_programs_are_told_and_rows_left_out_only_when_asked(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(row: RowSpec) -> list[str]:
        return ["espeak-ng (Debian package espeak-ng)"] if row.kind == "sound_caption" else []

    monkeypatch.setattr(plan, "missing_programs", lacking)
    with pytest.raises(FailedPrecondition, match="sound needs espeak-ng"):
        _run(gateway, tmp_path, _suite(), set())
    result = _run(gateway, tmp_path, _suite(), set(), skip_missing=True)
    assert "sound" not in result["rows"]
    assert "**sound was left out: not installed here: espeak-ng" in markdown(result)
    with pytest.raises(FailedPrecondition, match="every row needs"):
        _run(gateway, tmp_path, _suite(rows={"sound": _ROWS["sound"]}), set(), skip_missing=True)


def test_what_is_asked_of_rows_left_out_is_not_known(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "missing_programs", lambda row: ["sox"] if row.kind == "sound_caption" else [])
    rows = {"sound": {**_ROWS["sound"], "at_least": 0.98}, "fact": {**_ROWS["fact"], "count": 40}}
    suite = _suite(rows=rows, kept_out_at_most_lower=0.03, baseline={"suite": "own", "at_most_lower": 0.03})
    _run(gateway, tmp_path, _suite("own", {"fact": rows["fact"]}), set())
    result = _run(gateway, tmp_path, suite, set(), skip_missing=True)
    assert short_checks(result) == [
        "sound: share is not known, asked: ≥ 98.0 %",
        "sound: kept-out wordings is not known, asked: ≤ 3.0 points lower",
        "sound: against own is not known, asked: ≤ 3.0 points lower; it was left out",
    ]
    assert "**0 of 6 figures that are asked for are missed, 3 are not known:**" in markdown(result)


def test_rows_say_what_they_need() -> None:
    spoken = RowSpec(source="media", split="test", kind="transcript", count=2)
    assert bool(missing_programs(spoken)) is not can_speak()
    assert missing_programs(spoken.model_copy(update={"kind": "fact"})) == []
    assert missing_programs(spoken.model_copy(update={"source": "foreign", "kind": "caption"})) == missing()


def test_everything_wrong_with_a_suite_is_told_before_anything_is_asked() -> None:
    rows = {"a": {**_ROWS["fact"], "kind": "fcat", "split": "tset"}, "b": {**_ROWS["sound"], "source": "medi"}}
    with pytest.raises(SpecError) as caught:
        plan_run(_suite(rows=rows), RunOptions())
    assert [problem.split(" (")[0] for problem in caught.value.problems] == [
        "row a: split 'tset'",
        "row a: kind 'fcat'",
        "row b: source 'medi'",
    ]


def test_suites_are_checked(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'pictures'"):
        load_suite("picturs")
    path = tmp_path / "bad.yaml"
    path.write_text("suite: x\nrows: {a: {source: pictures, splt: test, kind: caption, count: 0}}\n")
    with pytest.raises(SpecError) as caught:
        load_suite(str(path))
    assert len(caught.value.problems) == 3
    path.write_text("suite: x\nrows: {a: {source: media, split: test, kind: fact, count: 5, at_most: 0.1}}\n")
    with pytest.raises(SpecError) as caught:
        load_suite(str(path))
    assert "at_most: does not go with the measure 'right'" in caught.value.problems[0]
    row = _suite().rows["fact"]
    for change in ({"source": "medi"}, {"split": "tset"}, {"kind": "fcat"}):
        with pytest.raises(SpecError, match="did you mean"):
            sources.draw_cases("r", row.model_copy(update=change))
