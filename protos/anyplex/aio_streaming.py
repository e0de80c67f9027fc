"""The stream of events of one request on asyncio, with retries while nothing of the answer has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import grpc.aio

from anyplex.connection import Retry
from anyplex.errors import AnyplexError, Cancelled, Unavailable, from_call
from anyplex.events import Event, Finished, begins_answer, decode
from anyplex.reply import Reply, ReplyBuilder
from anyplex.v1 import gateway_pb2

Call = grpc.aio.UnaryStreamCall[gateway_pb2.GenerateRequest, gateway_pb2.GenerateResponse]


class AsyncEventStream(AsyncIterator[Event]):
    """Iterates over the events of a request; close it (or leave its ``async with`` block) to cancel the request.

    Where a request is sent again after it was accepted, ``Accepted`` comes again, with the new request id.
    """

    def __init__(
        self,
        prepare: Callable[[], Awaitable[None]],
        open_call: Callable[[], Call],
        retry: Retry,
        deadline: float | None,
        address: str,
        clean_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._prepare = prepare
        self._open_call = open_call
        self._retry = retry
        self._deadline = deadline
        self._address = address
        self._clean_up = clean_up
        self._builder = ReplyBuilder()
        self._call: Call | None = None
        self._attempts = 0
        self._begun = False
        self._finished = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._closed:
            received = await self._receive()
            if received is None:
                break
            event = decode(received)
            if event is None:
                continue
            self._builder.add(event)
            self._finished = self._finished or isinstance(event, Finished)
            return event
        raise StopAsyncIteration

    async def reply(self) -> Reply:
        """Read to the end, return the whole answer.

        Raises:
            AnyplexError: The request failed.
        """
        async for _ in self:
            pass
        if not self._finished:
            raise Cancelled("the stream was closed before the answer was complete")
        return self._builder.build()

    async def aclose(self) -> None:
        """Cancel the request if it still runs."""
        if not self._closed:
            self._closed = True
            if self._call is not None:
                self._call.cancel()
            await self._clean_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A loop that was left by ``break`` must not leave its request running.
        if getattr(self, "_call", None) is not None and not self._closed and self._call is not None:
            self._call.cancel()

    async def _receive(self) -> gateway_pb2.Event | None:
        """Return the next message (None at the end), opening the call again where nothing has come of it yet."""
        if self._call is None:
            await self._prepare()
            self._call = self._open_call()
        while True:
            try:
                response = await self._call.read()
            except grpc.RpcError as raw:
                await self._wait(from_call(raw, self._address))
                self._call = self._open_call()
                continue
            except asyncio.CancelledError:
                if self._closed:  # by aclose() in another task, not by whoever cancels this one
                    return None
                await self.aclose()
                raise
            if isinstance(response, gateway_pb2.GenerateResponse):
                self._begun = self._begun or begins_answer(response.event)
                return response.event
            await self.aclose()
            if not self._finished:
                raise Unavailable(f"{self._address} ended the answer too early")
            return None

    async def _wait(self, error: AnyplexError) -> None:
        """Wait before the next attempt.

        Raises:
            AnyplexError: There is none.
        """
        self._attempts += 1
        wait_s = None if self._begun else self._retry.wait_s(error, self._attempts, self._deadline)
        if wait_s is None:
            await self.aclose()
            raise error
        await asyncio.sleep(wait_s)
