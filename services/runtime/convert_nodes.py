"""Between protobuf messages and the dataclasses of ``graph.messages``: what nodes tell while they run."""

from __future__ import annotations

from collections.abc import Sequence

from anyplex.v1 import backbone_pb2, generator_pb2, output_projector_pb2, types_pb2
from graph import messages as m
from services.runtime.convert import (
    REASON_NAMES,
    REASONS,
    logprobs_to_proto,
    media_from_proto,
    media_to_proto,
    parameters_from_proto,
    parameters_to_proto,
    tensor_from_proto,
    tensor_to_proto,
    version_to_proto,
)


def logprobs_from_proto(logprobs: Sequence[types_pb2.TokenLogprob]) -> tuple[m.TokenLogprob, ...]:
    """Convert log-probabilities."""
    return tuple(
        m.TokenLogprob(
            item.token_id,
            item.logprob,
            tuple(m.TokenLogprob(other.token_id, other.logprob) for other in item.alternatives),
        )
        for item in logprobs
    )


def block_to_proto(block: m.SignalBlock) -> backbone_pb2.SignalBlock:
    """Convert a signal block."""
    return backbone_pb2.SignalBlock(
        block=block.block,
        modality=block.modality,
        hidden_states=tensor_to_proto(block.hidden_states),
        input_embeddings=None if block.input_embeddings is None else tensor_to_proto(block.input_embeddings),
        text_so_far=block.text_so_far,
        token_ids=block.token_ids,
    )


def block_from_proto(block: backbone_pb2.SignalBlock, choice: int = 0) -> m.SignalBlock:
    """Convert a signal block."""
    embeddings = tensor_from_proto(block.input_embeddings) if block.HasField("input_embeddings") else None
    return m.SignalBlock(
        block.block,
        block.modality,
        tensor_from_proto(block.hidden_states),
        embeddings,
        block.text_so_far,
        choice,
        tuple(block.token_ids),
    )


def decode_event_to_proto(event: m.DecodeEvent) -> backbone_pb2.DecodeResponse:
    """Convert an event of a backbone."""
    out = backbone_pb2.DecodeResponse(choice=event.choice)
    if isinstance(event, m.DecodedText):
        out.text.text = event.text
        out.text.token_ids.extend(event.token_ids)
        out.text.logprobs.extend(logprobs_to_proto(event.logprobs))
    elif isinstance(event, m.SignalBlock):
        out.signal.CopyFrom(block_to_proto(event))
    elif isinstance(event, m.DecodeFinished):
        out.finished.reason = REASONS[event.reason]  # type: ignore[assignment]
        out.finished.completion_tokens = event.completion_tokens
        out.finished.queue_s = event.queue_s
    else:
        out.started.prompt_tokens = event.prompt_tokens
        out.started.media_tokens = event.media_tokens
    return out


def decode_event_from_proto(event: backbone_pb2.DecodeResponse) -> m.DecodeEvent:
    """Convert an event of a backbone."""
    match event.WhichOneof("event"):
        case "text":
            logprobs = logprobs_from_proto(event.text.logprobs)
            return m.DecodedText(event.text.text, tuple(event.text.token_ids), logprobs, event.choice)
        case "signal":
            return block_from_proto(event.signal, event.choice)
        case "finished":
            finished = event.finished
            reason = REASON_NAMES.get(finished.reason, "stop")
            return m.DecodeFinished(reason, finished.completion_tokens, finished.queue_s, event.choice)
        case _:
            return m.DecodeStarted(event.started.prompt_tokens, event.started.media_tokens, event.choice)


def conditioning_from_proto(response: output_projector_pb2.ConditionResponse) -> m.Conditioning:
    """Convert conditioning."""
    return m.Conditioning(
        {name: tensor_from_proto(tensor) for name, tensor in response.conditioning.items()},
        {name: tensor_from_proto(tensor) for name, tensor in response.negative.items()},
    )


def conditioning_to_proto(conditioning: m.Conditioning) -> output_projector_pb2.ConditionResponse:
    """Convert conditioning."""
    return output_projector_pb2.ConditionResponse(
        conditioning={name: tensor_to_proto(tensor) for name, tensor in conditioning.positive.items()},
        negative={name: tensor_to_proto(tensor) for name, tensor in conditioning.negative.items()},
    )


def render_to_proto(request: m.RenderRequest, version: m.VersionRef) -> generator_pb2.RenderRequest:
    """Convert a render request."""
    return generator_pb2.RenderRequest(
        version=version_to_proto(version),
        conditioning={name: tensor_to_proto(t) for name, t in request.conditioning.positive.items()},
        negative={name: tensor_to_proto(t) for name, t in request.conditioning.negative.items()},
        parameters=parameters_to_proto(request.parameters),
        seed=request.seed,
        priority=request.priority,
        references=map(media_to_proto, request.references),
    )


def render_from_proto(request: generator_pb2.RenderRequest) -> m.RenderRequest:
    """Convert a render request."""
    return m.RenderRequest(
        conditioning=m.Conditioning(
            {name: tensor_from_proto(tensor) for name, tensor in request.conditioning.items()},
            {name: tensor_from_proto(tensor) for name, tensor in request.negative.items()},
        ),
        parameters=parameters_from_proto(request.parameters),
        seed=request.seed,
        priority=request.priority,
        references=tuple(map(media_from_proto, request.references)),
    )


def render_event_to_proto(event: m.RenderEvent) -> generator_pb2.RenderResponse:
    """Convert an event of a generator."""
    out = generator_pb2.RenderResponse()
    match event:
        case m.RenderProgress(step, steps, preview):
            out.progress.step = step
            out.progress.steps = steps
            out.progress.preview = preview
        case m.RenderChunk(data, last):
            out.chunk.data = data
            out.chunk.last = last
        case m.RenderStarted(mime_type):
            out.started.mime_type = mime_type
    return out


def render_event_from_proto(event: generator_pb2.RenderResponse) -> m.RenderEvent:
    """Convert an event of a generator."""
    match event.WhichOneof("event"):
        case "progress":
            return m.RenderProgress(event.progress.step, event.progress.steps, event.progress.preview)
        case "chunk":
            return m.RenderChunk(event.chunk.data, event.chunk.last)
        case _:
            return m.RenderStarted(event.started.mime_type)
