"""The encoder's gRPC face, and what stands behind it: media in, features out, whatever the medium."""

# T tokens, F feature width

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, encoder_pb2, encoder_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts.store import Artifact
from services.encoders.reader import Model, Reader, Reading
from services.runtime import convert
from services.runtime.batching import Ticket
from services.runtime.component import ComponentContext
from services.runtime.interceptors import request_id_of
from services.runtime.model_component import BatchedComponent
from services.runtime.probes import Noise
from services.runtime.resident import fill_module
from services.runtime.tensors import from_torch

if TYPE_CHECKING:
    import torch

MAX_ITEMS = 256
MAX_VIDEO_FRAMES = 64
DECODING_THREADS = 2


@dataclass(frozen=True)
class _Piece(Generic[Model]):
    """One input of a model, and the model that will read it."""

    model: Model
    tensor: torch.Tensor


class EncoderComponent(BatchedComponent[Model, _Piece[Model]], Generic[Model]):
    """Serves encoders of one type.

    Args:
        context: What it is started with.
        reader: What knows the media and the model of that type.
    """

    noun = "encoder"

    def __init__(self, context: ComponentContext, reader: Reader[Model]) -> None:
        super().__init__(context)
        self._reader = reader
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode", initializer=self._set_up)

    async def stop(self) -> None:
        """End the threads."""
        await super().stop()
        self._decoding.shutdown(wait=False, cancel_futures=True)

    def _describe(self, model: Model) -> component_pb2.ContractCard:
        sizes = self._reader.sizes(model)
        return component_pb2.ContractCard(
            modalities=self._reader.modalities,
            output_width=sizes.output_width,
            tokens_per_item=sizes.tokens_per_item,
            max_tokens_per_item=sizes.max_tokens_per_item,
            token_counts=sizes.token_counts,
        )

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service to a server."""
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderService(self), server)
        return encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name

    async def encode(
        self, version: m.VersionRef, items: Sequence[m.Media], frames: int, lease_id: str
    ) -> list[m.Features]:
        """Encode media; one result an item, in order.

        Raises:
            InvalidRequest: An item is damaged, too large, or of a modality this encoder does not read.
            FailedPrecondition: The version is not loaded.
            Exhausted: Too many requests wait.
        """
        check_items(items, self._reader.modalities, frames)
        with self._serve(version) as (ticket, model):
            loop = asyncio.get_running_loop()
            readings = await asyncio.gather(
                *(
                    loop.run_in_executor(self._decoding, self._located(index, item, frames, model))
                    for index, item in enumerate(items)
                )
            )
            return await self._encode_readings(ticket, readings, model, lease_id)

    async def _encode_readings(
        self, ticket: Ticket, readings: Sequence[Reading], model: Model, lease_id: str
    ) -> list[m.Features]:
        pieces = [_Piece(model, tensor) for reading in readings for tensor in reading.pieces]
        outputs_TF = iter(await self._batcher.submit(ticket, pieces))
        results: list[m.Features] = []
        for reading in readings:
            features, dims = self._reader.join(reading, [next(outputs_TF) for _ in reading.pieces])
            kept = self.context.tensors.keep(from_torch(features, dims), lease_id)
            results.append(m.Features(kept, reading.content_hash, reading.times_s))
        return results

    def _located(self, index: int, item: m.Media, frames: int, model: Model) -> Callable[[], Reading]:
        def read() -> Reading:
            try:
                return self._reader.read(item, frames, model)
            except InvalidRequest as error:
                raise error.at(f"items[{index}].{item.modality}") from error

        return read

    def _build(self, artifact: Artifact) -> Model:
        model = self._reader.build(artifact.config)
        fill_module(model, artifact, self.context.dtype, self.context.device)
        return model

    async def _warm_up(self, model: Model) -> None:
        (outcome,) = await asyncio.to_thread(self._run, [_Piece(model, self._reader.blank(model))])
        if isinstance(outcome, BaseException):
            raise FailedPrecondition("the encoder gives NaN or Inf for a blank medium")

    def _noisy_item(self, model: Model, noise: Noise) -> _Piece[Model]:
        return _Piece(model, noise.values(*self._reader.blank(model).shape))

    def _alike(self, item: _Piece[Model]) -> Hashable:
        return (id(item.model), item.tensor.shape)

    def _outputs(self, items: Sequence[_Piece[Model]]) -> torch.Tensor:
        import torch

        model = items[0].model
        dtype = next(model.parameters()).dtype
        batch = torch.stack([item.tensor for item in items])
        features_BTF: torch.Tensor = model(batch.to(self.context.device, dtype))
        return features_BTF


def check_items(items: Sequence[m.Media], modalities: Sequence[str], frames: int) -> None:
    """Check what can be checked before anything is decoded.

    Raises:
        InvalidRequest: Something is wrong.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise InvalidRequest(f"{len(items)} items, 1 to {MAX_ITEMS} expected", "items")
    if not 0 <= frames <= MAX_VIDEO_FRAMES:
        raise InvalidRequest(f"{frames} frames, 0 to {MAX_VIDEO_FRAMES} expected", "frames")
    for index, item in enumerate(items):
        where = f"items[{index}]"
        if item.modality not in modalities:
            raise InvalidRequest(
                f"modality {item.modality[:64]!r}, one of {list(modalities)} expected", f"{where}.modality"
            )
        if item.data is None:
            raise InvalidRequest("inline bytes expected: handles and features do not go to an encoder", where)


class EncoderService(encoder_pb2_grpc.EncoderServiceServicer):
    """Converts between the contract and ``EncoderComponent``."""

    def __init__(self, component: EncoderComponent[Any]) -> None:
        self._component = component

    async def Encode(  # noqa: N802 - name fixed by the contract
        self, request: encoder_pb2.EncodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> encoder_pb2.EncodeResponse:
        """Encode media."""
        if request.window_adapters:
            raise InvalidRequest("this encoder has no windows", "window_adapters")
        features = await self._component.encode(
            convert.version_from_proto(request.version),
            [convert.media_from_proto(item) for item in request.items],
            request.frames,
            request_id_of(context),
        )
        return encoder_pb2.EncodeResponse(items=[convert.features_to_proto(one) for one in features])
