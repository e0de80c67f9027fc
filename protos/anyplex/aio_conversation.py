"""A conversation on one stream, on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import grpc.aio

from anyplex.errors import Cancelled, FailedPrecondition, Unavailable, from_call
from anyplex.events import Event, Finished, decode
from anyplex.reply import Reply, ReplyBuilder
from anyplex.requests import Parts
from anyplex.v1 import gateway_pb2, types_pb2

Call = grpc.aio.StreamStreamCall[gateway_pb2.ConverseRequest, gateway_pb2.ConverseResponse]


class AsyncTurn(AsyncIterator[Event]):
    """Iterates over the events of one answer."""

    def __init__(self, conversation: AsyncConversation, number: int) -> None:
        self._conversation = conversation
        self._builder = ReplyBuilder()
        self._finished = False
        self.number = number

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._finished:
            raise StopAsyncIteration
        event = await self._conversation._next_event(self.number)
        if event is None:
            self._finished = True
            raise StopAsyncIteration
        self._builder.add(event)
        self._finished = isinstance(event, Finished)
        return event

    async def reply(self) -> Reply:
        """Read to the end of the answer, return all of it.

        Raises:
            AnyplexError: The conversation failed.
        """
        async for _ in self:
            pass
        return self._builder.build()


class AsyncConversation:
    """Several turns with one system; the gateway remembers them.

    ::

        async with client.converse(system="next-gpt") as talk:
            turn = await talk.say(["What is this?", Image("a.png")])
            async for event in turn: ...

    Saying something new ends an answer that is still being given.
    """

    def __init__(
        self,
        prepare: Callable[[], Awaitable[gateway_pb2.GenerateRequest]],
        open_call: Callable[[], Call],
        draft_turn: Callable[[Parts], Awaitable[types_pb2.Message]],
        address: str,
        clean_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._prepare = prepare
        self._open_call = open_call
        self._draft_turn = draft_turn
        self._address = address
        self._clean_up = clean_up
        self._call: Call | None = None
        self._turns = 0
        self._closed = False
        self._ended = False

    async def say(self, parts: Parts) -> AsyncTurn:
        """Say the next thing, return the answer to iterate over.

        Raises:
            AnyplexError: The parts are wrong, or the conversation is over.
        """
        message = await self._draft_turn(parts)
        await self._write(gateway_pb2.ConverseRequest(message=message))
        self._turns += 1
        return AsyncTurn(self, self._turns - 1)

    async def interrupt(self) -> None:
        """End the answer that is being given; its last event says so."""
        await self._write(gateway_pb2.ConverseRequest(interrupt=gateway_pb2.Interrupt()))

    async def aclose(self) -> None:
        """End the conversation; an answer that is being given is cancelled."""
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

    async def _write(self, request: gateway_pb2.ConverseRequest) -> None:
        if self._closed or self._ended:
            raise FailedPrecondition("the conversation is over")
        try:
            if self._call is None:
                opening = await self._prepare()
                self._call = self._open_call()
                await self._call.write(gateway_pb2.ConverseRequest(open=opening))
            await self._call.write(request)
        except grpc.RpcError as raw:
            self._ended = True
            raise from_call(raw, self._address) from None
        except asyncio.InvalidStateError:
            self._ended = True
            raise FailedPrecondition("the conversation is over") from None

    async def _next_event(self, turn: int) -> Event | None:
        """Return the next event of a turn, passing over what is left of earlier ones; None: it was dropped."""
        if turn < self._turns - 1 or self._call is None:
            return None  # something new has been said since: this answer is over
        while True:
            try:
                response = await self._call.read()
            except grpc.RpcError as raw:
                self._ended = True
                raise from_call(raw, self._address) from None
            except asyncio.CancelledError:
                if self._closed:  # by aclose() in another task, not by whoever cancels this one
                    raise Cancelled("the conversation was closed") from None
                raise
            if not isinstance(response, gateway_pb2.ConverseResponse):
                self._ended = True
                raise Unavailable(f"{self._address} ended the conversation")
            event = decode(response.event) if response.turn == turn else None
            if event is not None:
                return event
