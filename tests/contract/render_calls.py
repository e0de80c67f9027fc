"""Good and bad calls of generators, made from what the contract card says."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import torch
from PIL import Image

from anyplex.v1 import component_pb2, generator_pb2, generator_pb2_grpc, types_pb2
from services.runtime.convert import tensor_to_proto
from services.runtime.tensors import from_torch
from tests.contract.calls import REQUEST_ID, Metadata, bad_tensors, vectors


class GeneratorCalls:
    """Render."""

    service = "anyplex.v1.GeneratorService"
    streams = True

    def __init__(self, card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.card = card
        self.stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        self.metadata = (*metadata, ("x-request-id", REQUEST_ID))

    def conditioning(self, seed: int) -> dict[str, types_pb2.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: tensor_to_proto(from_torch(torch.randn([size or 7 for size in shape.sizes], generator=generator)))
            for name, shape in self.card.conditioning.items()
        }

    def request(self, seed: int = 0, **parameters: Any) -> generator_pb2.RenderRequest:
        return generator_pb2.RenderRequest(
            conditioning=self.conditioning(seed), seed=seed, parameters=types_pb2.MediaParameters(**parameters)
        )

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        request = self.request(seed)
        request.version.version, request.version.adapter = version, adapter
        stream = self.stub.Render(request, metadata=self.metadata, timeout=timeout_s)
        return [event.SerializeToString(deterministic=True) async for event in stream]

    def start_long(self, timeout_s: float | None = None) -> Any:
        return self.stub.Render(self.request(steps=900), metadata=self.metadata, timeout=timeout_s)

    async def send(self, request: generator_pb2.RenderRequest) -> object:
        stream: AsyncIterator[Any] = self.stub.Render(request, metadata=self.metadata, timeout=30)
        return [event async for event in stream]

    def bad_requests(self) -> dict[str, generator_pb2.RenderRequest]:
        name, shape = next((name, shape) for name, shape in self.card.conditioning.items() if not shape.optional)
        width = shape.sizes[-1]
        requests = {}
        for what, tensor in bad_tensors(width).items():
            if what != "one axis" or len(shape.sizes) > 1:
                requests[what] = self._with(name, tensor)
        requests["several vectors for one"] = self._with(name, vectors(3, width)) if len(shape.sizes) == 1 else (
            self._with(name, vectors(1_000_000 // width, width))
        )  # fmt: skip
        requests |= {
            "no conditioning": generator_pb2.RenderRequest(),
            "unknown conditioning": self._with("smell", vectors(3, width)),
            "a negative side alone": self._negative("smell", vectors(3, width)),
            "a negative side of another shape": self._negative(name, vectors(3, width + 1)),
            "NaN guidance": self.request(guidance_scale=float("nan")),
            "negative guidance": self.request(guidance_scale=-1.0),
            "endless guidance": self.request(guidance_scale=float("inf")),
            "no steps": self.request(steps=0),
            "a flood of steps": self.request(steps=2**31 - 1),
            "negative steps": self.request(steps=-1),
            "negative previews": self.request(preview_every_steps=-1),
            "a flood of pixels": self.request(width=2**31 - 8, height=2**31 - 8),
            "negative width": self.request(width=-8),
            "a flood of frames": self.request(frames=2**31 - 1),
            "NaN seconds": self.request(seconds=float("nan")),
            "endless seconds": self.request(seconds=float("inf")),
            "an hour": self.request(seconds=3600.0),
            "negative seconds": self.request(seconds=-1.0),
            "another type of file": self.request(mime_type="application/x-pickle"),
        }
        far = self.request()
        far.priority = 11
        return requests | {"a priority out of range": far}

    def _with(self, name: str, tensor: types_pb2.Tensor) -> generator_pb2.RenderRequest:
        request = self.request()
        request.conditioning[name].CopyFrom(tensor)
        return request

    def _negative(self, name: str, tensor: types_pb2.Tensor) -> generator_pb2.RenderRequest:
        request = self.request()
        request.negative[name].CopyFrom(tensor)
        return request

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        request = self.request(seed=3, steps=4, preview_every_steps=2)
        events = [event async for event in self.stub.Render(request, metadata=self.metadata, timeout=30)]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[0] == "started"
        assert events[0].started.mime_type.startswith(f"{card.modalities[0]}/")
        progress = [event.progress for event in events if event.WhichOneof("event") == "progress"]
        assert [item.step for item in progress] == [1, 2, 3, 4]
        assert all(item.steps == 4 for item in progress)
        previews = [item.preview for item in progress]
        assert [bool(preview) for preview in previews] == [False, True, False, False]
        assert Image.open(io.BytesIO(previews[1])).format == "PNG"
        assert kinds[5:] == ["chunk"] * len(kinds[5:])
        assert [event.chunk.last for event in events[5:]] == [False] * (len(kinds) - 6) + [True]
        assert card.input_width > 0
        assert len(card.modalities) == 1
        assert any(not shape.optional for shape in card.conditioning.values())
