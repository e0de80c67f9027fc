"""Takes requests in, checks and pins them, runs their plans. Knows nothing of gRPC servers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace

from anyplex.v1 import component_pb2, gateway_pb2
from graph import messages as m
from graph.caller import Caller
from graph.cards import CardInfo, check_cards
from graph.channel import Channel
from graph.checks import MAX_ID_CHARS, UNPRINTABLE, check_request
from graph.errors import (
    AnyplexError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    NotFound,
    Unimplemented,
)
from graph.executor import Executor
from graph.plan import SystemPlan
from graph.profile import GatewaySettings
from services.gateway.admission import AdmissionGate
from services.gateway.canaries import CanaryCounts
from services.gateway.media import MediaStore, StoredMedium
from services.gateway.pinning import Pin, Pinning
from services.runtime import convert
from services.runtime.directory import Routes, Snapshot
from services.runtime.status import detail_of
from services.runtime.telemetry import Metrics, Tracing
from services.runtime.tensors import check_tensor

logger = logging.getLogger("anyplex.gateway")

BUFFERED_EVENTS = 16
"""Events that wait for a slow reader; then its request waits too."""


@dataclass(frozen=True)
class Accepted:
    """A request that will be run."""

    pin: Pin
    request: m.Request
    deadline_s: float
    uploads: Mapping[str, StoredMedium] = field(default_factory=dict)


class Runner:
    """Runs requests.

    Args:
        routes: Systems and replicas there are.
        caller: How components are reached.
        settings: Limits.
        media: Uploaded media.
        metrics: Where token times are observed.
        tracing: Where spans go.
    """

    def __init__(
        self,
        routes: Routes,
        caller: Caller,
        settings: GatewaySettings,
        media: MediaStore,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self.routes = routes
        self.settings = settings
        self.media = media
        self.metrics = metrics
        self.tracing = tracing
        self.gate = AdmissionGate(settings.max_concurrent, settings.queue_limit)
        self.pinning = Pinning(routes)
        self.canaries = CanaryCounts(routes)
        self._executor = Executor(caller)
        self._cards_checked: tuple[str, int] = ("", -1)
        self._misfits: dict[str, str] = {}
        self._cards: dict[str, CardInfo] = {}

    # ---- what there is -----------------------------------------------------------------------------------

    def systems(self) -> Mapping[str, SystemPlan]:
        """Return the plans by name."""
        return self.routes.snapshot.systems

    def default_system(self) -> str:
        """Return the system that an empty name means."""
        systems = self.systems()
        return self.settings.default_system or next(iter(systems), "")

    def plan_of(self, system: str) -> SystemPlan:
        """Return the plan of a system.

        Raises:
            NotFound: No such system runs here.
            FailedPrecondition: Its components do not fit together.
        """
        if len(system) > MAX_ID_CHARS or UNPRINTABLE.search(system):
            raise InvalidRequest(f"{system[:40]!r}, the name of a system expected", "request.system")
        name = system or self.default_system()
        plan = self.systems().get(name)
        if plan is None:
            known = ", ".join(sorted(self.systems())) or "none yet"
            raise NotFound(f"no system {name[:100]!r} runs here; there are: {known}", "request.system")
        problem = self.misfit(name)
        if problem:
            raise FailedPrecondition(problem, f"system {name}")
        return plan

    def misfit(self, system: str) -> str:
        """Return what is wrong with the contract cards of a system's components; "" when nothing is."""
        snapshot = self.routes.snapshot
        stamp = (snapshot.epoch, snapshot.generation)
        if self._cards_checked != stamp:
            self._remember_cards(snapshot)
            self._misfits = {name: self._misfit_of(plan) for name, plan in snapshot.systems.items()}
            self._cards_checked = stamp
        return self._misfits.get(system, "")

    def _remember_cards(self, snapshot: Snapshot) -> None:
        """Keep the cards of components that sleep or restart: they do not change by that."""
        for entry in snapshot.entries:
            if entry.card:
                card = component_pb2.ContractCard.FromString(entry.card)
                self._cards[entry.component] = convert.card_from_proto(card)
        plans = [plan for system in snapshot.systems for plan in snapshot.sets(system)]
        used = {node.component for plan in plans for node in plan.nodes}
        self._cards = {component: card for component, card in self._cards.items() if component in used}

    def _misfit_of(self, plan: SystemPlan) -> str:
        if any(node.component not in self._cards for node in plan.nodes):
            # Not yet heard of: nothing can be said, and nothing can be reached either.
            return ""
        return "; ".join(problem.message for problem in check_cards(plan, self._cards))

    # ---- taking a request in -----------------------------------------------------------------------------

    def accept(
        self, message: gateway_pb2.GenerateRequest, owner: str, request_id: str, time_left_s: float | None
    ) -> Accepted:
        """Check a request and pin it to versions. Nothing has run yet.

        Args:
            message: The request.
            owner: Whose it is.
            request_id: Id it gets.
            time_left_s: Until the caller's deadline; None when there is none.

        Raises:
            AnyplexError: It cannot be run, and why.
        """
        plan = self.plan_of(message.system)
        limits = plan.limits
        time_left = min(self.settings.default_deadline_s if time_left_s is None else time_left_s, limits.deadline_s)
        if time_left <= 0:
            raise DeadlineExceeded("the deadline passed before the request came")
        # Counted before anything is converted: a flood of parts must cost next to nothing.
        if len(message.messages) > limits.messages:
            problem = f"{len(message.messages)} messages, at most {limits.messages} expected"
            raise InvalidRequest(problem, "request.messages")
        parts = sum(len(item.parts) for item in message.messages)
        if parts > limits.parts:
            raise InvalidRequest(f"{parts} parts in all, at most {limits.parts} expected", "request.messages")
        if len(message.media_parameters) > len(plan.makes):
            problem = f"{len(message.media_parameters)} modalities, {plan.system} makes {', '.join(plan.makes)}"
            raise InvalidRequest(problem, "request.media_parameters")
        messages = tuple(
            convert.message_from_proto(item, f"request.messages[{index}]")
            for index, item in enumerate(message.messages)
        )
        default = replace(plan.default_sampling, seed=secrets.randbits(63))
        request = m.Request(
            request_id=request_id,
            system=plan.system,
            messages=messages,
            versions={},
            sampling=convert.sampling_from_proto(message.sampling, default),
            outputs=tuple(message.outputs),
            media_parameters={
                key: convert.parameters_from_proto(value) for key, value in message.media_parameters.items()
            },
            session_id=message.session_id,
            priority=message.priority,
        )
        check_request(request, plan, message.idempotency_key)
        self.pinning.check(plan, message.pinned_versions)
        uploads = self._check_media(request.messages, owner)
        pin = self.pinning.pin(plan, owner, request.session_id, message.pinned_versions, request_id)
        request = replace(request, versions=dict(pin.versions))
        return Accepted(pin, request, time.monotonic() + time_left, uploads)

    def _check_media(self, messages: tuple[m.Message, ...], owner: str) -> dict[str, StoredMedium]:
        """Hold media to their caps and find the uploads they name; nothing is read yet."""
        uploads: dict[str, StoredMedium] = {}
        inline_bytes = 0
        for i, message in enumerate(messages):
            for j, part in enumerate(message.parts):
                if part.media is None:
                    continue
                where = f"request.messages[{i}].parts[{j}].{part.media.modality or 'media'}"
                self._check_medium(part.media, where)
                inline_bytes += len(part.media.data or b"")
                if part.media.handle:
                    uploads[part.media.handle] = self._upload_of(part.media, owner, where)
        total = inline_bytes + sum(upload.size_bytes for upload in uploads.values())
        if total > self.settings.upload_bytes:
            cap = self.settings.upload_bytes
            raise InvalidRequest(f"{total} bytes of media in all, at most {cap} allowed", "request.messages")
        return uploads

    def _check_medium(self, media: m.Media, where: str) -> None:
        cap = self.settings.inline_media_bytes
        if media.data is not None and len(media.data) > cap:
            raise InvalidRequest(
                f"{len(media.data)} bytes inline, at most {cap} allowed; hand it in through MediaService.Upload", where
            )
        if media.regions:
            raise Unimplemented("no component reads regions of media yet", f"{where}.regions")
        if media.features is not None:
            if media.features.ref is not None:
                # A reference is an address to connect to: only components may name one.
                raise InvalidRequest("a reference, inline features expected", f"{where}.features")
            check_tensor(media.features, f"{where}.features")

    def _upload_of(self, media: m.Media, owner: str, where: str) -> StoredMedium:
        try:
            stored = self.media.get(media.handle, owner)
        except NotFound as error:
            raise NotFound(error.message, where) from error
        if stored.modality and stored.modality != media.modality:
            raise InvalidRequest(f"the handle is of {stored.modality}, not {media.modality}", where)
        return stored

    # ---- running it --------------------------------------------------------------------------------------

    async def run(self, accepted: Accepted, trace_parent: str = "") -> AsyncGenerator[gateway_pb2.Event, None]:
        """Run a request; yields its events, ``accepted`` first, ``finished`` last.

        It runs in a task of its own, so that a reader who stops reading can neither hold its place longer than its
        deadline nor be told of the deadline in the middle of a write.

        Raises:
            AnyplexError: It failed.
        """
        events: Channel[gateway_pb2.Event] = Channel(BUFFERED_EVENTS)
        task = asyncio.create_task(self._produce(accepted, trace_parent, events))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.pinning.release(accepted.pin)

    async def _produce(self, accepted: Accepted, trace_parent: str, events: Channel[gateway_pb2.Event]) -> None:
        request, begun_s = accepted.request, time.monotonic()
        failure: BaseException | None = None
        try:
            async with asyncio.timeout(accepted.deadline_s - begun_s), self.gate.admit(request.priority):
                self.metrics.queue_s.observe(time.monotonic() - begun_s)
                if accepted.uploads:
                    messages = await asyncio.to_thread(_with_uploads, request.messages, accepted.uploads)
                    accepted = replace(accepted, request=replace(request, messages=messages))
                with self.tracing.span("request", trace_parent, request_id=request.request_id) as parent:
                    async with contextlib.aclosing(self._events(accepted, parent, begun_s)) as stream:
                        async for event in stream:
                            if event.HasField("media_failed"):
                                failure = Internal("a medium could not be made")
                            await events.put(event)
        except TimeoutError as error:
            failure = DeadlineExceeded("the deadline passed")
            raise failure from error
        except BaseException as error:
            failure = error
            raise
        finally:
            self.canaries.note(accepted.pin, time.monotonic() - begun_s, failure)
            self.metrics.latency_s.observe(time.monotonic() - begun_s)
            events.close()

    async def _events(
        self, accepted: Accepted, trace_parent: str, begun_s: float
    ) -> AsyncGenerator[gateway_pb2.Event, None]:
        plan, request = accepted.pin.plan, accepted.request
        yield accepted_event(accepted)
        sequence, last_s = 0, 0.0
        stream = self._executor.run(plan, request, accepted.deadline_s, trace_parent)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                sequence += 1
                message = convert.event_to_proto(event, sequence)
                if isinstance(event.body, m.TextDelta):
                    now_s = time.monotonic()
                    if last_s:
                        self.metrics.inter_token_s.observe(now_s - last_s)
                    else:
                        self.metrics.first_token_s.observe(now_s - begun_s)
                    last_s = now_s
                elif isinstance(event.body, m.MediaFailed):
                    error = event.body.error
                    known = error if isinstance(error, AnyplexError) else Internal("the medium could not be made")
                    message.media_failed.modality = event.body.modality
                    message.media_failed.error.CopyFrom(detail_of(known, request.request_id))
                elif isinstance(event.body, m.Finished):
                    self.metrics.prompt_tokens.inc(event.body.usage.prompt_tokens)
                    self.metrics.generation_tokens.inc(event.body.usage.completion_tokens)
                yield message


def accepted_event(accepted: Accepted) -> gateway_pb2.Event:
    """Return the first event of a request."""
    event = gateway_pb2.Event(sequence=0)
    event.accepted.request_id = accepted.request.request_id
    event.accepted.seed = accepted.request.sampling.seed
    event.accepted.repinned = accepted.pin.repinned
    event.accepted.versions.system = accepted.pin.plan.system
    for slot, version in accepted.request.versions.items():
        if version:
            event.accepted.versions.slots[slot] = version
    return event


def _with_uploads(messages: tuple[m.Message, ...], uploads: Mapping[str, StoredMedium]) -> tuple[m.Message, ...]:
    """Put uploaded bytes where their handles are; each file is read once, however often it is named."""
    read: dict[str, bytes] = {}

    def resolved(part: m.Part) -> m.Part:
        media = part.media
        if media is None or not media.handle:
            return part
        upload = uploads[media.handle]
        if media.handle not in read:
            try:
                read[media.handle] = upload.path.read_bytes()
            except FileNotFoundError as error:
                raise NotFound("an uploaded medium was deleted before the request ran") from error
        data, mime_type = read[media.handle], media.mime_type or upload.mime_type
        return m.Part(media=replace(media, handle="", data=data, mime_type=mime_type))

    return tuple(replace(message, parts=tuple(map(resolved, message.parts))) for message in messages)


def owner_of(authorization: str) -> str:
    """Return who a token belongs to, without keeping the token."""
    return hashlib.sha256(authorization.encode()).hexdigest()[:16] if authorization else "anonymous"
