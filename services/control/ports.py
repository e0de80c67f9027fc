"""What the coordinator asks of the rest: directory, replicas, components, artifacts.

Real ones are in ``services.control.adapters`` and ``services.deploy.components``; those of a seeded world, which
delays, drops and kills, in ``benchmarks._simulation``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graph.plan import ComponentPlan, Place, SystemPlan
from graph.replan import VersionInfo

if TYPE_CHECKING:
    from services.runtime.component import Held
    from services.runtime.directory import Entry, Snapshot
    from services.runtime.live_sets import Stamp
    from services.runtime.tally import Compared

Tell = Callable[[str, str], None]
"""Told the phase, and one line for people."""


class DirectoryPort(Protocol):
    """The directory. Every method raises ``Unavailable`` where it does not answer; the call may have been made."""

    async def snapshot(self) -> Snapshot:
        """Return what is known now."""
        ...

    async def restore(
        self, systems: dict[str, SystemPlan], kept: dict[str, tuple[SystemPlan, ...]], leaving: frozenset[Place]
    ) -> None:
        """Tell a directory that has restarted what was live before."""
        ...

    async def publish_systems(self, systems: dict[str, SystemPlan]) -> None:
        """Set the plans that gateways run (the whole set); a newer generation that is live stays."""
        ...

    async def keep(self, system: str, plans: tuple[SystemPlan, ...]) -> Stamp:
        """Set the plans whose versions replicas load beside the live ones."""
        ...

    async def flip(self, plan: SystemPlan, expected: int, kept: tuple[SystemPlan, ...]) -> Stamp | None:
        """Make a plan live where the generation expected is; None where another one is."""
        ...

    async def leave(self, places: frozenset[Place]) -> Stamp:
        """Set the versions that no request may be pinned to any more."""
        ...

    async def behind(self, stamp: Stamp, timeout_s: float) -> list[str]:
        """Wait until every gateway has taken a snapshot over; returns those that have not."""
        ...

    async def busy(self, stamp: Stamp, places: frozenset[Place], timeout_s: float) -> list[str]:
        """Wait until no request needs one of these places; returns what is in the way."""
        ...

    async def compared(self, rollout: str) -> Compared:
        """Return what gateways have seen of a canary, and of the live set meanwhile."""
        ...

    async def wake(self, component: str) -> None:
        """Ask for a replica of a component that has none."""
        ...


class ReplicasPort(Protocol):
    """Replicas of components."""

    async def load(self, entry: Entry, held: Held) -> None:
        """Load a version beside those there are, check its digests and its probe.

        Raises:
            FailedPrecondition: It is damaged, does not fit, or does not compute what it should.
            Exhausted: There is no memory for it.
            Unavailable: The replica was lost.
        """
        ...

    async def unload(self, entry: Entry, version: str) -> None:
        """Drop a version when its last request has left."""
        ...


class ComponentsPort(Protocol):
    """Components as a whole."""

    async def launch(self, plan: ComponentPlan) -> None:
        """Start a component; returns before it is ready. Again is harmless."""
        ...

    async def problem(self, component: str) -> str:
        """Return why a component does not start; "" while nothing is wrong."""
        ...

    async def running(self) -> frozenset[str]:
        """Return the components there are."""
        ...

    async def remove(self, component: str) -> None:
        """Take a component away; what it is doing may end. Again is harmless."""
        ...


class ShelfPort(Protocol):
    """Artifacts."""

    async def describe(self, version: str) -> VersionInfo:
        """Say what an artifact is.

        Raises:
            NotFound: There is no such artifact.
            FailedPrecondition: It cannot be read.
        """
        ...


class PlansPort(Protocol):
    """What is asked for, as files say it."""

    async def plan(self, system_yaml: str, profile_yaml: str, live: Mapping[str, Mapping[str, str]]) -> SystemPlan:
        """Plan a system.

        Args:
            system_yaml: Its file.
            profile_yaml: Its profile's file; "" for the cluster's.
            live: Versions that are live, by system: they stay where the profile names no others.

        Raises:
            AnyplexError: A file is wrong, or weights are missing.
        """
        ...


class SuitesPort(Protocol):
    """Evaluation suites."""

    async def ask(self, suite: str, system: str, versions: Mapping[str, str], cases: int) -> Mapping[str, float]:
        """Ask a suite of a set that is loaded; return its scores by row, greater is better.

        Args:
            suite: Its name.
            system: System.
            versions: The set: slot to version.
            cases: Most cases of a row; 0 for all.

        Raises:
            AnyplexError: It could not be asked.
        """
        ...


@dataclass(frozen=True)
class Ports:
    """The world outside.

    Attributes:
        directory: Where sets are live.
        replicas: Where versions are loaded.
        components: Where components are started.
        shelf: What artifacts are.
        suites: Asks evaluation suites of canaries.
    """

    directory: DirectoryPort
    replicas: ReplicasPort
    components: ComponentsPort
    shelf: ShelfPort
    suites: SuitesPort


@dataclass(frozen=True)
class Patience:
    """How long what may take.

    Attributes:
        load_s: Loading and checking everywhere.
        launch_s: Starting a component of another architecture.
        flip_s: Until every gateway has followed.
        drain_s: Until the last request that needs a dropped version has ended; it stays loaded until then.
        pause_s: Between two looks at what changes by itself.
        losses: Replicas that may be lost while they load; one more is the version's fault.
        waiting: Most swaps that wait for their turn.
    """

    load_s: float = 120.0
    launch_s: float = 300.0
    flip_s: float = 10.0
    drain_s: float = 330.0
    pause_s: float = 0.02
    losses: int = 3
    waiting: int = 256
