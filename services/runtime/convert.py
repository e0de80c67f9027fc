"""Between protobuf messages and the dataclasses of ``graph.messages``: what is asked and answered.

Only here and in ``convert_nodes`` are both known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyplex.v1 import backbone_pb2, component_pb2, encoder_pb2, gateway_pb2, types_pb2
from graph import messages as m
from graph.cards import CardInfo, ConditioningInfo
from graph.errors import InvalidRequest

DTYPES: dict[str, int] = {
    "float32": types_pb2.DATA_TYPE_FLOAT32, "bfloat16": types_pb2.DATA_TYPE_BFLOAT16,
    "float16": types_pb2.DATA_TYPE_FLOAT16, "int64": types_pb2.DATA_TYPE_INT64,
    "int32": types_pb2.DATA_TYPE_INT32, "uint8": types_pb2.DATA_TYPE_UINT8, "bool": types_pb2.DATA_TYPE_BOOL,
}  # fmt: skip
DTYPE_NAMES = {number: name for name, number in DTYPES.items()}
ROLES: dict[m.Role, int] = {
    "system": types_pb2.ROLE_SYSTEM, "user": types_pb2.ROLE_USER, "assistant": types_pb2.ROLE_ASSISTANT,
}  # fmt: skip
ROLE_NAMES = {number: name for name, number in ROLES.items()} | {types_pb2.ROLE_UNSPECIFIED: "user"}
REASONS: dict[m.FinishReason, int] = {
    "stop": types_pb2.FINISH_REASON_STOP, "length": types_pb2.FINISH_REASON_LENGTH,
    "interrupted": types_pb2.FINISH_REASON_INTERRUPTED,
}  # fmt: skip
REASON_NAMES = {number: name for name, number in REASONS.items()}


def tensor_to_proto(tensor: m.Tensor) -> types_pb2.Tensor:
    """Convert a tensor."""
    out = types_pb2.Tensor(dtype=DTYPES[tensor.dtype], shape=tensor.shape, dims=tensor.dims)  # type: ignore[arg-type]
    if tensor.ref is not None:
        out.ref.CopyFrom(
            types_pb2.TensorRef(
                address=tensor.ref.address, tensor_id=tensor.ref.tensor_id,
                lease_id=tensor.ref.lease_id, size_bytes=tensor.ref.size_bytes,
            )
        )  # fmt: skip
    else:
        out.inline = tensor.data or b""
    return out


def tensor_from_proto(tensor: types_pb2.Tensor) -> m.Tensor:
    """Convert a tensor; unknown dtypes become "" and are refused by ``check_tensor``."""
    ref = None
    if tensor.HasField("ref"):
        ref = m.TensorRef(tensor.ref.address, tensor.ref.tensor_id, tensor.ref.lease_id, tensor.ref.size_bytes)
    data = tensor.inline if ref is None else None
    return m.Tensor(DTYPE_NAMES.get(tensor.dtype, ""), tuple(tensor.shape), tuple(tensor.dims), data, ref)


def region_to_proto(region: m.Region) -> types_pb2.Region:
    """Convert a place in a medium."""
    return types_pb2.Region(x1=region.x1, y1=region.y1, x2=region.x2, y2=region.y2, label=region.label)


def region_from_proto(region: types_pb2.Region) -> m.Region:
    """Convert a place in a medium."""
    return m.Region(region.x1, region.y1, region.x2, region.y2, region.label)


def media_to_proto(media: m.Media) -> types_pb2.Media:
    """Convert a medium."""
    out = types_pb2.Media(modality=media.modality, mime_type=media.mime_type, content_hash=media.content_hash)
    if media.features is not None:
        out.features.CopyFrom(tensor_to_proto(media.features))
    elif media.handle:
        out.handle = media.handle
    else:
        out.inline = media.data or b""
    out.regions.extend(map(region_to_proto, media.regions))
    return out


def media_from_proto(media: types_pb2.Media) -> m.Media:
    """Convert a medium."""
    source = media.WhichOneof("source")
    return m.Media(
        modality=media.modality,
        mime_type=media.mime_type,
        data=media.inline if source == "inline" else None,
        handle=media.handle if source == "handle" else "",
        features=tensor_from_proto(media.features) if source == "features" else None,
        content_hash=media.content_hash,
        regions=tuple(map(region_from_proto, media.regions)),
    )


def message_from_proto(message: types_pb2.Message, where: str) -> m.Message:
    """Convert a message.

    Raises:
        InvalidRequest: A part is empty or the role unknown.
    """
    role = ROLE_NAMES.get(message.role)
    if role is None:
        raise InvalidRequest(f"unknown role {message.role}", f"{where}.role")
    parts: list[m.Part] = []
    for index, part in enumerate(message.parts):
        content = part.WhichOneof("content")
        if content is None:
            raise InvalidRequest("neither text nor media: exactly one expected", f"{where}.parts[{index}]")
        if content == "text":
            parts.append(m.Part(text=part.text))
        else:
            parts.append(m.Part(media=media_from_proto(part.media)))
    return m.Message(role, tuple(parts))


def sampling_from_proto(sampling: types_pb2.Sampling, default: m.Sampling) -> m.Sampling:
    """Convert sampling parameters; absent ones come from ``default``."""

    def get(name: Any, fallback: Any) -> Any:  # noqa: ANN401 - any scalar
        return getattr(sampling, name) if sampling.HasField(name) else fallback

    return m.Sampling(
        max_tokens=get("max_tokens", default.max_tokens),
        temperature=get("temperature", default.temperature),
        top_p=get("top_p", default.top_p),
        top_k=get("top_k", default.top_k),
        repetition_penalty=get("repetition_penalty", default.repetition_penalty),
        presence_penalty=get("presence_penalty", default.presence_penalty),
        frequency_penalty=get("frequency_penalty", default.frequency_penalty),
        stop=tuple(sampling.stop) or default.stop,
        seed=get("seed", default.seed),
        n=get("n", default.n),
        logprobs=get("logprobs", default.logprobs),
    )


def sampling_to_proto(sampling: m.Sampling) -> types_pb2.Sampling:
    """Convert sampling parameters."""
    return types_pb2.Sampling(
        max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
        top_k=sampling.top_k, repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty, frequency_penalty=sampling.frequency_penalty,
        stop=sampling.stop, seed=sampling.seed, n=sampling.n, logprobs=sampling.logprobs,
    )  # fmt: skip


_PARAMETERS = ("width", "height", "steps", "guidance_scale", "frames", "seconds", "preview_every_steps")


def parameters_from_proto(parameters: types_pb2.MediaParameters) -> m.MediaParameters:
    """Convert media parameters."""
    present = {name: getattr(parameters, name) for name in _PARAMETERS if parameters.HasField(name)}
    return m.MediaParameters(mime_type=parameters.mime_type, **present)


def parameters_to_proto(parameters: m.MediaParameters) -> types_pb2.MediaParameters:
    """Convert media parameters."""
    present = {name: getattr(parameters, name) for name in _PARAMETERS if getattr(parameters, name) is not None}
    return types_pb2.MediaParameters(mime_type=parameters.mime_type, **present)


def version_to_proto(version: m.VersionRef) -> types_pb2.VersionRef:
    """Convert a version reference."""
    return types_pb2.VersionRef(version=version.version, adapter=version.adapter)


def version_from_proto(version: types_pb2.VersionRef) -> m.VersionRef:
    """Convert a version reference."""
    return m.VersionRef(version.version, version.adapter)


def features_to_proto(features: m.Features) -> encoder_pb2.Features:
    """Convert features."""
    return encoder_pb2.Features(
        tensor=tensor_to_proto(features.tensor), content_hash=features.content_hash, times_s=features.times_s
    )


def features_from_proto(features: encoder_pb2.Features) -> m.Features:
    """Convert features."""
    return m.Features(tensor_from_proto(features.tensor), features.content_hash, tuple(features.times_s))


def segment_to_proto(segment: m.Segment) -> types_pb2.Segment:
    """Convert a segment."""
    out = types_pb2.Segment(
        modality=segment.modality, content_hash=segment.content_hash, position_ids=segment.position_ids
    )
    if segment.token_type == "media":
        out.token_type = types_pb2.TOKEN_TYPE_MEDIA
    if segment.position_mode == "shared":
        out.position_mode = types_pb2.POSITION_MODE_SHARED
    if segment.embeddings is not None:
        out.embeddings.CopyFrom(tensor_to_proto(segment.embeddings))
    elif segment.cross_memory is not None:
        out.cross_memory.CopyFrom(tensor_to_proto(segment.cross_memory))
    elif segment.token_ids is not None:
        out.token_ids.ids.extend(segment.token_ids)
    else:
        out.text = segment.text or ""
    return out


def segment_from_proto(segment: types_pb2.Segment) -> m.Segment:
    """Convert a segment; one without content becomes empty text."""
    content = segment.WhichOneof("content")
    return m.Segment(
        text=segment.text if content in (None, "text") else None,
        token_ids=tuple(segment.token_ids.ids) if content == "token_ids" else None,
        embeddings=tensor_from_proto(segment.embeddings) if content == "embeddings" else None,
        cross_memory=tensor_from_proto(segment.cross_memory) if content == "cross_memory" else None,
        modality=segment.modality,
        token_type="media" if segment.token_type == types_pb2.TOKEN_TYPE_MEDIA else "language",
        position_mode="shared" if segment.position_mode == types_pb2.POSITION_MODE_SHARED else "sequential",
        content_hash=segment.content_hash,
        position_ids=tuple(segment.position_ids),
    )


def decode_to_proto(request: m.DecodeRequest, version: m.VersionRef) -> backbone_pb2.DecodeRequest:
    """Convert a decode request."""
    return backbone_pb2.DecodeRequest(
        version=version_to_proto(version),
        turns=[
            backbone_pb2.Turn(role=ROLES[turn.role], segments=map(segment_to_proto, turn.segments))  # type: ignore[arg-type]
            for turn in request.turns
        ],
        sampling=sampling_to_proto(request.sampling),
        raw=request.raw,
        force_signals=request.force_signals,
        priority=request.priority,
        produced_ids=request.produced_ids,
        session_id=request.session_id,
        text_only=request.text_only,
    )


def decode_from_proto(request: backbone_pb2.DecodeRequest) -> m.DecodeRequest:
    """Convert a decode request.

    Raises:
        InvalidRequest: A role is unknown.
    """
    turns: list[m.Turn] = []
    for index, turn in enumerate(request.turns):
        role = ROLE_NAMES.get(turn.role)
        if role is None:
            raise InvalidRequest(f"unknown role {turn.role}", f"request.turns[{index}].role")
        turns.append(m.Turn(role, tuple(map(segment_from_proto, turn.segments))))
    return m.DecodeRequest(
        turns=tuple(turns),
        sampling=sampling_from_proto(request.sampling, m.Sampling()),
        raw=request.raw,
        force_signals=tuple(request.force_signals),
        priority=request.priority,
        produced_ids=tuple(request.produced_ids),
        session_id=request.session_id,
        text_only=request.text_only,
    )


def logprobs_to_proto(logprobs: Sequence[m.TokenLogprob]) -> list[types_pb2.TokenLogprob]:
    """Convert log-probabilities."""
    return [
        types_pb2.TokenLogprob(
            token_id=item.token_id, logprob=item.logprob, alternatives=logprobs_to_proto(item.alternatives)
        )
        for item in logprobs
    ]


def event_to_proto(event: m.Event, sequence: int) -> gateway_pb2.Event:
    """Convert an event of a request; ``MediaFailed`` is filled in by the gateway, which knows the request."""
    out = gateway_pb2.Event(sequence=sequence, node=event.node, choice=event.choice)
    match event.body:
        case m.TextDelta(text, logprobs):
            out.text.text = text
            out.text.logprobs.extend(logprobs_to_proto(logprobs))
        case m.MediaStarted(index, modality, mime_type):
            out.media_started.media_index = index
            out.media_started.modality = modality
            out.media_started.mime_type = mime_type
        case m.MediaProgress(index, step, steps, preview):
            out.media_progress.media_index = index
            out.media_progress.step = step
            out.media_progress.steps = steps
            out.media_progress.preview = preview
        case m.MediaChunk(index, data, last):
            out.media_chunk.media_index = index
            out.media_chunk.data = data
            out.media_chunk.last = last
        case m.MediaFailed(index, _):
            out.media_failed.media_index = index
        case m.RegionsFound(index, regions, start, end):
            out.regions_found.media_index = index
            out.regions_found.regions.extend(map(region_to_proto, regions))
            out.regions_found.text_start = start
            out.regions_found.text_end = end
        case m.Finished(reason, usage, timings):
            out.finished.reason = REASONS[reason]  # type: ignore[assignment]
            out.finished.usage.prompt_tokens = usage.prompt_tokens
            out.finished.usage.completion_tokens = usage.completion_tokens
            out.finished.usage.media_tokens = usage.media_tokens
            for t in timings:
                out.finished.timings.append(
                    gateway_pb2.NodeTiming(node=t.node, start_s=t.start_s, first_s=t.first_s, end_s=t.end_s)
                )
    return out


def card_from_proto(card: component_pb2.ContractCard) -> CardInfo:
    """Convert the parts of a contract card that neighbours are checked against."""
    return CardInfo(
        kind=card.kind,
        type=card.type,
        modalities=tuple(card.modalities),
        input_width=card.input_width,
        output_width=card.output_width,
        tokens_per_item=card.tokens_per_item,
        max_tokens_per_item=card.max_tokens_per_item,
        max_frames=card.token_counts["video"].max_units if "video" in card.token_counts else 0,
        reads_prompt=card.reads_prompt,
        cross_memory=card.cross_memory,
        signals=dict(card.signals),
        tokenizer_fingerprint=card.tokenizer_fingerprint,
        context_tokens=card.context_tokens,
        adds_input_embeddings=card.adds_input_embeddings,
        conditioning={
            name: ConditioningInfo(tuple(shape.sizes), shape.optional) for name, shape in card.conditioning.items()
        },
    )
