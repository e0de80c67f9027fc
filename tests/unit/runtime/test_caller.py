"""The rules of trying again, against real servers that behave as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from anyplex.v1 import backbone_pb2, backbone_pb2_grpc, component_pb2, component_pb2_grpc, encoder_pb2, encoder_pb2_grpc
from graph.caller import Call
from graph.errors import (
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    Internal,
    InvalidRequest,
    Unavailable,
    Unimplemented,
)
from graph.messages import DecodeFinished, DecodeRequest, DecodeStarted, Media, Sampling, Turn
from services.runtime.caller import GrpcCaller
from services.runtime.directory import Entry, Routes
from services.runtime.interceptors import interceptors
from services.runtime.telemetry import Metrics, Tracing
from services.runtime.tensors import ChannelPool
from tests.waiting import until

PICTURE = [Media("image", data=b"x")]
QUESTION = DecodeRequest((Turn("user", ()),), Sampling())
Script = Callable[[], Any]


class Replica(
    encoder_pb2_grpc.EncoderServiceServicer,
    backbone_pb2_grpc.BackboneServiceServicer,
    component_pb2_grpc.TensorServiceServicer,
):
    """A component that does what the test says."""

    def __init__(self, name: str, encode: object = None, decode: list[object] | None = None) -> None:
        self.name = name
        self.encode = encode
        self.decode = decode if decode is not None else ["started", "finished"]
        self.calls = 0
        self.cancelled = 0
        self.released: list[str] = []
        self.metadata: dict[str, str] = {}
        self.address = ""

    async def _do(self, step: object, context: Any) -> None:
        if isinstance(step, grpc.StatusCode):
            await context.abort(step, "as told")
        if isinstance(step, BaseException):
            raise step
        if step == "hang":
            await asyncio.Event().wait()

    async def Encode(self, request: encoder_pb2.EncodeRequest, context: Any) -> encoder_pb2.EncodeResponse:  # noqa: N802
        self.calls += 1
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        try:
            await self._do(self.encode, context)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        count = self.encode if isinstance(self.encode, int) else len(request.items)
        return encoder_pb2.EncodeResponse(items=[encoder_pb2.Features(content_hash=self.name)] * count)

    async def Decode(self, request: backbone_pb2.DecodeRequest, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.calls += 1
        try:
            for step in self.decode:
                if step == "started":
                    yield backbone_pb2.DecodeResponse(started=backbone_pb2.DecodeStarted(prompt_tokens=1))
                elif step == "finished":
                    yield backbone_pb2.DecodeResponse(finished=backbone_pb2.DecodeFinished(completion_tokens=1))
                else:
                    await self._do(step, context)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def Release(self, request: component_pb2.ReleaseRequest, context: Any) -> component_pb2.ReleaseResponse:  # noqa: N802
        self.released.append(request.lease_id)
        return component_pb2.ReleaseResponse()


class Watched(Routes):
    """Routes that remember what was reported; replicas that still answer stay listed."""

    def __init__(self, entries: tuple[Entry, ...], alive: set[str]) -> None:
        super().__init__(entries)
        self.alive = alive
        self.reported: list[str] = []

    async def report_lost(self, address: str) -> None:
        self.reported.append(address)
        if address not in self.alive:
            await super().report_lost(address)


@asynccontextmanager
async def cluster(*replicas: Replica, alive: bool = True) -> AsyncIterator[GrpcCaller]:
    """Serve replicas of one component; the caller picks them in their order."""
    servers, entries = [], []
    for replica in replicas:
        server = grpc.aio.server(interceptors=interceptors(Metrics(replica.name, "test"), Tracing("", ""), ()))
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(replica, server)
        backbone_pb2_grpc.add_BackboneServiceServicer_to_server(replica, server)
        component_pb2_grpc.add_TensorServiceServicer_to_server(replica, server)
        replica.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
        entries.append(Entry(replica.name, "c", replica.address))
    channels = ChannelPool()
    channels.metadata = (("authorization", "Bearer t"),)
    routes = Watched(tuple(entries), {replica.address for replica in replicas} if alive else set())
    yield GrpcCaller(routes, channels, wait_s=0.2)
    await channels.close()
    for server in servers:
        await server.stop(0)


def call(left_s: float = 20.0) -> Call:
    return Call("request-1", "see", "c", deadline_s=time.monotonic() + left_s, trace_parent="00-ab-cd-01")


async def decoded(caller: GrpcCaller, asked: Call | None = None) -> list[object]:
    return [event async for event in caller.decode(asked or call(), QUESTION)]


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_what_travels_beside_a_call() -> None:
    replica = Replica("a")
    async with cluster(replica) as caller:
        (features,) = await caller.encode(call(), PICTURE)
    assert features.content_hash == "a"
    wanted = {
        "authorization": "Bearer t", "x-request-id": "request-1", "x-anyplex-node": "see",
        "traceparent": "00-ab-cd-01",
    }  # fmt: skip
    assert wanted.items() <= replica.metadata.items()


async def test_a_lost_call_goes_to_another_replica() -> None:
    bad, good = Replica("a", UNAVAILABLE, [UNAVAILABLE]), Replica("b")
    async with cluster(bad, good) as caller:
        assert (await caller.encode(call(), PICTURE))[0].content_hash == "b"
        assert await decoded(caller) == [DecodeStarted(1, 0), DecodeFinished("stop", 1)]
        assert caller.routes.reported == [bad.address] * 2  # type: ignore[attr-defined]
    assert (bad.calls, good.calls) == (2, 2)


async def test_a_replica_that_is_not_there_is_routed_around() -> None:
    good = Replica("b")
    async with cluster(good) as caller:
        gone = Entry("a", "c", "127.0.0.1:1")
        caller.routes.update(type(caller.routes.snapshot)(entries=(gone, *caller.routes.snapshot.entries)))
        assert (await caller.encode(call(), PICTURE))[0].content_hash == "b"
        assert [entry.replica_id for entry in caller.routes.snapshot.entries] == ["b"]


async def test_nothing_is_tried_again_once_something_has_come() -> None:
    bad, good = Replica("a", decode=["started", UNAVAILABLE]), Replica("b")
    async with cluster(bad, good) as caller:
        with pytest.raises(Unavailable) as lost:
            await decoded(caller)
        assert caller.routes.reported == [bad.address]  # type: ignore[attr-defined]
    assert lost.value.where == "node see"
    assert good.calls == 0


async def test_a_full_queue_goes_to_another_replica_and_tells_when_all_are_full() -> None:
    full = Exhausted("too many wait", "", 1.5)
    first, second = Replica("a", full, [full]), Replica("b")
    async with cluster(first, second) as caller:
        assert (await caller.encode(call(), PICTURE))[0].content_hash == "b"
        assert len(await decoded(caller)) == 2
        second.encode = full
        with pytest.raises(Exhausted) as refused:
            await caller.encode(call(), PICTURE)
        assert refused.value.retry_after_s == 1.5
        assert caller.routes.reported == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (InvalidRequest("bad", "items[0].image"), InvalidRequest),
        (FailedPrecondition("not loaded"), FailedPrecondition),
        (Internal("our fault"), Internal),
        (ZeroDivisionError("/secret"), Internal),
        (grpc.StatusCode.INTERNAL, Internal),
        (grpc.StatusCode.DATA_LOSS, Internal),
        (grpc.StatusCode.UNIMPLEMENTED, Unimplemented),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidRequest),
    ],
)
async def test_other_errors_are_not_tried_again(given: object, expected: type[Exception]) -> None:
    bad, good = Replica("a", given), Replica("b")
    async with cluster(bad, good) as caller:
        with pytest.raises(expected) as refused:
            await caller.encode(call(), PICTURE)
    assert good.calls == 0
    assert "secret" not in str(refused.value)


async def test_a_connection_that_broke_is_tried_again_at_the_only_replica() -> None:
    replica = Replica("a", UNAVAILABLE)

    async with cluster(replica) as caller:
        calling = asyncio.create_task(caller.encode(call(), PICTURE))
        await until(lambda: replica.calls == 1)
        replica.encode = None
        assert (await calling)[0].content_hash == "a"
    assert replica.calls == 2


async def test_trying_ends() -> None:
    replicas = [Replica(name, UNAVAILABLE) for name in "abcde"]
    async with cluster(*replicas) as caller:
        with pytest.raises(Unavailable):
            await caller.encode(call(), PICTURE)
    assert sum(replica.calls for replica in replicas) == 3


async def test_the_last_replica_is_gone() -> None:
    replica = Replica("a", UNAVAILABLE)
    async with cluster(replica, alive=False) as caller:
        with pytest.raises(Unavailable) as lost:
            await caller.encode(call(), PICTURE)
    assert lost.value.where == "node see"
    assert replica.address not in str(lost.value)


async def test_deadlines_hold_on_both_sides() -> None:
    replica = Replica("a", "hang", ["started", "hang"])
    async with cluster(replica) as caller:
        with pytest.raises(DeadlineExceeded):
            await caller.encode(call(0.1), PICTURE)
        with pytest.raises(DeadlineExceeded):
            await decoded(caller, call(0.1))
        await until(lambda: replica.cancelled == 2)


async def test_a_call_past_its_deadline_is_not_made() -> None:
    replica = Replica("a")
    async with cluster(replica) as caller:
        for action in (lambda: caller.encode(call(-1.0), PICTURE), lambda: decoded(caller, call(-1.0))):
            with pytest.raises(DeadlineExceeded):
                await action()
        assert not any(caller.router.in_flight.values())
    assert replica.calls == 0


async def test_cancelling_stops_the_component() -> None:
    replica = Replica("a", "hang", ["started", "hang"])
    async with cluster(replica) as caller:
        tasks = [asyncio.create_task(caller.encode(call(), PICTURE)), asyncio.create_task(decoded(caller))]
        await until(lambda: replica.calls == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: replica.cancelled == 2)
        assert not any(caller.router.in_flight.values())


async def test_leaving_a_stream_early_stops_the_component() -> None:
    replica = Replica("a", decode=["started", "hang"])
    async with cluster(replica) as caller:
        stream = caller.decode(call(), QUESTION)
        assert await anext(aiter(stream)) == DecodeStarted(1, 0)
        await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: replica.cancelled == 1)
        assert not any(caller.router.in_flight.values())


async def test_the_number_of_answers_is_checked() -> None:
    async with cluster(Replica("a", 2)) as caller:
        with pytest.raises(Internal):
            await caller.encode(call(), PICTURE)


async def test_leases_are_released_wherever_a_request_was() -> None:
    replicas = [Replica("a", UNAVAILABLE), Replica("b"), Replica("c")]
    async with cluster(*replicas) as caller:
        await caller.encode(call(), PICTURE)
        await caller.release("request-1")
        await caller.release("request-1")
        await caller.release("unknown")
    assert [replica.released for replica in replicas] == [["request-1"], ["request-1"], []]


async def test_releasing_at_a_producer_that_is_gone_is_no_error() -> None:
    async with cluster(Replica("a")) as caller:
        await caller.encode(call(), PICTURE)
        caller._producers["request-1"].add("127.0.0.1:1")
        await caller.release("request-1")
