"""Components in this process, without a server: built over a store, started, stopped together."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from graph import messages as m
from graph.catalog import load_catalog
from graph.compile import merge_components
from graph.plan import SystemPlan
from services.artifacts import ArtifactStore
from services.backbone.service import BackboneComponent
from services.encoders.service import EncoderComponent
from services.input_projectors.service import InputProjectorComponent
from services.runtime.component import Component, ComponentContext, Held
from services.runtime.tensors import TensorStore

CATALOG = load_catalog()


def make_component(store: ArtifactStore, *held: Held, **settings: Any) -> Component:
    """Build the component of the first version's kind and type, not started."""
    artifact = store.get(held[0].version)
    module, _, attribute = CATALOG[artifact.kind, artifact.type].factory.partition(":")
    factory: Callable[[ComponentContext], Component] = getattr(importlib.import_module(module), attribute)
    context = ComponentContext(
        f"{artifact.kind}-test", artifact.kind, artifact.type, store, held, TensorStore(), **settings
    )
    return factory(context)


def components_of(store: ArtifactStore, plan: SystemPlan) -> dict[str, Component]:
    """Build every component of a plan by its id, not started, with the versions that the plan names."""
    return {
        part.id: make_component(
            store, *map(Held, part.versions), *(Held(version, adapter=True) for version in part.adapters)
        )
        for part in merge_components([plan])
    }


@asynccontextmanager
async def started(component: Component) -> AsyncIterator[Any]:
    """Run a component."""
    await component.start()
    try:
        yield component
    finally:
        await component.stop()


@dataclass
class Answer:
    """What a chain of components answered."""

    text: str = ""
    ids: tuple[int, ...] = ()
    reason: str = ""


@dataclass
class Chain:
    """An encoder, a projector and a backbone, called one after the other."""

    encoder: EncoderComponent[Any]
    projector: InputProjectorComponent
    backbone: BackboneComponent

    async def ask(
        self,
        turns: Sequence[tuple[str, Sequence[str | bytes]]],
        sampling: m.Sampling,
        version: m.VersionRef | None = None,
    ) -> Answer:
        """Ask; pictures are bytes, text is text."""
        read = [
            m.Turn(role, tuple(await asyncio.gather(*map(self._segment, parts))))  # type: ignore[arg-type]
            for role, parts in turns
        ]
        answer = Answer()
        async with aclosing(
            self.backbone.decode(version or m.VersionRef(), m.DecodeRequest(tuple(read), sampling), "test")
        ) as events:
            async for event in events:
                if isinstance(event, m.DecodedText):
                    answer.text += event.text
                    answer.ids += event.token_ids
                elif isinstance(event, m.DecodeFinished):
                    answer.reason = event.reason
        return answer

    async def _segment(self, part: str | bytes) -> m.Segment:
        if isinstance(part, str):
            return m.Segment(text=part)
        features = await self.encoder.encode(m.VersionRef(), [m.Media("image", data=part)], 0, "test")
        (segment,) = await self.projector.project(m.VersionRef(), features, "", "test")
        return segment


@asynccontextmanager
async def chain(
    store: ArtifactStore, see: str, see_in: str, think: str, lora: str = "", **settings: Any
) -> AsyncIterator[Chain]:
    """Start the three components of a system."""
    held = [Held(think)] + ([Held(lora, adapter=True)] if lora else [])
    async with (
        started(make_component(store, Held(see), **settings)) as encoder,
        started(make_component(store, Held(see_in), **settings)) as projector,
        started(make_component(store, *held, **settings)) as backbone,
    ):
        yield Chain(encoder, projector, backbone)
