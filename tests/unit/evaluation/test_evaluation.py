"""Suites, scores and comparisons, over a gateway that knows the answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from anyplex import AsyncClient, Unavailable
from anyplex.v1 import gateway_pb2
from graph.errors import InvalidRequest, NotFound, SpecError
from services.evaluation.answers import Answered, AnswerFile
from services.evaluation.report import compare
from services.evaluation.run import Evaluation
from services.evaluation.runner import RunSettings
from services.evaluation.statistics import mcnemar, median, wilson_95
from services.evaluation.suite import SuiteSpec, draw_cases, load_suite, suite_files
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway

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


class Oracle:
    """Answers every case right, except those whose number is in ``wrong``."""

    def __init__(self, wrong: set[int]) -> None:
        cases = [case for name, row in SUITE.rows.items() for case in draw_cases(name, row)]
        self.expected = {
            (case.parts[0].read(), case.prompt): case.expected if case.number not in wrong else "mauve"  # type: ignore[index,union-attr]
            for case in cases
        }
        self.asked = 0

    async def __call__(
        self, request: gateway_pb2.GenerateRequest, context: fake.Context
    ) -> AsyncIterator[gateway_pb2.Event]:
        self.asked += 1
        picture, prompt = request.messages[0].parts
        yield fake.accepted(request)
        yield fake.text(self.expected[picture.media.inline, prompt.text])
        yield fake.finished()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as made:
        yield made


def _run(gateway: FakeGateway, folder: Path, wrong: set[int], versions: str = "v1", other: Path | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN202
    oracle = Oracle(wrong)
    gateway.scripts = [oracle] * 1000
    evaluation = Evaluation(SUITE, RunSettings("next-gpt", concurrency=4), folder)
    result, run_folder = evaluation.run(
        lambda: AsyncClient(gateway.address), {"think": versions}, lambda *_: None, other
    )
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
    assert (folder / "wrong.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "result.json").read_text())["rows"] == result["rows"]

    answers = folder / "answers.jsonl"
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join(lines[:15]) + "\n" + lines[15][:20])  # stopped in the middle of a line
    again, _, oracle = _run(gateway, tmp_path, wrong={0, 1, 2})
    assert oracle.asked == 5
    assert again["rows"]["caption/test"]["right"] == 9


def test_compares_runs_case_by_case(gateway: FakeGateway, tmp_path: Path) -> None:
    _, first, _ = _run(gateway, tmp_path, wrong={0, 1})
    result, _, _ = _run(gateway, tmp_path, wrong={1, 2, 3, 4}, versions="v2", other=first)
    row = result["comparison"]["rows"]["caption/test"]
    assert (row["both_right"], row["only_this"], row["only_other"], row["both_wrong"]) == (7, 1, 3, 1)
    assert row["p"] == pytest.approx(0.625)
    with pytest.raises(NotFound):
        _run(gateway, tmp_path, wrong=set(), other=tmp_path / "nope")


def test_failures_count_as_wrong_and_are_asked_again(gateway: FakeGateway, tmp_path: Path) -> None:
    oracle = Oracle(set())
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


def test_suites_are_checked(tmp_path: Path) -> None:
    for name in suite_files():
        suite = load_suite(name)
        assert suite.suite == name
        for row_name, row in suite.rows.items():
            assert draw_cases(row_name, row.model_copy(update={"count": 2}))
    with pytest.raises(NotFound, match="did you mean 'pictures'"):
        load_suite("picturs")
    path = tmp_path / "bad.yaml"
    path.write_text("suite: x\nrows: {a: {source: pictures, splt: test, kind: caption, count: 0}}\n")
    with pytest.raises(SpecError) as caught:
        load_suite(str(path))
    assert len(caught.value.problems) == 3
    row = SUITE.rows["caption/test"]
    for change in ({"source": "picture"}, {"split": "tset"}, {"kind": "captoin"}):
        with pytest.raises(SpecError, match="did you mean"):
            draw_cases("r", row.model_copy(update=change))


def test_statistics() -> None:
    low, high = wilson_95(450, 500)
    assert (round(low, 4), round(high, 4)) == (0.8706, 0.9233)
    assert wilson_95(0, 0) == (0.0, 1.0)
    assert wilson_95(10, 10)[1] == pytest.approx(1.0)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(5, 5) == 1.0
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([]) == 0.0


def test_answers_that_do_not_fit_are_not_compared(tmp_path: Path) -> None:
    def answered(fingerprint: str) -> dict[str, Answered]:
        return {"r/0": Answered("r/0", "r", "g", False, fingerprint, "p", "e", "a", True)}

    assert compare(answered("x"), answered("y")) == {}
    path = tmp_path / "answers.jsonl"
    path.write_text("{}\n{}\n")
    with pytest.raises(InvalidRequest, match=r"answers\.jsonl:1"):
        AnswerFile(path).read()
