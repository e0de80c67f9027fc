"""The nouns that travel along the edges of a graph: what is asked, what nodes exchange, what is answered.

Plain frozen dataclasses without protobuf, so that the executor runs over gRPC, in one process and over fakes
alike. Field meanings, shapes and units are those of ``protos/anyplex/v1``; ``services.runtime.convert`` maps
one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class TensorRef:
    """Where a tensor lies: with its producer, under the lease of a request."""

    address: str
    tensor_id: str
    lease_id: str
    size_bytes: int


@dataclass(frozen=True)
class Tensor:
    """A dense row-major array; exactly one of ``data`` and ``ref`` is set. The executor never looks inside.

    ``dtype`` is one of float32, bfloat16, float16, int64, int32, uint8, bool.
    """

    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    data: bytes | None = None
    ref: TensorRef | None = None


@dataclass(frozen=True)
class Region:
    """A box or point in a medium, in fractions of its size."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""


@dataclass(frozen=True)
class Media:
    """A medium; exactly one of ``data`` (encoded file), ``handle`` (uploaded) and ``features`` is set."""

    modality: str
    mime_type: str = ""
    data: bytes | None = None
    handle: str = ""
    features: Tensor | None = None
    content_hash: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Part:
    """A piece of a message: text or a medium."""

    text: str = ""
    media: Media | None = None


@dataclass(frozen=True)
class Message:
    """One turn: ordered parts by one speaker."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class VersionRef:
    """Which weights a node runs, and which LoRA adapter on top; empty strings mean the only one, and none."""

    version: str = ""
    adapter: str = ""


@dataclass(frozen=True)
class Sampling:
    """How text is sampled; numbers are checked by ``graph.checks``."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    n: int = 1
    logprobs: int | None = None


@dataclass(frozen=True)
class MediaParameters:
    """Parameters of a medium to be made; None means the generator's default."""

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    frames: int | None = None
    seconds: float | None = None
    mime_type: str = ""
    preview_every_steps: int = 0


@dataclass(frozen=True)
class Request:
    """One request as the executor runs it; checked, pinned and with its seed drawn."""

    request_id: str
    system: str
    messages: tuple[Message, ...]
    versions: Mapping[str, str]
    sampling: Sampling = field(default_factory=Sampling)
    outputs: tuple[str, ...] = ()
    media_parameters: Mapping[str, MediaParameters] = field(default_factory=dict)
    session_id: str = ""
    priority: int = 0


# ---- what nodes exchange ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """Features of one medium: [tokens, width] or [frames, tokens, width]."""

    tensor: Tensor
    content_hash: str = ""
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A piece of what the backbone reads; exactly one of the first four is set (``text`` may be empty).

    ``position_ids`` count from where the segment begins, one for each token; empty means as ``position_mode`` says.
    """

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    embeddings: Tensor | None = None
    cross_memory: Tensor | None = None
    modality: str = ""
    token_type: Literal["language", "media"] = "language"
    position_mode: Literal["sequential", "shared"] = "sequential"
    content_hash: str = ""
    position_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Turn:
    """One turn of the conversation as the backbone reads it."""

    role: Role
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class DecodeRequest:
    """A request to decode; ``sampling.seed`` is already the node's own.

    ``force_signals`` are modalities whose block must come; with ``text_only`` no block may come.
    """

    turns: tuple[Turn, ...]
    sampling: Sampling
    raw: bool = False
    force_signals: tuple[str, ...] = ()
    priority: int = 0
    produced_ids: tuple[int, ...] = ()
    session_id: str = ""
    text_only: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithm of one token's probability, and the likeliest tokens in its place, likeliest first."""

    token_id: int
    logprob: float
    alternatives: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class DecodeStarted:
    """The prompt has been read."""

    prompt_tokens: int
    media_tokens: int
    choice: int = 0


@dataclass(frozen=True)
class DecodedText:
    """A piece of text: whole characters."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0


@dataclass(frozen=True)
class SignalBlock:
    """A closed run of signal tokens; states are [tokens, width] of the positions before each token.

    They are those of the last layer, behind the decoder's final norm. ``text_so_far`` may end with text that is held
    back because it may become a stop string.
    """

    block: int
    modality: str
    hidden_states: Tensor
    input_embeddings: Tensor | None = None
    text_so_far: str = ""
    choice: int = 0
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class DecodeFinished:
    """The answer is complete."""

    reason: FinishReason
    completion_tokens: int
    queue_s: float = 0.0
    choice: int = 0


DecodeEvent = DecodeStarted | DecodedText | SignalBlock | DecodeFinished


@dataclass(frozen=True)
class Conditioning:
    """What a generator reads, by its own names, and the negative side of guidance."""

    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RenderRequest:
    """A medium to make; ``seed`` is already the node's own."""

    conditioning: Conditioning
    parameters: MediaParameters
    seed: int
    priority: int = 0
    references: tuple[Media, ...] = ()


@dataclass(frozen=True)
class RenderStarted:
    """The generator has begun."""

    mime_type: str


@dataclass(frozen=True)
class RenderProgress:
    """A denoising step was done."""

    step: int
    steps: int
    preview: bytes = b""


@dataclass(frozen=True)
class RenderChunk:
    """Bytes of the file."""

    data: bytes
    last: bool = False


RenderEvent = RenderStarted | RenderProgress | RenderChunk

# ---- what the caller of the system sees ------------------------------------------------------------------


@dataclass(frozen=True)
class TextDelta:
    """More text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class MediaStarted:
    """A medium is being made."""

    media_index: int
    modality: str
    mime_type: str


@dataclass(frozen=True)
class MediaProgress:
    """How far it is."""

    media_index: int
    step: int
    steps: int
    preview: bytes = b""


@dataclass(frozen=True)
class MediaChunk:
    """Bytes of it."""

    media_index: int
    data: bytes
    last: bool = False


@dataclass(frozen=True)
class MediaFailed:
    """It will not come; ``modality`` is empty where it is not known."""

    media_index: int
    error: Exception
    modality: str = ""


@dataclass(frozen=True)
class RegionsFound:
    """Places in the ``media_index``-th medium of the request that the answer's text[start:end] points to."""

    media_index: int
    regions: tuple[Region, ...]
    text_start: int = 0
    text_end: int = 0


@dataclass(frozen=True)
class Usage:
    """What an answer cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    media_tokens: int = 0


@dataclass(frozen=True)
class NodeTiming:
    """When a node ran, seconds since the request was accepted."""

    node: str
    start_s: float
    first_s: float
    end_s: float


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    reason: FinishReason
    usage: Usage
    timings: tuple[NodeTiming, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that happened to a request, with the node it comes from. ``Accepted`` is the gateway's own."""

    node: str
    body: TextDelta | MediaStarted | MediaProgress | MediaChunk | MediaFailed | RegionsFound | Finished
    choice: int = 0
