"""The input projector's gRPC face, and what stands behind it: features in, what the backbone reads out."""

# B items, N frames of an item, T tokens of a frame, F feature width, D backbone width, L prompt tokens

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, input_projector_pb2, input_projector_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, Internal, InvalidRequest, NotFound
from services.artifacts.store import Artifact
from services.runtime import convert
from services.runtime.batching import Batcher, admitted
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.interceptors import request_id_of
from services.runtime.resident import Resident, fill_module, finite
from services.runtime.tensors import check_tensor, from_torch, to_torch

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from services.input_projectors.projector import InputProjector

MAX_ITEMS = 256
MAX_FEATURES = 65_536
MAX_PROMPT_CHARACTERS = 100_000
BYTE_VALUES = 256
TOKENIZER_FILE = "tokenizer.json"
FLOATS = ("float32", "bfloat16", "float16")


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


class InputProjectorComponent(Component):
    """Serves input projectors: ``linear``, ``mlp``, ``query_transformer``."""

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._resident: Resident[_Loaded] = Resident(context.store, context.kind, context.type, self._build)
        self._batcher: Batcher[_Item, torch.Tensor] = Batcher(self._run, context.max_batch, "project", self._set_up)

    async def start(self) -> None:
        """Load the versions of the plan."""
        await asyncio.to_thread(self._set_up)
        for held in self.context.held:
            await self.load_version(held)

    async def stop(self) -> None:
        """End the thread."""
        self._batcher.close()

    async def load_version(self, held: Held) -> None:
        """Load one more version."""
        if held.adapter:
            raise FailedPrecondition(f"a {self.context.type} projector takes no adapters")
        await self._resident.load(held.version)

    async def unload_version(self, version: str) -> None:
        """Drop a version when its last request has left."""
        await self._resident.unload(version)

    def card(self) -> component_pb2.ContractCard:
        """Return the contract card."""
        module = self._resident.any().module
        fixed, stages = getattr(module, "n_queries", 0), module.stages
        video = component_pb2.TokenCount(unit="frame", max_units=stages.max_frames)
        if stages.joins_frames:
            video.fixed_tokens = fixed
        else:
            video.tokens_per_unit = fixed
        return component_pb2.ContractCard(
            contract="v1",
            kind=self.context.kind,
            type=self.context.type,
            architecture=self._resident.architecture,
            input_width=module.feature_width,
            output_width=module.output_width,
            tokens_per_item=fixed,
            max_tokens_per_item=fixed,
            token_counts={"video": video} if fixed or stages.max_frames else {},
            reads_prompt=module.reads_prompt,
            versions=self._resident.held(),
            dtype=convert.DTYPES[self.context.dtype],  # type: ignore[arg-type]
            queue_limit=self.context.queue_limit,
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
        if version.adapter:
            raise FailedPrecondition(f"a {self.context.type} projector takes no adapters")
        with admitted(self) as ticket, self._resident.use(version.version) as loaded:
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
        check_tensor(tensor, where)
        if tensor.dtype not in FLOATS:
            raise InvalidRequest(f"dtype {tensor.dtype}, one of {list(FLOATS)} expected", where)
        if len(tensor.shape) not in (2, 3) or tensor.shape[-1] != width or 0 in tensor.shape:
            raise InvalidRequest(
                f"shape {list(tensor.shape)}, [tokens, {width}] or [frames, tokens, {width}] expected", where
            )
        features = to_torch(await self.context.tensors.resolve(tensor, where))
        if not finite(features):
            raise InvalidRequest("NaN or Inf among the features", where)
        features_NTF = features if features.ndim == 3 else features[None]
        if features_NTF.shape[0] * features_NTF.shape[1] > MAX_FEATURES:
            raise InvalidRequest(f"more than {MAX_FEATURES} feature vectors in one item", where)
        try:
            loaded.module.tokens_for(features_NTF.shape[1], features_NTF.shape[0])
        except ValueError as error:
            raise InvalidRequest(str(error), where) from error
        return features_NTF

    def _set_up(self) -> None:
        import torch

        # Also on the thread that runs the model: OpenMP keeps the number by thread.
        torch.set_num_threads(self.context.threads)

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

    def _run(self, items: Sequence[_Item]) -> list[torch.Tensor | BaseException]:
        import torch

        groups: dict[object, list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault((id(item.loaded), item.features.shape, item.prompt_ids), []).append(index)
        results: dict[int, torch.Tensor | BaseException] = {}
        for indices in groups.values():
            first = items[indices[0]]
            dtype = next(first.loaded.module.parameters()).dtype
            features_BNTF = torch.stack([items[index].features for index in indices])
            prompt_BL = None
            if first.prompt_ids:
                prompt_BL = torch.tensor([first.prompt_ids], device=self.context.device).expand(len(indices), -1)
            with torch.inference_mode():
                output_BTD = first.loaded.module(features_BNTF.to(self.context.device, dtype), prompt_BL).cpu()
            for index, mine_TD in zip(indices, output_BTD, strict=True):
                results[index] = mine_TD if finite(mine_TD) else Internal("the projector gave NaN or Inf")
        return [results[index] for index in range(len(items))]


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
