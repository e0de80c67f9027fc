"""What a gateway counts for a canary and for the live set, and what it does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from graph.canary import Canary
from graph.errors import Cancelled, Internal, InvalidRequest
from services.gateway.canaries import CanaryCounts
from services.gateway.pinning import Pinning
from services.runtime.directory import Snapshot
from tests.unit.gateway.conftest import SYSTEM, VERSIONS, Gateway

NEW = {**VERSIONS, "think": "v-new"}


def offered(gateway: Gateway, share: float) -> None:
    before = gateway.routes.snapshot
    beside = replace(gateway.plan, versions=NEW, canary=Canary("rollout", share))
    entries = tuple(replace(entry, versions=entry.versions | {"v-new"}) for entry in before.entries)
    gateway.routes.update(Snapshot("epoch", before.generation + 1, entries, before.systems, {SYSTEM: (beside,)}))


def test_requests_are_counted_on_their_side(gateway: Gateway) -> None:
    pinning, counts = Pinning(gateway.routes), CanaryCounts(gateway.routes)
    counts.note(pinning.pin(gateway.plan, "me", "", {}), 1.0, None)
    assert counts.compared() == {}, "there is no canary"
    offered(gateway, 1.0)
    mine = pinning.pin(gateway.plan, "me", "", {})
    counts.note(mine, 1.0, None)
    counts.note(mine, 1.0, Internal("a fault of ours"))
    counts.note(mine, 1.0, InvalidRequest("a fault of the caller"))
    counts.note(mine, 1.0, Cancelled("taken back"))
    counts.note(mine, 1.0, asyncio.CancelledError())
    counts.note(pinning.pin(gateway.plan, "me", "", {"think": "v-new"}), 1.0, None)
    offered(gateway, 0.0)
    counts.note(pinning.pin(gateway.plan, "me", "", {}), 1.0, None)
    both = counts.compared()["rollout"]
    assert (both.canary.requests, both.canary.errors, both.live.requests, both.live.errors) == (2, 1, 1, 0)
    gateway.routes.update(replace(gateway.routes.snapshot, kept={}))
    assert counts.compared() == {}, "it is over"
