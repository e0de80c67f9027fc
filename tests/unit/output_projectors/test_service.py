"""The output projector component: blocks that fit, in company and alone, limits said in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch

from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts import ArtifactStore
from services.output_projectors.models import build_projector
from services.output_projectors.service import OutputProjectorComponent
from services.runtime.component import Held
from services.runtime.tensors import from_torch, to_torch
from tests.fakes import tiny
from tests.fakes.components import make_component, started

ANY = m.VersionRef()
N_SIGNALS = tiny.SIGNALS["image"]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
async def projector(store: ArtifactStore) -> AsyncIterator[OutputProjectorComponent]:
    async with started(make_component(store, Held(adding(store)))) as component:
        yield component


def adding(store: ArtifactStore, **changes: Any) -> str:
    """A projector that adds input embeddings."""
    version = tiny.output_projector(store, "transformer")
    artifact = store.get(version)
    config = {**artifact.config, "adds_input_embeddings": True, **changes}
    return store.put(kind="output_projector", type="transformer", config=config, tensors=artifact.load_tensors())


def vectors(seed: int = 0, n_tokens: int = N_SIGNALS, width: int = tiny.BACKBONE_WIDTH, fill: float = 0.0) -> m.Tensor:
    drawn = torch.randn(n_tokens, width, generator=torch.Generator().manual_seed(seed))
    return from_torch(drawn + fill, ("tokens", "width"))


def block(seed: int = 0, **changes: Any) -> m.SignalBlock:
    given = {"hidden_states": vectors(seed), "input_embeddings": vectors(seed + 100), **changes}
    return m.SignalBlock(0, given.pop("modality", "image"), **given)


async def test_conditioning_is_the_modules(store: ArtifactStore, projector: OutputProjectorComponent) -> None:
    version = projector.card().versions[0].version
    artifact = store.get(version)
    module = build_projector("transformer", artifact.config)
    module.load_state_dict(artifact.load_tensors())
    blocks = [block(seed) for seed in range(9)]
    answers = await asyncio.gather(*(projector.condition(ANY, one, "lease") for one in blocks))
    for one, answer in zip(blocks, answers, strict=True):
        assert one.input_embeddings is not None
        with torch.no_grad():
            expected = module.eval()(to_torch(one.hidden_states)[None], to_torch(one.input_embeddings)[None])[0]
        (name,) = answer.positive
        assert name == "prompt_embeds"
        torch.testing.assert_close(to_torch(answer.positive[name]), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(to_torch(answer.negative[name]), module.negative_conditioning())


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (block(modality="audio"), "block.modality: 'audio', 'image' expected"),
        (block(hidden_states=vectors(n_tokens=3)), r"block.hidden_states: shape \[3, 48\], .*\[4, 48\] expected"),
        (block(hidden_states=vectors(width=47)), r"block.hidden_states: shape \[4, 47\], .*\[4, 48\] expected"),
        (block(hidden_states=vectors(fill=float("nan"))), "block.hidden_states: NaN or Inf"),
        (block(input_embeddings=vectors(fill=float("inf"))), "block.input_embeddings: NaN or Inf"),
        (block(input_embeddings=vectors(n_tokens=5)), "block.input_embeddings: shape"),
        (block(input_embeddings=None), "block.input_embeddings: none, those of the signal tokens expected"),
        (block(token_ids=(1, 2)), "block.token_ids: 2 ids, 4 expected"),
        (block(hidden_states=m.Tensor("int32", (4, 48), (), bytes(768))), "dtype int32, one of"),
    ],
)
async def test_what_does_not_fit_is_said(bad: m.SignalBlock, words: str, projector: OutputProjectorComponent) -> None:
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest, match=words):
        await projector.condition(ANY, bad, "lease")
    print(f"refused after {1000 * (time.perf_counter() - begin):.1f} ms")
    assert projector.load.running == projector.load.waiting == 0
    await projector.condition(ANY, block(), "lease")


async def test_a_block_that_overflows_fails_alone(projector: OutputProjectorComponent) -> None:
    huge = block(hidden_states=vectors(fill=3e38))
    outcomes = await asyncio.gather(
        *(projector.condition(ANY, one, "lease") for one in (block(1), huge, block(2))), return_exceptions=True
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]


async def test_versions_side_by_side(store: ArtifactStore, projector: OutputProjectorComponent) -> None:
    first = projector.card().versions[0].version
    tensors = {name: 1.5 * tensor for name, tensor in store.get(first).load_tensors().items()}
    config = store.get(first).config
    second = store.put(kind="output_projector", type="transformer", config=config, tensors=tensors)
    alone = await projector.condition(ANY, block(), "lease")
    await projector.load_version(Held(second))
    both = await asyncio.gather(
        *(projector.condition(m.VersionRef(version), block(), "lease") for version in (first, second) * 3)
    )
    values = [to_torch(answer.positive["prompt_embeds"]) for answer in both]
    torch.testing.assert_close(values[0], to_torch(alone.positive["prompt_embeds"]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(values[0], values[1])
    with pytest.raises(FailedPrecondition, match="must name one"):
        await projector.condition(ANY, block(), "lease")
    await projector.unload_version(first)
    await projector.condition(ANY, block(), "lease")
    with pytest.raises(FailedPrecondition, match="takes no adapters"):
        await projector.condition(m.VersionRef(second, "adapter"), block(), "lease")


async def test_weights_that_are_not_finite_are_refused(store: ArtifactStore) -> None:
    artifact = store.get(tiny.output_projector(store, "transformer"))
    tensors = artifact.load_tensors()
    tensors["negative"] = torch.full_like(tensors["negative"], float("nan"))
    broken = store.put(kind="output_projector", type="transformer", config=artifact.config, tensors=tensors)
    with pytest.raises(FailedPrecondition, match="'negative' holds NaN or Inf"):
        await make_component(store, Held(broken)).start()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_dtypes(dtype: str, store: ArtifactStore) -> None:
    async with started(make_component(store, Held(adding(store)), dtype=dtype)) as component:
        answer = await component.condition(ANY, block(), "lease")
    assert {tensor.dtype for tensor in (*answer.positive.values(), *answer.negative.values())} == {dtype}
