"""Media that share a batch come out as if each were alone; they join and leave between steps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch

from graph.errors import AnyplexError, DeadlineExceeded, Exhausted, Internal
from graph.messages import MediaParameters, RenderProgress
from services.artifacts import ArtifactStore
from services.generators.denoising import DenoisingEngine
from services.generators.encoding import Medium
from services.generators.engine import RenderJob
from services.generators.latent_diffusion import LatentDiffusion
from services.generators.models import load_generator
from services.generators.outbox import PROGRESS_AHEAD
from services.generators.plans import plan_medium
from tests.fakes import tiny_generators

TOLERANCE = 1e-4
TYPES = ("stable_diffusion", "unclip", "text_to_video", "audioldm")


def loaded(tmp_path: Path, type_name: str, seed: int = 0, **changed: Any) -> LatentDiffusion:
    torch.set_num_threads(1)
    store = ArtifactStore(tmp_path)
    return load_generator(store.get(tiny_generators.generator(store, type_name, seed, **changed)), "float32", "cpu")


@pytest.fixture
def model(tmp_path: Path) -> LatentDiffusion:
    return loaded(tmp_path, "stable_diffusion")


@pytest.fixture
def engine() -> Iterator[DenoisingEngine]:
    engine = DenoisingEngine(max_rows=8)
    yield engine
    engine.close()


def job_of(
    model: LatentDiffusion,
    seed: int,
    *,
    tokens: int = 5,
    priority: int = 0,
    deadline_s: float = float("inf"),
    scale: float = 1.0,
    began: Any = lambda: None,
    **parameters: Any,
) -> RenderJob[LatentDiffusion]:
    generator = torch.Generator().manual_seed(seed)
    positive, negative = {}, {}
    for name, shape in model.conditions().items():
        sizes = [size or tokens for size in shape.sizes]
        positive[name] = torch.randn(sizes, generator=generator) * scale
        negative[name] = torch.randn(sizes, generator=generator)
    plan = plan_medium(model.modality, MediaParameters(**parameters), model.defaults, model.caps)
    return RenderJob(model, plan, positive, negative, seed, began, priority, deadline_s)


async def made(engine: DenoisingEngine, job: RenderJob[LatentDiffusion]) -> torch.Tensor:
    async with aclosing(engine.submit(job)) as events:
        async for event in events:
            if isinstance(event, Medium):
                return torch.as_tensor(event.values)
    raise AssertionError("no medium came")


async def until_idle(engine: DenoisingEngine) -> None:
    while engine.denoising:  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(0)


@pytest.mark.parametrize("type_name", TYPES)
async def test_a_batch_gives_what_each_gets_alone(type_name: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, type_name)
    asked = [{"steps": 3 + seed, "guidance_scale": (1.0, 2.5, 7.5)[seed % 3]} for seed in range(6)]
    alone, together = DenoisingEngine(max_rows=1), DenoisingEngine(max_rows=6)
    jobs = [job_of(model, seed, **parameters) for seed, parameters in enumerate(asked)]
    expected = [await made(alone, job) for job in jobs]
    got = await asyncio.gather(*(made(together, job) for job in jobs))
    worst = max(float((mine - reference).abs().max()) for mine, reference in zip(got, expected, strict=True))
    print(f"figure: {type_name}: in a batch at most {worst:.1e} from alone, {together.steps} steps for {alone.steps}")
    assert worst <= TOLERANCE
    assert together.steps == max(parameters["steps"] for parameters in asked)
    for engine in (alone, together):
        engine.close()


async def test_it_joins_while_others_are_on_their_way(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    expected = {seed: await made(engine, job_of(model, seed, steps=5)) for seed in range(4)}
    before = engine.steps
    async with aclosing(engine.submit(job_of(model, 9, steps=400))) as events:
        async for event in events:
            if isinstance(event, RenderProgress) and event.step == 3:
                break
        for seed, reference in expected.items():
            got = await made(engine, job_of(model, seed, steps=5))
            assert float((got - reference).abs().max()) <= TOLERANCE
        assert engine.steps - before < 100
        assert engine.denoising == 1


async def test_what_a_random_crowd_gets_is_what_each_gets_alone(
    model: LatentDiffusion, engine: DenoisingEngine
) -> None:
    draw = random.Random(5)
    jobs = [
        job_of(model, seed, tokens=draw.choice((3, 5)), steps=draw.randint(1, 9), width=draw.choice((16, 24)),
               guidance_scale=draw.choice((0.5, 1.0, 3.0)), priority=draw.randint(-2, 2))
        for seed in range(16)
    ]  # fmt: skip
    alone = DenoisingEngine(max_rows=1)
    expected = [await made(alone, job) for job in jobs]

    async def later(job: RenderJob[LatentDiffusion], turns: int) -> torch.Tensor:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await made(engine, job)

    got = await asyncio.gather(*(later(job, draw.randrange(200)) for job in jobs))
    worst = max(float((mine - reference).abs().max()) for mine, reference in zip(got, expected, strict=True))
    assert worst <= TOLERANCE
    alone.close()


async def test_a_lone_request_waits_for_nothing(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    await made(engine, job_of(model, 1, steps=6))
    assert engine.steps == 6


async def test_cancelling_frees_the_place_within_a_step(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    async with aclosing(engine.submit(job_of(model, 1, steps=900))) as events:
        async for event in events:
            if isinstance(event, RenderProgress) and event.step == 3:
                break
    at_the_end = engine.steps
    await until_idle(engine)
    assert engine.steps - at_the_end <= 1


async def test_a_deadline_ends_it_within_a_step(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    import time

    deadline_s = time.monotonic() + 0.2
    with pytest.raises(DeadlineExceeded):
        await made(engine, job_of(model, 1, steps=900, deadline_s=deadline_s))
    await until_idle(engine)
    with pytest.raises(DeadlineExceeded):
        await made(engine, job_of(model, 1, deadline_s=0.0))
    await made(engine, job_of(model, 1))


async def test_higher_priorities_go_first(model: LatentDiffusion) -> None:
    engine = DenoisingEngine(max_rows=1)
    order: list[int] = []
    jobs = [
        job_of(model, seed, steps=2, priority=priority, began=lambda priority=priority: order.append(priority))
        for seed, priority in enumerate((0, -3, 7, 0, 2))
    ]
    await asyncio.gather(*(made(engine, job) for job in jobs))
    assert order == [7, 2, 0, 0, -3]
    engine.close()


async def test_a_row_that_fails_fails_alone(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    good = [job_of(model, seed, steps=4) for seed in range(3)]
    expected = [await made(engine, job) for job in good]
    bad = job_of(model, 7, steps=4, scale=1e38)
    outcomes = await asyncio.gather(*(made(engine, job) for job in (*good, bad)), return_exceptions=True)
    assert isinstance(outcomes[3], Internal)
    for mine, reference in zip(outcomes[:3], expected, strict=True):
        assert isinstance(mine, torch.Tensor)
        assert float((mine - reference).abs().max()) <= TOLERANCE
    await until_idle(engine)


@pytest.mark.parametrize(("most", "error"), [(3, None), (0, Exhausted)])
async def test_memory_that_lasts_for_one_and_not_for_all(
    model: LatentDiffusion, engine: DenoisingEngine, monkeypatch: pytest.MonkeyPatch, most: int, error: Any
) -> None:
    predict = model.predict

    def short(latents_B: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(latents_B) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")
        return predict(latents_B, *rest)

    monkeypatch.setattr(model, "predict", short)
    jobs = [job_of(model, seed, steps=2) for seed in range(4)]
    outcomes = await asyncio.gather(*(made(engine, job) for job in jobs), return_exceptions=True)
    if error is None:
        assert all(isinstance(outcome, torch.Tensor) for outcome in outcomes)
    else:
        assert all(isinstance(outcome, error) for outcome in outcomes)
        assert all(isinstance(outcome, AnyplexError) and outcome.retry_after_s > 0 for outcome in outcomes)
    monkeypatch.undo()
    await made(engine, jobs[0])


async def test_a_decoder_that_fails_for_one_fails_for_one(
    model: LatentDiffusion, engine: DenoisingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, seen = model.finish, []

    def broken(latents_B: torch.Tensor, plans: Any) -> list[Medium]:
        seen.append(len(latents_B))
        if len(latents_B) > 1 or len(seen) == 2:
            raise RuntimeError("broken")
        return finish(latents_B, plans)

    monkeypatch.setattr(model, "finish", broken)
    jobs = [job_of(model, seed, steps=2) for seed in range(3)]
    outcomes = await asyncio.gather(*(made(engine, job) for job in jobs), return_exceptions=True)
    assert [isinstance(outcome, Internal) for outcome in outcomes] == [True, False, False]
    assert seen == [3, 1, 1, 1]


async def test_an_engine_that_breaks_lets_nobody_wait(
    model: LatentDiffusion, engine: DenoisingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_step", None)
    with pytest.raises(Internal):
        await made(engine, job_of(model, 1))
    with pytest.raises(TypeError):
        await engine._pump.task  # type: ignore[misc]
    monkeypatch.undo()
    await made(engine, job_of(model, 1))


async def test_a_reader_that_stops_holds_up_nobody(model: LatentDiffusion, engine: DenoisingEngine) -> None:
    stalled = engine.submit(job_of(model, 1, steps=200, preview_every_steps=1))
    await anext(stalled)
    for seed in range(5):
        await made(engine, job_of(model, seed, steps=60))
    await until_idle(engine)
    (running,) = engine._jobs
    assert len(running.outbox) <= PROGRESS_AHEAD + 1
    rest = [event async for event in stalled]
    assert isinstance(rest[-1], Medium)


async def test_previews_come_when_asked_for(tmp_path: Path, engine: DenoisingEngine) -> None:
    for type_name in TYPES:
        model = loaded(tmp_path, type_name)
        async with aclosing(engine.submit(job_of(model, 1, steps=7, preview_every_steps=3))) as events:
            steps = [event async for event in events if isinstance(event, RenderProgress)]
        assert [event.step for event in steps if event.preview] == [3, 6]
        assert all(event.preview.startswith(b"\x89PNG") for event in steps if event.preview)
