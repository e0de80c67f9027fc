"""The encoder's gRPC face, and what stands behind it: media in, features out, whatever the medium."""

# T tokens, F feature width

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, encoder_pb2, encoder_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, Internal, InvalidRequest
from services.artifacts.store import Artifact
from services.encoders.reader import Model, Reader, Reading
from services.runtime import convert
from services.runtime.batching import Batcher, Ticket, admitted
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.interceptors import request_id_of
from services.runtime.resident import Resident, fill_module, finite
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


class EncoderComponent(Component, Generic[Model]):
    """Serves encoders of one type.

    Args:
        context: What it is started with.
        reader: What knows the media and the model of that type.
    """

    def __init__(self, context: ComponentContext, reader: Reader[Model]) -> None:
        super().__init__(context)
        self._reader = reader
        self._resident: Resident[Model] = Resident(context.store, context.kind, context.type, self._build)
        self._batcher: Batcher[_Piece[Model], torch.Tensor] = Batcher(
            self._run, context.max_batch, "encode", self._set_up
        )
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode", initializer=self._set_up)

    async def start(self) -> None:
        """Load the versions of the plan and run something blank through the first."""
        await asyncio.to_thread(self._set_up)
        for held in self.context.held:
            await self.load_version(held)
        if len(self._resident):
            await asyncio.to_thread(self._warm_up)

    async def stop(self) -> None:
        """End the threads."""
        self._batcher.close()
        self._decoding.shutdown(wait=False, cancel_futures=True)

    async def load_version(self, held: Held) -> None:
        """Load one more version."""
        if held.adapter:
            raise FailedPrecondition(f"a {self.context.type} encoder takes no adapters")
        await self._resident.load(held.version)

    async def unload_version(self, version: str) -> None:
        """Drop a version when its last request has left."""
        await self._resident.unload(version)

    def card(self) -> component_pb2.ContractCard:
        """Return the contract card."""
        sizes = self._reader.sizes(self._resident.any())
        return component_pb2.ContractCard(
            contract="v1",
            kind=self.context.kind,
            type=self.context.type,
            architecture=self._resident.architecture,
            modalities=self._reader.modalities,
            output_width=sizes.output_width,
            tokens_per_item=sizes.tokens_per_item,
            max_tokens_per_item=sizes.max_tokens_per_item,
            token_counts=sizes.token_counts,
            versions=self._resident.held(),
            dtype=convert.DTYPES[self.context.dtype],  # type: ignore[arg-type]
            queue_limit=self.context.queue_limit,
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
        if version.adapter:
            raise FailedPrecondition(f"a {self.context.type} encoder takes no adapters")
        with admitted(self) as ticket, self._resident.use(version.version) as model:
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

    def _set_up(self) -> None:
        import torch

        # On every thread that computes: OpenMP keeps the number by thread.
        torch.set_num_threads(self.context.threads)

    def _build(self, artifact: Artifact) -> Model:
        model = self._reader.build(artifact.config)
        fill_module(model, artifact, self.context.dtype, self.context.device)
        return model

    def _warm_up(self) -> None:
        model = self._resident.any()
        outcomes = self._run([_Piece(model, self._reader.blank(model))])
        if isinstance(outcomes[0], BaseException):
            raise FailedPrecondition("the encoder gives NaN or Inf for a blank medium")

    def _run(self, pieces: Sequence[_Piece[Model]]) -> list[torch.Tensor | BaseException]:
        import torch

        results: dict[int, torch.Tensor | BaseException] = {}
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for index, piece in enumerate(pieces):  # sounds differ in length, and padding would change what they give
            groups.setdefault((id(piece.model), tuple(piece.tensor.shape)), []).append(index)
        for indices in groups.values():
            model = pieces[indices[0]].model
            dtype = next(model.parameters()).dtype
            batch = torch.stack([pieces[index].tensor for index in indices])
            with torch.inference_mode():
                features_BTF = model(batch.to(self.context.device, dtype)).cpu()
            for row, index in enumerate(indices):
                good = finite(features_BTF[row])
                results[index] = features_BTF[row] if good else Internal("the encoder gave NaN or Inf")
        return [results[index] for index in range(len(pieces))]


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
