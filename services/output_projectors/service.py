"""The output projector's gRPC face, and what stands behind it: signal blocks in, conditioning out."""

# S signal tokens, D backbone width

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, output_projector_pb2, output_projector_pb2_grpc
from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts.store import Artifact
from services.runtime import convert, convert_nodes
from services.runtime.interceptors import request_id_of
from services.runtime.model_component import BatchedComponent
from services.runtime.probes import Noise
from services.runtime.resident import fill_module, finite
from services.runtime.tensors import check_floats, from_torch

if TYPE_CHECKING:
    import torch

    from services.output_projectors.projector import OutputProjector


@dataclass(frozen=True)
class _Loaded:
    """A projector, and its negative conditioning: the same for every block."""

    module: OutputProjector
    negative: torch.Tensor


@dataclass(frozen=True)
class _Item:
    loaded: _Loaded
    states: torch.Tensor
    embeddings: torch.Tensor | None


class OutputProjectorComponent(BatchedComponent[_Loaded, _Item]):
    """Serves output projectors: ``transformer``, ``mlp_transformer``, ``mlp``."""

    noun = "projector"

    def _describe(self, model: _Loaded) -> component_pb2.ContractCard:
        setup, shape = model.module.setup, model.module.output_shape
        n_vectors = shape[0] if len(shape) > 1 else 1
        return component_pb2.ContractCard(
            input_width=setup.input_width,
            output_width=setup.output_width,
            tokens_per_item=n_vectors,
            max_tokens_per_item=n_vectors,
            signals={setup.modality: setup.n_signals},
            adds_input_embeddings=setup.adds_input_embeddings,
            conditioning={setup.name: component_pb2.ConditioningShape(sizes=shape)},
        )

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service to a server."""
        face = OutputProjectorService(self)
        output_projector_pb2_grpc.add_OutputProjectorServiceServicer_to_server(face, server)
        return output_projector_pb2.DESCRIPTOR.services_by_name["OutputProjectorService"].full_name

    async def condition(self, version: m.VersionRef, block: m.SignalBlock, lease_id: str) -> m.Conditioning:
        """Make the conditioning of one signal block, and its negative.

        Raises:
            InvalidRequest: A block of another modality or length, or states of the wrong width, shape or dtype, or
                with NaN or Inf, or none where they are needed.
            FailedPrecondition: The version is not loaded.
            Exhausted: Too many requests wait.
        """
        with self._serve(version) as (ticket, loaded):
            setup = loaded.module.setup
            if block.modality != setup.modality:
                raise InvalidRequest(f"{block.modality[:64]!r}, {setup.modality!r} expected", "block.modality")
            if block.token_ids and len(block.token_ids) != setup.n_signals:
                raise InvalidRequest(f"{len(block.token_ids)} ids, {setup.n_signals} expected", "block.token_ids")
            states_SD = await self._read(block.hidden_states, loaded, "block.hidden_states")
            embeddings_SD = None
            if setup.adds_input_embeddings:
                where = "block.input_embeddings"
                if block.input_embeddings is None:
                    raise InvalidRequest("none, those of the signal tokens expected: this projector adds them", where)
                embeddings_SD = await self._read(block.input_embeddings, loaded, where)
            (output,) = await self._batcher.submit(ticket, [_Item(loaded, states_SD, embeddings_SD)])
        dims = ("tokens", "width")[-output.ndim :]
        keep = self.context.tensors.keep
        return m.Conditioning(
            {setup.name: keep(from_torch(output, dims), lease_id)},
            {setup.name: keep(from_torch(loaded.negative, dims), lease_id)},
        )

    async def _read(self, tensor: m.Tensor, loaded: _Loaded, where: str) -> torch.Tensor:
        setup = loaded.module.setup
        check_floats(tensor, where)
        expected = (setup.n_signals, setup.input_width)
        if tensor.shape != expected:
            raise InvalidRequest(f"shape {list(tensor.shape)}, [tokens, width] of {list(expected)} expected", where)
        return await self._fetch(tensor, where, "states")

    def _build(self, artifact: Artifact) -> _Loaded:
        import torch

        from services.output_projectors.models import build_projector

        module = build_projector(artifact.type, artifact.config)
        fill_module(module, artifact, self.context.dtype, self.context.device)
        with torch.inference_mode():
            negative = module.negative_conditioning().cpu()
        if not finite(negative):
            raise FailedPrecondition(f"artifact {artifact.version}: its negative conditioning holds NaN or Inf")
        return _Loaded(module, negative)

    def _noisy_item(self, model: _Loaded, noise: Noise) -> _Item:
        setup = model.module.setup
        shape = (setup.n_signals, setup.input_width)
        states = noise.values(*shape)
        return _Item(model, states, noise.values(*shape) if setup.adds_input_embeddings else None)

    def _alike(self, item: _Item) -> Hashable:
        return id(item.loaded)

    def _outputs(self, items: Sequence[_Item]) -> torch.Tensor:
        import torch

        module, device = items[0].loaded.module, self.context.device
        dtype = next(module.parameters()).dtype
        states_BSD = torch.stack([item.states.to(device, dtype) for item in items])
        embeddings = [item.embeddings.to(device, dtype) for item in items if item.embeddings is not None]
        outputs: torch.Tensor = module(states_BSD, torch.stack(embeddings) if embeddings else None)
        return outputs


class OutputProjectorService(output_projector_pb2_grpc.OutputProjectorServiceServicer):
    """Converts between the contract and ``OutputProjectorComponent``."""

    def __init__(self, component: OutputProjectorComponent) -> None:
        self._component = component

    async def Condition(  # noqa: N802 - name fixed by the contract
        self, request: output_projector_pb2.ConditionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> output_projector_pb2.ConditionResponse:
        """Make conditioning."""
        conditioning = await self._component.condition(
            convert.version_from_proto(request.version),
            convert_nodes.block_from_proto(request.block),
            request_id_of(context),
        )
        return convert_nodes.conditioning_to_proto(conditioning)
