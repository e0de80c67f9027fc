"""The gRPC face of the control service: it converts; the coordinator does the work."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import grpc.aio

from anyplex.v1 import control_pb2, control_pb2_grpc, types_pb2
from graph.errors import InvalidRequest, NotFound
from graph.plan import SystemPlan
from services.artifacts import ArtifactStore
from services.control.coordinator import Coordinator
from services.control.difference import Difference, Wanted, difference
from services.control.gates import GateSpec
from services.control.known import register
from services.control.ports import DirectoryPort, PlansPort, Tell
from services.control.rollouts import ROLLED_BACK, Rollout
from services.control.suites import completed
from services.registry import KnownArtifact, KnownSystem, Registry, VersionSet
from services.registry.records import LIVE

Context = grpc.aio.ServicerContext[Any, Any]

MAX_SLOTS = 256
MAX_CHARS = 128
PAGE = 100
WATCH_S = 0.2


class ControlFace(control_pb2_grpc.ControlServiceServicer):
    """``ControlService``.

    Args:
        coordinator: What swaps.
        directory: Where sets are live.
        registry: What is known of versions.
        store: Where artifacts are.
        plans: What files ask for.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        directory: DirectoryPort,
        registry: Registry,
        store: ArtifactStore,
        plans: PlansPort,
    ) -> None:
        self._plans = plans
        self._applying: set[asyncio.Task[None]] = set()
        self._coordinator = coordinator
        self._directory = directory
        self._registry = registry
        self._store = store
        self._running: set[asyncio.Task[Rollout]] = set()

    async def Swap(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.SwapRequest, context: Context
    ) -> AsyncIterator[control_pb2.SwapResponse]:
        """Change slots of a system; goes on when the caller goes away."""
        if len(request.slots) > MAX_SLOTS or len(request.idempotency_key) > MAX_CHARS:
            raise InvalidRequest(f"at most {MAX_SLOTS} slots and a key of {MAX_CHARS} characters expected", "slots")
        for slot, version in request.slots.items():
            if len(version) > MAX_CHARS:
                raise InvalidRequest("a version expected", f"slots[{slot[:MAX_CHARS]!r}]")
        gate = await asyncio.to_thread(_gate_of, request)
        slots, key = dict(request.slots), request.idempotency_key
        steps: asyncio.Queue[control_pb2.SwapResponse | None] = asyncio.Queue()

        def tell(phase: str, line: str) -> None:
            steps.put_nowait(control_pb2.SwapResponse(phase=phase, line=line, rollout_id=self._last(request.system)))

        task = self._keep(
            lambda told: self._coordinator.swap(request.system, slots, key, told, request.canary_share, gate), tell
        )
        task.add_done_callback(lambda _: steps.put_nowait(None))
        while (step := await steps.get()) is not None:
            yield step
        await task

    async def RollBack(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.RollBackRequest, context: Context
    ) -> control_pb2.RollBackResponse:
        """Go back to the set before; returns when it is live, while what was live drains."""
        found = await self._until_live(lambda told: self._coordinator.roll_back(request.system, told))
        found = found or self._coordinator.log.all(request.system)[-1]
        taken_back = found.state == ROLLED_BACK
        after = dict(found.before if taken_back else found.after)
        return control_pb2.RollBackResponse(versions=types_pb2.VersionSet(system=request.system, slots=after))

    async def GetRollout(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.GetRolloutRequest, context: Context
    ) -> control_pb2.GetRolloutResponse:
        """Say where a rollout is."""
        found = self._coordinator.log.get(request.rollout_id or self._last(request.system))
        if found is None or (request.system and found.system != request.system):
            raise NotFound("no such rollout", "rollout_id")
        return control_pb2.GetRolloutResponse(rollout=_to_proto(found))

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

    async def ApplySystem(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.ApplySystemRequest, context: Context
    ) -> AsyncIterator[control_pb2.ApplySystemResponse]:
        """Bring the cluster to the state that a file describes; goes on when the caller goes away."""
        systems = (await self._directory.snapshot()).systems
        live = {name: plan.versions for name, plan in systems.items()}
        target = await self._plans.plan(request.system_yaml, request.profile_yaml, live)
        wanted = Wanted(target.system, request.system_yaml, request.profile_yaml, target.versions)
        changes = await asyncio.to_thread(self._difference, wanted, live.get(target.system))
        for line in changes.lines():
            yield control_pb2.ApplySystemResponse(line=line, done=request.dry_run or changes.empty)
        if request.dry_run or changes.empty:
            return
        steps: asyncio.Queue[str | None] = asyncio.Queue()
        work = self._applied(target, wanted, lambda phase, line: steps.put_nowait(f"{phase}: {line}"))
        task = asyncio.create_task(work)
        self._applying.add(task)
        task.add_done_callback(self._applying.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.add_done_callback(lambda _: steps.put_nowait(None))
        while (said := await steps.get()) is not None:
            yield control_pb2.ApplySystemResponse(line=said)
        await task
        yield control_pb2.ApplySystemResponse(line=f"system {target.system} is as asked for", done=True)

    async def _applied(self, target: SystemPlan, wanted: Wanted, tell: Tell) -> None:
        """Apply a plan, then write down what was asked for."""
        await self._coordinator.apply(target, tell)

        def write() -> None:
            register(self._registry, self._store, wanted.slots.values())
            self._registry.adopt(wanted.system, wanted.slots)
            self._registry.apply_files(wanted.system, wanted.system_yaml, wanted.profile_yaml)

        await asyncio.to_thread(write)

    def _difference(self, wanted: Wanted, live: Mapping[str, str] | None) -> Difference:
        """Compare what is asked for with what runs, and with the files that were applied last."""
        try:
            files = self._registry.system(wanted.system)
        except NotFound:
            files = KnownSystem(wanted.system, "", "", {})
        sets = {} if live is None else {LIVE: VersionSet(0, live)}
        known = None if live is None else replace(files, sets=sets)
        versions = {*wanted.slots.values(), *(live or {}).values()}
        artifacts = register(self._registry, self._store, versions - {""})
        return difference(known, wanted, {artifact.version: artifact for artifact in artifacts})

    async def DeleteSystem(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.DeleteSystemRequest, context: Context
    ) -> control_pb2.DeleteSystemResponse:
        """Take a system away when its last request has left."""
        await self._coordinator.delete(request.system)
        # It may never have been written down: started with the cluster, and nothing was changed since.
        with contextlib.suppress(NotFound):
            await asyncio.to_thread(self._registry.delete_system, request.system)
        return control_pb2.DeleteSystemResponse()

    async def RegisterVersion(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.RegisterVersionRequest, context: Context
    ) -> control_pb2.RegisterVersionResponse:
        """Make an artifact known, with what lies beside it and what the caller says of it."""

        def put() -> str:
            (known,) = register(self._registry, self._store, [request.version])
            for key, text in request.annotations.items():
                self._registry.annotate(known.version, key, text)
            return known.version

        return control_pb2.RegisterVersionResponse(version=await asyncio.to_thread(put))

    async def ListVersions(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.ListVersionsRequest, context: Context
    ) -> control_pb2.ListVersionsResponse:
        """List the artifacts that are known."""
        page = await asyncio.to_thread(
            self._registry.artifacts,
            system=request.system,
            limit=request.page_size or PAGE,
            page_token=request.page_token,
        )
        versions = [_known(item) for item in page.items]
        return control_pb2.ListVersionsResponse(versions=versions, next_page_token=page.next_token)

    async def Promote(  # noqa: N802 - name fixed by the contract
        self, request: control_pb2.PromoteRequest, context: Context
    ) -> control_pb2.PromoteResponse:
        """Make a canary live; returns when it is, while what was live drains."""
        found = await self._until_live(lambda told: self._coordinator.promote(request.rollout_id, told))
        current = found or self._coordinator.log.get(request.rollout_id)
        return control_pb2.PromoteResponse(rollout=None if current is None else _to_proto(current))

    def _last(self, system: str) -> str:
        rollouts = self._coordinator.log.all(system)
        return rollouts[-1].rollout_id if rollouts else ""

    async def _until_live(self, work: Callable[[Tell], Awaitable[Rollout]]) -> Rollout | None:
        """Wait until a change is everywhere; None while what was before still drains."""
        live = asyncio.Event()

        def tell(phase: str, line: str) -> None:
            if phase == "draining":
                live.set()

        task = self._keep(work, tell)
        waiting = asyncio.ensure_future(live.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return await task if task.done() else None

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


def _gate_of(request: control_pb2.SwapRequest) -> GateSpec | None:
    """Read what decides about a canary; None for errors and latencies alone.

    Raises:
        InvalidRequest: The share is none, or there is a gate and no canary, or the gate makes no sense.
        NotFound: There is no such suite.
    """
    if not 0.0 <= request.canary_share <= 1.0:
        raise InvalidRequest(f"{request.canary_share:g}, 0 to 1 expected", "canary_share")
    limits = dict(request.gate_limits)
    if not (request.gate_suite or request.gate_thresholds or limits):
        return None
    if not request.canary_share:
        raise InvalidRequest("a gate judges a canary: a share of sessions expected", "canary_share")
    numbers = {name: int(value) if value.is_integer() else value for name, value in limits.items()}
    content = {**numbers, "suite": request.gate_suite, "thresholds": dict(request.gate_thresholds)}
    promotes = bool(request.gate_suite or request.gate_thresholds)
    return completed(GateSpec.read({**content, "promotes": promotes}))


def _known(item: KnownArtifact) -> control_pb2.KnownVersion:
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in item.annotations.items()}
    return control_pb2.KnownVersion(
        version=item.version, kind=item.kind, type=item.type, annotations=said, live_in=item.live_in
    )


def _to_proto(rollout: Rollout) -> control_pb2.Rollout:
    return control_pb2.Rollout(
        rollout_id=rollout.rollout_id,
        before=types_pb2.VersionSet(system=rollout.system, slots=rollout.before),
        after=types_pb2.VersionSet(system=rollout.system, slots=rollout.after),
        state=rollout.state,
        reason=rollout.reason,
        scores=rollout.scores,
        canary_share=rollout.canary,
    )
