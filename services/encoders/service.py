"""The encoder's gRPC face, and what stands behind it: media in, features out."""

# T tokens, F feature width, N frames

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from PIL import Image

from anyplex.v1 import component_pb2, encoder_pb2, encoder_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, Internal, InvalidRequest
from services.artifacts.store import Artifact
from services.encoders.images import MAX_PIXELS, decode_frames, decode_image, pixel_hash
from services.runtime import convert
from services.runtime.batching import Batcher, Ticket, admitted
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.interceptors import request_id_of
from services.runtime.resident import Resident, fill_module, finite
from services.runtime.tensors import from_torch

if TYPE_CHECKING:
    import torch

    from services.encoders.clip_vision import ClipVision

MAX_ITEMS = 256
MAX_VIDEO_FRAMES = 64
DEFAULT_FRAMES = 8
DECODING_THREADS = 2
# Padding to a square or scaling the short edge can blow up a long thin picture; this bounds what it becomes.
MAX_SCALED_PIXELS = 4 * MAX_PIXELS


@dataclass(frozen=True)
class _Pixels:
    """One picture ready for the encoder: 3HW, and the model that will read it."""

    model: ClipVision
    pixels: torch.Tensor


@dataclass(frozen=True)
class _Decoded:
    """One medium, decoded: a picture, or the frames of a video."""

    frames: list[_Pixels]
    content_hash: str
    times_s: tuple[float, ...] = ()


class EncoderComponent(Component):
    """Serves encoders of type ``clip_vision``."""

    modalities = ("image", "video")

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._resident: Resident[ClipVision] = Resident(context.store, context.kind, context.type, self._build)
        self._batcher: Batcher[_Pixels, torch.Tensor] = Batcher(self._run, context.max_batch, "encode", self._set_up)
        self._decoding = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")

    async def start(self) -> None:
        """Load the versions of the plan and run one empty picture through the first."""
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
        model = self._resident.any()
        return component_pb2.ContractCard(
            contract="v1",
            kind=self.context.kind,
            type=self.context.type,
            architecture=self._resident.architecture,
            modalities=self.modalities,
            output_width=model.feature_width,
            tokens_per_item=model.tokens_per_image,
            max_tokens_per_item=model.tokens_per_image,
            token_counts={
                modality: component_pb2.TokenCount(
                    tokens_per_unit=model.tokens_per_image, unit="frame", max_units=MAX_VIDEO_FRAMES
                )
                for modality in self.modalities
                if modality == "video"
            },
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
        check_items(items, self.modalities, frames)
        if version.adapter:
            raise FailedPrecondition(f"a {self.context.type} encoder takes no adapters")
        with admitted(self) as ticket, self._resident.use(version.version) as model:
            loop = asyncio.get_running_loop()
            decoded = await asyncio.gather(
                *(
                    loop.run_in_executor(self._decoding, _located(index, item, frames, model))
                    for index, item in enumerate(items)
                )
            )
            return await self._encode_decoded(ticket, decoded, items, lease_id)

    async def _encode_decoded(
        self, ticket: Ticket, decoded: Sequence[_Decoded], items: Sequence[m.Media], lease_id: str
    ) -> list[m.Features]:
        import torch

        outputs_TF = iter(await self._batcher.submit(ticket, [frame for one in decoded for frame in one.frames]))
        results: list[m.Features] = []
        for one, item in zip(decoded, items, strict=True):
            mine_TF = [next(outputs_TF) for _ in one.frames]
            if item.modality == "video":
                tensor = from_torch(torch.stack(mine_TF), ("frames", "tokens", "width"))
            else:
                tensor = from_torch(mine_TF[0], ("tokens", "width"))
            kept = self.context.tensors.keep(tensor, lease_id)
            results.append(m.Features(kept, one.content_hash, one.times_s))
        return results

    def _set_up(self) -> None:
        import torch

        # Also on the thread that runs the model: OpenMP keeps the number by thread.
        torch.set_num_threads(self.context.threads)

    def _build(self, artifact: Artifact) -> ClipVision:
        from services.encoders.clip_vision import ClipVision

        model = ClipVision.from_config(artifact.config)
        fill_module(model, artifact, self.context.dtype, self.context.device)
        return model

    def _warm_up(self) -> None:
        model = self._resident.any()
        pixels = model.preprocess([Image.new("RGB", (32, 32), (128, 128, 128))])
        outcomes = self._run([_Pixels(model, pixels[0])])
        if isinstance(outcomes[0], BaseException):
            raise FailedPrecondition("the encoder gives NaN or Inf for a gray picture")

    def _run(self, items: Sequence[_Pixels]) -> list[torch.Tensor | BaseException]:
        import torch

        results: dict[int, torch.Tensor | BaseException] = {}
        groups: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault(id(item.model), []).append(index)
        for indices in groups.values():
            model = items[indices[0]].model
            dtype = next(model.parameters()).dtype
            batch_B3HW = torch.stack([items[index].pixels for index in indices])
            with torch.inference_mode():
                features_BTF = model(batch_B3HW.to(self.context.device, dtype)).cpu()
            for row, index in enumerate(indices):
                good = finite(features_BTF[row])
                results[index] = features_BTF[row] if good else Internal("the encoder gave NaN or Inf")
        return [results[index] for index in range(len(items))]


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


def _located(index: int, item: m.Media, frames: int, model: ClipVision) -> Callable[[], _Decoded]:
    def decode() -> _Decoded:
        try:
            return _decode(item, frames or DEFAULT_FRAMES, model)
        except InvalidRequest as error:
            raise error.at(f"items[{index}].{item.modality}") from error

    return decode


def _decode(item: m.Media, frames: int, model: ClipVision) -> _Decoded:
    data = item.data or b""
    if item.modality == "video":
        pictures, times_s = decode_frames(data, frames)
    else:
        pictures, times_s = [decode_image(data)], ()
    settings = preprocessing_of(model)
    for picture in pictures[:1]:
        check_scaled(picture.width, picture.height, settings)
    pixels_B3HW = model.preprocess(pictures)
    hashes = [pixel_hash(picture, json.dumps(settings, sort_keys=True)) for picture in pictures]
    content_hash = hashes[0] if item.modality != "video" else pixel_hash_of_all(hashes)
    return _Decoded([_Pixels(model, pixels_3HW) for pixels_3HW in pixels_B3HW], content_hash, times_s)


def pixel_hash_of_all(hashes: Sequence[str]) -> str:
    """Return the content hash of a video: that of its frames' hashes."""
    import hashlib

    return hashlib.sha256(":".join(hashes).encode()).hexdigest()


def preprocessing_of(model: ClipVision) -> dict[str, Any]:
    """Return everything but the weights that shapes the features of a picture, as plain data."""
    settings = model.preprocess_settings
    resize = settings.resize if isinstance(settings.resize, int) else dict(settings.resize)
    return {
        "resize": resize, "crop": settings.crop, "mean": settings.mean, "std": settings.std,
        "pad_to_square": settings.pad_to_square, "resample": settings.resample,
        "output_layer": model.output_layer, "drop_cls": model.drop_cls,
    }  # fmt: skip


def check_scaled(width: int, height: int, settings: dict[str, Any]) -> None:
    """Refuse pictures so long and thin that preprocessing would blow them up.

    Raises:
        InvalidRequest: It would.
    """
    long, short = max(width, height), min(width, height)
    scaled = long * long if settings["pad_to_square"] else 0
    if isinstance(settings["resize"], dict) and not settings["pad_to_square"]:
        edge = settings["resize"]["shortest_edge"]
        scaled = edge * edge * long // short
    if scaled > MAX_SCALED_PIXELS:
        raise InvalidRequest(
            f"{width}×{height} pixels would become {scaled} before the crop, at most {MAX_SCALED_PIXELS} allowed"
        )


class EncoderService(encoder_pb2_grpc.EncoderServiceServicer):
    """Converts between the contract and ``EncoderComponent``."""

    def __init__(self, component: EncoderComponent) -> None:
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
