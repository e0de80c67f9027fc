"""A canary's set beside the live one: who is pinned to it, and to what they go on when it is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anyplex.v1 import gateway_pb2
from graph.canary import Canary
from services.gateway.pinning import Pinning
from services.runtime.directory import Snapshot
from tests.unit.gateway.conftest import SYSTEM, VERSIONS, Gateway, ask

NEW = {**VERSIONS, "think": "v-new"}


def with_canary(gateway: Gateway, share: float, held: bool = True) -> None:
    """Keep a canary's set beside the live one; its versions are loaded unless told otherwise."""
    before = gateway.routes.snapshot
    beside = replace(gateway.plan, versions=NEW, canary=Canary("rollout", share))
    entries = tuple(
        replace(entry, versions=entry.versions | {"v-new"} if held else entry.versions - {"v-new"})
        for entry in before.entries
    )
    gateway.routes.update(Snapshot("epoch", before.generation + 1, entries, before.systems, {SYSTEM: (beside,)}))


def without_canary(gateway: Gateway) -> None:
    before = gateway.routes.snapshot
    leaving = frozenset((entry.component, "v-new") for entry in before.entries)
    gateway.routes.update(Snapshot("epoch", before.generation + 1, before.entries, before.systems, {}, leaving=leaving))


def pinned(gateway: Gateway, session: str = "", request_id: str = "r", owner: str = "me") -> tuple[str, bool]:
    """Version of the backbone that a request is pinned to, and whether its session had to change it."""
    request: gateway_pb2.GenerateRequest = ask(session_id=session)
    pin = gateway.runner.accept(request, owner, request_id, None).pin
    return pin.versions["think"], pin.repinned


def test_a_share_of_sessions_gets_it_and_keeps_it(gateway: Gateway) -> None:
    with_canary(gateway, 0.05)
    sessions = [f"session-{number}" for number in range(4_000)]
    first = {session: pinned(gateway, session) for session in sessions}
    touched = sum(version == "v-new" for version, _ in first.values())
    print(f"figure: {touched / len(sessions):.1%} of {len(sessions)} sessions are pinned to a canary of 5 %")
    assert touched / len(sessions) == pytest.approx(0.05, abs=0.014)
    assert {session: pinned(gateway, session) for session in sessions} == first
    assert not any(repinned for _, repinned in first.values())


def test_another_gateway_says_the_same(gateway: Gateway) -> None:
    with_canary(gateway, 0.5)
    other = Pinning(gateway.routes)
    for number in range(200):
        mine, _ = pinned(gateway, f"session-{number}")
        theirs = other.pin(gateway.plan, "me", f"session-{number}", {})
        assert theirs.versions["think"] == mine


def test_requests_of_their_own_are_chosen_one_by_one(gateway: Gateway) -> None:
    with_canary(gateway, 0.5)
    found = [pinned(gateway, request_id=f"r{number}")[0] for number in range(400)]
    assert found.count("v-new") / len(found) == pytest.approx(0.5, abs=0.1)


def test_sessions_that_began_before_stay_where_they_are(gateway: Gateway) -> None:
    assert pinned(gateway, "early") == ("v-think", False)
    with_canary(gateway, 1.0)
    assert pinned(gateway, "early") == ("v-think", False)
    assert pinned(gateway, "late") == ("v-new", False)


def test_when_it_is_taken_back_its_sessions_go_on_with_the_live_set_and_hear_of_it(gateway: Gateway) -> None:
    with_canary(gateway, 1.0)
    assert pinned(gateway, "s") == ("v-new", False)
    without_canary(gateway)
    assert pinned(gateway, "s") == ("v-think", True)
    assert pinned(gateway, "s") == ("v-think", False)


def test_nobody_gets_what_is_not_loaded(gateway: Gateway) -> None:
    with_canary(gateway, 1.0, held=False)
    assert pinned(gateway, "s") == ("v-think", False)


def test_a_set_that_is_kept_to_go_back_to_is_nobody_s_canary(gateway: Gateway) -> None:
    with_canary(gateway, 1.0)
    before = gateway.routes.snapshot
    (plan,) = before.kept[SYSTEM]
    kept = {SYSTEM: (replace(plan, canary=None),)}
    gateway.routes.update(Snapshot("epoch", before.generation + 1, before.entries, before.systems, kept))
    assert pinned(gateway, "s") == ("v-think", False)


async def test_every_reply_says_which(gateway: Gateway) -> None:
    with_canary(gateway, 1.0)
    events = await gateway.run(ask(session_id="s"))
    assert dict(events[0].accepted.versions.slots) == NEW
