"""The backbone component: prompts that fit, adapters by name, limits said in words."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry

from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest, Unimplemented
from services.artifacts import ArtifactStore
from services.backbone.service import BackboneComponent
from services.runtime.component import Held
from services.runtime.telemetry import Metrics
from services.runtime.tensors import from_torch, to_torch
from tests.fakes import tiny
from tests.fakes.components import make_component, started

ANY = m.VersionRef()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
async def backbone(store: ArtifactStore) -> AsyncIterator[BackboneComponent]:
    async with started(make_component(store, Held(tiny.decoder(store)))) as component:
        yield component


def ask(*segments: m.Segment, **sampling: Any) -> m.DecodeRequest:
    return m.DecodeRequest((m.Turn("user", segments or (m.Segment(text="what?"),)),), m.Sampling(**sampling))


def media(n_tokens: int, width: int = tiny.BACKBONE_WIDTH, fill: float = 0.1) -> m.Segment:
    return m.Segment(embeddings=from_torch(torch.full((n_tokens, width), fill)), modality="image")


async def run(
    backbone: BackboneComponent, request: m.DecodeRequest, version: m.VersionRef = ANY
) -> list[m.DecodeEvent]:
    async with aclosing(backbone.decode(version, request, "lease")) as events:
        return [event async for event in events]


@contextmanager
def endless(backbone: BackboneComponent) -> Iterator[None]:
    """For a while nothing ends an answer."""
    loaded = backbone._resident.any()
    stop_ids, loaded.stop_ids = loaded.stop_ids, frozenset()
    yield
    loaded.stop_ids = stop_ids


async def test_tokens_that_do_not_fit_the_context_are_not_produced(backbone: BackboneComponent) -> None:
    with endless(backbone):
        events = await run(backbone, ask(media(240), max_tokens=1000))
    started_event, end = events[0], events[-1]
    assert isinstance(started_event, m.DecodeStarted)
    assert isinstance(end, m.DecodeFinished)
    assert started_event.media_tokens == 240
    assert end.reason == "length"
    assert started_event.prompt_tokens + end.completion_tokens == tiny.CONTEXT_TOKENS


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (ask(media(252)), r"prompt of 2\d\d tokens, at most 255 expected: the context has 256"),
        (ask(media(300)), "more than 300 tokens"),
        (ask(m.Segment(text="é" * 3000)), "tokens, at most 255 expected"),
        (ask(media(3, width=5)), r"shape \[3, 5\], \[tokens, 48\] expected"),
        (ask(media(3, fill=float("nan"))), "NaN or Inf"),
        (ask(media(3), temperature=float("inf")), r"sampling.temperature: inf, 0 to 2 expected"),
        (ask(media(3), max_tokens=0), "sampling.max_tokens"),
        (ask(media(3), top_p=0.0), "sampling.top_p"),
        (ask(m.Segment(token_ids=(4096,))), "token 4096, 0 to 1023 expected"),
        (m.DecodeRequest((), m.Sampling()), "no turns"),
    ],
)
async def test_what_does_not_fit_is_said(
    request_: m.DecodeRequest, complaint: str, backbone: BackboneComponent
) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        await run(backbone, request_)
    assert backbone.load.running == backbone.load.waiting == 0


async def test_cross_attention_is_unimplemented(backbone: BackboneComponent) -> None:
    memory = m.Segment(cross_memory=media(2).embeddings)
    with pytest.raises(Unimplemented, match="cross-attention"):
        await run(backbone, ask(memory))


async def test_positions_of_the_caller_are_unimplemented(backbone: BackboneComponent) -> None:
    with pytest.raises(Unimplemented, match=r"turns\[0\].segments\[0\].position_ids"):
        await run(backbone, ask(m.Segment(text="hello", position_ids=(0, 0))))


async def test_ids_may_not_stand_for_media(backbone: BackboneComponent) -> None:
    media_id = backbone._resident.any().codec.media_id
    with pytest.raises(InvalidRequest, match="stands for media"):
        await run(backbone, ask(m.Segment(token_ids=(media_id,))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_adapters_come_and_go(dtype: str, store: ArtifactStore) -> None:
    version, lora = tiny.decoder(store), tiny.adapter(store)
    held = (Held(version), Held(lora, adapter=True))
    async with started(make_component(store, *held, dtype=dtype)) as component:
        request = ask(max_tokens=12)
        bare = texts(await run(component, request))
        adapted = texts(await run(component, request, m.VersionRef(version, lora)))
        assert bare != adapted
        other = tiny.adapter(store, seed=5)
        with pytest.raises(FailedPrecondition, match="adapter version"):
            await run(component, request, m.VersionRef(version, other))
        await component.load_version(Held(other, adapter=True))
        assert texts(await run(component, request, m.VersionRef("", other))) not in (bare, adapted)
        await component.unload_version(lora)
        assert {held.version for held in component.card().versions} == {version, other}
        assert texts(await run(component, request)) == bare


async def test_an_adapter_may_bring_rows_for_signals(store: ArtifactStore) -> None:
    version, lora, other = tiny.decoder(store), tiny.adapter(store, signals=True), tiny.adapter(store, 1, signals=True)
    held = (Held(version), Held(lora, adapter=True), Held(other, adapter=True))
    async with started(make_component(store, *held)) as component:
        request = dataclasses.replace(ask(max_tokens=12), force_signals=("image",))
        answers = await asyncio.gather(
            *(run(component, request, m.VersionRef(version, adapter)) for adapter in (lora, other, "") * 2)
        )
        blocks = [next(event for event in events if isinstance(event, m.SignalBlock)) for events in answers]
        embeddings = [to_torch(block.input_embeddings) for block in blocks if block.input_embeddings is not None]
        rows = store.get(lora).load_tensors()["signal_embeddings"]
        assert any(torch.equal(embeddings[0], rows[start : start + 4]) for start in range(len(rows) - 3))
        assert torch.equal(embeddings[0], embeddings[3])
        assert torch.equal(embeddings[2], embeddings[5])
        assert not any(torch.equal(embeddings[a], embeddings[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


async def test_rows_that_do_not_fit_leave_nothing_behind(store: ArtifactStore) -> None:
    tensors = store.get(tiny.adapter(store, signals=True)).load_tensors()
    tensors["signal_head"] = tensors["signal_head"][1:].clone()
    misfit = store.put(kind="adapter", type="lora", config=tiny.ADAPTER, tensors=tensors)
    fits = tiny.adapter(store, signals=True)
    async with started(make_component(store, Held(tiny.decoder(store)))) as component:
        with pytest.raises(FailedPrecondition, match="signal_head"):
            await component.load_version(Held(misfit, adapter=True))
        assert [held.adapter for held in component.card().versions] == [False]
        await component.load_version(Held(fits, adapter=True))


async def test_signals_that_the_decoder_does_not_know_are_refused(store: ArtifactStore) -> None:
    config = tiny.decoder_config({**tiny.LLAMA})
    config["decoder"]["vocab_size"] = 10
    with pytest.raises(FailedPrecondition, match="signal tokens up to"):
        await make_component(store, Held(tiny.decoder(store, config=config))).start()


def texts(events: list[m.DecodeEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, m.DecodedText))


async def test_adapters_reach_versions_loaded_later(store: ArtifactStore) -> None:
    first, second, lora = tiny.decoder(store), tiny.decoder(store, seed=1), tiny.adapter(store)
    async with started(make_component(store, Held(first), Held(lora, adapter=True))) as component:
        await component.load_version(Held(second))
        request = ask(max_tokens=12)
        bare = texts(await run(component, request, m.VersionRef(second)))
        assert texts(await run(component, request, m.VersionRef(second, lora))) != bare


async def test_an_adapter_that_does_not_fit_leaves_nothing_behind(store: ArtifactStore) -> None:
    config = {**tiny.ADAPTER, "rank": 2}
    tensors = store.get(tiny.adapter(store)).load_tensors()
    misfit = store.put(kind="adapter", type="lora", config=config, tensors=tensors)
    async with started(make_component(store, Held(tiny.decoder(store)))) as component:
        with pytest.raises(FailedPrecondition, match="does not fit"):
            await component.load_version(Held(misfit, adapter=True))
        assert [held.adapter for held in component.card().versions] == [False]


async def test_metrics_see_tokens(store: ArtifactStore) -> None:
    registry = CollectorRegistry()
    component = make_component(store, Held(tiny.decoder(store)))
    component.metrics = Metrics("c", "backbone", registry)
    async with started(component) as backbone:
        await run(backbone, ask(max_tokens=9, n=2, temperature=1.0))
    labels = {"component": "c", "kind": "backbone"}
    assert registry.get_sample_value("anyplex:prompt_tokens_total", labels) == 6
    assert 2 <= (registry.get_sample_value("anyplex:generation_tokens_total", labels) or 0) <= 18
    assert registry.get_sample_value("anyplex:time_to_first_token_seconds_count", labels) == 1
    assert (registry.get_sample_value("anyplex:inter_token_latency_seconds_count", labels) or 0) > 1
    assert registry.get_sample_value("anyplex:request_queue_time_seconds_count", labels) == 1
