"""Swaps in the simulated world: nothing is mixed or lost, one set is left; and what is broken on purpose shows."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks._simulation import run
from benchmarks.simulation import PLANTED, outcome_of, summed

SCHEDULES = 300
CHUNK = 50


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_schedules(first: int) -> None:
    outcomes = {seed: run(seed) for seed in range(first, first + CHUNK)}
    wrong = {seed: (o.mixed, o.lost, o.ended, o.why[:1]) for seed, o in outcomes.items() if not o.fine}
    total = summed(list(outcomes.values()))
    print(f"figure: {total['requests']} requests, {total['swaps']} swaps, {len(wrong)} schedules not fine")
    assert wrong == {}
    assert total["swaps"] > 0


def test_the_same_seed_is_the_same_schedule() -> None:
    assert [run(7), run(8)] == [run(7), run(8)]


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_found(bug: str) -> None:
    def finds(seed: int) -> Any:
        return not outcome_of(seed, bug).fine

    assert any(finds(seed) for seed in range(200))
