from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.runtime.component import Load
from services.runtime.scaling import LoadReport, OngoingPolicy, ongoing_of


@dataclass
class Context:
    """What Serve tells a policy, as far as ours reads it."""

    ongoing: dict[str, float] = field(default_factory=dict)
    total_num_requests: float = 0.0
    capacity_adjusted_min_replicas: int = 0
    capacity_adjusted_max_replicas: int = 4
    target_num_replicas: int = 1

    @property
    def aggregated_metrics(self) -> dict[str, dict[str, float]] | None:
        return {"ongoing": self.ongoing} if self.ongoing else None


@pytest.mark.parametrize(
    ("ongoing", "wanted"),
    [({}, 0), ({"a": 0.0}, 0), ({"a": 1.0}, 1), ({"a": 2.0}, 1), ({"a": 2.5}, 2), ({"a": 3.0, "b": 3.0}, 3)],
)
def test_replicas_follow_what_waits_and_runs(ongoing: dict[str, float], wanted: int) -> None:
    assert OngoingPolicy(2.0)(Context(ongoing)) == (wanted, {})


@pytest.mark.parametrize(
    ("ongoing", "wanted"), [(19.0, 2), (20.0, 2), (11.0, 2), (9.0, 2), (7.1, 2), (7.0, 1), (0.1, 1), (0.0, 0)]
)
def test_load_about_the_target_does_not_flap(ongoing: float, wanted: int) -> None:
    assert OngoingPolicy(10.0)(Context({"a": ongoing}, target_num_replicas=2))[0] == wanted


def test_bounds_hold() -> None:
    assert OngoingPolicy(1.0)(Context({"a": 100.0}))[0] == 4
    assert OngoingPolicy(1.0)(Context({}, capacity_adjusted_min_replicas=2))[0] == 2


def test_a_call_queued_at_a_handle_wakes() -> None:
    assert OngoingPolicy(2.0)(Context(total_num_requests=1.0))[0] == 1
    assert OngoingPolicy(2.0)(Context({"a": 5.0}, total_num_requests=1.0))[0] == 3


def test_all_replicas_count_together() -> None:
    assert ongoing_of(Context({"a": 1.0, "b": 2.5})) == 3.5
    assert ongoing_of(Context()) == 0.0


def test_a_component_in_use_is_never_reported_idle() -> None:
    report, load = LoadReport(), Load()
    assert report.ongoing(load) == 0.0
    load.finished = 5
    assert 0.0 < report.ongoing(load) < 1.0
    assert report.ongoing(load) == 0.0
    load.failed = 1
    assert OngoingPolicy(2.0)(Context({"a": report.ongoing(load)}))[0] == 1
    load.waiting, load.running = 3, 2
    assert report.ongoing(load) == 5.0
