"""What happens to a request, as it happens: the events of ``Client.stream``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from anyplex import errors
from anyplex.media import Region
from anyplex.v1 import gateway_pb2, types_pb2

FinishReason = Literal["stop", "length", "interrupted", "unknown"]

_REASONS: dict[int, FinishReason] = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
    types_pb2.FINISH_REASON_INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithm of one token's probability, and the likeliest tokens in its place, likeliest first."""

    token_id: int
    logprob: float
    alternatives: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What an answer cost, in tokens; media are part of the prompt."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    media_tokens: int = 0


@dataclass(frozen=True)
class NodeTiming:
    """When a node ran, in seconds since the request was accepted."""

    node: str
    start_s: float
    first_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        sequence: 0, 1, 2, … without gaps.
        node: Node of the system it comes from; empty for the gateway.
        choice: Which of the ``n`` answers it belongs to.
    """

    sequence: int = 0
    node: str = ""
    choice: int = 0


@dataclass(frozen=True, kw_only=True)
class Accepted(Event):
    """The request was taken; always first. Comes again where the client has sent the request again."""

    request_id: str
    system: str
    versions: Mapping[str, str]
    seed: int
    repinned: bool = False


@dataclass(frozen=True, kw_only=True)
class Text(Event):
    """More text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MediaStarted(Event):
    """A medium is being made."""

    media_index: int
    modality: str
    mime_type: str


@dataclass(frozen=True, kw_only=True)
class MediaProgress(Event):
    """How far a medium is; ``preview`` is a small PNG, or empty."""

    media_index: int
    step: int
    steps: int
    preview: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class MediaChunk(Event):
    """Bytes of a medium."""

    media_index: int
    data: bytes = field(repr=False)
    last: bool = False
    handle: str = ""


@dataclass(frozen=True, kw_only=True)
class MediaFailed(Event):
    """A medium that will not come; the rest of the answer goes on.

    ``modality`` is empty where the gateway does not know it.
    """

    media_index: int
    error: errors.AnyplexError
    modality: str = ""


@dataclass(frozen=True, kw_only=True)
class RegionsFound(Event):
    """Places in a medium of the request that the answer points to.

    Attributes:
        media_index: The medium: its number among all media of the request, from 0.
        regions: The places.
        text_start: First character of the answer's text that they belong to.
        text_end: The one after the last; both 0: the whole answer.
    """

    media_index: int
    regions: tuple[Region, ...]
    text_start: int = 0
    text_end: int = 0


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The answer is complete; always last."""

    reason: FinishReason
    usage: Usage
    timings: tuple[NodeTiming, ...] = ()


def decode(message: gateway_pb2.Event) -> Event | None:
    """Return a received event, or None for a kind that this client is too old to know."""
    kind = message.WhichOneof("event")
    return _DECODERS[kind](message) if kind in _DECODERS else None


def begins_answer(message: gateway_pb2.Event) -> bool:
    """Whether something of the answer has come with an event: then the request may not be sent again."""
    return bool(message.WhichOneof("event") != "accepted")


def _accepted(message: gateway_pb2.Event) -> Event:
    body = message.accepted
    return Accepted(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        request_id=body.request_id,
        system=body.versions.system,
        versions=dict(body.versions.slots),
        seed=body.seed,
        repinned=body.repinned,
    )


def _logprob(item: types_pb2.TokenLogprob) -> TokenLogprob:
    alternatives = tuple(TokenLogprob(other.token_id, other.logprob) for other in item.alternatives)
    return TokenLogprob(item.token_id, item.logprob, alternatives)


def _text(message: gateway_pb2.Event) -> Event:
    return Text(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        text=message.text.text,
        logprobs=tuple(map(_logprob, message.text.logprobs)),
    )


def _media_started(message: gateway_pb2.Event) -> Event:
    body = message.media_started
    return MediaStarted(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        media_index=body.media_index,
        modality=body.modality,
        mime_type=body.mime_type,
    )


def _media_progress(message: gateway_pb2.Event) -> Event:
    body = message.media_progress
    return MediaProgress(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        media_index=body.media_index,
        step=body.step,
        steps=body.steps,
        preview=body.preview,
    )


def _media_chunk(message: gateway_pb2.Event) -> Event:
    body = message.media_chunk
    return MediaChunk(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        media_index=body.media_index,
        data=body.data,
        last=body.last,
        handle=body.handle,
    )


def _media_failed(message: gateway_pb2.Event) -> Event:
    body = message.media_failed
    return MediaFailed(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        media_index=body.media_index,
        error=errors.from_detail(body.error),
        modality=body.modality,
    )


def _regions_found(message: gateway_pb2.Event) -> Event:
    body = message.regions_found
    return RegionsFound(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        media_index=body.media_index,
        regions=tuple(Region(item.x1, item.y1, item.x2, item.y2, item.label) for item in body.regions),
        text_start=body.text_start,
        text_end=body.text_end,
    )


def _finished(message: gateway_pb2.Event) -> Event:
    body = message.finished
    return Finished(
        sequence=message.sequence,
        node=message.node,
        choice=message.choice,
        reason=_REASONS.get(body.reason, "unknown"),
        usage=Usage(body.usage.prompt_tokens, body.usage.completion_tokens, body.usage.media_tokens),
        timings=tuple(NodeTiming(item.node, item.start_s, item.first_s, item.end_s) for item in body.timings),
    )


_DECODERS: dict[str, Callable[[gateway_pb2.Event], Event]] = {
    "accepted": _accepted,
    "text": _text,
    "media_started": _media_started,
    "media_progress": _media_progress,
    "media_chunk": _media_chunk,
    "media_failed": _media_failed,
    "regions_found": _regions_found,
    "finished": _finished,
}
