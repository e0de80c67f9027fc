"""What surrounds every method, seen from outside: a real server with methods of every shape."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from prometheus_client import generate_latest

from anyplex.v1 import component_pb2, error_pb2
from graph.errors import Exhausted, Internal, NotFound
from services.runtime.interceptors import interceptors, request_id_of
from services.runtime.status import DETAILS_KEY, error_from_rpc
from services.runtime.telemetry import JsonFormatter, Metrics, Tracing, request_id_var
from tests.waiting import until

SERVICE = "anyplex.v1.ComponentService"
SHAPES = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
CONTROL = "LoadVersion"
DATA_TOKEN, CONTROL_TOKEN = "data-token", "control-token"
Request, Reply = component_pb2.FetchRequest, component_pb2.FetchResponse


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


TOKEN = bearer(DATA_TOKEN)


async def read(request: Any) -> None:
    """Read what the caller sends, one message or many."""
    if hasattr(request, "__aiter__"):
        async for _ in request:
            pass


class World:
    """A server whose methods do what the test says."""

    def __init__(self) -> None:
        self.metrics = Metrics("c", "k")
        self.act: Callable[[Any], Any] = lambda context: None
        self.seen: list[str] = []
        self.ended = 0
        self.channel: grpc.aio.Channel

    async def _do(self, context: Any) -> bytes:
        self.seen.append(request_id_of(context))
        try:
            outcome = self.act(context)
            if asyncio.iscoroutine(outcome):
                await outcome
        finally:
            self.ended += 1
        return request_id_var.get().encode()

    async def unary(self, request: Any, context: Any) -> Reply:
        await read(request)
        return Reply(data=await self._do(context))

    async def stream(self, request: Any, context: Any) -> AsyncIterator[Reply]:
        await read(request)
        yield Reply(data=b"first")
        yield Reply(data=await self._do(context))

    def handlers(self) -> grpc.GenericRpcHandler:
        ways = {"request_deserializer": Request.FromString, "response_serializer": Reply.SerializeToString}
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary, **ways),
                "UnaryStream": grpc.unary_stream_rpc_method_handler(self.stream, **ways),
                "StreamUnary": grpc.stream_unary_rpc_method_handler(self.unary, **ways),
                "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream, **ways),
                CONTROL: grpc.unary_unary_rpc_method_handler(self.unary, **ways),
            },
        )

    async def call(self, shape: str, metadata: Any = TOKEN, body: bytes = b"", **rest: Any) -> list[Reply]:
        """Call a method with any bytes at all."""
        path = f"/{SERVICE}/{shape}"
        ways = {"request_serializer": bytes, "response_deserializer": Reply.FromString}

        async def bodies() -> AsyncIterator[bytes]:
            yield body

        options = {"metadata": metadata, "timeout": 10.0, **rest}
        if shape in ("UnaryUnary", CONTROL):
            return [await self.channel.unary_unary(path, **ways)(body, **options)]
        if shape == "UnaryStream":
            return [reply async for reply in self.channel.unary_stream(path, **ways)(body, **options)]
        if shape == "StreamUnary":
            return [await self.channel.stream_unary(path, **ways)(bodies(), **options)]
        return [reply async for reply in self.channel.stream_stream(path, **ways)(bodies(), **options)]

    async def fails(self, shape: str, **rest: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.call(shape, **rest)
        return failed.value

    def page(self) -> str:
        return generate_latest(self.metrics.registry).decode()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    tokens = interceptors(world.metrics, Tracing("", ""), (DATA_TOKEN,), CONTROL_TOKEN)
    server = grpc.aio.server(interceptors=tokens)
    server.add_generic_rpc_handlers((world.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as world.channel:
        yield world
    await server.stop(0)


def raising(error: BaseException) -> Callable[[Any], None]:
    def act(context: Any) -> None:
        raise error

    return act


def detail_of(error: grpc.aio.AioRpcError) -> error_pb2.ErrorDetail:
    data = dict(error.trailing_metadata() or ())[DETAILS_KEY]
    detail = error_pb2.ErrorDetail()
    assert error_pb2.RpcStatus.FromString(data).details[0].Unpack(detail)  # type: ignore[arg-type]
    return detail


# ---- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_pass(world: World, shape: str) -> None:
    assert len(await world.call(shape)) == (2 if shape.endswith("Stream") else 1)


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_projects_errors_become_statuses_with_details(world: World, shape: str) -> None:
    world.act = raising(Exhausted("too many", "node see", 2.0))
    error = await world.fails(shape, metadata=(*bearer(DATA_TOKEN), ("x-request-id", "my-id")))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    detail = detail_of(error)
    assert (detail.code, detail.node, detail.retry_after_s, detail.request_id) == ("exhausted", "see", 2.0, "my-id")


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_nobody_foresaw_is_internal_and_not_told(
    world: World, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("anyplex").propagate = True
    world.act = raising(ZeroDivisionError("/home/secret/file.py line 7"))
    error = await world.fails(shape)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details()) + str(detail_of(error))
    assert "ZeroDivision" not in str(error.details()) + str(detail_of(error))
    assert any(record.exc_info for record in caplog.records), "the log has the trace"


async def test_of_several_errors_the_projects_own_is_told(world: World) -> None:
    world.act = raising(ExceptionGroup("several", [ValueError("x"), ExceptionGroup("more", [NotFound("it")])]))
    assert (await world.fails("UnaryUnary")).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("shape", SHAPES)
async def test_bytes_that_are_no_message_are_the_callers_fault(world: World, shape: str) -> None:
    error = await world.fails(shape, body=b"\xff\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in str(error.details())
    assert "class" not in str(error.details())
    assert error_from_rpc(error).where.startswith("request")


async def test_unknown_methods_are_unimplemented(world: World) -> None:
    call = world.channel.unary_unary(f"/{SERVICE}/Nothing", bytes, bytes)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(b"", metadata=bearer(DATA_TOKEN))
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ---- tokens ----------------------------------------------------------------------------------------------

NOBODYS = [(), bearer("wrong"), bearer(""), (("authorization", DATA_TOKEN),), (("authorization", "Basic x"),)]


@pytest.mark.parametrize("shape", [*SHAPES, CONTROL])
@pytest.mark.parametrize("metadata", NOBODYS)
async def test_every_method_asks_for_a_token(world: World, shape: str, metadata: Any) -> None:
    error = await world.fails(shape, metadata=metadata)
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert world.seen == []


async def test_control_methods_ask_for_the_other_token(world: World) -> None:
    assert (await world.fails(CONTROL)).code() is grpc.StatusCode.PERMISSION_DENIED
    await world.call(CONTROL, metadata=bearer(CONTROL_TOKEN))
    await world.call("UnaryUnary", metadata=bearer(CONTROL_TOKEN))


# ---- request ids, cancellation, counters, logs -----------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "7f.3-a_b:c", "x" * 128])
async def test_plain_request_ids_are_kept(world: World, given: str) -> None:
    (reply,) = await world.call("UnaryUnary", metadata=(*bearer(DATA_TOKEN), ("x-request-id", given)))
    assert (reply.data.decode(), world.seen) == (given, [given])


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a/../b", '"', "{}"])
async def test_strange_request_ids_are_replaced(world: World, given: str) -> None:
    (reply,) = await world.call("UnaryUnary", metadata=(*bearer(DATA_TOKEN), ("x-request-id", given)))
    assert len(reply.data) == 32
    assert world.seen == [reply.data.decode()], "one call, one id"


@pytest.mark.parametrize("shape", SHAPES)
async def test_cancelling_reaches_the_method(world: World, shape: str) -> None:
    world.act = lambda context: asyncio.Event().wait()
    calling = asyncio.create_task(world.call(shape))
    await until(lambda: bool(world.seen))
    calling.cancel()
    await until(lambda: world.ended == 1)
    await until(lambda: 'status="cancelled"} 1.0' in world.page())


@pytest.mark.parametrize("shape", SHAPES)
async def test_deadlines_reach_the_method(world: World, shape: str) -> None:
    world.act = lambda context: asyncio.Event().wait()
    error = await world.fails(shape, timeout=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: world.ended == 1)


async def test_ends_are_counted(world: World) -> None:
    await world.call("UnaryUnary")
    world.act = raising(NotFound("x"))
    await world.fails("UnaryUnary")
    world.act = raising(Internal("x"))
    await world.fails("UnaryStream")
    for method, status in (("UnaryUnary", "ok"), ("UnaryUnary", "not_found"), ("UnaryStream", "internal")):
        line = f'anyplex:requests_total{{component="c",kind="k",method="{method}",status="{status}"}} 1.0'
        assert line in world.page()


def test_log_lines_are_json_with_the_request_id() -> None:
    token = request_id_var.set("my-id")
    try:
        raise ValueError("boom")
    except ValueError:
        import sys

        record = logging.LogRecord("anyplex.x", logging.ERROR, "f", 1, "said %s\n%s", ("a", "b"), sys.exc_info())
    line = JsonFormatter().format(record)
    request_id_var.reset(token)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["message"], entry["level"], entry["request_id"]) == ("said a\nb", "error", "my-id")
    assert "boom" in entry["exception"]
