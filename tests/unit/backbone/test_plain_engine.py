"""The plain engine: jobs join and leave between steps, and nobody's answer depends on the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import torch

from graph import messages as m
from graph.errors import DeadlineExceeded, FailedPrecondition, Internal
from services.artifacts import ArtifactStore
from services.backbone import plain_engine
from services.backbone.engine import Job
from services.backbone.loaded import AdapterWeights, LoadedBackbone
from services.backbone.plain_engine import PlainEngine
from services.runtime.tensors import to_torch
from tests.fakes import tiny
from tests.unit.backbone.conftest import make_job, run_job

MakeEngine = Callable[..., PlainEngine]
PROMPT = (300, 301, 302, 303)
LONG = 200


@pytest.fixture
def plain(store: ArtifactStore) -> LoadedBackbone:
    """A backbone without signals: every token is chosen."""
    config = {**tiny.decoder_config(), "signals": {}}
    return LoadedBackbone.from_artifact(store.get(tiny.decoder(store, config=config)), "float32", "cpu")


def endless(backbone: LoadedBackbone) -> LoadedBackbone:
    backbone.stop_ids = frozenset()
    return backbone


async def first_text(events: Any) -> m.DecodedText:
    async for event in events:
        if isinstance(event, m.DecodedText):
            return event
    raise AssertionError("no text came")


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
async def test_the_same_answer_alone_and_among_sixteen(
    temperature: float, plain: LoadedBackbone, make_engine: MakeEngine
) -> None:
    jobs = [
        make_job(plain, PROMPT[: 1 + seed % 4], max_tokens=24, temperature=temperature, seed=seed, top_p=0.9)
        for seed in range(17)
    ]
    engine = make_engine(16)
    alone = [(await run_job(engine, job)).ids for job in jobs]
    together = [outcome.ids for outcome in await asyncio.gather(*(run_job(engine, job) for job in jobs))]
    assert alone == together


async def test_penalties_and_logprobs_do_not_depend_on_company(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    job = make_job(
        plain, PROMPT, max_tokens=20, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2, logprobs=2
    )
    engine = make_engine(8)
    alone = await run_job(engine, job)
    others = [make_job(plain, PROMPT[:2], max_tokens=30, temperature=1.0, seed=seed) for seed in range(7)]
    together, *_ = await asyncio.gather(*(run_job(engine, one) for one in (job, *others)))
    assert together.ids == alone.ids
    texts = [event for event in alone.events if isinstance(event, m.DecodedText)]
    assert all(tuple(item.token_id for item in event.logprobs) == event.token_ids for event in texts)
    assert all(len(item.alternatives) == 2 for event in texts for item in event.logprobs)
    likeliest = make_job(plain, PROMPT, max_tokens=20)
    assert (await run_job(engine, likeliest)).ids != alone.ids


async def test_events_come_in_order(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    outcome = await run_job(make_engine(), make_job(plain, PROMPT, max_tokens=5))
    assert outcome.events[0] == m.DecodeStarted(prompt_tokens=4, media_tokens=0)
    end = outcome.events[-1]
    assert isinstance(end, m.DecodeFinished)
    assert end.completion_tokens == 5
    assert end.reason == "length"
    assert end.queue_s >= 0
    assert all(isinstance(event, m.DecodedText) for event in outcome.events[1:-1])


async def test_n_answers_are_the_single_ones(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(3)
    job = make_job(plain, PROMPT, max_tokens=12, temperature=1.2, seed=4, n=7)
    outcome = await run_job(engine, job)
    assert sorted(outcome.reasons) == list(range(7))
    assert len({tuple(ids) for ids in outcome.ids.values()}) > 4
    single = await run_job(engine, replace(job, sampling=replace(job.sampling, n=1)))
    assert single.ids[0] == outcome.ids[0]


async def test_going_on_gives_the_rest(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine()
    job = make_job(plain, PROMPT, max_tokens=20, temperature=1.0, seed=9)
    whole = (await run_job(engine, job)).ids[0]
    rest = await run_job(engine, replace(job, produced_ids=tuple(whole[:8])))
    assert rest.ids[0] == whole[8:]


async def test_at_most_max_batch_decode_at_once(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(3)
    most = 0

    async def watched(job: Job) -> None:
        nonlocal most
        async with aclosing(engine.submit(job)) as events:
            async for _ in events:
                most = max(most, engine.decoding)

    await asyncio.gather(*(watched(make_job(endless(plain), PROMPT, max_tokens=20)) for _ in range(9)))
    assert most == 3
    assert engine.decoding == 0


async def test_jobs_join_while_others_decode(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(4)
    async with aclosing(engine.submit(make_job(endless(plain), PROMPT, max_tokens=LONG))) as long_events:
        await first_text(long_events)
        await run_job(engine, make_job(plain, PROMPT, max_tokens=3))
        assert engine.decoding == 1, "the long one goes on, the short one has left"


async def test_higher_priority_goes_first(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    began: list[str] = []
    jobs = [
        replace(make_job(plain, PROMPT, max_tokens=2), priority=priority, began=lambda name=name: began.append(name))
        for name, priority in (("first", 0), ("low", -1), ("plain", 0), ("high", 5))
    ]
    await asyncio.gather(*(run_job(engine, job) for job in jobs))
    assert began == ["high", "first", "plain", "low"]


async def test_leaving_frees_the_place_within_one_step(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    async with aclosing(engine.submit(make_job(endless(plain), PROMPT, max_tokens=LONG))) as events:
        await first_text(events)
    begin = time.perf_counter()
    await run_job(engine, make_job(plain, PROMPT, max_tokens=1))
    print(f"the next job was answered {1000 * (time.perf_counter() - begin):.0f} ms after the cut")
    assert engine.decoding == 0


async def test_a_waiting_job_that_leaves_is_forgotten(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    began: list[int] = []
    async with aclosing(engine.submit(make_job(endless(plain), PROMPT, max_tokens=LONG))) as events:
        await first_text(events)
        waiting = replace(make_job(plain, PROMPT), began=lambda: began.append(1))
        task = asyncio.create_task(run_job(engine, waiting))
        await first_text(events)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await run_job(engine, make_job(plain, PROMPT, max_tokens=1))
    assert not began


async def test_deadlines_end_running_and_waiting_jobs(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(1)
    end_s = time.monotonic() + 0.1
    jobs = [replace(make_job(endless(plain), PROMPT, max_tokens=LONG * 100), deadline_s=end_s) for _ in range(3)]
    outcomes = await asyncio.gather(*(run_job(engine, job) for job in jobs), return_exceptions=True)
    print(f"ended {1000 * (time.monotonic() - end_s):.0f} ms after the deadline")
    assert all(isinstance(outcome, DeadlineExceeded) for outcome in outcomes)
    assert engine.decoding == 0


async def test_stop_strings_end_an_answer_unseen(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine()
    whole = (await run_job(engine, make_job(plain, PROMPT, max_tokens=30))).text[0]
    stop = whole[len(whole) // 2 :][:3]
    outcome = await run_job(engine, make_job(plain, PROMPT, max_tokens=30, stop=(stop,)))
    assert outcome.text[0] == whole[: whole.index(stop)]
    assert outcome.reasons[0] == "stop"


async def test_an_end_token_ends_an_answer_unseen(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine()
    ids = (await run_job(engine, make_job(endless(plain), PROMPT, max_tokens=9))).ids[0]
    plain.stop_ids = frozenset({ids[4]})
    outcome = await run_job(engine, make_job(plain, PROMPT, max_tokens=9))
    assert outcome.ids[0] == ids[: ids.index(ids[4])]
    assert outcome.reasons[0] == "stop"


async def test_versions_and_adapters_decode_side_by_side(store: ArtifactStore, make_engine: MakeEngine) -> None:
    config = {**tiny.decoder_config(), "signals": {}}
    versions = [tiny.decoder(store, seed=seed, config=config) for seed in (0, 1)]
    backbones = [LoadedBackbone.from_artifact(store.get(version), "float32", "cpu") for version in versions]
    weights = [AdapterWeights.from_artifact(store.get(tiny.adapter(store, seed))) for seed in (0, 1)]
    for backbone in backbones:
        for one in weights:
            backbone.add_adapter(one)
    jobs = [
        make_job(backbone, PROMPT, adapter=adapter, max_tokens=16)
        for backbone in backbones
        for adapter in ("", weights[0].version, weights[1].version)
    ]
    engine = make_engine(4)
    alone = [(await run_job(engine, job)).ids[0] for job in jobs]
    together = [outcome.ids[0] for outcome in await asyncio.gather(*(run_job(engine, job) for job in jobs * 2))]
    assert together == alone * 2
    assert len({tuple(ids) for ids in alone}) == 6


def test_an_adapter_that_does_not_fit_is_refused(llama: LoadedBackbone, store: ArtifactStore) -> None:
    weights = AdapterWeights.from_artifact(store.get(tiny.adapter(store)))
    with pytest.raises(FailedPrecondition, match="does not fit"):
        llama.add_adapter(replace(weights, targets=("no_such_layer",)))
    with pytest.raises(FailedPrecondition, match="does not fit"):
        llama.add_adapter(replace(weights, rank=7))


async def test_signal_blocks_carry_the_states_before_their_tokens(
    llama: LoadedBackbone, make_engine: MakeEngine
) -> None:
    llama.adds_input_embeddings = True
    llama.stop_ids = frozenset()
    engine = make_engine()
    job = replace(make_job(llama, PROMPT, max_tokens=8), force_signals=("image",))
    plain_ids = (await run_job(engine, replace(job, force_signals=()))).ids[0]
    llama.stop_ids = frozenset({plain_ids[2]})
    outcome = await run_job(engine, job)
    blocks = [event for event in outcome.events if isinstance(event, m.SignalBlock)]
    assert len(blocks) == 1
    ids = llama.codec.signal_ids["image"]
    start = outcome.ids[0].index(ids[0])
    assert outcome.ids[0][start : start + 4] == list(ids)
    with torch.inference_mode():
        read = torch.tensor([[*PROMPT, *outcome.ids[0][: start + 3]]])
        states = llama.model(input_ids=read, output_hidden_states=True).hidden_states[-1][0, -4:]
    torch.testing.assert_close(to_torch(blocks[0].hidden_states), states, rtol=1e-4, atol=1e-4)
    assert blocks[0].input_embeddings is not None
    torch.testing.assert_close(to_torch(blocks[0].input_embeddings), llama.embed(ids))
    assert blocks[0].modality == "image"
    assert blocks[0].token_ids == ids
    assert "<|" not in outcome.text.get(0, "")


async def test_a_failing_step_fails_its_jobs_alone(
    plain: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(4)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(plain_engine, "_batch_step", fail)
        with pytest.raises(Internal, match="model step failed"):
            await run_job(engine, make_job(plain, PROMPT, max_tokens=5))
    assert engine.decoding == 0
    assert (await run_job(engine, make_job(plain, PROMPT, max_tokens=5))).ids[0]


async def test_nan_logits_are_our_fault(plain: LoadedBackbone, make_engine: MakeEngine) -> None:
    with torch.no_grad():
        plain.model.get_input_embeddings().weight[PROMPT[0]] = float("nan")  # type: ignore[index]
    with pytest.raises(Internal, match="NaN"):
        await run_job(make_engine(), make_job(plain, PROMPT, max_tokens=5))
