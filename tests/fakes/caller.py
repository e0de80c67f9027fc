"""A caller that does what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from graph.caller import Call
from graph.messages import (
    Conditioning,
    DecodedText,
    DecodeEvent,
    DecodeFinished,
    DecodeRequest,
    DecodeStarted,
    Features,
    Media,
    RenderChunk,
    RenderEvent,
    RenderProgress,
    RenderRequest,
    RenderStarted,
    Segment,
    SignalBlock,
    Tensor,
)

HANG = "hang"

Step = object
"""An event to yield, an ``asyncio.Event`` to wait for, an exception to raise, or ``HANG``."""


def tensor(tokens: int = 4, width: int = 8, mark: str = "") -> Tensor:
    """Make a small tensor; ``mark`` stands in its bytes, so that tests can tell where it came from."""
    return Tensor("uint8", (tokens, width), ("tokens", "width"), mark.encode())


def spoken(*words: str, choice: int = 0) -> list[Step]:
    """Script an answer of text alone."""
    texts: list[Step] = [DecodedText(word, choice=choice) for word in words]
    return [DecodeStarted(7, 4), *texts, DecodeFinished("stop", len(words), choice=choice)]


def signal(modality: str, block: int = 0, choice: int = 0) -> SignalBlock:
    """Script a closed signal block."""
    return SignalBlock(block, modality, tensor(mark=f"signal {modality} {block}"), choice=choice)


def rendered(*chunks: bytes) -> list[Step]:
    """Script a medium that comes."""
    parts: list[Step] = [RenderChunk(chunk, last=index == len(chunks) - 1) for index, chunk in enumerate(chunks)]
    return [RenderStarted("image/png"), RenderProgress(1, 1), *parts]


@dataclass(frozen=True)
class Asked:
    """One call, as it came."""

    method: str
    node: str
    call: Call
    payload: Any


@dataclass
class FakeCaller:
    """Plays scripts.

    Attributes:
        before: Node to steps that happen before its (unary) result.
        streams: Node to what its stream consists of.
        merging: Projectors that lay all items into the first segment.
        asked: Every call in order.
        log: ``start``, ``end``, ``failed``, ``cancelled`` of every node, in order.
        released: Requests whose leases were ended.
    """

    before: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    streams: Mapping[str, Sequence[Step]] = field(default_factory=dict)
    merging: frozenset[str] = frozenset()
    asked: list[Asked] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, node: str) -> list[Asked]:
        """Return the calls of one node."""
        return [asked for asked in self.asked if asked.node == node]

    async def until(self, what: str, node: str, times: int = 1) -> None:
        """Wait until a node has started, ended, failed or been cancelled so many times."""
        while self.log.count((what, node)) < times:
            self._changed.clear()
            await self._changed.wait()

    def _note(self, what: str, node: str) -> None:
        self.log.append((what, node))
        self._changed.set()

    async def _play(self, method: str, call: Call, payload: object, steps: Sequence[Step]) -> AsyncIterator[object]:
        self.asked.append(Asked(method, call.node, call, payload))
        self.running.append(call.node)
        self._note("start", call.node)
        outcome = "cancelled"
        try:
            for step in steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                elif step is HANG:
                    await asyncio.Event().wait()
                else:
                    yield step
            outcome = "end"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.running.remove(call.node)
            self._note(outcome, call.node)

    async def _unary(self, method: str, call: Call, payload: object) -> None:
        async for step in self._play(method, call, payload, self.before.get(call.node, ())):
            raise TypeError(f"{call.node} gives one result, not a stream: {step!r}")

    async def encode(self, call: Call, items: Sequence[Media], frames: int = 0) -> list[Features]:
        await self._unary("encode", call, (list(items), frames))
        return [Features(tensor(mark=f"{call.node}({_bytes(item)})"), f"hash of {_bytes(item)}") for item in items]

    async def project(self, call: Call, items: Sequence[Features], prompt: str = "") -> list[Segment]:
        await self._unary("project", call, (list(items), prompt))
        marks = [(item.tensor.data or b"").decode() for item in items]
        if call.node in self.merging:
            merged = Segment(embeddings=tensor(mark=f"{call.node}({'+'.join(marks)})"))
            return [merged, *(Segment(text="") for _ in items[1:])]
        return [Segment(embeddings=tensor(mark=f"{call.node}({mark})")) for mark in marks]

    async def decode(self, call: Call, request: DecodeRequest) -> AsyncIterator[DecodeEvent]:
        steps = self.streams.get(call.node, spoken("yes"))
        async for step in self._play("decode", call, request, steps):
            yield cast(DecodeEvent, step)

    async def condition(self, call: Call, block: SignalBlock) -> Conditioning:
        await self._unary("condition", call, block)
        return Conditioning({call.node: block.hidden_states}, {f"not {call.node}": block.hidden_states})

    async def render(self, call: Call, request: RenderRequest) -> AsyncIterator[RenderEvent]:
        steps = self.streams.get(call.node, rendered(b"me", b"dia"))
        async for step in self._play("render", call, request, steps):
            yield cast(RenderEvent, step)

    async def release(self, request_id: str) -> None:
        self.released.append(request_id)


def _bytes(item: Media) -> str:
    return (item.data or b"").decode()
