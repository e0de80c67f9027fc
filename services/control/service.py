"""The gRPC face of the control service: it converts; the coordinator does the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio

from anyplex.v1 import control_pb2, control_pb2_grpc, types_pb2
from graph.errors import InvalidRequest, NotFound, Unimplemented
from services.control.coordinator import Coordinator
from services.control.ports import DirectoryPort, Tell
from services.control.rollouts import Rollout

Context = grpc.aio.ServicerContext[Any, Any]

MAX_SLOTS = 256
MAX_CHARS = 128
WATCH_S = 0.2


class ControlFace(control_pb2_grpc.ControlServiceServicer):
    """``ControlService``.

    Args:
        coordinator: What swaps.
        directory: Where sets are live.
    """

    def __init__(self, coordinator: Coordinator, directory: DirectoryPort) -> None:
        self._coordinator = coordinator
        self._directory = directory
        self._running: set[asyncio.Task[Rollout]] = set()

    async def Swap(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.SwapRequest, context: Context
    ) -> AsyncIterator[control_pb2.SwapResponse]:
        """Change slots of a system; goes on when the caller goes away."""
        if request.canary_share or request.gate_suite or request.gate_thresholds:
            raise Unimplemented("canaries are not there yet", "canary_share")
        if len(request.slots) > MAX_SLOTS or len(request.idempotency_key) > MAX_CHARS:
            raise InvalidRequest(f"at most {MAX_SLOTS} slots and a key of {MAX_CHARS} characters expected", "slots")
        for slot, version in request.slots.items():
            if len(version) > MAX_CHARS:
                raise InvalidRequest("a version expected", f"slots[{slot[:MAX_CHARS]!r}]")
        slots, key = dict(request.slots), request.idempotency_key
        steps: asyncio.Queue[control_pb2.SwapResponse | None] = asyncio.Queue()

        def tell(phase: str, line: str) -> None:
            steps.put_nowait(control_pb2.SwapResponse(phase=phase, line=line, rollout_id=self._last(request.system)))

        task = self._keep(lambda told: self._coordinator.swap(request.system, slots, key, told), tell)
        task.add_done_callback(lambda _: steps.put_nowait(None))
        while (step := await steps.get()) is not None:
            yield step
        await task

    async def RollBack(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.RollBackRequest, context: Context
    ) -> control_pb2.RollBackResponse:
        """Go back to the set before; returns when it is live, while what was live drains."""
        live = asyncio.Event()

        def tell(phase: str, line: str) -> None:
            if phase == "draining":
                live.set()

        task = self._keep(lambda told: self._coordinator.roll_back(request.system, told), tell)
        waiting = asyncio.ensure_future(live.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        found = await task if task.done() else self._coordinator.log.all(request.system)[-1]
        after = dict(found.after)
        return control_pb2.RollBackResponse(versions=types_pb2.VersionSet(system=request.system, slots=after))

    async def GetRollout(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.GetRolloutRequest, context: Context
    ) -> control_pb2.GetRolloutResponse:
        """Say where a rollout is."""
        found = self._coordinator.log.get(request.rollout_id or self._last(request.system))
        if found is None or (request.system and found.system != request.system):
            raise NotFound("no such rollout", "rollout_id")
        return control_pb2.GetRolloutResponse(
            rollout=control_pb2.Rollout(
                rollout_id=found.rollout_id,
                before=types_pb2.VersionSet(system=found.system, slots=found.before),
                after=types_pb2.VersionSet(system=found.system, slots=found.after),
                state=found.state,
                reason=found.reason,
            )
        )

    async def Watch(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[control_pb2.WatchResponse]:
        """Tell which sets are live, and every change."""
        told: dict[str, int] = {}
        while True:
            systems = (await self._directory.snapshot()).systems
            for name, plan in systems.items():
                if request.system in ("", name) and told.get(name) != plan.generation:
                    told[name] = plan.generation
                    versions = types_pb2.VersionSet(system=name, slots={s: v for s, v in plan.versions.items() if v})
                    yield control_pb2.WatchResponse(versions=versions, generation=plan.generation)
            told = {name: generation for name, generation in told.items() if name in systems}
            await asyncio.sleep(WATCH_S)

    def ApplySystem(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.ApplySystemRequest, context: Context
    ) -> AsyncIterator[control_pb2.ApplySystemResponse]:
        """Systems are those that the cluster was started with."""
        raise Unimplemented("systems are those that the cluster was started with")

    async def DeleteSystem(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.DeleteSystemRequest, context: Context
    ) -> control_pb2.DeleteSystemResponse:
        """Systems are those that the cluster was started with."""
        raise Unimplemented("systems are those that the cluster was started with")

    async def RegisterVersion(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.RegisterVersionRequest, context: Context
    ) -> control_pb2.RegisterVersionResponse:
        """Versions need not be registered: they are found where artifacts are."""
        raise Unimplemented("versions are found where the cluster's artifacts are")

    async def ListVersions(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.ListVersionsRequest, context: Context
    ) -> control_pb2.ListVersionsResponse:
        """Return the versions that are live, by where they are."""
        live_in: dict[str, list[str]] = {}
        for name, plan in (await self._directory.snapshot()).systems.items():
            for slot, version in plan.versions.items():
                if version and request.system in ("", name):
                    live_in.setdefault(version, []).append(f"{name}:{slot}")
        return control_pb2.ListVersionsResponse(
            versions=[
                control_pb2.KnownVersion(version=version, live_in=places) for version, places in sorted(live_in.items())
            ]
        )

    async def Promote(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.PromoteRequest, context: Context
    ) -> control_pb2.PromoteResponse:
        """There are no canaries to promote."""
        raise Unimplemented("canaries are not there yet", "rollout_id")

    def _last(self, system: str) -> str:
        rollouts = self._coordinator.log.all(system)
        return rollouts[-1].rollout_id if rollouts else ""

    def _keep(self, work: Callable[[Tell], Awaitable[Rollout]], tell: Tell) -> asyncio.Task[Rollout]:
        """Let a change go to its end whatever becomes of the call that asked for it."""

        async def done() -> Rollout:
            return await work(tell)

        task = asyncio.create_task(done())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # Whoever asked may be gone: then nobody else reads how it ended.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task
