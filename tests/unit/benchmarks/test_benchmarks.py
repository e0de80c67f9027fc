"""Benchmarks are run by name or all together, judge themselves, and leave JSON and a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _results, demo, fault, hop, run
from benchmarks._results import Bar, judge
from services.cli import memory

BENCHMARK = '"""Measures {name}."""\nfrom pathlib import Path\n\n\ndef main(arguments):\n    Path({log!r}).open("a").write("{name} ")\n    return {code}\n'  # noqa: E501
KILL = {"back_s": 6.0, "cold_start_s": 5.0, "of_cold": 1.2, "requests": 50, "failed": 3, "failed_late": 0, "codes": {}}

COSTS = {"files": 9, "median_ms": 5.0, "slowest_ms": 99.0, "slowest": "a film", "grown_mib": {"the encoder": 64}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run.py").write_text(Path(run.__file__).read_text())
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(_results, "RESULTS", tmp_path)
    return tmp_path


def add(folder: Path, name: str, code: int = 0) -> None:
    log = str(folder / "log")
    (folder / f"{name}.py").write_text(BENCHMARK.format(name=name, log=log, code=code))


def test_the_repository_has_the_benchmarks_that_are_asked_for() -> None:
    assert {"demo", "fault", "hop"} <= set(run.benchmarks())


@pytest.mark.parametrize(("codes", "expected"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1)])
def test_without_a_name_all_are_run(folder: Path, codes: tuple[int, int], expected: int) -> None:
    for name, code in zip(("one", "two"), codes, strict=True):
        add(folder, name, code)
    assert run.main([]) == expected
    assert (folder / "log").read_text() == "one two "


def test_one_is_run_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(folder, "one", 1)
    add(folder, "two")
    assert run.main(["one"]) == 1
    assert run.main(["two"]) == 0
    assert (folder / "log").read_text() == "one two "
    assert run.main(["tow"]) == 2
    assert run.main(["--help"]) == 0
    assert "Measures one." in capsys.readouterr().out


def test_a_missed_bar_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge([Bar("speed", 3.0, least=3.0), Bar("memory", 6.0, most=6.0)]) == 0
    assert judge([Bar("speed", 2.99, least=3.0), Bar("memory", 6.0, most=6.0)]) == 1
    assert judge([Bar("speed", float("nan"), least=3.0)]) == 1
    assert "below the bar: speed" in capsys.readouterr().err


def hop_result(own_ms: float, own_per_s: float) -> dict[str, Any]:
    # One round in the own hop's favor moves no median.
    return {
        "latency_ms": {"own": [0.1, own_ms, own_ms], "serve": [3.0] * 3},
        "throughput_per_s": {"own": [9000.0, own_per_s, own_per_s], "serve": [500.0] * 3},
    }


@pytest.mark.parametrize(("own_ms", "own_per_s", "code"), [(1.0, 2000.0, 0), (1.1, 2000.0, 1), (1.0, 1900.0, 1)])
def test_hop_fails_below_its_bars(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own_ms: float, own_per_s: float, code: int
) -> None:
    monkeypatch.setattr(hop, "measure", lambda rounds, calls: hop_result(own_ms, own_per_s))
    assert hop.main([]) == code
    assert json.loads((folder / "hop.json").read_text())["ratios"]["latency"] == pytest.approx(3.0 / own_ms)
    assert (folder / "hop.png").stat().st_size > 0


def test_demo_notes_when_answers_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import time\nfor word in 'abc':\n    print('  → ' + word, flush=True)\n    time.sleep(0.4)\n"
    real = demo.run_once
    monkeypatch.setattr(demo, "run_once", lambda command: real([sys.executable, "-c", script]))
    assert demo.main(["--runs", "2"]) == 0
    found = json.loads((folder / "demo.json").read_text())
    assert [one["answers"] for one in found["runs"]] == [3, 3]
    assert all(one["first_answer_s"] < one["last_answer_s"] <= one["end_s"] for one in found["runs"])
    assert found["median"]["resident_gb"] > 0
    assert (folder / "demo.png").stat().st_size > 0
    with monkeypatch.context() as patched:
        patched.setattr(memory, "resident_tree", lambda pid: [memory.Process(pid, 1, 8_100_000_000)])
        assert demo.main(["--runs", "1"]) == 1
    monkeypatch.setattr(demo, "END_S", 0.0)
    assert demo.main(["--runs", "1"]) == 1


def test_a_demo_that_answers_nothing_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="ended with 3 after 0 answers"):
        demo.run_once([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("change", "scaling", "costs", "code"),
    [
        ({}, {}, {}, 0),
        ({"of_cold": 1.6}, {}, {}, 1),
        ({"failed": 9}, {}, {}, 1),
        ({"failed_late": 1}, {}, {}, 1),
        ({"clients_back_s": 5.5}, {}, {}, 1),
        ({}, {"reversals": 2}, {}, 1),
        ({}, {"lost": 1}, {}, 1),
        ({}, {}, {"slowest_ms": 101.0}, 1),
        ({}, {}, {"grown_mib": {"the encoder": 0, "the gateway": 65}}, 1),
    ],
)
def test_fault_fails_below_its_bars(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    scaling: dict[str, Any],
    costs: dict[str, Any],
    code: int,
) -> None:
    kills = [{"node": node, "clients_back_s": 1.0, **KILL, **change} for node in ("see", "see_in", "think", "gateway")]
    load = {"up_s": 3.0, "down_s": 6.0, "lost": 0, "reversals": 1, "replicas": {}, **scaling}
    refusals = {"row 6, sounds": {**COSTS, **costs}, "row 7, films": COSTS}
    monkeypatch.setattr(fault, "measure", lambda rounds: {"refusals": refusals, "kills": kills, "scaling": load})
    assert fault.main([]) == code
    assert len(json.loads((folder / "fault.json").read_text())["kills"]) == 4
    assert (folder / "fault.png").stat().st_size > 0
