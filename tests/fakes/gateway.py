"""A gateway with scripted answers behind a real gRPC server, on a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2

from anyplex.v1 import error_pb2, gateway_pb2, gateway_pb2_grpc, media_pb2, media_pb2_grpc, types_pb2

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[[gateway_pb2.GenerateRequest, Context], AsyncIterator[gateway_pb2.Event]]

VERSIONS = {"see": "v-see", "see_in": "v-in", "think": "v-think"}


def accepted(request: gateway_pb2.GenerateRequest, **fields: Any) -> gateway_pb2.Event:
    """Return the first event of an answer."""
    versions = types_pb2.VersionSet(system=request.system or "next-gpt", slots=VERSIONS)
    fields = {"request_id": "req-1", "seed": request.sampling.seed, **fields}
    return gateway_pb2.Event(accepted=gateway_pb2.Accepted(versions=versions, **fields))


def text(piece: str, choice: int = 0) -> gateway_pb2.Event:
    """Return an event with text."""
    return gateway_pb2.Event(node="think", choice=choice, text=gateway_pb2.TextDelta(text=piece))


def medium(index: int, modality: str, mime_type: str, data: bytes, steps: int = 2) -> Iterator[gateway_pb2.Event]:
    """Return the events of a medium that is made: its start, its steps, its bytes in two chunks."""
    node = {"image": "draw", "audio": "play", "video": "film"}.get(modality, "make")
    begun = gateway_pb2.MediaStarted(media_index=index, modality=modality, mime_type=mime_type)
    yield gateway_pb2.Event(node=node, media_started=begun)
    for step in range(1, steps + 1):
        progress = gateway_pb2.MediaProgress(media_index=index, step=step, steps=steps)
        yield gateway_pb2.Event(node=node, media_progress=progress)
    half = len(data) // 2
    first = gateway_pb2.MediaChunk(media_index=index, data=data[:half])
    yield gateway_pb2.Event(node=node, media_chunk=first)
    yield gateway_pb2.Event(
        node=node, media_chunk=gateway_pb2.MediaChunk(media_index=index, data=data[half:], last=True)
    )


def failed_medium(index: int, message: str, code: str = "unavailable") -> gateway_pb2.Event:
    """Return the event of a medium that will not come."""
    error = error_pb2.ErrorDetail(code=code, message=message, node="draw")
    failed = gateway_pb2.MediaFailed(media_index=index, error=error, modality="image")
    return gateway_pb2.Event(node="draw", media_failed=failed)


def finished(reason: types_pb2.FinishReason = types_pb2.FINISH_REASON_STOP) -> gateway_pb2.Event:
    """Return the last event of an answer."""
    return gateway_pb2.Event(
        finished=gateway_pb2.Finished(
            reason=reason,
            usage=types_pb2.Usage(prompt_tokens=12, completion_tokens=3, media_tokens=9),
            timings=[
                gateway_pb2.NodeTiming(node="see", start_s=0.0, first_s=0.01, end_s=0.01),
                gateway_pb2.NodeTiming(node="think", start_s=0.01, first_s=0.02, end_s=0.03),
            ],
        )
    )


def said(message: types_pb2.Message) -> str:
    """Return a message as one string, media as <modality:size>."""
    words = []
    for part in message.parts:
        if part.WhichOneof("content") == "text":
            words.append(part.text)
        else:
            words.append(f"<{part.media.modality}:{part.media.handle or len(part.media.inline)}>")
    return " ".join(words)


async def echo(request: gateway_pb2.GenerateRequest, context: Context) -> AsyncIterator[gateway_pb2.Event]:
    """Answer with what was said, word by word."""
    yield accepted(request)
    for word in said(request.messages[-1]).split(" "):
        yield text(word + " ")
    yield finished()


async def fail(context: Context, status: grpc.StatusCode, message: str, code: str = "", **fields: Any) -> None:
    """End a call with a status, and a rich one if a code of the error tree is given."""
    if code:
        detail = any_pb2.Any()
        detail.Pack(error_pb2.ErrorDetail(code=code, message=message, **fields))
        rich = error_pb2.RpcStatus(code=status.value[0], message=message, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", rich.SerializeToString()),))
    await context.abort(status, message)


def failing(status: grpc.StatusCode, message: str, code: str = "", **fields: Any) -> Script:
    """Return a script that fails at once."""

    async def script(request: gateway_pb2.GenerateRequest, context: Context) -> AsyncIterator[gateway_pb2.Event]:
        await fail(context, status, message, code, **fields)
        yield gateway_pb2.Event()

    return script


def dying(*events: gateway_pb2.Event) -> Script:
    """Return a script that accepts, gives some events, and dies."""

    async def script(request: gateway_pb2.GenerateRequest, context: Context) -> AsyncIterator[gateway_pb2.Event]:
        yield accepted(request, request_id="req-0")
        for event in events:
            yield event
        await fail(context, grpc.StatusCode.UNAVAILABLE, "it died", "unavailable", retryable=True)

    return script


class FakeGateway(gateway_pb2_grpc.GatewayServiceServicer, media_pb2_grpc.MediaServiceServicer):
    """Answers with ``scripts`` one after another, and with ``echo`` when they are used up.

    Args:
        token: Asked of every call; empty asks for none.
    """

    def __init__(self, token: str = "", port: int = 0) -> None:
        self.scripts: list[Script] = []
        self.requests: list[gateway_pb2.GenerateRequest] = []
        self.turns: list[str] = []
        self.uploads: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.cancelled = threading.Event()
        self.deadlines_s: list[float | None] = []
        self.systems = ["next-gpt", "llava-1.5"]
        self.inputs = {"next-gpt": ["text", "image", "audio", "video"]}
        self.outputs = {"next-gpt": ["text", "image", "audio", "video"]}
        self.inline_media_bytes = 4 << 20
        self.described = 0
        self._token = token
        self._port = port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> FakeGateway:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(self, server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(self, server)
        self._port = server.add_insecure_port(f"127.0.0.1:{self._port}")
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(0)

    async def _enter(self, context: Context) -> None:
        self.deadlines_s.append(context.time_remaining())
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        if self._token and given != f"Bearer {self._token}":
            await fail(context, grpc.StatusCode.UNAUTHENTICATED, "no valid token", "unauthenticated")

    async def Generate(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """Run the next script."""
        await self._enter(context)
        self.requests.append(request)
        script = self.scripts.pop(0) if self.scripts else echo
        try:
            sequence = 0
            async for event in script(request, context):
                event.sequence = sequence
                sequence += 1
                yield gateway_pb2.GenerateResponse(event=event)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def Converse(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """Answer each turn with an echo; "wait" is answered by silence until something else comes."""
        await self._enter(context)
        opening = None
        turn = -1
        waiting = False
        async for request in request_iterator:
            action = request.WhichOneof("action")
            if action == "open":
                opening = request.open
                continue
            assert opening is not None
            if waiting:
                ended = finished(types_pb2.FINISH_REASON_INTERRUPTED)
                yield gateway_pb2.ConverseResponse(turn=turn, event=ended)
                waiting = False
            if action == "interrupt":
                continue
            turn += 1
            words = said(request.message)
            self.turns.append(words)
            yield gateway_pb2.ConverseResponse(turn=turn, event=accepted(opening))
            yield gateway_pb2.ConverseResponse(turn=turn, event=text(f"{turn}: {words}"))
            waiting = words == "wait"
            if not waiting:
                yield gateway_pb2.ConverseResponse(turn=turn, event=finished())

    async def ListSystems(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """List the systems."""
        await self._enter(context)
        return gateway_pb2.ListSystemsResponse(
            systems=[self._summary(name) for name in self.systems], default_system=self.systems[0]
        )

    async def DescribeSystem(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """Describe a system of three nodes."""
        await self._enter(context)
        self.described += 1
        name = request.system or self.systems[0]
        if name not in self.systems:
            await fail(context, grpc.StatusCode.NOT_FOUND, f"no system {name!r} runs here", "not_found")
        nodes = [
            gateway_pb2.NodeDescription(
                name="see", kind="encoder", type="clip_vision", modality="image", component="encoder-1", replicas=1
            ),
            gateway_pb2.NodeDescription(
                name="see_in", kind="input_projector", type="linear", component="projector-1", replicas=1,
                **{"from": ["see"]},
            ),
            gateway_pb2.NodeDescription(
                name="think", kind="backbone", type="decoder", component="backbone-1", replicas=1,
                **{"from": ["see_in"]},
            ),
        ]  # fmt: skip
        limits = gateway_pb2.Limits(
            inline_media_bytes=self.inline_media_bytes, upload_bytes=64 << 20, messages=64, parts=64, deadline_s=600
        )
        return gateway_pb2.DescribeSystemResponse(summary=self._summary(name), nodes=nodes, limits=limits)

    async def Upload(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """Keep an upload."""
        await self._enter(context)
        data = b""
        async for request in request_iterator:
            data += request.data
        handle = f"handle-{len(self.uploads)}"
        self.uploads[handle] = data
        return media_pb2.UploadResponse(
            handle=handle, expires_in_s=60, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )

    async def Delete(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201,N802
        """Forget an upload."""
        await self._enter(context)
        if request.handle not in self.uploads:
            await fail(context, grpc.StatusCode.NOT_FOUND, "no such upload", "not_found")
        self.deleted.append(request.handle)
        return media_pb2.DeleteResponse()

    def _summary(self, name: str) -> gateway_pb2.SystemSummary:
        versions = types_pb2.VersionSet(system=name, slots=VERSIONS)
        inputs = self.inputs.get(name, ["text", "image"])
        return gateway_pb2.SystemSummary(
            name=name,
            source="arXiv",
            inputs=inputs,
            outputs=self.outputs.get(name, ["text"]),
            ready=True,
            versions=versions,
        )
