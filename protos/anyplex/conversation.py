"""A conversation on one stream: several turns, answers that can be interrupted."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import grpc

from anyplex.errors import Cancelled, FailedPrecondition, Unavailable, from_call
from anyplex.events import Event, Finished, decode
from anyplex.reply import Reply, ReplyBuilder
from anyplex.requests import Parts
from anyplex.streaming import Received
from anyplex.v1 import gateway_pb2, types_pb2

OpenCall = Callable[[Iterator[gateway_pb2.ConverseRequest]], Received[gateway_pb2.ConverseResponse]]


class Turn(Iterator[Event]):
    """Iterates over the events of one answer."""

    def __init__(self, conversation: Conversation, number: int) -> None:
        self._conversation = conversation
        self._builder = ReplyBuilder()
        self._finished = False
        self.number = number

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._finished:
            raise StopIteration
        event = self._conversation._next_event(self.number)
        if event is None:
            self._finished = True
            raise StopIteration
        self._builder.add(event)
        self._finished = isinstance(event, Finished)
        return event

    def reply(self) -> Reply:
        """Read to the end of the answer, return all of it.

        Raises:
            AnyplexError: The conversation failed.
        """
        for _ in self:
            pass
        return self._builder.build()


class Conversation:
    """Several turns with one system; the gateway remembers them.

    ::

        with client.converse(system="next-gpt") as talk:
            for event in talk.say(["What is this?", Image("a.png")]): ...
            print(talk.say("And its colour?").reply().text)

    ``interrupt`` may be called from another thread while one iterates over an answer. Saying something new ends
    an answer that is still being given.
    """

    def __init__(
        self,
        open_call: OpenCall,
        opening: gateway_pb2.GenerateRequest,
        draft_turn: Callable[[Parts], types_pb2.Message],
        address: str,
        clean_up: Callable[[], None],
    ) -> None:
        self._requests: queue.SimpleQueue[gateway_pb2.ConverseRequest | None] = queue.SimpleQueue()
        self._draft_turn = draft_turn
        self._address = address
        self._clean_up = clean_up
        self._turns = 0
        self._closed = threading.Event()
        self._ended = False
        self._requests.put(gateway_pb2.ConverseRequest(open=opening))
        self._call = open_call(iter(self._requests.get, None))

    def say(self, parts: Parts) -> Turn:
        """Say the next thing, iterate over the answer.

        Raises:
            AnyplexError: The parts are wrong, or the conversation is over.
        """
        if self._closed.is_set() or self._ended:
            raise FailedPrecondition("the conversation is over")
        self._requests.put(gateway_pb2.ConverseRequest(message=self._draft_turn(parts)))
        self._turns += 1
        return Turn(self, self._turns - 1)

    def interrupt(self) -> None:
        """End the answer that is being given; its last event says so."""
        if not self._closed.is_set():
            self._requests.put(gateway_pb2.ConverseRequest(interrupt=gateway_pb2.Interrupt()))

    def close(self) -> None:
        """End the conversation; an answer that is being given is cancelled."""
        if not self._closed.is_set():
            self._closed.set()
            self._requests.put(None)
            self._call.cancel()
            self._clean_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_event(self, turn: int) -> Event | None:
        """Return the next event of a turn, passing over what is left of earlier ones; None: it was dropped."""
        if turn < self._turns - 1:
            return None  # something new has been said since: this answer is over
        while True:
            try:
                response = next(self._call)
            except StopIteration:
                self._end()
                raise Unavailable(f"{self._address} ended the conversation") from None
            except grpc.RpcError as raw:
                self._end()
                if self._closed.is_set():
                    raise Cancelled("the conversation was closed") from None
                raise from_call(raw, self._address) from None
            event = decode(response.event) if response.turn == turn else None
            if event is not None:
                return event

    def _end(self) -> None:
        """Let the thread that sends go."""
        self._ended = True
        self._requests.put(None)
