"""Good and bad calls of output projectors, made from what their contract card says."""

from __future__ import annotations

import socket
from typing import Any

import grpc.aio

from anyplex.v1 import backbone_pb2, component_pb2, output_projector_pb2, output_projector_pb2_grpc, types_pb2
from services.runtime.convert import tensor_from_proto
from services.runtime.tensors import to_torch
from tests.contract.calls import REQUEST_ID, Metadata, bad_tensors, vectors


class OutputProjectorCalls:
    """Condition."""

    service = "anyplex.v1.OutputProjectorService"
    streams = False

    def __init__(self, card: component_pb2.ContractCard, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.card = card
        self.stub = output_projector_pb2_grpc.OutputProjectorServiceStub(channel)
        self.metadata = (*metadata, ("x-request-id", REQUEST_ID))
        ((self.modality, self.n_signals),) = card.signals.items()
        self._silent = socket.create_server(("127.0.0.1", 0))

    def block(self, seed: int = 0, **changes: Any) -> backbone_pb2.SignalBlock:
        states = vectors(self.n_signals, self.card.input_width, seed)
        block = backbone_pb2.SignalBlock(modality=self.modality, hidden_states=states)
        if self.card.adds_input_embeddings:
            block.input_embeddings.CopyFrom(vectors(self.n_signals, self.card.input_width, seed + 1))
        block.MergeFrom(backbone_pb2.SignalBlock(**changes))
        return block

    def request(self, block: backbone_pb2.SignalBlock) -> output_projector_pb2.ConditionRequest:
        return output_projector_pb2.ConditionRequest(block=block)

    async def call(self, *, version: str = "", adapter: str = "", seed: int = 0, timeout_s: float = 30.0) -> object:
        request = self.request(self.block(seed))
        request.version.CopyFrom(types_pb2.VersionRef(version=version, adapter=adapter))
        reply = await self.stub.Condition(request, metadata=self.metadata, timeout=timeout_s)
        return reply.SerializeToString(deterministic=True)

    def start_long(self, timeout_s: float | None = None) -> Any:
        block = self.block()
        if timeout_s is not None:
            # Nothing takes long here but waiting for states whose producer says nothing; without a limit it must end.
            address = f"127.0.0.1:{self._silent.getsockname()[1]}"
            size = len(block.hidden_states.inline)
            block.hidden_states.ref.CopyFrom(types_pb2.TensorRef(address=address, tensor_id="states", size_bytes=size))
        return self.stub.Condition(self.request(block), metadata=self.metadata, timeout=timeout_s)

    async def send(self, request: output_projector_pb2.ConditionRequest) -> object:
        return await self.stub.Condition(request, metadata=self.metadata, timeout=30)

    def bad_requests(self) -> dict[str, output_projector_pb2.ConditionRequest]:
        n_signals, width = self.n_signals, self.card.input_width
        tensors = bad_tensors(width, n_signals)
        tensors |= {"a token too many": vectors(n_signals + 1, width), "no states": types_pb2.Tensor()}
        requests = {}
        for name, tensor in tensors.items():
            block = self.block()
            block.hidden_states.CopyFrom(tensor)
            requests[name] = self.request(block)
            if self.card.adds_input_embeddings:
                block = self.block()
                block.input_embeddings.CopyFrom(tensor)
                requests[f"{name} in the embeddings"] = self.request(block)
        requests["no block"] = output_projector_pb2.ConditionRequest()
        requests["another modality"] = self.request(self.block(modality="smell"))
        requests["ids too many"] = self.request(self.block(token_ids=range(n_signals + 1)))
        return requests

    async def check_card(self, card: component_pb2.ContractCard) -> None:
        reply = await self.stub.Condition(self.request(self.block(1)), metadata=self.metadata, timeout=30)
        assert set(reply.conditioning) == set(reply.negative) == set(card.conditioning)
        for name, shape in card.conditioning.items():
            for tensor in (reply.conditioning[name], reply.negative[name]):
                assert tuple(tensor.shape) == tuple(shape.sizes)
                assert tensor.shape[-1] == card.output_width
                assert tensor.dtype == card.dtype
                assert to_torch(tensor_from_proto(tensor)).isfinite().all()
            assert reply.conditioning[name] != reply.negative[name]
        assert card.input_width > 0
