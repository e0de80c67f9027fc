"""Which versions a request runs: the live set, its session's, or those it names. Pinned once, held to its last byte."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from graph.checks import MAX_ID_CHARS, UNPRINTABLE
from graph.errors import FailedPrecondition, InvalidRequest
from graph.plan import Place, SystemPlan
from services.gateway.sessions import Sessions
from services.runtime.directory import Routes


@dataclass(frozen=True, eq=False)
class Pin:
    """What one request runs. While somebody holds it, no replica drops what it needs.

    Attributes:
        plan: The plan of its set.
        versions: Slot to version.
        repinned: True when its session's earlier set was not there any more.
        rollout: Rollout that it is counted for, on the canary's side or on that of the live set; "" for none.
        is_canary: Whether it runs the canary's set.
    """

    plan: SystemPlan
    versions: Mapping[str, str]
    repinned: bool = False
    rollout: str = ""
    is_canary: bool = False


class Pinning:
    """Pins requests to version sets.

    Args:
        routes: Systems and replicas there are.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.sessions = Sessions()
        # Weak: a request that is given up before it runs lets go by itself.
        self._pins: weakref.WeakSet[Pin] = weakref.WeakSet()

    def pin(
        self, live: SystemPlan, owner: str, session_id: str, stated: Mapping[str, str], request_id: str = ""
    ) -> Pin:
        """Pin a request.

        Args:
            live: The live plan of its system.
            owner: Whose it is.
            session_id: Session it belongs to; "" for none.
            stated: Versions it names, by slot.
            request_id: What it is chosen for a canary by, where it belongs to no session.

        Raises:
            InvalidRequest: It names a slot that is not there, or what is no version.
            FailedPrecondition: It names a version that is not loaded.
        """
        self.check(live, stated)
        offered = self._offered(live, owner, session_id, request_id)
        chosen, repinned = self.sessions.pin(
            owner, session_id, live.system, _set_of(offered), lambda versions: self._is_resident(live, versions)
        )
        plan = self._plan_with(live, chosen) or live
        # Whoever names versions was not chosen by chance: it says nothing about either set.
        rollout, is_canary = ("", False) if stated else self._side(live, plan)
        pin = Pin(plan, {**chosen, **stated}, repinned, rollout, is_canary)
        self._pins.add(pin)
        return pin

    def release(self, pin: Pin) -> None:
        """Let go of what a request needed."""
        self._pins.discard(pin)

    def in_use(self) -> frozenset[Place]:
        """Return where which versions are needed by requests that have not ended."""
        return frozenset(place for pin in self._pins for place in pin.plan.places(pin.versions))

    def _side(self, live: SystemPlan, plan: SystemPlan) -> tuple[str, bool]:
        """Return the canary's rollout, if there is one, and on which side of the comparison a plan is."""
        canary = next((kept.canary for kept in self.routes.snapshot.sets(live.system) if kept.canary), None)
        if canary is None or (plan.canary is None and plan is not live):
            return "", False
        return canary.rollout, plan.canary is not None

    def _offered(self, live: SystemPlan, owner: str, session_id: str, request_id: str) -> SystemPlan:
        """Return the plan that a request gets which is bound to none yet: the live one, or a canary's."""
        for plan in self.routes.snapshot.sets(live.system):
            canary = plan.canary
            if canary is None or not canary.takes(owner, session_id, request_id):
                continue
            if self._is_resident(live, _set_of(plan)):
                return plan
        return live

    def _plan_with(self, live: SystemPlan, versions: Mapping[str, str]) -> SystemPlan | None:
        sets = (live, *self.routes.snapshot.sets(live.system))
        return next((plan for plan in sets if _set_of(plan) == versions), None)

    def _is_resident(self, live: SystemPlan, versions: Mapping[str, str]) -> bool:
        listed = self._plan_with(live, versions)
        plan = listed or live
        if plan.places(versions) & self.routes.snapshot.leaving:
            return False
        for node in plan.nodes:
            ref = node.version(versions)
            wanted = {ref.version, ref.adapter} - {""}
            entries = self.routes.snapshot.of(node.component)
            # One that sleeps loads what is listed when it wakes.
            asleep = not entries and listed is not None and not node.settings.replicas.min
            if not asleep and not any(wanted <= entry.versions for entry in entries):
                return False
        return True

    def check(self, plan: SystemPlan, stated: Mapping[str, str]) -> None:
        """Refuse versions that a request must not name.

        Raises:
            InvalidRequest: It names a slot that is not there, or what is no version.
            FailedPrecondition: It names a version that is not loaded.
        """
        for slot, version in stated.items():
            where = f"request.pinned_versions[{slot[:100]!r}]"
            if slot not in plan.slots():
                raise InvalidRequest(f"no such slot; there are: {', '.join(plan.slots())}", where)
            if len(version) > MAX_ID_CHARS or UNPRINTABLE.search(version):
                raise InvalidRequest(f"{version[:40]!r}, a version expected", where)
            node = next(node for node in plan.nodes if slot in (node.slot, node.adapter_slot))
            snapshot = self.routes.snapshot
            held = {v for entry in snapshot.of(node.component) for v in entry.versions} | {plan.versions.get(slot)}
            if version not in held or (node.component, version) in snapshot.leaving:
                raise FailedPrecondition(f"version {version[:100]!r} is not loaded in {node.component}", where)


def _set_of(plan: SystemPlan) -> dict[str, str]:
    return {slot: plan.versions.get(slot, "") for slot in plan.slots()}
