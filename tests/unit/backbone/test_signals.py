"""Signal blocks: begun by the model or forced, always closed right, never in the text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from graph import messages as m
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.backbone import plain_engine
from services.backbone.engine import Job
from services.backbone.loaded import AdapterWeights, LoadedBackbone
from services.backbone.plain_engine import PlainEngine
from services.backbone.signals import SignalGate, check_produced
from services.runtime.tensors import to_torch
from tests.fakes import tiny
from tests.unit.backbone.conftest import Outcome, make_job, run_job

MakeEngine = Callable[..., PlainEngine]
PROMPT = (300, 301, 302, 303)
FAMILIES = {"image": (10, 11, 12), "audio": (20, 21)}
FEEDS = ["token", "block"]


@pytest.fixture(params=FEEDS)
def eager(request: pytest.FixtureRequest, store: ArtifactStore) -> LoadedBackbone:
    """A backbone with an adapter under which it begins many blocks by itself."""
    return eager_backbone(store, request.param)


def eager_backbone(store: ArtifactStore, feed: str) -> LoadedBackbone:
    config = {**tiny.decoder_config(), "signal_feed": feed, "adds_input_embeddings": True}
    backbone = LoadedBackbone.from_artifact(store.get(tiny.decoder(store, config=config)), "float32", "cpu")
    backbone.add_adapter(AdapterWeights.from_artifact(store.get(tiny.adapter(store, signals=True))))
    backbone.stop_ids = frozenset()
    return backbone


def drawing(backbone: LoadedBackbone, seed: int = 0, **sampling: object) -> Job:
    (adapter,) = backbone.adapters
    settings = {"max_tokens": 40, "temperature": 1.0, "seed": seed, **sampling}
    return make_job(backbone, (*PROMPT, 310 + seed), adapter=adapter, **settings)


def blocks_of(outcome: Outcome, choice: int = 0) -> list[m.SignalBlock]:
    return [event for event in outcome.events if isinstance(event, m.SignalBlock) and event.choice == choice]


def assert_whole(outcome: Outcome, backbone: LoadedBackbone, choice: int = 0) -> None:
    """Every block is whole, numbered, told once, and in no text."""
    families = backbone.codec.signal_ids
    ids, blocks = outcome.ids.get(choice, []), blocks_of(outcome, choice)
    check_produced(families, ids)
    assert not SignalGate(families, produced_ids=ids).open
    assert SignalGate(families, produced_ids=ids).blocks == len(blocks)
    assert [block.block for block in blocks] == list(range(len(blocks)))
    assert all(block.token_ids == families[block.modality] for block in blocks)
    assert "<|" not in outcome.text.get(choice, "")
    texts = [event for event in outcome.events if isinstance(event, m.DecodedText) and event.choice == choice]
    assert backbone.signal_ids.isdisjoint(i for event in texts for i in event.token_ids)
    said = backbone.codec.decode(ids)
    so_far = [block.text_so_far for block in blocks]
    assert all(said.startswith(text) for text in so_far)
    assert so_far == sorted(so_far, key=len)
    (end,) = [event for event in outcome.events if isinstance(event, m.DecodeFinished) and event.choice == choice]
    assert end.completion_tokens - len(ids) in (0, 1)  # the end token stands in no event


# ---- the gate by itself ----------------------------------------------------------------------------------


def test_the_gate_follows_blocks() -> None:
    gate = SignalGate(FAMILIES, wanted=("audio",), produced_ids=(1, 10, 11, 12, 2, 10))
    assert (gate.blocks, gate.open, gate.rest, gate.owed_tokens) == (1, True, (11, 12), 2)
    assert [gate.take(token) for token in (11, 12)] == ["", "image"]
    assert (gate.opener(), gate.barred(100)) == (20, [])
    assert [gate.take(token) for token in (20, 21)] == ["", "audio"]
    assert (gate.wanted, gate.owed_tokens, gate.blocks) == ([], 0, 3)


@pytest.mark.parametrize(
    ("wanted", "room", "barred"),
    [((), 3, []), ((), 2, [10]), ((), 1, [10, 20]), (("audio",), 4, [10]), (("audio",), 5, []), (("image",), 3, [20])],
)
def test_no_block_begins_that_cannot_close(wanted: tuple[str, ...], room: int, barred: list[int]) -> None:
    assert SignalGate(FAMILIES, wanted).barred(room) == barred


@pytest.mark.parametrize(
    ("ids", "where"), [((1, 11), "produced_ids[1]"), ((10, 12), "produced_ids[1]"), ((10, 11, 5), "produced_ids[2]")]
)
def test_blocks_that_nobody_produced_are_refused(ids: tuple[int, ...], where: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_produced(FAMILIES, ids)
    assert caught.value.where == where


# ---- in an answer ----------------------------------------------------------------------------------------


async def test_blocks_that_the_model_begins_close_right(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(8)
    jobs = [drawing(eager, seed, max_tokens=3 + 3 * seed, temperature=seed % 3 / 2) for seed in range(24)]
    outcomes = await asyncio.gather(*(run_job(engine, job) for job in jobs))
    for outcome in outcomes:
        assert_whole(outcome, eager)
    modalities = [block.modality for outcome in outcomes for block in blocks_of(outcome)]
    assert {"image", "audio"} <= set(modalities)
    assert len(modalities) > 10


async def test_states_are_those_of_generate(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    """Held against transformers' own loop, which is told to finish blocks and keep in them."""
    families = eager.codec.signal_ids
    job = drawing(eager, max_tokens=30, temperature=0.0)
    outcome = await run_job(make_engine(), job)
    blocks = blocks_of(outcome)
    assert blocks
    words = [i for i in range(eager.vocabulary) if i not in eager.signal_ids]

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        gate = SignalGate(families, produced_ids=ids.tolist())
        barred = gate.barred(30 - len(ids))
        openers = [family[0] for family in families.values() if family[0] not in barred]
        return list(gate.rest[:1]) if gate.open else words + openers

    from services.modules.lora import use_adapter

    with torch.inference_mode(), use_adapter(eager.model, job.adapter):
        reference = eager.model.generate(
            inputs_embeds=eager.embed(job.prompt_ids, job.adapter)[None],
            attention_mask=torch.ones(1, job.prompt_tokens, dtype=torch.long),
            do_sample=False, max_new_tokens=30, pad_token_id=0, eos_token_id=-1, prefix_allowed_tokens_fn=allowed,
            output_hidden_states=True, return_dict_in_generate=True,
        )  # fmt: skip
    ids = reference.sequences[0].tolist()
    assert outcome.ids[0] == ids
    starts = [place for place, token in enumerate(ids) if token in {family[0] for family in families.values()}]
    assert len(starts) == len(blocks)
    for start, block in zip(starts, blocks, strict=True):
        steps = reference.hidden_states[start : start + len(block.token_ids)]
        states = torch.stack([step[-1][0, -1] for step in steps])
        torch.testing.assert_close(to_torch(block.hidden_states), states, rtol=1e-4, atol=1e-4)
        assert block.input_embeddings is not None
        torch.testing.assert_close(to_torch(block.input_embeddings), eager.embed(block.token_ids, job.adapter))


async def test_feeding_at_once_is_feeding_one_by_one(store: ArtifactStore, make_engine: MakeEngine) -> None:
    outcomes = []
    for feed in FEEDS:
        backbone, engine = eager_backbone(store, feed), make_engine(4)
        # Greedy: a draw between two tokens that are equally likely but for rounding may fall on either.
        jobs = [drawing(backbone, seed, n=1 + seed % 2, temperature=0.0) for seed in range(8)]
        outcomes.append(await asyncio.gather(*(run_job(engine, job) for job in jobs)))
    for one, other in zip(*outcomes, strict=True):
        assert (one.ids, one.text, one.reasons) == (other.ids, other.text, other.reasons)
        for choice in one.ids:
            for mine, theirs in zip(blocks_of(one, choice), blocks_of(other, choice), strict=True):
                assert (mine.block, mine.modality, mine.text_so_far) == (
                    theirs.block, theirs.modality, theirs.text_so_far
                )  # fmt: skip
                states = [to_torch(block.hidden_states) for block in (mine, theirs)]
                torch.testing.assert_close(*states, rtol=1e-4, atol=1e-4)


async def test_blocks_do_not_depend_on_company(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine(5)
    jobs = [drawing(eager, seed, temperature=0.0) for seed in range(12)]
    jobs += [replace(job, adapter="") for job in jobs[:2]]
    alone = [await run_job(engine, job) for job in jobs]
    together = await asyncio.gather(*(run_job(engine, job) for job in jobs))
    for one, other in zip(alone, together, strict=True):
        assert (one.ids, one.text) == (other.ids, other.text)
        pairs = zip(blocks_of(one), blocks_of(other), strict=True)
        for mine, theirs in pairs:
            states = [to_torch(block.hidden_states) for block in (mine, theirs)]
            torch.testing.assert_close(*states, rtol=1e-4, atol=1e-4)


async def test_going_on_replays_blocks_without_sending_them(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine()
    for seed in range(20):
        job = drawing(eager, seed, max_tokens=24, temperature=0.0)
        whole = await run_job(engine, job)
        if len(blocks_of(whole)) > 1:
            break
    ids, blocks = whole.ids[0], blocks_of(whole)
    assert len(blocks) > 1
    for cut in range(1, len(ids)):
        before = SignalGate(eager.codec.signal_ids, produced_ids=ids[:cut]).blocks
        rest = await run_job(engine, replace(job, produced_ids=tuple(ids[:cut])))
        found = blocks_of(rest)
        assert [block.block for block in found] == [block.block for block in blocks[before:]], cut
        for mine, theirs in zip(found, blocks[before:], strict=True):
            assert (mine.modality, mine.text_so_far) == (theirs.modality, theirs.text_so_far)
            states = [to_torch(block.hidden_states) for block in (mine, theirs)]
            torch.testing.assert_close(*states, rtol=1e-4, atol=1e-4)
        told = [i for event in rest.events if isinstance(event, m.DecodedText) for i in event.token_ids]
        assert told == [i for i in ids[cut:] if i not in eager.signal_ids]


async def test_a_slow_reader_loses_no_block(
    eager: LoadedBackbone, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [drawing(eager, seed, max_tokens=60, temperature=0.0) for seed in range(4)]
    at_once = [await run_job(make_engine(), job) for job in jobs]
    monkeypatch.setattr(plain_engine, "EVENTS_AHEAD", 2)
    parked = await asyncio.gather(*(run_job(make_engine(2), job) for job in jobs))
    for one, other in zip(at_once, parked, strict=True):
        assert_whole(other, eager)
        assert one.ids == other.ids
        for mine, theirs in zip(blocks_of(one), blocks_of(other), strict=True):
            states = [to_torch(block.hidden_states) for block in (mine, theirs)]
            torch.testing.assert_close(*states, rtol=1e-4, atol=1e-4)


# ---- what must come, and what must not -------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [("image",), ("audio", "image"), ("image", "audio")])
async def test_what_must_come_comes_before_the_end_token(
    wanted: tuple[str, ...], llama: LoadedBackbone, make_engine: MakeEngine
) -> None:
    llama.stop_ids = frozenset()
    engine = make_engine()
    job = make_job(llama, PROMPT, max_tokens=30)
    plain = (await run_job(engine, job)).ids[0]
    llama.stop_ids = frozenset({plain[2]})
    outcome = await run_job(engine, replace(job, force_signals=wanted))
    assert_whole(outcome, llama)
    assert [block.modality for block in blocks_of(outcome)][: len(wanted)] == list(wanted)
    assert outcome.ids[0][: plain.index(plain[2])] == plain[: plain.index(plain[2])]
    assert outcome.ids[0][plain.index(plain[2])] == llama.codec.signal_ids[wanted[0]][0]


@pytest.mark.parametrize("max_tokens", [12, 13, 15, 30])
async def test_what_must_come_comes_before_the_tokens_run_out(
    max_tokens: int, eager: LoadedBackbone, make_engine: MakeEngine
) -> None:
    for seed in range(6):
        job = replace(drawing(eager, seed, max_tokens=max_tokens), force_signals=("audio", "image"))
        for one in (job, replace(job, adapter="")):
            outcome = await run_job(make_engine(), one)
            assert_whole(outcome, eager)
            assert {"image", "audio"} <= {block.modality for block in blocks_of(outcome)}
            assert len(outcome.ids[0]) <= max_tokens


async def test_what_must_come_comes_after_a_stop_string(llama: LoadedBackbone, make_engine: MakeEngine) -> None:
    llama.stop_ids = frozenset()
    engine = make_engine()
    job = make_job(llama, PROMPT, max_tokens=40)
    whole = (await run_job(engine, job)).text[0]
    stop = whole[len(whole) // 3 :][:3]
    stopped = replace(job, sampling=replace(job.sampling, stop=(stop,)), force_signals=("audio", "image"))
    outcome = await run_job(engine, stopped)
    assert outcome.text[0] == whole[: whole.index(stop)]
    assert outcome.reasons[0] == "stop"
    assert [block.modality for block in blocks_of(outcome)] == ["audio", "image"]
    assert [block.text_so_far for block in blocks_of(outcome)] == [outcome.text[0]] * 2


async def test_a_stop_string_is_found_across_a_block(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    engine = make_engine()
    found = 0
    for seed in range(12):
        job = drawing(eager, seed)
        whole = await run_job(engine, job)
        for block in blocks_of(whole):
            place = len(block.text_so_far)
            stop = whole.text[0][place - 1 : place + 1]
            if place and len(stop) == 2 and "\ufffd" not in stop:
                found += 1
                stopped = await run_job(engine, replace(job, sampling=replace(job.sampling, stop=(stop,))))
                assert stopped.text.get(0, "") == whole.text[0][: whole.text[0].index(stop)]
    assert found


async def test_text_alone_has_no_blocks(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    for temperature in (0.0, 1.0):
        job = drawing(eager, temperature=temperature, max_tokens=60)
        assert blocks_of(await run_job(make_engine(), job))
        outcome = await run_job(make_engine(), replace(job, text_only=True))
        assert not blocks_of(outcome)
        assert len(outcome.ids[0]) == 60


async def test_a_backbone_decides_by_itself(llama: LoadedBackbone, make_engine: MakeEngine) -> None:
    """What must come and comes by itself changes nothing."""
    store_free = make_job(llama, PROMPT, max_tokens=30)
    llama.stop_ids = frozenset()
    free = await run_job(make_engine(), store_free)
    came = {block.modality for block in blocks_of(free)}
    again = await run_job(make_engine(), replace(store_free, force_signals=tuple(came)))
    assert again.ids == free.ids


async def test_logprobs_are_of_text_alone(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    outcome = await run_job(make_engine(), drawing(eager, logprobs=2))
    assert_whole(outcome, eager)
    texts = [event for event in outcome.events if isinstance(event, m.DecodedText)]
    assert all(tuple(item.token_id for item in event.logprobs) == event.token_ids for event in texts)
    assert all(item.logprob > float("-inf") for event in texts for item in event.logprobs)


async def test_penalties_leave_signals_alone(eager: LoadedBackbone, make_engine: MakeEngine) -> None:
    """A second picture is as likely as the first."""
    strict = {"repetition_penalty": 5.0, "presence_penalty": 2.0}
    outcomes = [await run_job(make_engine(), drawing(eager, seed, max_tokens=80, **strict)) for seed in range(4)]
    openers = {family[0] for family in eager.codec.signal_ids.values()}
    assert any(
        len([i for i in outcome.ids[0] if i in openers]) > len({i for i in outcome.ids[0] if i in openers})
        for outcome in outcomes
    )
    for outcome in outcomes:
        assert_whole(outcome, eager)
