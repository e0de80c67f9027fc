from __future__ import annotations

from dataclasses import replace

import pytest

from services.runtime.component import Held
from services.runtime.directory import Directory
from services.runtime.live_sets import SILENT_S, Attendance, Gateways, LiveSets, held_by, wanted_of
from tests.unit.graph.worlds import compiled

OLD = compiled(versions={"see": "v1", "think": "t1", "think/lora": "l1"})
NEW = replace(OLD, versions={**OLD.versions, "think": "t2"}, generation=2)
BACKBONE = OLD.backbone.component


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_flip_counts_only_from_the_generation_it_was_meant_for() -> None:
    sets = LiveSets()
    sets.publish({"full": OLD})
    assert sets.flip(NEW, 1, [OLD])
    assert not sets.flip(replace(NEW, generation=3), 1, [])
    assert (sets.systems["full"], sets.kept["full"]) == (NEW, (OLD,))


def test_what_is_remembered_never_goes_back() -> None:
    sets = LiveSets()
    assert sets.restore({"full": NEW}, {"full": (OLD,)}, frozenset())
    assert not sets.restore({"full": OLD}, {}, frozenset())
    assert not sets.restore({"full": NEW}, {}, frozenset())
    assert not sets.publish({"full": OLD})
    assert (sets.systems["full"], sets.kept["full"]) == (NEW, (OLD,))
    sets.publish({})
    assert (sets.systems, sets.kept) == ({}, {})


def test_what_a_component_holds() -> None:
    assert held_by(BACKBONE, [OLD, NEW]) == (Held("t1"), Held("t2"), Held("l1", adapter=True))
    live, kept = wanted_of(BACKBONE, {"full": NEW}, {"full": (OLD,)})
    assert (live[0], kept[0]) == (Held("t2"), Held("t1"))


def test_gateways_follow_and_are_forgotten_when_they_fall_silent() -> None:
    clock = Clock()
    gateways = Gateways(clock)
    assert gateways.behind(1) != [], "one that has just started knows nobody"
    gateways.attend(Attendance("a", frozenset({(BACKBONE, "t1")})), 1)
    gateways.attend(Attendance("b"), 2)
    assert gateways.behind(2) == ["a"]
    assert gateways.needs(frozenset({(BACKBONE, "t1")}))
    clock.now = SILENT_S + 0.1
    gateways.attend(Attendance("b"), 2)
    assert gateways.behind(2) == []
    assert not gateways.needs(frozenset({(BACKBONE, "t1")}))


@pytest.mark.parametrize("told", [True, False])
async def test_a_flip_is_followed_when_every_gateway_has_asked_for_more(told: bool) -> None:
    directory = Directory()
    await directory.publish_systems({"full": OLD})
    now = await directory.wait("", -1, 0.0, Attendance("g"))
    await directory.keep("full", (NEW,))
    stamp = await directory.flip(NEW, 1, (OLD,))
    assert stamp is not None
    assert await directory.behind(stamp, 0.0) == ["g"]
    if told:
        now = await directory.wait(now.epoch, now.generation, 1.0, Attendance("g"))
        assert now.systems["full"] == NEW
        await directory.wait(now.epoch, now.generation, 0.0, Attendance("g", frozenset({(BACKBONE, "t1")})))
        assert await directory.behind(stamp, 1.0) == []
        leaving = frozenset({(BACKBONE, "t1")})
        assert await directory.busy(stamp, leaving, 0.0) == ["requests"]
    else:
        assert await directory.behind(("another", 0), 0.0) == ["the directory, which restarted"]
