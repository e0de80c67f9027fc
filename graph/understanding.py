"""The input half of a request: media through encoders and projectors, side by side, into ordered turns."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graph.errors import FailedPrecondition, InvalidRequest
from graph.messages import Features, Media, Message, Segment, Turn
from graph.plan import NodePlan, SystemPlan
from graph.run_state import RunState

# One call carries at most so much: messages stay far below the transport's cap, batches spread over replicas.
MAX_CALL_ITEMS = 16
MAX_CALL_BYTES = 8 * 2**20
ITEM_PATTERN = re.compile(r"items\[(\d+)\]")


@dataclass(frozen=True, eq=False)
class Item:
    """One medium of the request, and where it stands; compared by identity, its bytes are never hashed for it."""

    turn: int
    part: int
    media: Media

    @property
    def place(self) -> str:
        """Path of the field it came in."""
        return media_place(self.turn, self.part, self.media.modality)


def media_place(turn: int, part: int, modality: str) -> str:
    """Return the path of a medium in a request."""
    return f"request.messages[{turn}].parts[{part}].{modality or 'media'}"


Source = tuple["asyncio.Task[list[Features]]", int] | Features
"""Features that are there, or a running call and their place in its result."""


class Understanding:
    """Reads the media of one request.

    Args:
        state: The request.
    """

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.plan = state.plan
        self.items = _collect(state.plan, state.request.messages)
        self._of_turn: dict[int, list[Item]] = {}
        for item in self.items:
            self._of_turn.setdefault(item.turn, []).append(item)
        self._sources: dict[tuple[str, Item], Source] = {}
        self._projected: dict[tuple[str, int], asyncio.Task[list[tuple[Item, Segment]]]] = {}

    async def turns(self) -> tuple[Turn, ...]:
        """Encode and project everything; return the conversation as the backbone reads it.

        Raises:
            AnyplexError: A node failed; the others were stopped.
            ExceptionGroup: Several did.
        """
        messages = self.state.request.messages
        if self.items:
            async with asyncio.TaskGroup() as group:
                for modality in dict.fromkeys(item.media.modality for item in self.items):
                    self._start_encoders(modality, group)
                self._start_projectors(group)
        return tuple(
            Turn(message.role, tuple(self._segments(index, message))) for index, message in enumerate(messages)
        )

    def _start_encoders(self, modality: str, group: asyncio.TaskGroup) -> None:
        encoders = self.plan.encoders[modality]
        items = [item for item in self.items if item.media.modality == modality]
        for place, encoder in enumerate(encoders):
            pending: list[Item] = []
            for item in items:
                if item.media.features is None:
                    pending.append(item)
                elif place == 0:
                    # Made before, by the first encoder of the modality: the others have nothing to read. Their hash
                    # is only claimed; passed on, it could lay a stranger's features under a key others look up.
                    self._sources[encoder.name, item] = Features(item.media.features)
            self._start_encoder(encoder, pending, group)

    def _start_encoder(self, encoder: NodePlan, items: Sequence[Item], group: asyncio.TaskGroup) -> None:
        sizes = Counter(len(item.media.data or b"") for item in items)
        alike: dict[object, list[Item]] = {}
        for item in items:
            # Only media of the same size can be the same: the others' bytes are never hashed.
            alone = sizes[len(item.media.data or b"")] == 1
            alike.setdefault(item if alone else _content_key(item.media), []).append(item)
        for batch in _batches([twins[0] for twins in alike.values()]):
            task = group.create_task(self._encode(encoder, batch))
            for index, item in enumerate(batch):
                self._sources[encoder.name, item] = (task, index)
        for twins in alike.values():
            for twin in twins[1:]:
                self._sources[encoder.name, twin] = self._sources[encoder.name, twins[0]]

    async def _encode(self, encoder: NodePlan, batch: Sequence[Item]) -> list[Features]:
        with self.state.calling(encoder) as call:
            try:
                found = await self.state.caller.encode(call, [item.media for item in batch], encoder.frames)
            except InvalidRequest as error:
                raise _bad_medium(error, batch) from error
            if len(found) != len(batch):
                raise FailedPrecondition(f"gave features of {len(found)} media, {len(batch)} expected")
            self.state.first_result(encoder)
            return found

    def _start_projectors(self, group: asyncio.TaskGroup) -> None:
        for projector in self.plan.projectors:
            for turn in self._of_turn:
                if any(self._reaches(source, turn) for source in projector.inputs):
                    task = group.create_task(self._project(projector, turn))
                    self._projected[projector.name, turn] = task

    def _reaches(self, source: str, turn: int) -> bool:
        if (source, turn) in self._projected:
            return True
        return any((source, item) in self._sources for item in self._of_turn[turn])

    async def _given(self, projector: NodePlan, turn: int) -> list[tuple[Item, Features]]:
        """Return what a projector reads of a turn, in the order of the parts."""
        given: list[tuple[Item, Features]] = []
        for name in projector.inputs:
            task = self._projected.get((name, turn))
            if task is not None:
                given += [
                    (item, Features(segment.embeddings, segment.content_hash))
                    for item, segment in await task
                    if segment.embeddings is not None and not _is_empty(segment)
                ]
                continue
            for item in self._of_turn[turn]:
                source = self._sources.get((name, item))
                if source is not None:
                    given.append((item, source if isinstance(source, Features) else (await source[0])[source[1]]))
        return sorted(given, key=lambda pair: pair[0].part)

    async def _project(self, projector: NodePlan, turn: int) -> list[tuple[Item, Segment]]:
        given = await self._given(projector, turn)
        if not given:
            return []
        prompt = prompt_of(self.state.request.messages[turn])
        with self.state.calling(projector) as call:
            segments = await self.state.caller.project(call, [features for _, features in given], prompt)
            if len(segments) != len(given):
                raise FailedPrecondition(f"gave {len(segments)} segments, {len(given)} expected")
            self.state.first_result(projector)
        return [
            (item, segment if segment.modality else dataclasses.replace(segment, modality=item.media.modality))
            for (item, _), segment in zip(given, segments, strict=True)
        ]

    def _segments(self, turn: int, message: Message) -> list[Segment]:
        by_part: dict[int, list[Segment]] = {}
        for name in self.plan.backbone.inputs:
            task = self._projected.get((name, turn))
            for item, segment in task.result() if task is not None else ():
                if not _is_empty(segment):
                    by_part.setdefault(item.part, []).append(segment)
        segments: list[Segment] = []
        for index, part in enumerate(message.parts):
            segments += [Segment(text=part.text)] if part.media is None else by_part.get(index, [])
        return segments


def prompt_of(message: Message) -> str:
    """Return the text of a turn, for projectors that read it."""
    return " ".join(part.text.strip() for part in message.parts if part.media is None and part.text.strip())


def _collect(plan: SystemPlan, messages: Sequence[Message]) -> list[Item]:
    items = []
    for turn, message in enumerate(messages):
        for index, part in enumerate(message.parts):
            if part.media is None:
                continue
            item = Item(turn, index, part.media)
            if part.media.modality not in plan.encoders:
                taken = ", ".join(plan.takes)
                raise InvalidRequest(
                    f"{plan.system} does not read {part.media.modality or 'this'}; it reads {taken}", item.place
                )
            items.append(item)
    return items


def _content_key(media: Media) -> object:
    # The bytes themselves: a hash that came with the request is only claimed.
    return (media.data or media.handle, media.mime_type, media.regions)


def _is_empty(segment: Segment) -> bool:
    """Tell whether a segment is one of those that a merging projector leaves where the later media stood."""
    if segment.embeddings is not None:
        return segment.embeddings.shape[:1] == (0,)
    return not segment.text and segment.token_ids is None and segment.cross_memory is None


def _batches(items: Sequence[Item]) -> list[list[Item]]:
    batches: list[list[Item]] = []
    size = 0
    for item in items:
        weight = len(item.media.data or b"")
        if not batches or len(batches[-1]) >= MAX_CALL_ITEMS or size + weight > MAX_CALL_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += weight
    return batches


def _bad_medium(error: InvalidRequest, batch: Sequence[Item]) -> InvalidRequest:
    """Name the part of the request that an encoder refused; encoders say ``items[k]`` when they got several."""
    match = ITEM_PATTERN.match(error.where)
    if match and int(match[1]) < len(batch):
        place = batch[int(match[1])].place
    else:
        place = " or ".join(item.place for item in batch)
    return InvalidRequest(error.message, place, error.retry_after_s)
