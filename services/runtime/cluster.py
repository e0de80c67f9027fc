"""The directory as a named Ray actor, and the routes of callers inside a Ray cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import ray
from ray import serve

from graph.plan import Place
from services.runtime.directory import HEARTBEAT_S, Directory, Entry, Routes, Snapshot, disconnected
from services.runtime.live_sets import Attendance
from services.runtime.tally import Compared

logger = logging.getLogger("anyplex.cluster")

NAMESPACE = "anyplex"
DIRECTORY = "directory"
POLL_S = 20.0
ATTEND_S = 1.0
"""Gateways ask so often: how long one may be silent decides how soon a dead one holds up no swap."""
LEAVE_S = 0.1
"""And so often while something is to leave when their last request that needs it does."""
RETRY_S = 0.2
WAKE_METHOD = "wake"


class DirectoryActor(Directory):
    """A directory that sweeps by itself."""

    def __init__(self) -> None:
        super().__init__(watch=disconnected)
        self._sweeper = asyncio.get_event_loop().create_task(self._sweep_forever())

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self.sweep()


def directory_actor() -> Any:  # noqa: ANN401 - Ray's handles are not typed
    """Return the cluster's directory, started if it is not there."""
    actor: Any = ray.remote(DirectoryActor)
    return actor.options(
        name=DIRECTORY, namespace=NAMESPACE, lifetime="detached", get_if_exists=True,
        num_cpus=0, max_restarts=-1, max_concurrency=10_000,
    ).remote()  # fmt: skip


class ClusterRoutes(Routes):
    """Routes that follow the directory actor. When it is gone the last snapshot stays in use.

    Args:
        keep_systems: Whether to tell a directory that has lost them the systems known here, and take part in swaps.

    Attributes:
        in_use: Returns the places that requests accepted here need.
        compared: Returns what was seen here of canaries, by rollout.
    """

    def __init__(self, keep_systems: bool = False) -> None:
        super().__init__()
        self._actor: Any = None
        self._keep_systems = keep_systems
        self._id = uuid.uuid4().hex
        self.in_use: Callable[[], frozenset[Place]] = frozenset
        self.compared: Callable[[], dict[str, Compared]] = dict
        self._task: asyncio.Task[None] | None = None
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._reports: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take the first snapshot and follow from then on."""
        self._actor = await self._connect()
        # Attending from the first snapshot on: a flip between it and the second one waits for this gateway too.
        self.update(await self._actor.wait.remote("", -1, 0.0, self._attendance()))
        self._task = asyncio.create_task(self._follow())

    async def _connect(self) -> Any:  # noqa: ANN401 - Ray's handles are not typed
        return await asyncio.to_thread(directory_actor)

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _attendance(self) -> Attendance | None:
        return Attendance(self._id, self.in_use(), self.compared()) if self._keep_systems else None

    def _poll_s(self) -> float:
        if not self._keep_systems:
            return POLL_S
        return LEAVE_S if self.snapshot.leaving else ATTEND_S

    async def _follow(self) -> None:
        while True:
            try:
                now = self.snapshot
                fresh: Snapshot = await self._actor.wait.remote(
                    now.epoch, now.generation, self._poll_s(), self._attendance()
                )
            except ray.exceptions.RayError:
                logger.warning("the directory does not answer; going on with the last snapshot")
                await asyncio.sleep(RETRY_S)
                with contextlib.suppress(ray.exceptions.RayError, ValueError):
                    self._actor = await self._connect()
                continue
            if fresh.epoch != now.epoch and now.epoch:
                fresh = await self._refill(now, fresh)
            if fresh.generation != now.generation or fresh.epoch != now.epoch:
                self.update(fresh)

    async def _refill(self, before: Snapshot, fresh: Snapshot) -> Snapshot:
        """Give a restarted directory time to hear from the replicas, and the systems if it has lost them."""
        with contextlib.suppress(ray.exceptions.RayError):
            if self._keep_systems and before.systems:
                await self._actor.restore.remote(before.systems, before.kept, before.leaving)
            if self._keep_systems:
                # Replicas come back by their heartbeats; components that were started by hand have none.
                for entry in [entry for entry in before.entries if entry.static]:
                    await self._actor.register.remote(entry)
            await asyncio.sleep(2 * HEARTBEAT_S)
            answer: Snapshot = await self._actor.snapshot.remote()
            # One that has restarted once more has been told nothing yet: what is known here must not be forgotten.
            return answer if answer.epoch == fresh.epoch else before
        return before

    async def report_lost(self, address: str) -> None:
        """Tell the directory, which checks; route around the replica at once if it is gone."""
        try:
            alive = await self._actor.report_lost.remote(address)
        except ray.exceptions.RayError:
            alive = False
        if not alive:
            await super().report_lost(address)

    async def wake(self, component: str) -> None:
        """Make one empty call through the Serve handle: a queued call is what starts a sleeping component."""
        running = self._waking.get(component)
        if running is None or running.done():
            self._waking[component] = asyncio.create_task(self._wake(component))

    async def _wake(self, component: str) -> None:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, component)
            response: Awaitable[object] = getattr(handle, WAKE_METHOD).remote()
            async with asyncio.timeout(120.0):
                await response
        except (ray.exceptions.RayError, serve.exceptions.RayServeException, TimeoutError) as error:
            logger.warning("waking %s failed: %s", component, type(error).__name__)


class Registration:
    """Keeps one replica listed: registers, beats, registers again where it was forgotten.

    Args:
        entry: The replica.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._actor: Any = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """List the replica and keep it listed."""
        self._actor = await self._connect()
        await self._actor.register.remote(self.entry)
        self._task = asyncio.create_task(self._beat())

    async def _connect(self) -> Any:  # noqa: ANN401 - Ray's handles are not typed
        return await asyncio.to_thread(directory_actor)

    async def renew(self, entry: Entry) -> None:
        """Change what is known about the replica."""
        self.entry = entry
        await self._actor.register.remote(entry)

    async def stop(self) -> None:
        """Take the replica out of the routing."""
        if self._task is not None:
            self._task.cancel()
        with contextlib.suppress(ray.exceptions.RayError):
            await self._actor.deregister.remote(self.entry.replica_id)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                if not await self._actor.heartbeat.remote(self.entry.replica_id):
                    await self._actor.register.remote(self.entry)
            except ray.exceptions.RayError:
                with contextlib.suppress(ray.exceptions.RayError, ValueError):
                    self._actor = await self._connect()
