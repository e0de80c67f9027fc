"""Wrong requests, made from the descriptors: every field missing or out of range."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from anyplex.v1 import gateway_pb2, types_pb2

BAD_FLOATS = (float("nan"), float("inf"), float("-inf"), -1e9)
BAD_INTS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (2**64 - 1,),
}
BAD_STRINGS = ("\x00", "x" * 300_000)
# Every value of these means something; a region of zeros is the corner at the top left.
MEANINGFUL = {"sampling.seed", "messages[0].parts[1].media.regions[0]"}
# What must be there; everything else may be left out.
REQUIRED = {"messages", "messages[0].parts", "messages[0].parts[1].media.modality", "messages[0].parts[1].media.inline"}


def whole(live: dict[str, str]) -> gateway_pb2.GenerateRequest:
    """A good request that uses every field; each one of them is then made bad in turn."""
    request = gateway_pb2.GenerateRequest(
        system="next-gpt", outputs=["text"], session_id="s", priority=1, idempotency_key="", pinned_versions=live,
    )  # fmt: skip
    message = request.messages.add(role=types_pb2.ROLE_USER)
    message.parts.add(text="what is this?")
    media = message.parts.add().media
    media.modality, media.mime_type, media.content_hash = "image", "image/png", "h"
    request.sampling.CopyFrom(
        types_pb2.Sampling(
            max_tokens=2,
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            repetition_penalty=1.1,
            presence_penalty=0.1,
            frequency_penalty=0.1,
            stop=["x"],
            seed=1,
            n=1,
            logprobs=1,
        )  # fmt: skip
    )
    return request


def with_regions(request: gateway_pb2.GenerateRequest) -> gateway_pb2.GenerateRequest:
    """The same with a place in the picture that the text refers to."""
    request = copy.deepcopy(request)
    request.messages[0].parts[1].media.regions.add(x1=0.1, y1=0.1, x2=0.9, y2=0.9, label="it")
    return request


def with_media_parameters(request: gateway_pb2.GenerateRequest) -> gateway_pb2.GenerateRequest:
    """The same with parameters of a medium to be made."""
    request = copy.deepcopy(request)
    parameters = {"steps": 1, "width": 64, "height": 64, "guidance_scale": 1.0, "frames": 1, "seconds": 1.0}
    request.media_parameters["image"].CopyFrom(types_pb2.MediaParameters(preview_every_steps=1, **parameters))
    return request


def with_source(request: gateway_pb2.GenerateRequest, source: str, picture: bytes) -> gateway_pb2.GenerateRequest:
    """Put the picture into one of the places where one can stand."""
    request = copy.deepcopy(request)
    media = request.messages[0].parts[1].media
    if source == "inline":
        media.inline = picture
    elif source == "handle":
        media.handle = "no-such-handle"
    else:
        media.features.CopyFrom(
            types_pb2.Tensor(
                dtype=types_pb2.DATA_TYPE_FLOAT32, shape=[16, 32], dims=["tokens", "width"], inline=bytes(2048)
            )
        )
    return request


def _bad_values(field: FieldDescriptor) -> tuple[Any, ...]:
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return BAD_FLOATS
    if field.type == FieldDescriptor.TYPE_ENUM:
        return (99, -1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return BAD_STRINGS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return (b"", b"nonsense")
    return BAD_INTS.get(field.type, ())


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def spoiled(request: Message) -> Iterator[tuple[str, Message]]:
    """Yield (path of the field, request in which that field alone is wrong), for every field that is set."""
    for path in _paths(request):
        if path not in MEANINGFUL:
            for change in _changes(request, path):
                wrong = copy.deepcopy(request)
                change(wrong)
                yield path, wrong


def _paths(message: Message, prefix: str = "") -> Iterator[str]:
    """Yield the path of every field, leaf or not, that can be made bad."""
    for field in message.DESCRIPTOR.fields:
        path = f"{prefix}{field.name}"
        value = getattr(message, field.name)
        if _is_map(field):
            yield path
        elif field.is_repeated:
            yield path
            for index, item in enumerate(value):
                if field.message_type is not None:
                    yield f"{path}[{index}]"
                    yield from _paths(item, f"{path}[{index}].")
                else:
                    yield f"{path}[{index}]"
        elif field.message_type is not None:
            if message.HasField(field.name):
                yield from _paths(value, f"{path}.")
        elif field.containing_oneof is None or not _is_other_choice(message, field):
            yield path


def _is_other_choice(message: Message, field: FieldDescriptor) -> bool:
    """Whether another member of the field's oneof is set (optional scalars are a oneof of their own)."""
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) > 1 and message.WhichOneof(oneof.name) != field.name


def _changes(request: Message, path: str) -> Iterator[Any]:
    *parents, last = path.split(".")
    name, _, index = last.rstrip("]").partition("[")

    def holder(message: Message) -> Any:
        for step in parents:
            word, _, number = step.rstrip("]").partition("[")
            message = getattr(message, word)[int(number)] if number else getattr(message, word)
        return message

    field = holder(request).DESCRIPTOR.fields_by_name[name]
    if path in REQUIRED:
        yield lambda message: holder(message).ClearField(name)
    if index and field.message_type is not None:
        # A message of which nothing is set: none of its choices.
        yield lambda message: getattr(holder(message), name)[int(index)].Clear()
    elif index:
        for value in _bad_values(field):
            yield lambda message, value=value: getattr(holder(message), name).__setitem__(int(index), value)
    elif _is_map(field):
        yield from _map_changes(holder, field)
    elif field.is_repeated:
        if field.message_type is not None or field.type == FieldDescriptor.TYPE_STRING:
            yield lambda message: _flood(getattr(holder(message), name))
    else:
        for value in _bad_values(field):
            yield lambda message, value=value: setattr(holder(message), name, value)


def _map_changes(holder: Any, field: FieldDescriptor) -> Iterator[Any]:
    value_field = field.message_type.fields_by_name["value"]
    if value_field.message_type is not None:
        for inner in value_field.message_type.fields:
            for value in _bad_values(inner):
                yield lambda message, inner=inner, value=value: setattr(
                    getattr(holder(message), field.name)["image"], inner.name, value
                )
        return
    for value in BAD_STRINGS:
        yield lambda message, value=value: getattr(holder(message), field.name).__setitem__("think", value)
    for key in ("\x00", "x" * 300_000, "nonsense"):
        yield lambda message, key=key: getattr(holder(message), field.name).__setitem__(key, "v")


def _flood(items: Any) -> None:
    for _ in range(5_000):
        if hasattr(items, "add"):
            items.add().CopyFrom(items[0])
        else:
            items.append("x")
