"""The playroom's benchmark: speeds on two cores, and judges after every codec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import _results, playroom, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_results, "RESULTS", tmp_path)
    return tmp_path


def _speeds(pictures_per_s: float) -> dict[str, dict[str, float]]:
    return {name: {"per_s": pictures_per_s, "per_processor_s": 1.0} for name in ("pictures", "sounds", "films")}


def test_it_is_among_the_benchmarks() -> None:
    assert "playroom" in run.benchmarks()


@pytest.mark.parametrize(("per_s", "agreed", "code"), [(2000.0, 99.5, 0), (1999.0, 99.5, 1), (2000.0, 99.4, 1)])
def test_it_fails_below_its_bars(
    folder: Path, monkeypatch: pytest.MonkeyPatch, per_s: float, agreed: float, code: int
) -> None:
    monkeypatch.setattr(playroom, "measure_speed", lambda seconds: _speeds(per_s))
    monkeypatch.setattr(playroom, "measure_judges", lambda samples: {"films": {"MP4": agreed}})
    assert playroom.main([]) == code
    assert json.loads((folder / "playroom.json").read_text())["judges"] == {"films": {"MP4": agreed}}
    assert (folder / "playroom.png").stat().st_size > 0


def test_speeds_and_judges_are_measured() -> None:
    speeds = playroom.measure_speed(0.1)
    assert all(speed["per_s"] > 0 and speed["per_processor_s"] > 0 for speed in speeds.values())
    judges = playroom.measure_judges(4)
    assert {what: set(ways) for what, ways in judges.items()} == {
        "pictures": {"PNG", "JPEG 80"},
        "sounds": {"WAV", "MP3", "Opus"},
        "films": {"PNG", "JPEG 80", "GIF", "MP4", "WebM"},
    }
