"""Runs the plan of a request: starts a node as soon as its inputs are there, streams, stops everything at once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from graph.caller import Caller
from graph.channel import Channel
from graph.errors import DeadlineExceeded, Unavailable
from graph.making import make_medium
from graph.messages import (
    DecodedText,
    DecodeEvent,
    DecodeFinished,
    DecodeRequest,
    DecodeStarted,
    Event,
    Finished,
    Request,
    SignalBlock,
    TextDelta,
    Turn,
    Usage,
)
from graph.plan import SystemPlan
from graph.run_state import RunState, closing, leading_error, node_seed
from graph.spec import TEXT
from graph.understanding import Understanding

# Events that wait for a slow reader; nodes stop working when it is full.
EVENT_BUFFER = 16
# Longest time that telling the producers "no longer needed" may take; leases end by themselves after that.
RELEASE_S = 1.0


class Executor:
    """Runs requests.

    Args:
        caller: How components are reached.
        clock: Monotonic seconds, the same that deadlines are stated in.
    """

    def __init__(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        self.caller = caller
        self.clock = clock

    async def run(
        self, plan: SystemPlan, request: Request, deadline_s: float, trace_parent: str = ""
    ) -> AsyncGenerator[Event, None]:
        """Run a request until ``clock()`` is ``deadline_s``.

        Every one of the n answers ends with a ``Finished`` of its own, after its last medium; one of them is the
        last event. Closing the generator, or cancelling the task that reads it, stops every node and waits until
        they have stopped.

        Raises:
            AnyplexError: The first node that failed, or the deadline; the other nodes were stopped.
        """
        state = RunState(self.caller, plan, request, deadline_s, self.clock, trace_parent)
        events: Channel[Event] = Channel(EVENT_BUFFER)
        # A task of its own: what is structured inside must not have its scopes torn open by `yield`.
        driver = asyncio.create_task(_drive(state, events), name=f"request {request.request_id}")
        finished = False
        try:
            while (event := await events.get()) is not None:
                yield event
            finished = True
        finally:
            if not finished:
                driver.cancel()
            await _settled(driver)
        driver.result()


async def _settled(task: asyncio.Task[None]) -> None:
    """Wait until a task has ended, even when the one who waits is cancelled meanwhile."""
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            interrupted = True
    if not task.cancelled():
        # Looked at, so that asyncio does not complain about an error that nobody reads any more.
        task.exception()
    if interrupted:
        raise asyncio.CancelledError


async def _drive(state: RunState, events: Channel[Event]) -> None:
    try:
        await _within_deadline(state, events)
    finally:
        events.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await state.caller.release(state.request.request_id)


async def _within_deadline(state: RunState, events: Channel[Event]) -> None:
    remaining_s = state.deadline_s - state.clock()
    if remaining_s <= 0:
        raise DeadlineExceeded("the deadline had passed before the request started")
    try:
        async with asyncio.timeout(remaining_s if math.isfinite(remaining_s) else None) as scope:
            await _answer(state, events)
    except TimeoutError:
        if not scope.expired():
            raise
        where = f"node {state.stopped[0]}" if state.stopped else ""
        raise DeadlineExceeded(f"the deadline passed after {remaining_s:.3g} s", where) from None
    except BaseExceptionGroup as errors:
        raise leading_error(errors) from None


async def _answer(state: RunState, events: Channel[Event]) -> None:
    turns = await Understanding(state).turns()
    async with asyncio.TaskGroup() as media:
        await _Answers(state, events, media).decode(turns)


@dataclass
class _Choice:
    """One of the n answers on its way."""

    finished: DecodeFinished | None = None
    media: int = 0
    open_media: int = 0
    late: list[tuple[SignalBlock, int]] = field(default_factory=list)


class _Answers:
    """Turns what the backbone decodes into events, and starts media."""

    def __init__(self, state: RunState, events: Channel[Event], media: asyncio.TaskGroup) -> None:
        self.state = state
        self.events = events
        self.media = media
        self.choices = [_Choice() for _ in range(state.request.sampling.n)]
        self.prompt = DecodeStarted(0, 0)

    async def decode(self, turns: tuple[Turn, ...]) -> None:
        state = self.state
        backbone = state.plan.backbone
        request = state.request
        sampling = dataclasses.replace(request.sampling, seed=node_seed(request.sampling.seed, backbone.name))
        asked = DecodeRequest(
            turns=turns,
            sampling=sampling,
            force_signals=tuple(modality for modality in request.outputs if modality != TEXT),
            priority=request.priority,
            session_id=request.session_id,
            # A backbone may know more media than this system makes of it.
            text_only=request.outputs == (TEXT,) or not state.plan.outputs,
        )
        with state.calling(backbone) as call:
            async with closing(state.caller.decode(call, asked)) as stream:
                async for event in stream:
                    if not 0 <= _choice_of(event) < len(self.choices):
                        raise Unavailable(f"gave answer {_choice_of(event)} of {len(self.choices)}")
                    await self._take(event)
            missing = [index for index, choice in enumerate(self.choices) if choice.finished is None]
            if missing:
                raise Unavailable(f"ended before answer {missing[0]} was complete")

    async def _take(self, event: DecodeEvent) -> None:
        backbone = self.state.plan.backbone
        match event:
            case DecodedText():
                self.state.first_result(backbone)
                if event.text or event.logprobs:
                    delta = TextDelta(event.text, event.logprobs)
                    await self.events.put(Event(backbone.name, delta, event.choice))
            case SignalBlock():
                self.state.first_result(backbone)
                choice = self.choices[event.choice]
                index = choice.media
                choice.media += 1
                choice.open_media += 1
                if self.state.plan.limits.late_media:
                    choice.late.append((event, index))
                else:
                    self.media.create_task(self._make(event, index))
            case DecodeFinished():
                choice = self.choices[event.choice]
                choice.finished = event
                for block, index in choice.late:
                    self.media.create_task(self._make(block, index))
                await self._finish_if_complete(event.choice)
            case DecodeStarted():
                self.prompt = event

    async def _make(self, block: SignalBlock, index: int) -> None:
        await make_medium(self.state, block, index, self.events)
        self.choices[block.choice].open_media -= 1
        await self._finish_if_complete(block.choice)

    async def _finish_if_complete(self, index: int) -> None:
        choice = self.choices[index]
        if choice.finished is None or choice.open_media:
            return
        usage = Usage(self.prompt.prompt_tokens, choice.finished.completion_tokens, self.prompt.media_tokens)
        finished = Finished(choice.finished.reason, usage, self.state.timings())
        await self.events.put(Event("", finished, index))


def _choice_of(event: DecodeEvent) -> int:
    return event.choice
