"""The stream of events of one request, with retries while nothing of the answer has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc

from anyplex.connection import Retry
from anyplex.errors import AnyplexError, Cancelled, Unavailable, from_call
from anyplex.events import Event, Finished, begins_answer, decode
from anyplex.reply import Reply, ReplyBuilder
from anyplex.v1 import gateway_pb2

Answer = TypeVar("Answer", covariant=True)


class Received(Protocol[Answer]):
    """A call that is answered by a stream, as gRPC returns it."""

    def __next__(self) -> Answer:
        """Wait for the next message."""
        ...

    def cancel(self) -> object:
        """Give the call up."""
        ...


OpenCall = Callable[[float | None], Received[gateway_pb2.GenerateResponse]]


class EventStream(Iterator[Event]):
    """Iterates over the events of a request; close it (or leave its ``with`` block) to cancel the request.

    Where a request is sent again after it was accepted, ``Accepted`` comes again, with the new request id.
    """

    def __init__(
        self,
        open_call: OpenCall,
        retry: Retry,
        deadline: float | None,
        address: str,
        clean_up: Callable[[], None],
    ) -> None:
        self._open_call = open_call
        self._retry = retry
        self._deadline = deadline
        self._address = address
        self._clean_up = clean_up
        self._builder = ReplyBuilder()
        self._closed = threading.Event()
        self._attempts = 0
        self._begun = False
        self._finished = False
        self._call = open_call(self._left_s())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closed.is_set():
            event = decode(self._receive())
            if event is None:
                continue
            self._builder.add(event)
            self._finished = self._finished or isinstance(event, Finished)
            return event
        raise StopIteration

    def reply(self) -> Reply:
        """Read to the end, return the whole answer.

        Raises:
            AnyplexError: The request failed.
        """
        for _ in self:
            pass
        if not self._finished:
            raise Cancelled("the stream was closed before the answer was complete")
        return self._builder.build()

    def close(self) -> None:
        """Cancel the request if it still runs."""
        if not self._closed.is_set():
            self._closed.set()
            self._call.cancel()
            self._clean_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A loop that was left by ``break`` must not leave its request running. No clean-up call from here:
        # the interpreter may be going down.
        call = getattr(self, "_call", None)
        if call is not None and not self._closed.is_set():
            call.cancel()

    def _receive(self) -> gateway_pb2.Event:
        """Return the next message, opening the call again where nothing has come of it yet."""
        while True:
            try:
                response = next(self._call)
            except StopIteration:
                self._end()
                if not self._finished:
                    raise Unavailable(f"{self._address} ended the answer too early") from None
                raise
            except grpc.RpcError as raw:
                if self._closed.is_set():
                    raise StopIteration from None
                self._wait(from_call(raw, self._address))
                self._call = self._open_call(self._left_s())
                continue
            self._begun = self._begun or begins_answer(response.event)
            return response.event

    def _wait(self, error: AnyplexError) -> None:
        """Wait before the next attempt.

        Raises:
            AnyplexError: There is none.
        """
        self._attempts += 1
        wait_s = None if self._begun else self._retry.wait_s(error, self._attempts, self._deadline)
        if wait_s is None:
            self._end()
            raise error from None
        if self._closed.wait(wait_s):
            raise StopIteration

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._clean_up()

    def _left_s(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.001)
