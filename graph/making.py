"""The output half of a request: a signal block becomes a medium, while the backbone goes on decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from graph.channel import Channel
from graph.errors import AnyplexError, DeadlineExceeded, Exhausted, Unavailable, Unimplemented
from graph.messages import (
    Conditioning,
    Event,
    MediaChunk,
    MediaFailed,
    MediaParameters,
    MediaProgress,
    MediaStarted,
    RenderChunk,
    RenderEvent,
    RenderProgress,
    RenderRequest,
    RenderStarted,
    SignalBlock,
)
from graph.plan import NodePlan, OutputRoute
from graph.run_state import RunState, closing, leading_error, node_seed

# Most bytes of a medium in one event.
PIECE_BYTES = 64 * 2**10
# Largest preview that is passed on; a step whose preview is larger is told without.
PREVIEW_BYTES = 256 * 2**10


def seed_name(node: str, choice: int) -> str:
    """Return the name a node draws its seed under: another one for each of several answers."""
    return f"{node}#{choice}" if choice else node


async def make_medium(state: RunState, block: SignalBlock, index: int, events: Channel[Event]) -> None:
    """Make the medium that a signal block asks for; what goes wrong is told as ``MediaFailed`` and ends here."""
    route = state.plan.outputs.get(block.modality)
    node = state.plan.backbone.name if route is None else route.generator.name
    try:
        if route is None:
            makes = ", ".join(state.plan.makes)
            raise Unimplemented(f"{state.plan.system} makes no {block.modality}; it makes {makes}", f"node {node}")
        if index >= state.plan.limits.media:
            raise Exhausted(f"at most {state.plan.limits.media} media in one answer", f"node {node}")
        await _within_deadline(state, route, block, index, events)
    except AnyplexError as error:
        if state.clock() >= state.deadline_s:
            # It is the request whose time is over, not this medium's alone.
            raise
        await events.put(Event(node, MediaFailed(index, error, block.modality), block.choice))


async def _within_deadline(
    state: RunState, route: OutputRoute, block: SignalBlock, index: int, events: Channel[Event]
) -> None:
    allowed_s = state.plan.limits.media_deadline_s
    if not allowed_s:
        await _make(state, route, block, index, events, state.deadline_s)
        return
    deadline_s = min(state.deadline_s, state.clock() + allowed_s)
    try:
        async with asyncio.timeout(allowed_s) as scope:
            await _make(state, route, block, index, events, deadline_s)
    except TimeoutError:
        if not scope.expired():
            raise
        message = f"not done within {allowed_s:g} s, the longest time for one medium"
        raise DeadlineExceeded(message, f"node {route.generator.name}") from None


async def _make(
    state: RunState, route: OutputRoute, block: SignalBlock, index: int, events: Channel[Event], deadline_s: float
) -> None:
    generator = route.generator
    conditioning = await _condition(state, route.projectors, block, deadline_s)
    request = RenderRequest(
        conditioning=conditioning,
        parameters=state.request.media_parameters.get(block.modality, MediaParameters()),
        seed=node_seed(state.request.sampling.seed, seed_name(generator.name, block.choice), block.block),
        priority=state.request.priority,
    )
    whole, size_bytes, most_bytes = False, 0, state.plan.limits.media_bytes
    with state.calling(generator, deadline_s) as call:
        async with closing(state.caller.render(call, request)) as stream:
            async for event in stream:
                state.first_result(generator)
                if isinstance(event, RenderChunk):
                    size_bytes += len(event.data)
                    if size_bytes > most_bytes:
                        raise Exhausted(f"larger than {most_bytes} bytes, the largest medium of an answer")
                whole = isinstance(event, RenderChunk) and event.last
                for body in _told(event, index, block.modality):
                    await events.put(Event(generator.name, body, block.choice))
        if not whole:
            raise Unavailable("ended before the last chunk")


def _told(event: RenderEvent, index: int, modality: str) -> Iterator[MediaStarted | MediaProgress | MediaChunk]:
    """Tell an event of a generator, its bytes in small pieces: what waits for a slow reader is counted in events."""
    match event:
        case RenderStarted():
            yield MediaStarted(index, modality, event.mime_type)
        case RenderProgress():
            preview = event.preview if len(event.preview) <= PREVIEW_BYTES else b""
            yield MediaProgress(index, event.step, event.steps, preview)
        case RenderChunk():
            pieces = range(0, max(1, len(event.data)), PIECE_BYTES)
            for start in pieces:
                piece = event.data[start : start + PIECE_BYTES]
                yield MediaChunk(index, piece, event.last and start == pieces[-1])


async def _condition(
    state: RunState, projectors: tuple[NodePlan, ...], block: SignalBlock, deadline_s: float
) -> Conditioning:
    """Ask every projector of the route, side by side, and lay what they give together."""
    if len(projectors) == 1:
        return await _condition_one(state, projectors[0], block, deadline_s)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_condition_one(state, node, block, deadline_s)) for node in projectors]
    except BaseExceptionGroup as errors:
        raise leading_error(errors) from None
    parts = [task.result() for task in tasks]
    return Conditioning(
        positive={name: tensor for part in parts for name, tensor in part.positive.items()},
        negative={name: tensor for part in parts for name, tensor in part.negative.items()},
    )


async def _condition_one(state: RunState, node: NodePlan, block: SignalBlock, deadline_s: float) -> Conditioning:
    with state.calling(node, deadline_s) as call:
        conditioning = await state.caller.condition(call, block)
        state.first_result(node)
        return conditioning
