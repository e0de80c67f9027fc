from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from anyplex.v1 import component_pb2, gateway_pb2, types_pb2
from graph.errors import (
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unimplemented,
)
from graph.messages import DecodedText, DecodeFinished, DecodeStarted
from graph.profile import GatewaySettings
from services.gateway.runner import owner_of
from services.runtime.directory import Entry, Snapshot
from tests.fakes.caller import HANG, FakeCaller, rendered, signal, spoken
from tests.unit.gateway.conftest import SYSTEM, VERSIONS, Gateway, ask, picture
from tests.unit.graph.worlds import compiled


def kinds(events: list[gateway_pb2.Event]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def test_an_answer_begins_with_accepted_and_ends_with_finished(gateway: Gateway) -> None:
    gateway.caller.streams = {"think": spoken("a ", "cat")}
    events = await gateway.run(ask(sampling=types_pb2.Sampling(seed=7)))
    assert kinds(events) == ["accepted", "text", "text", "finished"]
    assert [event.sequence for event in events] == [0, 1, 2, 3]
    assert events[0].accepted.request_id == "r1"
    assert events[0].accepted.seed == 7
    assert events[0].accepted.versions.system == SYSTEM
    assert dict(events[0].accepted.versions.slots) == VERSIONS
    assert events[1].node == "think"
    assert events[-1].finished.reason == types_pb2.FINISH_REASON_STOP
    assert events[-1].finished.usage.prompt_tokens == 7
    assert [timing.node for timing in events[-1].finished.timings] == ["think"]


async def test_seeds_are_drawn_where_none_is_given(gateway: Gateway) -> None:
    seeds = {(await gateway.run(ask()))[0].accepted.seed for _ in range(5)}
    assert len(seeds) == 5


async def test_an_empty_name_means_the_default_system(gateway: Gateway) -> None:
    request = ask()
    request.system = ""
    assert (await gateway.run(request))[0].accepted.versions.system == SYSTEM


async def test_unknown_systems_are_not_found_and_the_known_ones_named(gateway: Gateway) -> None:
    request = ask()
    request.system = "nonsense"
    with pytest.raises(NotFound, match=SYSTEM) as refused:
        gateway.runner.accept(request, "me", "r1", None)
    assert refused.value.where == "request.system"


async def test_media_are_made_within_the_answer(gateway: Gateway) -> None:
    script = [DecodeStarted(3, 0), DecodedText("here: "), signal("image"), DecodeFinished("stop", 5)]
    gateway.caller.streams = {"think": script, "draw": rendered(b"me", b"dia")}
    events = await gateway.run(ask())
    chunks = [event.media_chunk for event in events if event.WhichOneof("event") == "media_chunk"]
    assert b"".join(chunk.data for chunk in chunks) == b"media"
    assert chunks[-1].last
    assert kinds(events)[-1] == "finished"


async def test_a_medium_that_fails_leaves_the_rest_alone(gateway: Gateway) -> None:
    gateway.caller.streams = {
        "think": [DecodeStarted(3, 0), signal("image"), DecodedText("words"), DecodeFinished("stop", 5)],
        "draw": [Unavailable("gone", "node draw")],
    }
    events = await gateway.run(ask())
    failed = next(event.media_failed for event in events if event.WhichOneof("event") == "media_failed")
    assert (failed.error.code, failed.error.node, failed.error.request_id) == ("unavailable", "draw", "r1")
    assert "text" in kinds(events)
    assert kinds(events)[-1] == "finished"


# ---- media that come with it -----------------------------------------------------------------------------


async def test_inline_media_are_held_to_their_cap(gateway: Gateway) -> None:
    await gateway.run(ask(picture(b"x" * 1000)))
    with pytest.raises(InvalidRequest, match="Upload") as refused:
        await gateway.run(ask(types_pb2.Part(text="look"), picture(b"x" * 1001)))
    assert refused.value.where == "request.messages[0].parts[1].image"


async def upload(gateway: Gateway, data: bytes, modality: str = "image", owner: str = "me") -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return (await gateway.media.put(owner, modality, "image/png", 0, 0.0, chunks())).handle


async def test_uploads_stand_where_their_handles_are(gateway: Gateway) -> None:
    handle = await upload(gateway, b"y" * 5000)
    await gateway.run(ask(picture(handle=handle)))
    (media,), _ = gateway.caller.of("see")[0].payload
    assert media.data == b"y" * 5000
    assert media.mime_type == "image/png"


@pytest.mark.parametrize(("owner", "modality"), [("you", "image"), ("me", "audio")])
async def test_handles_of_others_or_of_another_modality_are_refused(
    gateway: Gateway, owner: str, modality: str
) -> None:
    handle = await upload(gateway, b"y", modality, owner)
    with pytest.raises((NotFound, InvalidRequest)) as refused:
        await gateway.run(ask(picture(handle=handle)))
    assert refused.value.where == "request.messages[0].parts[0].image"


async def test_features_are_checked_and_may_not_be_references(gateway: Gateway) -> None:
    good = types_pb2.Tensor(dtype=types_pb2.DATA_TYPE_FLOAT32, shape=[2, 3], inline=bytes(24))
    await gateway.run(ask(picture(features=good)))
    short = types_pb2.Tensor(dtype=types_pb2.DATA_TYPE_FLOAT32, shape=[2, 4], inline=bytes(24))
    elsewhere = types_pb2.Tensor(dtype=types_pb2.DATA_TYPE_FLOAT32, shape=[2, 3])
    elsewhere.ref.address, elsewhere.ref.tensor_id, elsewhere.ref.size_bytes = "10.0.0.1:80", "t", 24
    for tensor in (short, elsewhere):
        with pytest.raises(InvalidRequest) as refused:
            await gateway.run(ask(picture(features=tensor)))
        assert refused.value.where == "request.messages[0].parts[0].image.features"


# ---- versions --------------------------------------------------------------------------------------------


async def test_requests_may_pin_versions_that_are_loaded(gateway: Gateway) -> None:
    events = await gateway.run(ask(pinned_versions={"think": "v-see"}))
    assert events[0].accepted.versions.slots["think"] == "v-see"
    assert gateway.caller.of("think")[0].call.version.version == "v-see"
    with pytest.raises(InvalidRequest, match="no such slot"):
        await gateway.run(ask(pinned_versions={"thunk": "v-see"}))
    with pytest.raises(FailedPrecondition, match="not loaded"):
        await gateway.run(ask(pinned_versions={"think": "v-none"}))


def swap(gateway: Gateway, think: str, *, keep_old: bool) -> None:
    """Another version goes live; the replicas drop the old one or keep it."""
    held = frozenset({*VERSIONS.values(), think}) - (frozenset() if keep_old else {"v-think"})
    plan = compiled(versions={**VERSIONS, "think": think})
    entries = tuple(Entry(name, name, f"{name}:1", versions=held) for name in {n.component for n in plan.nodes})
    gateway.routes.update(Snapshot("epoch", 2, entries, {SYSTEM: plan}))


async def test_sessions_keep_their_versions_while_these_are_served(gateway: Gateway) -> None:
    await gateway.run(ask(session_id="s"))
    swap(gateway, "v-new", keep_old=True)
    mine, others = await gateway.run(ask(session_id="s")), await gateway.run(ask(session_id="t"))
    assert mine[0].accepted.versions.slots["think"] == "v-think"
    assert not mine[0].accepted.repinned
    assert others[0].accepted.versions.slots["think"] == "v-new"


async def test_sessions_are_pinned_anew_when_their_versions_are_gone(gateway: Gateway) -> None:
    await gateway.run(ask(session_id="s"))
    swap(gateway, "v-new", keep_old=False)
    events = await gateway.run(ask(session_id="s"))
    assert events[0].accepted.repinned
    assert events[0].accepted.versions.slots["think"] == "v-new"


async def test_components_that_do_not_fit_are_not_reached(gateway: Gateway) -> None:
    def card(kind: str, type_name: str, **widths: int) -> bytes:
        return component_pb2.ContractCard(kind=kind, type=type_name, **widths).SerializeToString()

    plan = gateway.plan
    entries = []
    for entry in gateway.routes.snapshot.entries:
        node = next(node for node in plan.nodes if node.component == entry.component)
        widths = {"encoder": {"output_width": 8}, "input_projector": {"input_width": 9}}.get(node.kind, {})
        data = card(node.kind, node.type, **widths)
        entries.append(Entry(entry.replica_id, entry.component, entry.address, versions=entry.versions, card=data))
    gateway.routes.update(Snapshot("epoch", 2, tuple(entries), {SYSTEM: plan}))
    with pytest.raises(FailedPrecondition, match="output_width 8"):
        await gateway.run(ask())


# ---- limits and ends -------------------------------------------------------------------------------------


async def test_floods_of_parts_cost_next_to_nothing(gateway: Gateway) -> None:
    flood = ask()
    flood.messages[0].parts.extend([types_pb2.Part(text="")] * 500_000)
    begun_s = time.perf_counter()
    with pytest.raises(InvalidRequest):
        gateway.runner.accept(flood, "me", "r1", None)
    assert time.perf_counter() - begun_s < 1.0


@pytest.mark.parametrize("time_left_s", [0.0, -1.0])
async def test_a_deadline_that_has_passed_is_told(gateway: Gateway, time_left_s: float) -> None:
    with pytest.raises(DeadlineExceeded):
        gateway.runner.accept(ask(), "me", "r1", time_left_s)


async def test_deadlines_stop_every_node(gateway: Gateway) -> None:
    gateway.caller.before = {"see": [HANG]}
    accepted = gateway.runner.accept(ask(picture()), "me", "r1", 0.05)
    with pytest.raises(DeadlineExceeded):
        async for _ in gateway.runner.run(accepted):
            pass
    assert gateway.caller.running == []
    assert gateway.runner.gate.running == 0


async def test_deadlines_hold_while_waiting_for_a_place() -> None:
    gateway = Gateway(FakeCaller(streams={"think": [HANG]}), GatewaySettings(max_concurrent=1))
    first = asyncio.create_task(gateway.run(ask()))
    await gateway.caller.until("start", "think")
    accepted = gateway.runner.accept(ask(), "me", "r2", 0.05)
    with pytest.raises(DeadlineExceeded):
        async for _ in gateway.runner.run(accepted):
            pass
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (gateway.runner.gate.running, gateway.runner.gate.waiting) == (0, 0)


async def test_beyond_the_queue_requests_are_refused_at_once() -> None:
    gateway = Gateway(FakeCaller(streams={"think": [HANG]}), GatewaySettings(max_concurrent=1, queue_limit=1))
    tasks = [asyncio.create_task(gateway.run(ask())) for _ in range(2)]
    await gateway.caller.until("start", "think")
    with pytest.raises(Exhausted):
        await gateway.run(ask())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gateway.runner.gate.running, gateway.caller.running) == (0, [])


async def test_who_stops_reading_stops_the_nodes(gateway: Gateway) -> None:
    gateway.caller.streams = {"think": [DecodeStarted(1, 0), DecodedText("a"), HANG]}
    stream = gateway.runner.run(gateway.runner.accept(ask(), "me", "r1", None))
    async for event in stream:
        if event.WhichOneof("event") == "text":
            break
    await stream.aclose()
    assert gateway.caller.running == []
    assert gateway.caller.released == ["r1"]
    assert gateway.runner.gate.running == 0


def test_owners_are_told_apart_without_keeping_tokens() -> None:
    assert owner_of("") == "anonymous"
    assert owner_of("Bearer a") == owner_of("Bearer a") != owner_of("Bearer b")
    assert "Bearer" not in owner_of("Bearer a")


# ---- what a request may cost -----------------------------------------------------------------------------


async def test_one_upload_named_often_is_read_once(gateway: Gateway) -> None:
    handle = await upload(gateway, b"y" * 5000)
    await gateway.run(ask(*(picture(handle=handle) for _ in range(20))))
    items = [media for call in gateway.caller.of("see") for media in call.payload[0]]
    assert len({id(media.data) for media in items}) == 1


async def test_the_media_of_one_request_are_bounded_together() -> None:
    gateway = Gateway(settings=GatewaySettings(inline_media_bytes=1000, upload_bytes=10_000))
    handles = [await upload(gateway, bytes(5000)) for _ in range(3)]
    gateway.runner.accept(ask(*(picture(handle=handle) for handle in handles[:2])), "me", "r1", None)
    with pytest.raises(InvalidRequest, match="in all"):
        gateway.runner.accept(ask(*(picture(handle=handle) for handle in handles)), "me", "r1", None)
    gateway.media.close()


async def test_a_reader_that_stops_does_not_keep_its_place_past_the_deadline(gateway: Gateway) -> None:
    gateway.caller.streams = {"think": [DecodeStarted(3, 0), *(DecodedText("x") for _ in range(500)), HANG]}
    accepted = gateway.runner.accept(ask(), "me", "r1", 0.2)
    events = gateway.runner.run(accepted)
    await anext(events)
    async with asyncio.timeout(5.0):
        while gateway.runner.gate.running:  # noqa: ASYNC110 - the gate has nothing to wait for
            await asyncio.sleep(0.01)
    with pytest.raises(DeadlineExceeded):
        async for _ in events:
            pass


# ---- what is asked for and nobody would do ---------------------------------------------------------------


async def test_pins_to_versions_of_other_components_are_refused_at_once(gateway: Gateway) -> None:
    backbone = gateway.plan.backbone.component
    entries = tuple(
        replace(entry, versions=frozenset({"v-think"})) if entry.component == backbone else entry
        for entry in gateway.routes.snapshot.entries
    )
    gateway.routes.update(replace(gateway.routes.snapshot, entries=entries))
    request = ask()
    request.pinned_versions["think"] = VERSIONS["see"]
    with pytest.raises(FailedPrecondition, match="not loaded") as refused:
        gateway.runner.accept(request, "me", "r1", None)
    assert "think" in refused.value.where


async def test_regions_are_refused_until_somebody_reads_them(gateway: Gateway) -> None:
    part = picture(b"x")
    part.media.regions.add(x1=0.1, y1=0.1, x2=0.5, y2=0.5)
    with pytest.raises(Unimplemented) as refused:
        gateway.runner.accept(ask(part), "me", "r1", None)
    assert refused.value.where.endswith("regions")
