"""Good and bad calls of every kind of component, made from what its contract card says."""

from __future__ import annotations

import io
import pickle
import random
import struct
from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc.aio
import torch
from PIL import Image

from anyplex.v1 import (
    backbone_pb2,
    backbone_pb2_grpc,
    component_pb2,
    encoder_pb2,
    encoder_pb2_grpc,
    input_projector_pb2,
    input_projector_pb2_grpc,
    types_pb2,
)
from services.runtime.convert import tensor_from_proto, tensor_to_proto
from services.runtime.tensors import from_torch, to_torch

Metadata = tuple[tuple[str, str], ...]
FEATURE_TOKENS = 36  # A square that divides by 2 and 3: whatever joins neighbors takes it.
REQUEST_ID = "contract-test"


class Calls(Protocol):
    """What the suite asks of a kind."""

    service: str
    # What its answers are: a stream of events that can be cut, or one message.
    streams: bool

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        """Make a good call; return something that is equal for equal answers."""
        ...

    def start_long(self, timeout_s: float | None = None) -> Any:
        """Begin a call that takes as long as one of this kind can; return grpc's call object."""
        ...

    async def send(self, request: Any) -> object:
        """Send any request of this kind."""
        ...

    def bad_requests(self) -> dict[str, Any]:
        """Requests that must be refused with INVALID_ARGUMENT, by name."""
        ...

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        """Hold what the card says against what is answered."""
        ...


def vectors(n_tokens: int, width: int, seed: int = 0) -> types_pb2.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return tensor_to_proto(from_torch(torch.randn(n_tokens, width, generator=generator), ("tokens", "width")))


def bad_tensors(width: int, n_tokens: int = FEATURE_TOKENS) -> dict[str, types_pb2.Tensor]:
    """Tensors that nobody may accept (row 10 of the fault matrix)."""
    float32, uint8 = types_pb2.DATA_TYPE_FLOAT32, types_pb2.DATA_TYPE_UINT8
    whole = bytes(4 * n_tokens * width)
    shape = (n_tokens, width)
    nan = torch.full(shape, float("nan"))
    infinite = torch.full(shape, float("inf"))
    pickled = pickle.dumps({"a": 1})
    unknown_dtype = types_pb2.Tensor(shape=shape, inline=whole)
    return {
        "shape and bytes disagree": types_pb2.Tensor(dtype=float32, shape=shape, inline=whole[:-4]),
        "no payload": types_pb2.Tensor(dtype=float32, shape=shape),
        "dtype not set": unknown_dtype,
        "huge shape": types_pb2.Tensor(dtype=float32, shape=(2**31, 2**31), inline=b""),
        "huge shape whose product overflows to little": types_pb2.Tensor(
            dtype=float32, shape=(2**32, 2**32), inline=b""
        ),
        "negative axis": types_pb2.Tensor(dtype=float32, shape=(-1, width), inline=whole),
        "too many axes": types_pb2.Tensor(dtype=float32, shape=(1,) * 9, inline=bytes(4)),
        "no tokens": types_pb2.Tensor(dtype=float32, shape=(0, width), inline=b""),
        "wrong width": vectors(n_tokens, width + 1),
        "one axis": types_pb2.Tensor(dtype=float32, shape=(width,), inline=bytes(4 * width)),
        "whole numbers": types_pb2.Tensor(dtype=uint8, shape=shape, inline=bytes(n_tokens * width)),
        "a pickle": types_pb2.Tensor(dtype=uint8, shape=(len(pickled),), inline=pickled),
        "NaN": tensor_to_proto(from_torch(nan)),
        "Inf": tensor_to_proto(from_torch(infinite)),
        "dims that do not fit": types_pb2.Tensor(dtype=float32, shape=shape, dims=["tokens"], inline=whole),
    }


def picture(seed: int = 0, size: tuple[int, int] = (60, 44)) -> bytes:
    buffer = io.BytesIO()
    data = random.Random(seed).randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, data).save(buffer, "PNG")
    return buffer.getvalue()


def sound(seed: int = 0, seconds: float = 0.3) -> bytes:
    """A WAV file of noise."""
    samples = random.Random(seed).randbytes(2 * int(seconds * 16_000))
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000,
                         2, 16, b"data", len(samples))  # fmt: skip
    return header + samples


class EncoderCalls:
    """Encode."""

    service = "anyplex.v1.EncoderService"
    streams = False

    def __init__(self, card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.card = card
        self.stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        self.metadata = (*metadata, ("x-request-id", REQUEST_ID))

    @property
    def modality(self) -> str:
        return self.card.modalities[0] if self.card.modalities else "image"

    def media(self, data: bytes) -> types_pb2.Media:
        return types_pb2.Media(modality=self.modality, inline=data)

    def medium(self, seed: int = 0, long: bool = False) -> types_pb2.Media:
        if self.modality == "audio":
            return self.media(sound(seed, 20.0 if long else 0.3))
        return self.media(picture(seed, (200, 200) if long else (60, 44)))

    def request(self, version: str = "", adapter: str = "", seed: int = 0) -> encoder_pb2.EncodeRequest:
        ref = types_pb2.VersionRef(version=version, adapter=adapter)
        return encoder_pb2.EncodeRequest(version=ref, items=[self.medium(seed)])

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        reply = await self.stub.Encode(self.request(version, adapter, seed), metadata=self.metadata, timeout=timeout_s)
        return reply.SerializeToString(deterministic=True)

    def start_long(self, timeout_s: float | None = None) -> Any:
        items = [self.medium(seed, long=True) for seed in range(16)]
        return self.stub.Encode(encoder_pb2.EncodeRequest(items=items), metadata=self.metadata, timeout=timeout_s)

    async def send(self, request: encoder_pb2.EncodeRequest) -> object:
        return await self.stub.Encode(request, metadata=self.metadata, timeout=30)

    def bad_requests(self) -> dict[str, encoder_pb2.EncodeRequest]:
        good = self.medium().inline
        media = {
            "no bytes": self.media(b""),
            "no medium": self.media(b"hello"),
            "a pickle": self.media(pickle.dumps({"a": 1})),
            "truncated": self.media(good[: len(good) // 2]),
            "another modality": types_pb2.Media(modality="smell", inline=good),
            "a handle": types_pb2.Media(modality=self.modality, handle="somewhere"),
            "nothing": types_pb2.Media(modality=self.modality),
        }
        requests = {name: encoder_pb2.EncodeRequest(items=[item]) for name, item in media.items()}
        requests["no items"] = encoder_pb2.EncodeRequest()
        requests["too many items"] = encoder_pb2.EncodeRequest(items=[self.media(b"")] * 5_000)
        requests["negative frames"] = encoder_pb2.EncodeRequest(items=[self.media(good)], frames=-1)
        return requests

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        items = [self.medium(1), self.medium(2, long=True)]
        reply = await self.stub.Encode(encoder_pb2.EncodeRequest(items=items), metadata=self.metadata, timeout=30)
        assert len(reply.items) == 2
        for item in reply.items:
            assert item.tensor.shape[-1] == card.output_width
            if card.tokens_per_item:
                assert item.tensor.shape[-2] == card.tokens_per_item
            assert item.tensor.shape[-2] <= card.max_tokens_per_item
            assert item.tensor.dtype == card.dtype
            assert to_torch(tensor_from_proto(item.tensor)).isfinite().all()
        assert reply.items[0].content_hash
        assert reply.items[0].content_hash != reply.items[1].content_hash
        assert card.modalities
        assert card.output_width > 0


class ProjectorCalls:
    """Project."""

    service = "anyplex.v1.InputProjectorService"
    streams = False

    def __init__(self, card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.card = card
        self.stub = input_projector_pb2_grpc.InputProjectorServiceStub(channel)
        self.metadata = (*metadata, ("x-request-id", REQUEST_ID))

    def features(self, seed: int = 0) -> encoder_pb2.Features:
        return encoder_pb2.Features(
            tensor=vectors(FEATURE_TOKENS, self.card.input_width, seed), content_hash=f"seed {seed}"
        )

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        ref = types_pb2.VersionRef(version=version, adapter=adapter)
        request = input_projector_pb2.ProjectRequest(version=ref, items=[self.features(seed)], prompt="what is it?")
        reply = await self.stub.Project(request, metadata=self.metadata, timeout=timeout_s)
        return reply.SerializeToString(deterministic=True)

    def start_long(self, timeout_s: float | None = None) -> Any:
        items = [self.features(seed) for seed in range(64)]
        request = input_projector_pb2.ProjectRequest(items=items)
        return self.stub.Project(request, metadata=self.metadata, timeout=timeout_s)

    async def send(self, request: input_projector_pb2.ProjectRequest) -> object:
        return await self.stub.Project(request, metadata=self.metadata, timeout=30)

    def bad_requests(self) -> dict[str, input_projector_pb2.ProjectRequest]:
        project = input_projector_pb2.ProjectRequest
        requests = {
            name: project(items=[encoder_pb2.Features(tensor=tensor)])
            for name, tensor in bad_tensors(self.card.input_width).items()
        }
        requests["no items"] = project()
        requests["an item of nothing"] = project(items=[encoder_pb2.Features()])
        requests["a good and a bad item"] = project(items=[self.features(), encoder_pb2.Features()])
        requests["endless prompt"] = project(items=[self.features()], prompt="a" * 1_000_000)
        return requests

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        request = input_projector_pb2.ProjectRequest(items=[self.features(1), self.features(2)], prompt="what?")
        reply = await self.stub.Project(request, metadata=self.metadata, timeout=30)
        assert len(reply.segments) == 2
        for segment in reply.segments:
            assert segment.WhichOneof("content") == ("cross_memory" if card.cross_memory else "embeddings")
            tensor = segment.cross_memory if card.cross_memory else segment.embeddings
            assert tensor.shape[-1] == card.output_width
            if card.tokens_per_item:
                assert tensor.shape[0] == card.tokens_per_item
            assert to_torch(tensor_from_proto(tensor)).isfinite().all()
        assert [segment.content_hash for segment in reply.segments] == ["seed 1", "seed 2"]
        assert card.input_width > 0
        assert card.output_width > 0


class BackboneCalls:
    """Decode."""

    service = "anyplex.v1.BackboneService"
    streams = True

    def __init__(self, card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.card = card
        self.stub = backbone_pb2_grpc.BackboneServiceStub(channel)
        self.metadata = (*metadata, ("x-request-id", REQUEST_ID))

    def segments(self, seed: int) -> list[types_pb2.Segment]:
        embeddings = vectors(3, self.card.input_width, seed)
        return [types_pb2.Segment(text="what is "), types_pb2.Segment(embeddings=embeddings, modality="image")]

    def request(self, segments: list[types_pb2.Segment], **sampling: Any) -> backbone_pb2.DecodeRequest:
        turn = backbone_pb2.Turn(role=types_pb2.ROLE_USER, segments=segments)
        return backbone_pb2.DecodeRequest(turns=[turn], sampling=types_pb2.Sampling(**sampling))

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        request = self.request(self.segments(seed), max_tokens=12, temperature=0.7, seed=5)
        request.version.version, request.version.adapter = version, adapter
        stream = self.stub.Decode(request, metadata=self.metadata, timeout=timeout_s)
        return [_without_times(event) async for event in stream]

    def start_long(self, timeout_s: float | None = None) -> Any:
        # Unlikely to end by itself: hot, and as long as the context allows.
        request = self.request(self.segments(0), max_tokens=self.card.context_tokens, temperature=2.0, seed=1, n=16)
        return self.stub.Decode(request, metadata=self.metadata, timeout=timeout_s)

    async def send(self, request: backbone_pb2.DecodeRequest) -> object:
        stream: AsyncIterator[Any] = self.stub.Decode(request, metadata=self.metadata, timeout=30)
        return [event async for event in stream]

    def bad_requests(self) -> dict[str, backbone_pb2.DecodeRequest]:
        requests = {
            name: self.request([types_pb2.Segment(embeddings=tensor)])
            for name, tensor in bad_tensors(self.card.input_width).items()
        }
        text = [types_pb2.Segment(text="what?")]
        context = self.card.context_tokens
        long_media = vectors(context + 1, self.card.input_width)
        requests |= {
            "no turns": backbone_pb2.DecodeRequest(),
            "unknown role": backbone_pb2.DecodeRequest(turns=[backbone_pb2.Turn(role=77, segments=text)]),  # type: ignore[arg-type]
            "NUL": self.request([types_pb2.Segment(text="a\0b")]),
            "longer than the context": self.request([types_pb2.Segment(text="what is it? " * context)]),
            "media longer than the context": self.request([types_pb2.Segment(embeddings=long_media)]),
            "an unknown token": self.request([types_pb2.Segment(token_ids=types_pb2.TokenIds(ids=[2**30]))]),
            "a negative token": self.request([types_pb2.Segment(token_ids=types_pb2.TokenIds(ids=[-1]))]),
            "no tokens to produce": self.request(text, max_tokens=0),
            "NaN temperature": self.request(text, temperature=float("nan")),
            "negative temperature": self.request(text, temperature=-1.0),
            "top_p of 0": self.request(text, top_p=0.0),
            "a flood of answers": self.request(text, n=10_000),
            "a flood of stop strings": self.request(text, stop=["a"] * 10_000),
            "an empty stop string": self.request(text, stop=[""]),
            "an unknown signal": self._forcing("smell"),
        }
        for modality, n_tokens in self.card.signals.items():
            short = self._forcing(modality)
            short.sampling.max_tokens = n_tokens - 1
            both = self._forcing(modality)
            both.text_only = True
            flood = self._forcing(modality)
            flood.force_signals.extend([modality] * context)
            requests |= {f"no room for {modality}": short, f"{modality} and text alone": both, "many signals": flood}
        return requests

    def _forcing(self, modality: str) -> backbone_pb2.DecodeRequest:
        request = self.request([types_pb2.Segment(text="what?")])
        request.force_signals.append(modality)
        return request

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        request = self.request(self.segments(3), max_tokens=4, n=2, temperature=1.0)
        events = [event async for event in self.stub.Decode(request, metadata=self.metadata, timeout=30)]
        assert events[0].WhichOneof("event") == "started"
        assert events[0].started.media_tokens == 3
        assert events[0].started.prompt_tokens > 3
        ends = [event for event in events if event.WhichOneof("event") == "finished"]
        assert sorted(event.choice for event in ends) == [0, 1]
        assert all(1 <= event.finished.completion_tokens <= 4 for event in ends)
        assert card.input_width > 0
        assert card.context_tokens > 0
        assert card.tokenizer_fingerprint
        await self._check_signals(card)

    async def _check_signals(self, card: component_pb2.ContractCard) -> None:
        request = self.request(self.segments(3), max_tokens=card.context_tokens // 2, temperature=1.0)
        request.force_signals.extend(card.signals)
        events = [event async for event in self.stub.Decode(request, metadata=self.metadata, timeout=30)]
        blocks = [event.signal for event in events if event.WhichOneof("event") == "signal"]
        assert {block.modality for block in blocks} == set(card.signals)
        assert [block.block for block in blocks] == list(range(len(blocks)))
        for block in blocks:
            assert len(block.token_ids) == card.signals[block.modality]
            assert tuple(block.hidden_states.shape) == (len(block.token_ids), card.output_width)
            assert block.HasField("input_embeddings") == card.adds_input_embeddings


def _without_times(event: backbone_pb2.DecodeResponse) -> bytes:
    if event.WhichOneof("event") == "finished":
        event.finished.queue_s = 0.0
    return event.SerializeToString(deterministic=True)


def calls_for(card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> Calls:
    """The calls of a card's kind."""
    from tests.contract.condition_calls import OutputProjectorCalls
    from tests.contract.render_calls import GeneratorCalls

    kinds: dict[str, Any] = {
        "encoder": EncoderCalls,
        "input_projector": ProjectorCalls,
        "backbone": BackboneCalls,
        "output_projector": OutputProjectorCalls,
        "generator": GeneratorCalls,
    }
    calls: Calls = kinds[card.kind](card, channel, metadata)
    return calls
