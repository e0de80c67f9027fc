"""What components with a model have in common: versions loaded, pinned and dropped, requests run, a card given."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Hashable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from anyplex.v1 import component_pb2
from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest, Unimplemented
from services.artifacts.store import Artifact
from services.runtime import convert
from services.runtime.batching import Batcher, Ticket, admitted, run_groups
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.probes import Noise, Probe
from services.runtime.resident import Resident, finite
from services.runtime.tensors import to_torch

if TYPE_CHECKING:
    import torch


class Engine(Protocol):
    """Runs jobs on a thread of its own, several at once if it can."""

    def submit(self, job: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401 - each engine has jobs and events of its own
        """Run a job; closing the generator frees what it held."""
        ...

    def close(self) -> None:
        """End the engine's thread after its present step."""
        ...


Model = TypeVar("Model")
Item = TypeVar("Item")
AnyEngine = TypeVar("AnyEngine", bound=Engine)


class ModelComponent(Component, Generic[Model]):
    """Holds versions of one architecture side by side; takes no adapters unless it says otherwise.

    Attributes:
        noun: What it is called in messages.
    """

    noun: ClassVar[str]

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._resident: Resident[Model] = Resident(context.store, context.kind, context.type, self._build, self._verify)

    async def start(self) -> None:
        """Load the versions of the plan, adapters after what they adapt, and warm up."""
        await asyncio.to_thread(self._set_up)
        await self._prepare()
        for held in sorted(self.context.held, key=lambda held: held.adapter):
            await self.load_version(held)
        if len(self._resident):
            await self._warm_up(self._resident.any())

    async def load_version(self, held: Held) -> None:
        """Load one more version."""
        self._refuse_adapter(held.adapter)
        await self._resident.load(held.version)

    async def unload_version(self, version: str) -> None:
        """Drop a version when its last request has left."""
        await self._resident.unload(version)

    def card(self) -> component_pb2.ContractCard:
        """Return the contract card."""
        card = component_pb2.ContractCard(
            contract="v1",
            kind=self.context.kind,
            type=self.context.type,
            architecture=self._resident.architecture,
            versions=self._resident.held(),
            dtype=convert.DTYPES[self.context.dtype],  # type: ignore[arg-type]
            queue_limit=self.context.queue_limit,
        )
        card.MergeFrom(self._describe(self._resident.any()))
        return card

    async def answer_probe(self, seed: int, adapter: str = "") -> torch.Tensor:
        """Return what the loaded version makes of the noise of a seed: what its probe is made from.

        Raises:
            FailedPrecondition: No version is loaded, or it takes no adapters.
            Unimplemented: This component has no probes.
        """
        self._refuse_adapter(adapter)
        return await self._probe(self._resident.any(), Noise(seed))

    async def _verify(self, artifact: Artifact, model: Model) -> None:
        """Hold a model that nobody uses yet against the probe of its artifact, if there is one."""
        probe = Probe.of(artifact)
        if probe is not None:
            probe.check(await self._probe(model, Noise(probe.seed)), self.context.dtype, artifact.version)

    async def _probe(self, model: Model, noise: Noise) -> torch.Tensor:
        """Return what a model makes of noise; the same for the same weights."""
        raise Unimplemented(f"a {self.context.type} {self.noun} has no probes")

    @abstractmethod
    def _build(self, artifact: Artifact) -> Model:
        """Make the model of an artifact, ready to run; blocking, runs on a thread."""

    @abstractmethod
    def _describe(self, model: Model) -> component_pb2.ContractCard:
        """Return what the card says of the model, beside what every card says."""

    async def _prepare(self) -> None:
        """Make what loading needs, before the first version is loaded."""

    async def _warm_up(self, model: Model) -> None:
        """Run something blank, so that the first request need not wait for what happens once."""

    def _set_up(self) -> None:
        import torch

        # On every thread that computes: OpenMP keeps the number by thread.
        torch.set_num_threads(self.context.threads)

    def _refuse_adapter(self, adapter: str | bool) -> None:
        if adapter:
            raise FailedPrecondition(f"a {self.context.type} {self.noun} takes no adapters")

    async def _fetch(self, tensor: m.Tensor, where: str, what: str) -> torch.Tensor:
        """Get the elements of a tensor that was checked, from wherever they are.

        Raises:
            InvalidRequest: There are NaN or Inf among them.
        """
        values = to_torch(await self.context.tensors.resolve(tensor, where))
        if not finite(values):
            raise InvalidRequest(f"NaN or Inf among the {what}", where)
        return values


class BatchedComponent(ModelComponent[Model], Generic[Model, Item]):
    """Answers with what one pass through the model gives; items of concurrent requests share a pass."""

    def __init__(self, context: ComponentContext) -> None:
        super().__init__(context)
        self._batcher: Batcher[Item, torch.Tensor] = Batcher(self._run, context.max_batch, context.kind, self._set_up)

    async def stop(self) -> None:
        """End the thread."""
        self._batcher.close()

    @abstractmethod
    def _alike(self, item: Item) -> Hashable:
        """Return what must be equal in items that go through the model together."""

    @abstractmethod
    def _outputs(self, items: Sequence[Item]) -> torch.Tensor:
        """Run items that are alike through their model; one row an item."""

    @abstractmethod
    def _noisy_item(self, model: Model, noise: Noise) -> Item:
        """Return an item made of noise."""

    async def _probe(self, model: Model, noise: Noise) -> torch.Tensor:
        (outcome,) = await asyncio.to_thread(self._run, [self._noisy_item(model, noise)])
        if isinstance(outcome, BaseException):
            raise FailedPrecondition(f"the {self.noun} gives NaN or Inf for noise") from outcome
        return outcome

    def _run(self, items: Sequence[Item]) -> list[torch.Tensor | BaseException]:
        return run_groups(items, self._alike, self._outputs, f"the {self.noun} gave NaN or Inf")

    @contextmanager
    def _serve(self, version: m.VersionRef) -> Iterator[tuple[Ticket, Model]]:
        """Admit a request, and hold its version until it has ended.

        Raises:
            FailedPrecondition: The version is not loaded, or it is to be adapted.
            Exhausted: Too many requests wait.
        """
        self._refuse_adapter(version.adapter)
        with admitted(self) as ticket, self._resident.use(version.version) as model:
            yield ticket, model


class EngineComponent(ModelComponent[Model], Generic[Model, AnyEngine]):
    """Answers with a stream of what an engine gives, step by step."""

    _engine: AnyEngine | None = None

    @property
    def engine(self) -> AnyEngine:
        """The engine.

        Raises:
            FailedPrecondition: The component was not started.
        """
        if self._engine is None:
            raise FailedPrecondition(f"the {self.noun} is not started")
        return self._engine

    async def stop(self) -> None:
        """End the engine."""
        self.engine.close()

    @abstractmethod
    def _new_engine(self) -> AnyEngine:
        """Make the engine; blocking, runs on a thread."""

    @abstractmethod
    def _blank_job(self, model: Model) -> Any:  # noqa: ANN401 - each engine has jobs of its own
        """Return a short job that asks for nothing in particular."""

    async def _prepare(self) -> None:
        self._engine = await asyncio.to_thread(self._new_engine)

    async def _warm_up(self, model: Model) -> None:
        async with aclosing(self.engine.submit(self._blank_job(model))) as events:
            async for _ in events:
                pass
