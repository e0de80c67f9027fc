"""The generator's gRPC face, and what stands behind it: conditioning in, a medium out."""

# T tokens, D conditioning width

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from anyplex.v1 import component_pb2, generator_pb2, generator_pb2_grpc
from graph import messages as m
from graph.errors import Exhausted, InvalidRequest, Unimplemented
from services.artifacts.store import Artifact
from services.generators.encoding import Medium, encode
from services.generators.plans import MediumPlan, plan_medium
from services.runtime import convert, convert_nodes
from services.runtime.batching import Ticket, admitted
from services.runtime.component import ComponentContext
from services.runtime.model_component import EngineComponent
from services.runtime.probes import Noise
from services.runtime.tensors import check_floats

if TYPE_CHECKING:
    import torch

    from services.generators.engine import Engine, GeneratorModel, RenderJob

CHUNK_BYTES = 256 * 1024
MAX_TOKENS = 4_096
MAX_SEED = 2**64 - 1
PRIORITIES = 10
PROBE_STEPS = 2
PROBE_TOKENS = 8
"""Of conditioning that may have any number of them."""
Tensors = Mapping[str, m.Tensor]


class GeneratorComponent(EngineComponent["GeneratorModel", "Engine"]):
    """Serves generators of one type."""

    noun = "generator"

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")

    async def stop(self) -> None:
        """End the threads."""
        await super().stop()
        self._encoding.shutdown(wait=False, cancel_futures=True)

    def _describe(self, model: GeneratorModel) -> component_pb2.ContractCard:
        conditions = model.conditions()
        return component_pb2.ContractCard(
            modalities=[model.modality],
            input_width=next(iter(conditions.values())).width,
            conditioning={
                name: component_pb2.ConditioningShape(sizes=shape.sizes, optional=shape.optional)
                for name, shape in conditions.items()
            },
        )

    def add_to(self, server: grpc.aio.Server) -> str:
        """Add the service to a server."""
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(GeneratorService(self), server)
        return generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name

    def admit(self) -> None:
        """Count one more waiting request, or refuse it at once.

        Raises:
            Exhausted: As many wait as may, or as many media as may lie here for readers that do not read.
        """
        most = self.context.max_batch + self.context.queue_limit
        if self.load.running >= most:
            message = f"{self.context.component}: {self.load.running} media are made or wait for their readers"
            raise Exhausted(message, "", 1.0)
        super().admit()

    async def render(
        self, version: m.VersionRef, request: m.RenderRequest, deadline_s: float = math.inf
    ) -> AsyncGenerator[m.RenderEvent, None]:
        """Make one medium; closing the generator frees its place within one denoising step.

        Args:
            version: Which weights.
            request: What to make.
            deadline_s: ``time.monotonic()`` at which it ends.

        Raises:
            InvalidRequest: Conditioning or parameters are wrong.
            FailedPrecondition: The version is not loaded.
            Exhausted: Too many requests wait, or there is not enough memory.
            DeadlineExceeded: The time is over.
        """
        check_request(request)
        self._refuse_adapter(version.adapter)
        with ExitStack() as stack:
            model = stack.enter_context(self._resident.use(version.version))
            plan = plan_medium(model.modality, request.parameters, model.defaults, model.caps)
            check_conditioning(request.conditioning, model, plan)
            ticket = stack.enter_context(admitted(self))
            job = await self._job(model, plan, request, ticket, deadline_s)
            async with aclosing(self.engine.submit(job)) as events:
                async for event in events:
                    if not isinstance(event, Medium):
                        ticket.give()
                        yield event
                        continue
                    data = await asyncio.get_running_loop().run_in_executor(
                        self._encoding, encode, event, plan.mime_type
                    )
                    for chunk in chunks(data):
                        yield chunk

    async def _job(
        self, model: GeneratorModel, plan: MediumPlan, request: m.RenderRequest, ticket: Ticket, deadline_s: float
    ) -> RenderJob[GeneratorModel]:
        from services.generators.engine import RenderJob

        conditioning = request.conditioning
        return RenderJob(
            model=model,
            plan=plan,
            positive=await self._read(conditioning.positive, model, "conditioning"),
            negative=await self._read(conditioning.negative, model, "negative"),
            seed=request.seed,
            began=ticket.begin,
            priority=request.priority,
            deadline_s=deadline_s,
        )

    async def _read(self, tensors: Tensors, model: GeneratorModel, field: str) -> dict[str, torch.Tensor]:
        read = {}
        for name, tensor in tensors.items():
            where = f"{field}[{name}]"
            values = (await self._fetch(tensor, where, "conditioning")).float()
            read[name] = values.reshape(values.shape[values.ndim - len(model.conditions()[name].sizes) :])
        return read

    def _new_engine(self) -> Engine:
        if self.context.type == "diffusers":
            from services.generators.diffusers_pipeline import PipelineEngine

            return PipelineEngine(self._set_up)
        from services.generators.denoising import DenoisingEngine

        return DenoisingEngine(self.context.max_batch, self._set_up)

    def _build(self, artifact: Artifact) -> GeneratorModel:
        if artifact.type == "diffusers":
            from services.generators.diffusers_pipeline import load_pipeline

            return load_pipeline(artifact, self.context.dtype, self.context.device)
        from services.generators.models import load_generator

        return load_generator(artifact, self.context.dtype, self.context.device)

    def _blank_job(self, model: GeneratorModel) -> RenderJob[GeneratorModel]:
        import torch

        return _short_job(model, lambda *shape: torch.zeros(shape))

    async def _probe(self, model: GeneratorModel, noise: Noise) -> torch.Tensor:
        import torch

        async with aclosing(self.engine.submit(_short_job(model, noise.values))) as events:
            media = [event async for event in events if isinstance(event, Medium)]
        return torch.from_numpy(media[-1].values)


def _short_job(model: GeneratorModel, draw: Callable[..., torch.Tensor]) -> RenderJob[GeneratorModel]:
    """Return a job of few steps, its conditioning drawn by ``draw``."""
    import torch

    from services.generators.engine import RenderJob

    parameters = m.MediaParameters(steps=min(PROBE_STEPS, model.caps.steps))
    plan = plan_medium(model.modality, parameters, model.defaults, model.caps)
    conditioning = {}
    for name, shape in model.conditions().items():
        sizes = [size or PROBE_TOKENS for size in shape.sizes]
        if not shape.optional:
            conditioning[name] = torch.ones(sizes) if name.endswith("_mask") else draw(*sizes)
    return RenderJob(model, plan, conditioning, {}, 0, began=lambda: None)


def chunks(data: bytes) -> list[m.RenderChunk]:
    """Cut a file into chunks, the last one marked."""
    starts = range(0, max(1, len(data)), CHUNK_BYTES)
    return [m.RenderChunk(data[start : start + CHUNK_BYTES], start + CHUNK_BYTES >= len(data)) for start in starts]


def check_request(request: m.RenderRequest) -> None:
    """Check what can be checked without knowing the model.

    Raises:
        InvalidRequest: Something is out of range.
        Unimplemented: Media were handed in.
    """
    if not -PRIORITIES <= request.priority <= PRIORITIES:
        raise InvalidRequest(f"{request.priority}, -{PRIORITIES} to {PRIORITIES} expected", "priority")
    if not 0 <= request.seed <= MAX_SEED:
        raise InvalidRequest(f"{request.seed}, 0 to {MAX_SEED} expected", "seed")
    if request.references:
        raise Unimplemented("this generator makes nothing from media that are handed in", "references")


def check_conditioning(conditioning: m.Conditioning, model: GeneratorModel, plan: MediumPlan) -> None:
    """Check names, shapes and types of conditioning before any of it is fetched.

    Raises:
        InvalidRequest: They are not what the model reads.
    """
    known = model.conditions()
    missing = [name for name, shape in known.items() if not shape.optional and name not in conditioning.positive]
    if missing:
        raise InvalidRequest(f"{missing} missing, {sorted(known)} expected", "conditioning")
    for field, tensors in (("conditioning", conditioning.positive), ("negative", conditioning.negative)):
        for name, tensor in tensors.items():
            where = f"{field}[{name[:64]}]"
            if name not in known:
                raise InvalidRequest(f"unknown, one of {sorted(known)} expected", where)
            check_condition(tensor, known[name].sizes, where)
    for name, tensor in conditioning.negative.items():
        beside = conditioning.positive.get(name)
        if beside is None:
            raise InvalidRequest("a negative side without its positive one", f"negative[{name}]")
        if math.prod(beside.shape) != math.prod(tensor.shape):
            message = f"shape {list(tensor.shape)}, {list(beside.shape)} as on the positive side expected"
            raise InvalidRequest(message, f"negative[{name}]")


def check_condition(tensor: m.Tensor, sizes: tuple[int, ...], where: str) -> None:
    """Check one tensor; leading axes of size 1 are let through.

    Raises:
        InvalidRequest: Shape, type and bytes disagree, or are not what is expected.
    """
    check_floats(tensor, where)
    leading, shape = tensor.shape[: -len(sizes)], tensor.shape[-len(sizes) :]
    fits = len(shape) == len(sizes) and all(size in (0, given) for size, given in zip(sizes, shape, strict=True))
    if not fits or math.prod(leading) != 1 or 0 in shape:
        told = ", ".join(str(size or "tokens") for size in sizes)
        raise InvalidRequest(f"shape {list(tensor.shape)}, [{told}] expected", where)
    if len(shape) > 1 and shape[0] > MAX_TOKENS:
        raise InvalidRequest(f"{shape[0]} tokens, at most {MAX_TOKENS} expected", where)


class GeneratorService(generator_pb2_grpc.GeneratorServiceServicer):
    """Converts between the contract and ``GeneratorComponent``."""

    def __init__(self, component: GeneratorComponent) -> None:
        self._component = component

    async def Render(  # noqa: N802 - name fixed by the contract
        self, request: generator_pb2.RenderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[generator_pb2.RenderResponse]:
        """Make one medium."""
        left_s = context.time_remaining()
        events = self._component.render(
            convert.version_from_proto(request.version),
            convert_nodes.render_from_proto(request),
            math.inf if left_s is None else time.monotonic() + left_s,
        )
        async with aclosing(events):
            async for event in events:
                yield convert_nodes.render_event_to_proto(event)
