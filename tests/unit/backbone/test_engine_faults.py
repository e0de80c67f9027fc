"""What goes wrong inside the plain engine, and readers that do not read: nobody waits for ever, nothing piles up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from graph import messages as m
from graph.errors import Internal
from services.artifacts import ArtifactStore
from services.backbone import batch, plain_engine
from services.backbone.batch import Batch
from services.backbone.loaded import LoadedBackbone
from services.backbone.plain_engine import PlainEngine
from services.runtime.telemetry import request_id_var
from tests.fakes import tiny
from tests.unit.backbone.conftest import Outcome, make_job, run_job

MakeEngine = Callable[..., PlainEngine]
PROMPT = (300, 301, 302, 303)
GUARD_S = 30
MOST_EVENTS_A_STEP = 3


@pytest.fixture
def plain(store: ArtifactStore) -> LoadedBackbone:
    """A backbone without signals and without an end: every answer is as long as it may be."""
    config = {**tiny.decoder_config(), "signals": {}}
    backbone = LoadedBackbone.from_artifact(store.get(tiny.decoder(store, config=config)), "float32", "cpu")
    backbone.stop_ids = frozenset()
    return backbone


def out_of_memory(*_: object) -> None:
    raise RuntimeError("out of memory")


async def serves(engine: PlainEngine, backbone: LoadedBackbone) -> bool:
    """Whether a new job is answered, and nothing is left afterwards."""
    async with asyncio.timeout(GUARD_S):
        outcome = await run_job(engine, make_job(backbone, PROMPT, max_tokens=4))
    return len(outcome.ids[0]) == 4 and engine.decoding == 0


async def test_one_that_cannot_join_fails_alone(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(4)
    job = make_job(plain, PROMPT, max_tokens=12)
    alone = (await run_job(engine, job)).ids
    merged = batch._merged
    # There is room for one only.
    monkeypatch.setattr(batch, "_merged", lambda caches, n: out_of_memory() if caches[1:] else merged(caches, n))
    async with asyncio.timeout(GUARD_S):
        first, second = await asyncio.gather(run_job(engine, job), run_job(engine, job), return_exceptions=True)
    assert isinstance(first, Outcome)
    assert first.ids == alone
    assert isinstance(second, Internal)
    monkeypatch.undo()
    assert await serves(engine, plain)


async def test_one_that_cannot_even_begin_to_join_is_told(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(4)
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "add", out_of_memory)
        async with asyncio.timeout(GUARD_S):
            with pytest.raises(Internal, match="model step failed"):
                await run_job(engine, make_job(plain, PROMPT, max_tokens=9))
    assert await serves(engine, plain)


async def test_when_leaving_fails_those_who_stay_are_told(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(4)
    monkeypatch.setattr(Batch, "keep", out_of_memory)
    async with asyncio.timeout(GUARD_S):
        short, *others = await asyncio.gather(
            *(run_job(engine, make_job(plain, PROMPT, max_tokens=length)) for length in (4, 100, 100)),
            return_exceptions=True,
        )
    assert not isinstance(short, BaseException)
    assert [type(other) for other in others] == [Internal, Internal]
    monkeypatch.undo()
    assert await serves(engine, plain)


async def test_tensors_are_touched_on_the_engines_thread_only(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    def watched(name: str) -> None:
        method = getattr(Batch, name)

        def run(self: Batch, *arguments: Any) -> Any:
            threads.add(threading.current_thread().name)
            return method(self, *arguments)

        monkeypatch.setattr(Batch, name, run)

    for name in ("add", "keep", "step"):
        watched(name)
    engine = make_engine(4)
    await asyncio.gather(*(run_job(engine, make_job(plain, PROMPT, max_tokens=n)) for n in (3, 6)))
    assert threads == {"engine_0"}


async def test_a_crash_of_the_engine_fails_everybody(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(2)
    with monkeypatch.context() as patch:
        patch.setattr(PlainEngine, "_deliver", out_of_memory)
        async with asyncio.timeout(GUARD_S):
            outcomes = await asyncio.gather(
                *(run_job(engine, make_job(plain, PROMPT, max_tokens=9)) for _ in range(5)), return_exceptions=True
            )
    assert [type(outcome) for outcome in outcomes] == [Internal] * 5
    assert await serves(engine, plain)


async def test_steps_carry_the_id_of_no_request(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    seen: list[str] = []
    token = request_id_var.set("the first")
    began = replace(make_job(plain, PROMPT, max_tokens=2), began=lambda: seen.append(request_id_var.get()))
    await run_job(make_engine(), began)
    request_id_var.reset(token)
    assert seen == [""]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}, {"n": 3, "temperature": 1.0, "seed": 3}])
async def test_one_who_does_not_read_waits_and_holds_nobody_up(
    sampling: dict[str, Any], plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(3)
    job = make_job(plain, PROMPT, max_tokens=120, **sampling)
    whole = (await run_job(engine, job)).ids
    monkeypatch.setattr(plain_engine, "EVENTS_AHEAD", 8)
    n = job.sampling.n
    ids: dict[int, list[int]] = {choice: [] for choice in range(n)}
    read = 0
    async with asyncio.timeout(GUARD_S), aclosing(engine.submit(job)) as events:
        async for event in events:
            if isinstance(event, m.DecodedText):
                ids[event.choice] += event.token_ids
            read += 1
            if read % 50 != 1:
                continue
            # Not read for a while: the others are served, with all the places there are.
            await asyncio.gather(*(run_job(engine, make_job(plain, PROMPT, max_tokens=90)) for _ in range(3)))
            (running,) = engine._jobs
            assert running.events.qsize() <= (8 + MOST_EVENTS_A_STEP) * n
            assert len(running.parked) == n or read > 100 * n
    assert ids == whole
    assert await serves(engine, plain)
