"""The input projector's gRPC face, and what stands behind it: features in, what the backbone reads out."""

# B items, N frames of an item, T tokens of a frame, F feature width, D backbone width, L prompt tokens

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, input_projector_pb2, input_projector_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest, NotFound
from services.artifacts.store import Artifact
from services.runtime import convert
from services.runtime.interceptors import request_id_of
from services.runtime.model_component import BatchedComponent
from services.runtime.probes import Noise
from services.runtime.resident import fill_module
from services.runtime.tensors import check_floats, from_torch

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from services.input_projectors.projector import InputProjector

MAX_ITEMS = 256
MAX_FEATURES = 65_536
MAX_PROMPT_CHARACTERS = 100_000
BYTE_VALUES = 256
TOKENIZER_FILE = "tokenizer.json"
PROBE_TOKENS = (36, *range(1, 1025))
"""How many are tried: first a square that divides by 2 and 3, which most of what joins neighbors takes."""


@dataclass(frozen=True)
class _Loaded:
    """A projector, and the tokenizer of its own prompts if it brought one."""

    module: InputProjector
    tokenizer: Tokenizer | None

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Turn a prompt into ids of the projector's own vocabulary; bytes, where it brought no tokenizer."""
        if not self.module.reads_prompt:
            return ()
        if self.tokenizer is not None:
            return tuple(self.tokenizer.encode(prompt).ids)
        return tuple(prompt.encode("utf-8", "replace"))


@dataclass(frozen=True)
class _Item:
    loaded: _Loaded
    features: torch.Tensor
    prompt_ids: tuple[int, ...]


class InputProjectorComponent(BatchedComponent[_Loaded, _Item]):
    """Serves input projectors: ``linear``, ``mlp``, ``query_transformer``."""

    noun = "projector"

    def _describe(self, model: _Loaded) -> component_pb2.ContractCard:
        module = model.module
        fixed, stages = getattr(module, "n_queries", 0), module.stages
        video = component_pb2.TokenCount(unit="frame", max_units=stages.max_frames)
        if stages.joins_frames:
            video.fixed_tokens = fixed
        else:
            video.tokens_per_unit = fixed
        return component_pb2.ContractCard(
            input_width=module.feature_width,
            output_width=module.output_width,
            tokens_per_item=fixed,
            max_tokens_per_item=fixed,
            token_counts={"video": video} if fixed or stages.max_frames else {},
            reads_prompt=module.reads_prompt,
        )

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service to a server."""
        face = InputProjectorService(self)
        input_projector_pb2_grpc.add_InputProjectorServiceServicer_to_server(face, server)
        return input_projector_pb2.DESCRIPTOR.services_by_name["InputProjectorService"].full_name

    async def project(
        self, version: m.VersionRef, items: Sequence[m.Features], prompt: str, lease_id: str
    ) -> list[m.Segment]:
        """Project features; one segment an item, in order.

        Raises:
            InvalidRequest: Features of the wrong width, shape or dtype, or with NaN or Inf.
            FailedPrecondition: The version is not loaded.
            Exhausted: Too many requests wait.
        """
        if not 1 <= len(items) <= MAX_ITEMS:
            raise InvalidRequest(f"{len(items)} items, 1 to {MAX_ITEMS} expected", "items")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidRequest(f"{len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS} expected", "prompt")
        with self._serve(version) as (ticket, loaded):
            prompt_ids = loaded.prompt_ids(prompt)
            tensors = await asyncio.gather(
                *(self._read(index, item.tensor, loaded) for index, item in enumerate(items))
            )
            outputs_TD = await self._batcher.submit(
                ticket, [_Item(loaded, features_NTF, prompt_ids) for features_NTF in tensors]
            )
        return [
            m.Segment(
                embeddings=self.context.tensors.keep(from_torch(output_TD, ("tokens", "width")), lease_id),
                token_type="media",
                content_hash=item.content_hash,
            )
            for output_TD, item in zip(outputs_TD, items, strict=True)
        ]

    async def _read(self, index: int, tensor: m.Tensor, loaded: _Loaded) -> torch.Tensor:
        where = f"items[{index}].tensor"
        width = loaded.module.feature_width
        check_floats(tensor, where)
        if len(tensor.shape) not in (2, 3) or tensor.shape[-1] != width or 0 in tensor.shape:
            raise InvalidRequest(
                f"shape {list(tensor.shape)}, [tokens, {width}] or [frames, tokens, {width}] expected", where
            )
        features = await self._fetch(tensor, where, "features")
        features_NTF = features if features.ndim == 3 else features[None]
        if features_NTF.shape[0] * features_NTF.shape[1] > MAX_FEATURES:
            raise InvalidRequest(f"more than {MAX_FEATURES} feature vectors in one item", where)
        try:
            loaded.module.tokens_for(features_NTF.shape[1], features_NTF.shape[0])
        except ValueError as error:
            raise InvalidRequest(str(error), where) from error
        return features_NTF

    def _build(self, artifact: Artifact) -> _Loaded:
        from services.input_projectors.models import build_projector

        module = build_projector(artifact.type, artifact.config)
        fill_module(module, artifact, self.context.dtype, self.context.device)
        tokenizer = _own_tokenizer(artifact)
        if module.reads_prompt and tokenizer is None and artifact.config.get("text_vocab", 0) < BYTE_VALUES:
            raise FailedPrecondition(
                f"artifact {artifact.version} reads prompts: a tokenizer.json, or a text_vocab of {BYTE_VALUES} for "
                "their bytes, expected"
            )
        return _Loaded(module, tokenizer)

    def _noisy_item(self, model: _Loaded, noise: Noise) -> _Item:
        module = model.module
        n_tokens = next((count for count in PROBE_TOKENS if _takes(module, count)), PROBE_TOKENS[0])
        return _Item(model, noise.values(1, n_tokens, module.feature_width), model.prompt_ids("probe"))

    def _alike(self, item: _Item) -> Hashable:
        return (id(item.loaded), item.features.shape, item.prompt_ids)

    def _outputs(self, items: Sequence[_Item]) -> torch.Tensor:
        import torch

        module, prompt_ids, device = items[0].loaded.module, items[0].prompt_ids, self.context.device
        dtype = next(module.parameters()).dtype
        features_BNTF = torch.stack([item.features for item in items])
        prompt_BL = torch.tensor([prompt_ids], device=device).expand(len(items), -1) if prompt_ids else None
        output_BTD: torch.Tensor = module(features_BNTF.to(device, dtype), prompt_BL)
        return output_BTD


def _takes(module: InputProjector, n_tokens: int) -> bool:
    try:
        module.tokens_for(n_tokens, 1)
    except ValueError:
        return False
    return True


def _own_tokenizer(artifact: Artifact) -> Tokenizer | None:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(artifact.read_file(TOKENIZER_FILE).decode())
    except NotFound:
        return None


class InputProjectorService(input_projector_pb2_grpc.InputProjectorServiceServicer):
    """Converts between the contract and ``InputProjectorComponent``."""

    def __init__(self, component: InputProjectorComponent) -> None:
        self._component = component

    async def Project(  # noqa: N802 - name fixed by the contract
        self, request: input_projector_pb2.ProjectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> input_projector_pb2.ProjectResponse:
        """Project features."""
        segments = await self._component.project(
            convert.version_from_proto(request.version),
            [convert.features_from_proto(item) for item in request.items],
            request.prompt,
            request_id_of(context),
        )
        return input_projector_pb2.ProjectResponse(segments=[convert.segment_to_proto(one) for one in segments])
