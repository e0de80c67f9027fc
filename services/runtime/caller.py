"""The executor's port over gRPC: picks replicas, sends what travels beside a call, retries what is safe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.caller import Call
from graph.errors import Unavailable
from services.runtime.contract_caller import ContractCaller, Method, metadata_for, time_left_s
from services.runtime.directory import Entry, Routes
from services.runtime.routing import Router
from services.runtime.status import DETAILS_KEY, error_from_rpc
from services.runtime.tensors import ChannelPool

logger = logging.getLogger("anyplex.caller")

MAX_TRIES = 3
MAX_LEASES = 4096
RECONNECT_S = 0.2


class GrpcCaller(ContractCaller):
    """Calls components over gRPC.

    A call is tried again on another replica only while nothing of its answer has been received, and only when the
    replica was lost (UNAVAILABLE) or refused for a full queue while others may have room.

    Args:
        routes: Where replicas are listed.
        channels: Channels to them; carries the cluster's token.
        wait_s: Longest wait for a replica where there is none.
    """

    def __init__(self, routes: Routes, channels: ChannelPool, wait_s: float = 120.0) -> None:
        self.routes = routes
        self.channels = channels
        self.router = Router(routes, wait_s)
        self._producers: OrderedDict[str, set[str]] = OrderedDict()

    async def release(self, request_id: str) -> None:
        """End the leases of a request wherever it left tensors."""
        addresses = self._producers.pop(request_id, set())
        message = component_pb2.ReleaseRequest(lease_id=request_id)

        async def one(address: str) -> None:
            stub = self.channels.stub(component_pb2_grpc.TensorServiceStub, address)
            # A producer that is gone has freed its tensors with everything else.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Release(message, timeout=2.0, metadata=self.channels.metadata)

        await asyncio.gather(*map(one, addresses))

    # ---- how a call is made ------------------------------------------------------------------------------

    def _options(self, call: Call) -> dict[str, Any]:
        return {"metadata": metadata_for(call, self.channels.metadata), "timeout": time_left_s(call)}

    async def _unary(self, call: Call, method: Method, request: Any) -> Any:  # noqa: ANN401
        tried: list[str] = []
        while True:
            entry = await self.router.pick(call, tried)
            self._note_producer(call, entry)
            self.router.enter(entry)
            try:
                stub = self.channels.stub(method.stub, entry.address)
                return await getattr(stub, method.name)(request, **self._options(call))
            except grpc.aio.AioRpcError as error:
                await self._retry_or_raise(call, entry, tried, error)
            finally:
                self.router.leave(entry)

    async def _stream(self, call: Call, method: Method, request: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401
        tried: list[str] = []
        received = False
        while True:
            entry = await self.router.pick(call, tried)
            self._note_producer(call, entry)
            options = self._options(call)
            self.router.enter(entry)
            stream = getattr(self.channels.stub(method.stub, entry.address), method.name)(request, **options)
            try:
                async for event in stream:
                    received = True
                    yield event
                return
            except grpc.aio.AioRpcError as error:
                if received:
                    await self._lost(entry, error)
                    raise error_from_rpc(error, call.node) from error
                await self._retry_or_raise(call, entry, tried, error)
            finally:
                stream.cancel()
                self.router.leave(entry)

    async def _retry_or_raise(self, call: Call, entry: Entry, tried: list[str], error: grpc.aio.AioRpcError) -> None:
        """Return when the call may be tried again; ``tried`` then holds the replica to avoid.

        Raises:
            AnyplexError: It may not.
        """
        await self._lost(entry, error)
        translated = error_from_rpc(error, call.node)
        tried.append(entry.replica_id)
        if len(tried) >= MAX_TRIES or time.monotonic() >= call.deadline_s:
            raise translated from error
        if isinstance(translated, Unavailable):
            logger.warning("call to %s was lost, trying again", call.component)
            if self.router.choose(call, tried) is None and self.router.choose(call) is not None:
                # It was the connection that broke: the only replica there is still answers the directory.
                await asyncio.sleep(RECONNECT_S)
                tried[:] = [""] * len(tried)
            return
        if translated.code == "exhausted" and self.router.choose(call, tried) is not None:
            return
        raise translated from error

    async def _lost(self, entry: Entry, error: grpc.aio.AioRpcError) -> None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            if not any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ()):
                # Not the component's own word, so the connection's: the next call makes a new one.
                self.channels.drop(entry.address)
            await self.routes.report_lost(entry.address)

    def _note_producer(self, call: Call, entry: Entry) -> None:
        self._producers.setdefault(call.request_id, set()).add(entry.address)
        if len(self._producers) > MAX_LEASES:
            # Leases end by themselves too; forgetting the oldest only frees later.
            self._producers.popitem(last=False)
