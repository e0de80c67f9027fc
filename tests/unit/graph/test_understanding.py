"""The input half: order is kept, work is done side by side and once, and blame falls on the right part."""

from __future__ import annotations

import asyncio

import pytest

from graph.errors import AnyplexError, FailedPrecondition, InvalidRequest, Unavailable
from graph.executor import Executor
from graph.messages import DecodeRequest, Event, Finished, Media, Part, Request, TextDelta
from graph.plan import SystemPlan
from tests.fakes.caller import FakeCaller, spoken, tensor
from tests.unit.graph.worlds import asking, compiled, said, shown, turn

FOREVER = float("inf")

MERGED = """
system: merged
nodes:
  see:   {kind: encoder, modality: image, type: clip_vision}
  hear:  {kind: encoder, modality: audio, type: whisper}
  join:  {kind: input_projector, type: mlp, from: [hear, see]}
  last:  {kind: input_projector, type: linear, from: join}
  think: {kind: backbone, type: decoder, from: last}
"""
BRANCHED = """
system: branched
nodes:
  look:      {kind: encoder, modality: video, type: clip_vision, frames: 4}
  listen:    {kind: encoder, modality: video, type: joint}
  look_in:   {kind: input_projector, type: query_transformer, from: look}
  listen_in: {kind: input_projector, type: query_transformer, from: listen}
  think:     {kind: backbone, type: decoder, from: [look_in, listen_in]}
"""


async def answer(caller: FakeCaller, request: Request, plan: SystemPlan | None = None) -> list[Event]:
    return [event async for event in Executor(caller).run(plan or compiled(), request, FOREVER)]


def read_by(caller: FakeCaller, node: str = "think") -> list[list[str]]:
    """Return what the backbone was given, turn by turn: text, or where embeddings came from."""
    request = caller.of(node)[0].payload
    assert isinstance(request, DecodeRequest)
    return [
        [
            segment.text if segment.embeddings is None else (segment.embeddings.data or b"").decode()  # type: ignore[misc]
            for segment in turn.segments
        ]
        for turn in request.turns
    ]


async def test_words_alone_go_straight_to_the_backbone() -> None:
    caller = FakeCaller(streams={"think": spoken("he", "llo")})
    events = await answer(caller, asking())
    assert [event.body for event in events[:2]] == [TextDelta("he"), TextDelta("llo")]
    finished = events[-1].body
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.completion_tokens, finished.usage.prompt_tokens) == ("stop", 2, 7)
    assert [asked.node for asked in caller.asked] == ["think"]
    assert caller.released == ["r1"]


async def test_the_order_of_parts_is_kept_over_turns() -> None:
    caller = FakeCaller()
    request = asking(
        turn(said("be brief"), role="system"),
        turn(said("what is"), shown("a"), said("and"), shown("b"), said("?")),
        turn(said("a ring"), role="assistant"),
        turn(shown("c", "audio"), said("like"), shown("a"), said("this?")),
    )
    await answer(caller, request)
    assert read_by(caller) == [
        ["be brief"],
        ["what is", "see_in(see(a))", "and", "see_in(see(b))", "?"],
        ["a ring"],
        ["hear_in(hear(c))", "like", "see_in(see(a))", "this?"],
    ]
    decoded = caller.of("think")[0].payload
    assert [segment.modality for segment in decoded.turns[3].segments] == ["audio", "", "image", ""]


async def test_the_same_picture_is_encoded_once() -> None:
    caller = FakeCaller()
    claimed = [Part(media=Media("image", data=data, content_hash="h")) for data in (b"one", b"two")]
    await answer(caller, asking(turn(shown("a"), shown("b"), *claimed), turn(shown("a"), said("again"))))
    (asked,) = caller.of("see")
    assert [item.data for item in asked.payload[0]] == [b"a", b"b", b"one", b"two"]
    assert read_by(caller)[1] == ["see_in(see(a))", "again"]


async def test_encoders_run_side_by_side_and_projectors_wait_for_their_own_only() -> None:
    gate = asyncio.Event()
    caller = FakeCaller(before={"see": [gate]})
    request = asking(turn(shown("a"), shown("b", "audio"), shown("c", "video"), said("?")))
    running = asyncio.create_task(answer(caller, request))
    await caller.until("end", "hear_in")
    await caller.until("end", "watch_in")
    assert ("start", "see_in") not in caller.log
    gate.set()
    await running
    assert caller.of("watch")[0].payload[1] == 8
    assert caller.of("see")[0].payload[1] == 0


async def test_features_made_before_skip_the_encoder() -> None:
    caller = FakeCaller()
    ready = Part(media=Media("image", features=tensor(mark="ready"), content_hash="h"))
    await answer(caller, asking(turn(ready, shown("a"), said("?"))))
    assert len(caller.of("see")[0].payload[0]) == 1
    assert read_by(caller) == [["see_in(ready)", "see_in(see(a))", "?"]]
    assert caller.of("see_in")[0].payload[0][0].content_hash == ""  # only claimed, so it is not passed on
    alone = FakeCaller()
    await answer(alone, asking(turn(ready, said("?"))))
    assert alone.of("see") == []


async def test_projectors_get_the_text_of_their_own_turn() -> None:
    caller = FakeCaller()
    await answer(caller, asking(turn(said("first "), shown("a"), said("one")), turn(shown("b"), said("second"))))
    assert [asked.payload[1] for asked in caller.of("see_in")] == ["first one", "second"]


async def test_a_projector_may_merge_media_and_feed_another() -> None:
    caller = FakeCaller(merging=frozenset({"join"}))
    request = asking(turn(said("x"), shown("a"), shown("b", "audio"), said("y")))
    await answer(caller, request, compiled(MERGED))
    assert read_by(caller) == [["x", "last(join(see(a)+hear(b)))", "y"]]


async def test_a_medium_with_two_encoders_becomes_two_segments() -> None:
    caller = FakeCaller()
    await answer(caller, asking(turn(shown("v", "video"), said("?"))), compiled(BRANCHED))
    assert read_by(caller) == [["look_in(look(v))", "listen_in(listen(v))", "?"]]


async def test_many_large_media_travel_in_several_calls() -> None:
    caller = FakeCaller()
    pictures = [shown(f"{index:02}") for index in range(40)]
    await answer(caller, asking(turn(*pictures, said("?"))))
    assert [len(asked.payload[0]) for asked in caller.of("see")] == [16, 16, 8]
    large = [Part(media=Media("image", data=bytes([65 + index]) * 5_000_000)) for index in range(3)]
    caller = FakeCaller()
    await answer(caller, asking(turn(*large, said("?"))))
    assert [len(asked.payload[0]) for asked in caller.of("see")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("where", "place"),
    [
        ("items[1]", "request.messages[0].parts[2].image"),
        ("items[0]", "request.messages[0].parts[0].image"),
        ("node see", "request.messages[0].parts[0].image or request.messages[0].parts[2].image"),
    ],
)
async def test_a_bad_medium_is_named(where: str, place: str) -> None:
    caller = FakeCaller(before={"see": [InvalidRequest("truncated", where)]})
    with pytest.raises(InvalidRequest) as caught:
        await answer(caller, asking(turn(shown("a"), said("and"), shown("b"))))
    assert str(caught.value) == f"{place}: truncated"
    assert caller.released == ["r1"]


async def test_a_modality_the_system_does_not_read_is_named() -> None:
    caller = FakeCaller()
    with pytest.raises(InvalidRequest, match=r"parts\[1\]\.depth: full does not read depth; it reads text, image"):
        await answer(caller, asking(turn(said("?"), shown("a", "depth"))))
    assert caller.asked == []


@pytest.mark.parametrize("node", ["see", "see_in", "think"])
async def test_an_error_names_its_node_and_stops_the_others(node: str) -> None:
    script = {node: [Unavailable("went away")]}
    slow = {"hear": ["hang"]} if node != "think" else {}
    caller = FakeCaller(before={**slow, **script}, streams=dict(script) if node == "think" else {})
    with pytest.raises(Unavailable, match=f"node {node}: went away"):
        await answer(caller, asking(turn(shown("a"), shown("b", "audio"), said("?"))))
    assert caller.running == []
    assert caller.released == ["r1"]
    if slow:
        assert ("cancelled", "hear") in caller.log


async def test_the_callers_fault_is_told_before_ours() -> None:
    caller = FakeCaller(before={"see": [Unavailable("down")], "hear": [InvalidRequest("no sound")]})
    with pytest.raises(InvalidRequest):
        await answer(caller, asking(turn(shown("a"), shown("b", "audio"))))


async def test_a_component_that_breaks_its_contract_is_told() -> None:
    class Short(FakeCaller):
        async def project(self, call, items, prompt=""):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return (await super().project(call, items, prompt))[:-1]

    with pytest.raises(FailedPrecondition, match="node see_in: gave 0 segments, 1 expected"):
        await answer(Short(), asking(turn(shown("a"))))


async def test_a_call_cut_off_by_its_transport_does_not_end_in_silence() -> None:
    caller = FakeCaller(before={"see": [asyncio.CancelledError()]})
    with pytest.raises(AnyplexError, match="node see: the call was cut off"):
        await answer(caller, asking(turn(shown("a"))))


async def test_calls_carry_versions_deadline_session_and_trace() -> None:
    caller = FakeCaller()
    plan = compiled()
    stream = Executor(caller).run(plan, asking(turn(shown("a")), session_id="s1"), FOREVER, trace_parent="00-ab")
    async for _ in stream:
        pass
    call = caller.of("think")[0].call
    assert (call.version.version, call.version.adapter) == ("v1", "v3")
    assert (call.request_id, call.session_id, call.trace_parent, call.deadline_s) == ("r1", "s1", "00-ab", FOREVER)
    assert call.component == plan.backbone.component
    assert caller.of("see")[0].call.version.version == "v2"
