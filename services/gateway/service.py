"""The gRPC faces of the gateway: they convert and guard; ``runner`` does the work."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio

from anyplex.v1 import gateway_pb2, gateway_pb2_grpc, media_pb2, media_pb2_grpc, types_pb2
from graph.errors import DeadlineExceeded, InvalidRequest, NotFound
from graph.plan import SystemPlan
from services.gateway.media import MediaStore
from services.gateway.replay import Replays
from services.gateway.runner import Runner, owner_of
from services.gateway.said import KEPT_MEDIA, Said, forget_oldest
from services.runtime.interceptors import AUTHORIZATION, TRACE_PARENT, metadata_of, request_id_of

Context = grpc.aio.ServicerContext[Any, Any]


class GatewayFace(gateway_pb2_grpc.GatewayServiceServicer):
    """``GatewayService``.

    Args:
        runner: What runs requests.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.replays = Replays()

    async def Generate(  # noqa: N802 - name fixed by the contract
        self, request: gateway_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[gateway_pb2.GenerateResponse]:
        """Run one request."""
        owner, parent = owner_of(metadata_of(context, AUTHORIZATION)), metadata_of(context, TRACE_PARENT)

        def begin() -> AsyncGenerator[gateway_pb2.Event, None]:
            accepted = self.runner.accept(request, owner, request_id_of(context), context.time_remaining())
            return self.runner.run(accepted, parent)

        if request.idempotency_key:
            events = self.replays.events(owner, request.idempotency_key, self._digest(request, owner), begin)
        else:
            events = begin()
        async with contextlib.aclosing(events) as stream:
            async for event in stream:
                yield gateway_pb2.GenerateResponse(event=event)

    def _digest(self, request: gateway_pb2.GenerateRequest, owner: str) -> bytes:
        """Hash what is asked; an uploaded medium counts by what it is: a retry uploads it under another handle."""
        asked = gateway_pb2.GenerateRequest()
        asked.CopyFrom(request)
        for message in asked.messages:
            for part in message.parts:
                if part.media.handle:
                    with contextlib.suppress(NotFound):
                        part.media.handle = self.runner.media.get(part.media.handle, owner).sha256
        return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()

    async def Converse(  # noqa: N802 - name fixed by the contract
        self, request_iterator: AsyncIterator[gateway_pb2.ConverseRequest], context: Context
    ) -> AsyncIterator[gateway_pb2.ConverseResponse]:
        """Hold a conversation."""
        conversation = Conversation(self.runner, context)
        async with contextlib.aclosing(conversation.events(request_iterator)) as stream:
            async for response in stream:
                yield response

    async def ListSystems(  # noqa: N802 - name fixed by the contract
        self, request: gateway_pb2.ListSystemsRequest, context: Context
    ) -> gateway_pb2.ListSystemsResponse:
        """List the systems."""
        return gateway_pb2.ListSystemsResponse(
            systems=[self._summary(plan) for plan in self.runner.systems().values()],
            default_system=self.runner.default_system(),
        )

    async def DescribeSystem(  # noqa: N802 - name fixed by the contract
        self, request: gateway_pb2.DescribeSystemRequest, context: Context
    ) -> gateway_pb2.DescribeSystemResponse:
        """Describe one system."""
        plan = self.runner.plan_of(request.system)
        settings, snapshot = self.runner.settings, self.runner.routes.snapshot
        nodes = [
            gateway_pb2.NodeDescription(
                name=node.name,
                kind=node.kind,
                type=node.type,
                modality=node.modality,
                component=node.component,
                replicas=len(snapshot.of(node.component)),
                **{"from": node.inputs},
            )
            for node in plan.nodes
        ]
        return gateway_pb2.DescribeSystemResponse(
            summary=self._summary(plan),
            nodes=nodes,
            limits=gateway_pb2.Limits(
                inline_media_bytes=settings.inline_media_bytes,
                upload_bytes=settings.upload_bytes,
                messages=plan.limits.messages,
                parts=plan.limits.parts,
                deadline_s=plan.limits.deadline_s,
            ),
        )

    def _summary(self, plan: SystemPlan) -> gateway_pb2.SystemSummary:
        snapshot = self.runner.routes.snapshot
        awake = all(snapshot.of(node.component) or node.settings.replicas.min == 0 for node in plan.nodes)
        return gateway_pb2.SystemSummary(
            name=plan.system,
            source=plan.source,
            inputs=plan.takes,
            outputs=plan.makes,
            ready=awake and not self.runner.misfit(plan.system),
            versions=types_pb2.VersionSet(
                system=plan.system, slots={slot: version for slot, version in plan.versions.items() if version}
            ),
        )


class Conversation:
    """One ``Converse`` stream: remembers the turns, runs one answer at a time, stops it when interrupted.

    Args:
        runner: What runs requests.
        context: The call.
    """

    def __init__(self, runner: Runner, context: Context) -> None:
        self.runner = runner
        self.owner = owner_of(metadata_of(context, AUTHORIZATION))
        self.request_id = request_id_of(context)
        self.parent = metadata_of(context, TRACE_PARENT)
        self.time_remaining = context.time_remaining
        self.base = gateway_pb2.GenerateRequest()
        self.turn = -1
        self._queue: asyncio.Queue[gateway_pb2.ConverseResponse | BaseException | None] = asyncio.Queue(16)
        self._answer: asyncio.Task[None] | None = None
        self._closing = False

    async def events(
        self, requests: AsyncIterator[gateway_pb2.ConverseRequest]
    ) -> AsyncGenerator[gateway_pb2.ConverseResponse, None]:
        """Yield what happens until the caller says nothing more and the last answer is given."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            # Nobody reads any more: whoever waits for room in the queue must not wait for ever.
            self._closing = True
            while not self._queue.empty():
                self._queue.get_nowait()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await self._stop_answer()

    async def _read(self, requests: AsyncIterator[gateway_pb2.ConverseRequest]) -> None:
        try:
            opened = False
            async for request in requests:
                action = request.WhichOneof("action")
                if not opened:
                    if action != "open":
                        raise InvalidRequest("the first message of a conversation must be open", "request")
                    opened = True
                    if request.open.idempotency_key:
                        raise InvalidRequest("a conversation cannot be replayed", "request.open.idempotency_key")
                    self.base.CopyFrom(request.open)
                    if self.base.messages and self.base.messages[-1].role in (
                        types_pb2.ROLE_UNSPECIFIED, types_pb2.ROLE_USER,
                    ):  # fmt: skip
                        await self._begin_answer()
                    else:
                        self.runner.plan_of(self.base.system)
                elif action == "message":
                    await self._stop_answer()
                    self.base.messages.append(request.message)
                    await self._begin_answer()
                elif action == "interrupt":
                    await self._stop_answer()
                else:
                    raise InvalidRequest("message or interrupt expected", "request.action")
            if self._answer is not None:
                await asyncio.gather(self._answer, return_exceptions=True)
            await self._queue.put(None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Whatever it is: the caller must hear of it, the interceptor knows what to make of it.
            await self._queue.put(error)
            raise

    async def _begin_answer(self) -> None:
        self.turn += 1
        accepted = self.runner.accept(self.base, self.owner, f"{self.request_id[:100]}.{self.turn}", self._time_left())
        self._answer = asyncio.create_task(self._give(self.turn, self.runner.run(accepted, self.parent)))

    def _time_left(self) -> float | None:
        left = self.time_remaining()
        if left is not None and left <= 0:
            raise DeadlineExceeded("the deadline passed")
        return left

    async def _give(self, turn: int, events: AsyncGenerator[gateway_pb2.Event, None]) -> None:
        plan, settings = self.runner.plan_of(self.base.system), self.runner.settings
        said = Said(plan.encoders, settings.inline_media_bytes)
        sequence, finished = 0, False
        try:
            async with contextlib.aclosing(events) as stream:
                async for event in stream:
                    sequence = event.sequence + 1
                    said.take(event)
                    finished = event.WhichOneof("event") == "finished"
                    await self._queue.put(gateway_pb2.ConverseResponse(turn=turn, event=event))
        except asyncio.CancelledError:
            if not finished and not self._closing:
                end = gateway_pb2.Event(sequence=sequence)
                end.finished.reason = types_pb2.FINISH_REASON_INTERRUPTED
                # The queue may be full of what nobody has read: the end still has to get in.
                await asyncio.shield(self._queue.put(gateway_pb2.ConverseResponse(turn=turn, event=end)))
            raise
        except BaseException as error:
            await self._queue.put(error)
            raise
        finally:
            # What was said and made so far stays in the conversation, interrupted or not.
            if (message := said.message()) is not None:
                self.base.messages.append(message)
                forget_oldest(self.base.messages, KEPT_MEDIA * settings.inline_media_bytes)

    async def _stop_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.cancel()
        if answer is not None:
            await asyncio.gather(answer, return_exceptions=True)


class MediaFace(media_pb2_grpc.MediaServiceServicer):
    """``MediaService``.

    Args:
        store: Where media are kept.
    """

    def __init__(self, store: MediaStore) -> None:
        self.store = store

    async def Upload(  # noqa: N802 - name fixed by the contract
        self, request_iterator: AsyncIterator[media_pb2.UploadRequest], context: Context
    ) -> media_pb2.UploadResponse:
        """Take a medium in."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "open":
            raise InvalidRequest("the first message of an upload must be open", "request")

        async def chunks() -> AsyncIterator[bytes]:
            async for request in request_iterator:
                if request.WhichOneof("content") != "data":
                    raise InvalidRequest("data expected", "request.content")
                yield request.data

        opened = first.open
        owner = owner_of(metadata_of(context, AUTHORIZATION))
        medium = await self.store.put(
            owner, opened.modality, opened.mime_type, opened.size_bytes, opened.keep_s, chunks()
        )
        return media_pb2.UploadResponse(
            handle=medium.handle,
            expires_in_s=self.store.expires_in_s(medium),
            size_bytes=medium.size_bytes,
            sha256=medium.sha256,
        )

    async def Delete(  # noqa: N802 - name fixed by the contract
        self, request: media_pb2.DeleteRequest, context: Context
    ) -> media_pb2.DeleteResponse:
        """Forget a medium."""
        self.store.delete(request.handle, owner_of(metadata_of(context, AUTHORIZATION)))
        return media_pb2.DeleteResponse()
