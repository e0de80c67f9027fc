from __future__ import annotations

import gc
from dataclasses import replace

import pytest

from graph.errors import FailedPrecondition
from graph.plan import SystemPlan
from services.gateway.pinning import Pinning
from services.runtime.directory import Entry, Routes, Snapshot
from tests.unit.graph.worlds import compiled

OLD = compiled(versions={slot: f"{slot}-1" for slot in compiled().slots()})
NEW = replace(OLD, versions={**OLD.versions, "think": "think-2"}, generation=2)
BACKBONE = OLD.backbone.component


def entries(*plans: SystemPlan) -> tuple[Entry, ...]:
    held: dict[str, set[str]] = {}
    for component, version in (place for plan in plans for place in plan.places()):
        held.setdefault(component, set()).add(version)
    return tuple(Entry(c, c, f"{c}:1", versions=frozenset(v)) for c, v in held.items())


def pinning() -> Pinning:
    routes = Routes()
    routes.update(Snapshot("e", 1, entries(OLD), {"full": OLD}))
    return Pinning(routes)


def flip(pinned: Pinning, leaving: frozenset[tuple[str, str]] = frozenset()) -> None:
    kept = {} if leaving else {"full": (OLD,)}
    pinned.routes.update(Snapshot("e", 2, entries(OLD, NEW), {"full": NEW}, kept, leaving))


def test_a_request_runs_one_set_whatever_becomes_live() -> None:
    pinned = pinning()
    pin = pinned.pin(OLD, "me", "", {})
    flip(pinned)
    assert (pin.plan, pin.versions) == (OLD, OLD.versions)
    assert pinned.pin(NEW, "me", "", {}).versions == NEW.versions


def test_a_session_stays_with_its_set_while_it_is_kept() -> None:
    pinned = pinning()
    pinned.pin(OLD, "me", "s", {})
    flip(pinned)
    pin = pinned.pin(NEW, "me", "s", {})
    assert (pin.plan, pin.repinned) == (OLD, False)


def test_a_session_is_told_when_its_set_leaves() -> None:
    pinned = pinning()
    pinned.pin(OLD, "me", "s", {})
    flip(pinned, leaving=frozenset({(BACKBONE, "think-1")}))
    pin = pinned.pin(NEW, "me", "s", {})
    assert (pin.plan, pin.repinned) == (NEW, True)


def test_nobody_may_name_what_is_leaving() -> None:
    pinned = pinning()
    flip(pinned)
    assert pinned.pin(NEW, "me", "", {"think": "think-1"}).versions["think"] == "think-1"
    flip(pinned, leaving=frozenset({(BACKBONE, "think-1")}))
    with pytest.raises(FailedPrecondition, match="not loaded"):
        pinned.pin(NEW, "me", "", {"think": "think-1"})


def test_what_is_needed_is_told_until_the_request_ends() -> None:
    pinned = pinning()
    pin = pinned.pin(OLD, "me", "", {})
    assert (BACKBONE, "think-1") in pinned.in_use()
    pinned.release(pin)
    assert pinned.in_use() == frozenset()
    # One that is given up before it runs lets go by itself.
    pinned.pin(OLD, "me", "", {})
    gc.collect()
    assert pinned.in_use() == frozenset()
