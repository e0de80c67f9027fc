"""The suite of media out, over a gateway that makes what was asked for, nothing, or something else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anyplex import AsyncClient
from anyplex.v1 import gateway_pb2
from graph.errors import SpecError
from services.evaluation.plan import RunOptions
from services.evaluation.report import directions, markdown, short_checks
from services.evaluation.run import Evaluation
from services.evaluation.runner import RunSettings
from services.evaluation.sources import check_row
from services.evaluation.suite import RowSpec, SuiteSpec, load_suite
from services.playroom.making import CELLS
from services.playroom.speech import can_speak
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.evaluation.oracle import Oracle

_WAYS = ("text", "image", "audio", "video")
_CELLS = [f"{given}_to_{made}" for given, made in product(_WAYS, _WAYS) if given != "audio"]
_COUNT = 2


def _suite(kinds: list[str], **fields: Any) -> SuiteSpec:
    rows = {
        f"{kind}/test": {"source": "making", "split": "test", "kind": kind, "count": _COUNT}
        | ({"cell": kind.split("_to_")} if "_to_" in kind else {})
        for kind in kinds
    }
    return SuiteSpec.model_validate({"suite": "tiny", "rows": rows, "decides_at_least": 0.98, **fields})


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as made:
        yield made


def _run(
    gateway: FakeGateway, folder: Path, suite: SuiteSpec, script: fake.Script, **options: Any
) -> tuple[dict[str, Any], Path]:
    gateway.scripts = [script] * 1000
    evaluation = Evaluation(suite, RunSettings("next-gpt", concurrency=4), folder, RunOptions(**options))
    return evaluation.run(lambda: AsyncClient(gateway.address), {"think": "v1"}, lambda *_: None)


def test_the_suite_asks_for_every_cell_and_all_that_goes_beyond_the_table() -> None:
    suite = load_suite("any-to-any")
    cells = {row.cell for row in suite.rows.values() if row.cell}
    assert cells == set(product(_WAYS, _WAYS))
    assert {row.kind for row in suite.rows.values()} >= set(CELLS)
    assert suite.decides_at_least == 0.98
    asked = {row.title: row.at_least for row in suite.rows.values() if row.split == "test" and row.cell}
    assert asked["text → image"] == 0.8
    assert all(asked[f"{given} → {made}"] == 0.8 for given in _WAYS[1:] for made in _WAYS[1:])


def test_whoever_makes_what_was_asked_for_is_right_everywhere(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite([*_CELLS, "three_facts", "several"])
    result, folder = _run(gateway, tmp_path, suite, Oracle(suite, wrong=set()))
    assert {row["share"] for row in result["rows"].values()} == {1.0}
    assert result["decided"]["share"] == 1.0
    assert short_checks(result) == []
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    kept = [folder / name for answer in answers for name in answer["media"]]
    assert len(kept) == _COUNT * 9 + _COUNT + sum(len(answer["media"]) for answer in answers if "sev" in answer["row"])
    assert all(path.stat().st_size for path in kept)
    for name, cases in result["cases"].items():
        with Image.open(folder / cases["contact"]) as sheet:
            assert sheet.height > 100, name
    page = markdown(result)
    assert "| **image** |" in page
    assert (
        "![text_to_image/test: the first cases, what went in and what came out](text_to_image-test-contact.png)" in page
    )


def test_whoever_makes_nothing_is_wrong_wherever_a_medium_was_asked_for(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(_CELLS)
    result, _ = _run(gateway, tmp_path, suite, fake.echo)
    shares = {name: row["share"] for name, row in result["rows"].items()}
    assert set(shares.values()) == {0.0}
    decided = {name: row["share"] for name, row in result["decided"]["rows"].items()}
    assert {share for name, share in decided.items() if "_to_text" in name} == {1.0}
    assert {share for name, share in decided.items() if "_to_text" not in name} == {0.0}
    assert any("decides whether, and which, media to make" in line for line in short_checks(result))


def test_the_wrong_medium_is_wrong_and_says_so(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(["text_to_image", "text_to_text"])
    sound = b"RIFF\0\0\0\0WAVE"

    async def plays(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        for event in fake.medium(0, "audio", "audio/wav", sound):
            yield event
        yield fake.finished()

    result, _ = _run(gateway, tmp_path, suite, plays)
    assert result["decided"]["share"] == 0.0
    came = [line[3] for cases in result["cases"].values() for line in cases["wrong"]]
    assert any("made audio, image wanted" in line for line in came)
    assert any("made audio, no medium wanted" in line for line in came)


def test_a_medium_that_failed_is_asked_for_again(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(["text_to_image"])

    async def fails(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        yield fake.failed_medium(0, "the generator is down")
        yield fake.finished()

    result, folder = _run(gateway, tmp_path, suite, fails)
    assert result["rows"]["text_to_image/test"]["errors"] == _COUNT
    assert "the generator is down" in (folder / "answers.jsonl").read_text()
    oracle = Oracle(suite, wrong=set())
    again, _ = _run(gateway, tmp_path, suite, oracle)
    assert oracle.asked == _COUNT
    assert again["rows"]["text_to_image/test"]["share"] == 1.0


def test_a_run_goes_on_where_it_stopped(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(["text_to_audio", "text_to_text"])
    _run(gateway, tmp_path, suite, Oracle(suite, wrong=set()))
    oracle = Oracle(suite, wrong=set())
    result, _ = _run(gateway, tmp_path, suite, oracle)
    assert oracle.asked == 0
    assert result["rows"]["text_to_audio/test"]["share"] == 1.0


@pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed")
def test_spoken_requests_are_asked_too(gateway: FakeGateway, tmp_path: Path) -> None:
    suite = _suite(["audio_to_video", "spoken_edit", "follow_up", "answer_only"])
    result, _ = _run(gateway, tmp_path, suite, Oracle(suite, wrong=set()))
    assert {row["share"] for row in result["rows"].values()} == {1.0}


def test_the_table_of_directions_has_what_was_asked_and_no_more() -> None:
    row = {"cell": ["text", "image"], "share": 0.9, "interval_95": [0.8, 0.95], "at_least": 0.8, "at_most": None}
    row |= {"aim": 0.95, "measure": "right"}
    lines = directions({"rows": {"a": row, "b": {**row, "cell": None}}})
    assert lines[0] == "| in ↓ out → | text | image | audio | video |"
    assert lines[2] == "| **text** | – | 90.0 % (80.0 – 95.0) ✓, ≥ 80.0 %, aim 95.0 % | – | – |"
    assert lines[3] == "| **image** | – | – | – | – |"
    assert directions({"rows": {"a": {**row, "cell": None}}}) == []


def test_compositional_rows_of_what_is_only_heard_are_refused() -> None:
    row = RowSpec(source="making", split="compositional", kind="text_to_audio", count=1)
    with pytest.raises(SpecError, match="nothing is seen"):
        check_row("r", row)
