"""The backbone's gRPC face, and what stands behind it: segments in; text, signal blocks and usage out."""

# T tokens, D backbone width

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from anyplex.v1 import backbone_pb2, backbone_pb2_grpc, component_pb2
from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts.store import Artifact
from services.backbone.checks import check_ids, check_request, check_room, too_long
from services.runtime import convert, convert_nodes
from services.runtime.batching import Ticket, admitted
from services.runtime.component import ComponentContext, Held
from services.runtime.interceptors import request_id_of
from services.runtime.model_component import EngineComponent
from services.runtime.probes import Noise, Probe
from services.runtime.resident import Resident, finite
from services.runtime.tensors import to_torch

if TYPE_CHECKING:
    import torch

    from services.backbone.engine import Engine, Job
    from services.backbone.loaded import AdapterWeights, LoadedBackbone

ADAPTER_TYPE = "lora"
# Short texts are tokenized where they are; longer ones on a thread, so that nobody else waits for them.
INLINE_CHARACTERS = 4_096
PROBE_TOKENS = 16


class BackboneComponent(EngineComponent["LoadedBackbone", "Engine"]):
    """Serves backbones of type ``decoder``."""

    noun = "backbone"

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._adapters: Resident[AdapterWeights] = Resident(context.store, "adapter", ADAPTER_TYPE, self._build_adapter)

    async def load_version(self, held: Held) -> None:
        """Load one more version, or adapter of the versions there are."""
        if not held.adapter:
            backbone = await self._resident.load(held.version)
            for weights in self._adapters.all():
                await self._add(backbone, weights)
            return
        self._resident.any()
        weights = await self._adapters.load(held.version)
        try:
            for backbone in self._resident.all():
                await self._add(backbone, weights)
            await self._verify_adapter(held.version)
        except FailedPrecondition:
            await self.unload_version(held.version)
            raise

    async def unload_version(self, version: str) -> None:
        """Drop a version or adapter when its last request has left."""
        if version not in self._adapters:
            await super().unload_version(version)
            return
        await self._adapters.unload(version)
        for backbone in self._resident.all():
            await self.engine.between_steps(lambda one=backbone: one.remove_adapter(version))  # type: ignore[misc]

    async def answer_probe(self, seed: int, adapter: str = "") -> torch.Tensor:
        """Return the logits after the noise of a seed, of the loaded version under an adapter."""
        return await self._logits(self._resident.any(), Noise(seed), adapter)

    async def _probe(self, model: LoadedBackbone, noise: Noise) -> torch.Tensor:
        return await self._logits(model, noise, "")

    async def _verify_adapter(self, version: str) -> None:
        """Hold an adapter against its probe, on the version it was probed on if that is here."""
        probe = Probe.of(self.context.store.get(version))
        for backbone in self._resident.all():
            if probe is not None and backbone.version == probe.on:
                logits_V = await self._logits(backbone, Noise(probe.seed), version)
                probe.check(logits_V, self.context.dtype, version)

    async def _logits(self, backbone: LoadedBackbone, noise: Noise, adapter: str) -> torch.Tensor:
        from services.backbone.batch import prefill
        from services.backbone.engine import Job

        ids = noise.ids(min(PROBE_TOKENS, backbone.context_tokens - 1), backbone.vocabulary)
        job = Job(backbone, adapter, (ids,), m.Sampling(max_tokens=1), began=lambda: None)
        logits_V = await self.engine.between_steps(lambda: prefill(job).logits)
        # Those of tokens that are never the model's to choose are minus infinity, by order and not by the weights.
        forced = frozenset(backbone.forced_only_ids)
        allowed = [number for number in range(len(logits_V)) if number not in forced]
        return logits_V[allowed]

    def _describe(self, model: LoadedBackbone) -> component_pb2.ContractCard:
        return component_pb2.ContractCard(
            input_width=model.width,
            output_width=int(model.model.config.get_text_config().hidden_size),
            signals={modality: len(ids) for modality, ids in model.codec.signal_ids.items()},
            tokenizer_fingerprint=model.codec.fingerprint,
            context_tokens=model.context_tokens,
            versions=self._adapters.held(),
            adds_input_embeddings=model.adds_input_embeddings,
        )

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service to a server."""
        backbone_pb2_grpc.add_BackboneServiceServicer_to_server(BackboneService(self), server)
        return backbone_pb2.DESCRIPTOR.services_by_name["BackboneService"].full_name

    async def decode(
        self, version: m.VersionRef, request: m.DecodeRequest, lease_id: str, deadline_s: float = math.inf
    ) -> AsyncGenerator[m.DecodeEvent, None]:
        """Decode one request; closing the generator frees its place within one model step.

        Args:
            version: Which weights, which adapter.
            request: What to decode.
            lease_id: Lease of the tensors it gives.
            deadline_s: ``time.monotonic()`` at which it ends.

        Raises:
            InvalidRequest: Segments or sampling are wrong, or the prompt does not fit the context.
            FailedPrecondition: The version or adapter is not loaded.
            Exhausted: Too many requests wait.
            DeadlineExceeded: The time is over.
        """
        check_request(request)
        with ExitStack() as stack:
            ticket = stack.enter_context(admitted(self))
            backbone = stack.enter_context(self._resident.use(version.version))
            if version.adapter:
                stack.enter_context(self._adapters.use(version.adapter))
            job = await self._job(backbone, version.adapter, request, ticket, deadline_s)
            async with aclosing(self.engine.submit(job)) as events:
                observed = _Observed(self, job, ticket)
                async for event in events:
                    observed.see(event)
                    yield self._kept(event, lease_id)

    async def _job(
        self,
        backbone: LoadedBackbone,
        adapter: str,
        request: m.DecodeRequest,
        ticket: Ticket,
        deadline_s: float,
    ) -> Job:
        from services.backbone.codec import MediaSlot
        from services.backbone.engine import Job, MediaRun

        check_ids(request, backbone)
        segments = [segment for turn in request.turns for segment in turn.segments]
        media = [segment for segment in segments if segment.embeddings is not None]
        n_media_tokens = sum(segment.embeddings.shape[0] for segment in media if segment.embeddings is not None)
        most = backbone.context_tokens - 1
        if n_media_tokens > most:
            raise too_long(f"prompt of more than {n_media_tokens} tokens", backbone)
        embeddings = [await self._read(segment.embeddings, backbone) for segment in media if segment.embeddings]
        characters = sum(len(segment.text or "") for segment in segments)
        if characters > INLINE_CHARACTERS:
            runs = await asyncio.to_thread(backbone.codec.encode, request.turns, request.raw, most)
        else:
            runs = backbone.codec.encode(request.turns, request.raw, most)
        prompt = tuple(
            MediaRun(embeddings[run.index], media[run.index].position_mode == "shared")
            if isinstance(run, MediaSlot)
            else run
            for run in runs
        )
        job = Job(
            backbone, adapter, prompt, request.sampling, ticket.begin, request.priority, deadline_s,
            request.produced_ids, request.force_signals, request.text_only,
        )  # fmt: skip
        most = check_room(request, backbone, job.prompt_tokens)
        return dataclasses.replace(job, sampling=dataclasses.replace(request.sampling, max_tokens=most))

    async def _read(self, tensor: m.Tensor, backbone: LoadedBackbone) -> torch.Tensor:
        where = "turns.segments.embeddings"
        embeddings = to_torch(await self.context.tensors.resolve(tensor, where))
        if embeddings.shape[-1] != backbone.width:
            raise InvalidRequest(f"shape {list(tensor.shape)}, [tokens, {backbone.width}] expected", where)
        if not finite(embeddings):
            raise InvalidRequest("NaN or Inf among the embeddings", where)
        return embeddings

    def _kept(self, event: m.DecodeEvent, lease_id: str) -> m.DecodeEvent:
        if not isinstance(event, m.SignalBlock):
            return event
        tensors = self.context.tensors
        embeddings = event.input_embeddings
        return dataclasses.replace(
            event,
            hidden_states=tensors.keep(event.hidden_states, lease_id),
            input_embeddings=None if embeddings is None else tensors.keep(embeddings, lease_id),
        )

    def _new_engine(self) -> Engine:
        from services.backbone.plain_engine import PlainEngine

        return PlainEngine(self.context.max_batch, self._set_up)

    def _build(self, artifact: Artifact) -> LoadedBackbone:
        from services.backbone.loaded import LoadedBackbone

        return LoadedBackbone.from_artifact(artifact, self.context.dtype, self.context.device)

    def _build_adapter(self, artifact: Artifact) -> AdapterWeights:
        from services.backbone.loaded import AdapterWeights

        return AdapterWeights.from_artifact(artifact)

    async def _add(self, backbone: LoadedBackbone, weights: AdapterWeights) -> None:
        await self.engine.between_steps(lambda: backbone.add_adapter(weights))

    def _blank_job(self, model: LoadedBackbone) -> Job:
        from services.backbone.engine import Job

        return Job(model, "", ((0,),), m.Sampling(max_tokens=2), began=lambda: None)


class _Observed:
    """Tells the metrics of the tokens of a request."""

    def __init__(self, component: BackboneComponent, job: Job, ticket: Ticket) -> None:
        self._metrics = component.metrics
        self._last_s = time.monotonic()
        self._job = job
        self._ticket = ticket

    def see(self, event: m.DecodeEvent) -> None:
        """Observe an event."""
        metrics, now = self._metrics, time.monotonic()
        if metrics is None:
            return
        if isinstance(event, m.DecodeStarted):
            metrics.prompt_tokens.inc(event.prompt_tokens)
        elif isinstance(event, m.DecodeFinished):
            metrics.generation_tokens.inc(event.completion_tokens - len(self._job.produced_ids))
        else:
            if not self._ticket.give():
                metrics.inter_token_s.observe(now - self._last_s)
            self._last_s = now


class BackboneService(backbone_pb2_grpc.BackboneServiceServicer):
    """Converts between the contract and ``BackboneComponent``."""

    def __init__(self, component: BackboneComponent) -> None:
        self._component = component

    async def Decode(  # noqa: N802 - name fixed by the contract
        self, request: backbone_pb2.DecodeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[backbone_pb2.DecodeResponse]:
        """Decode one request."""
        left_s = context.time_remaining()
        events = self._component.decode(
            convert.version_from_proto(request.version),
            convert.decode_from_proto(request),
            request_id_of(context),
            math.inf if left_s is None else time.monotonic() + left_s,
        )
        async with aclosing(events):
            async for event in events:
                yield convert_nodes.decode_event_to_proto(event)
