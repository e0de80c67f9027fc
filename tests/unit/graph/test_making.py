"""The output half: media start while decoding goes on, and fail alone."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from graph.errors import Exhausted, Unavailable
from graph.executor import Executor
from graph.making import PIECE_BYTES, PREVIEW_BYTES
from graph.messages import (
    DecodedText,
    DecodeFinished,
    DecodeStarted,
    Event,
    Finished,
    MediaChunk,
    MediaFailed,
    MediaParameters,
    MediaProgress,
    MediaStarted,
    RenderChunk,
    RenderProgress,
    RenderStarted,
    Request,
    Sampling,
    TextDelta,
)
from graph.plan import SystemPlan
from graph.run_state import node_seed
from tests.fakes.caller import HANG, FakeCaller, Step, rendered, signal, spoken
from tests.unit.graph.worlds import FULL, asking, compiled

TEXT_ONLY = """
system: words
nodes:
  think: {kind: backbone, type: decoder}
"""


def told(events: list[Event]) -> list[str]:
    return [f"{event.node}:{type(event.body).__name__}" for event in events]


async def answer(caller: FakeCaller, request: Request | None = None, plan: SystemPlan | None = None) -> list[Event]:
    stream = Executor(caller).run(plan or compiled(), request or asking(), float("inf"))
    return [event async for event in stream]


def drawing(*more: Step) -> list[Step]:
    start: list[Step] = [DecodeStarted(3, 0), DecodedText("here"), signal("image")]
    return [*start, *more, DecodedText("!"), DecodeFinished("stop", 6)]


async def test_a_medium_comes_between_text_and_end() -> None:
    caller = FakeCaller(streams={"think": drawing(), "draw": rendered(b"pn", b"g")})
    parameters = MediaParameters(width=64)
    events = await answer(caller, asking(media_parameters={"image": parameters}, priority=3))
    media = [event.body for event in events if event.node == "draw"]
    assert media == [
        MediaStarted(0, "image", "image/png"),
        MediaProgress(0, 1, 1),
        MediaChunk(0, b"pn"),
        MediaChunk(0, b"g", last=True),
    ]
    assert told(events)[-1] == ":Finished"
    asked = caller.of("draw")[0].payload
    assert (asked.parameters, asked.priority, asked.seed) == (parameters, 3, node_seed(5, "draw", 0))
    assert set(asked.conditioning.positive) == {"draw_out"}
    finished = events[-1].body
    assert isinstance(finished, Finished)
    assert {timing.node for timing in finished.timings} == {"think", "draw_out", "draw"}
    assert all(0 <= timing.start_s <= timing.first_s <= timing.end_s for timing in finished.timings)


async def test_a_generator_starts_while_decoding_goes_on() -> None:
    gate = asyncio.Event()
    caller = FakeCaller(streams={"think": drawing(gate)})
    running = asyncio.create_task(answer(caller))
    await caller.until("end", "draw")
    assert ("end", "think") not in caller.log
    gate.set()
    events = told(await running)
    assert events.index("draw:MediaChunk") < len(events) - 2
    assert events[-2:] == ["think:TextDelta", ":Finished"]


async def test_media_may_be_made_after_decoding_instead() -> None:
    gate = asyncio.Event()
    plan = compiled(FULL.replace("nodes:", "limits: {late_media: true}\nnodes:"))
    caller = FakeCaller(streams={"think": drawing(gate, signal("audio", 1))})
    running = asyncio.create_task(answer(caller, plan=plan))
    await caller.until("start", "think")
    gate.set()
    events = told(await running)
    starts = [node for what, node in caller.log if what == "start"]
    assert starts[0] == "think"
    assert caller.log.index(("end", "think")) < caller.log.index(("start", "draw_out"))
    assert events.index("think:TextDelta") < events.index("draw:MediaStarted")
    assert [event for event in events if event.endswith("MediaStarted")].count("play:MediaStarted") == 1
    assert events[-1] == ":Finished"


async def test_several_media_are_made_side_by_side_and_the_end_waits_for_all() -> None:
    gate = asyncio.Event()
    steps = drawing(signal("audio", 1), signal("image", 2))
    caller = FakeCaller(streams={"think": steps, "draw": [gate, *rendered(b"png")]})
    running = asyncio.create_task(answer(caller))
    await caller.until("end", "play")
    await caller.until("start", "draw", 2)
    await caller.until("end", "think")
    assert not running.done()
    gate.set()
    events = await running
    chunks = {event.body.media_index for event in events if isinstance(event.body, MediaChunk)}
    assert chunks == {0, 1, 2}
    assert told(events).count(":Finished") == 1
    assert len({asked.payload.seed for asked in caller.of("draw")}) == 2


@pytest.mark.parametrize(
    ("node", "script", "words"),
    [
        ("draw", [Unavailable("went away")], "node draw: went away"),
        ("draw", [RenderStarted("image/png")], "node draw: ended before the last chunk"),
        ("draw_out", [Unavailable("went away")], "node draw_out: went away"),
    ],
)
async def test_a_medium_fails_alone(node: str, script: list[Step], words: str) -> None:
    streams: dict[str, list[Step]] = {"think": drawing(signal("audio", 1))}
    before = {node: script} if node == "draw_out" else {}
    caller = FakeCaller(streams={**streams, **({} if before else {node: script})}, before=before)
    events = await answer(caller)
    (failed,) = [event for event in events if isinstance(event.body, MediaFailed)]
    assert isinstance(failed.body, MediaFailed)
    assert (failed.node, failed.body.media_index, str(failed.body.error)) == ("draw", 0, words)
    assert "".join(event.body.text for event in events if isinstance(event.body, TextDelta)) == "here!"
    assert any(isinstance(event.body, MediaChunk) and event.node == "play" for event in events)


async def test_a_modality_nobody_makes_fails_alone() -> None:
    caller = FakeCaller(streams={"think": drawing(signal("depth", 1))})
    events = await answer(caller)
    (failed,) = [event.body for event in events if isinstance(event.body, MediaFailed)]
    assert isinstance(failed, MediaFailed)
    assert "full makes no depth; it makes text, image, audio" in str(failed.error)


async def test_a_flood_of_blocks_is_cut() -> None:
    blocks = [signal("image", index) for index in range(8)]
    plan = compiled(FULL.replace("nodes:", "limits: {media: 3}\nnodes:"))
    events = await answer(FakeCaller(streams={"think": drawing(*blocks)}), plan=plan)
    assert sum(isinstance(event.body, MediaStarted) for event in events) == 3
    assert sum(isinstance(event.body, MediaFailed) for event in events) == 6


async def test_a_medium_beyond_its_cap_is_cut_and_the_rest_stays() -> None:
    plan = compiled(FULL.replace("nodes:", "limits: {media_bytes: 1000}\nnodes:"))
    draw: list[Step] = [RenderStarted("image/png"), RenderChunk(b"x" * 900), RenderChunk(b"x" * 101), HANG]
    events = await answer(FakeCaller(streams={"think": drawing(), "draw": draw}), plan=plan)
    (failed,) = [event.body for event in events if isinstance(event.body, MediaFailed)]
    assert isinstance(failed, MediaFailed)
    assert isinstance(failed.error, Exhausted)
    assert failed.modality == "image"
    assert "larger than 1000 bytes" in str(failed.error)
    assert isinstance(events[-1].body, Finished)


async def test_large_chunks_travel_in_pieces_and_large_previews_not_at_all() -> None:
    data = bytes(range(256)) * 600
    draw: list[Step] = [
        RenderStarted("image/png"),
        RenderProgress(1, 2, b"p" * 100),
        RenderProgress(2, 2, b"p" * (PREVIEW_BYTES + 1)),
        *[RenderChunk(data), RenderChunk(b"", last=True)],
    ]
    events = await answer(FakeCaller(streams={"think": drawing(), "draw": draw}))
    chunks = [event.body for event in events if isinstance(event.body, MediaChunk)]
    assert b"".join(chunk.data for chunk in chunks) == data
    assert max(len(chunk.data) for chunk in chunks) == PIECE_BYTES
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    previews = [len(event.body.preview) for event in events if isinstance(event.body, MediaProgress)]
    assert previews == [100, 0]


async def test_a_medium_may_have_a_deadline_of_its_own() -> None:
    plan = compiled(FULL.replace("nodes:", "limits: {media_deadline_s: 0.2}\nnodes:"))
    caller = FakeCaller(streams={"think": drawing(), "draw": [RenderStarted("image/png"), HANG]})
    events = await answer(caller, plan=plan)
    (failed,) = [event.body for event in events if isinstance(event.body, MediaFailed)]
    assert isinstance(failed, MediaFailed)
    assert "node draw: not done within 0.2 s" in str(failed.error)
    assert ("cancelled", "draw") in caller.log
    assert caller.of("draw")[0].call.deadline_s < float("inf")
    assert isinstance(events[-1].body, Finished)


async def test_several_projectors_of_one_generator_are_laid_together() -> None:
    text = FULL.replace(
        "  draw:     {kind: generator, modality: image, type: diffusion, from: draw_out}",
        "  draw_two: {kind: output_projector, type: transformer, from: think, signal: image}\n"
        "  draw:     {kind: generator, modality: image, type: diffusion, from: [draw_out, draw_two]}",
    )
    caller = FakeCaller(streams={"think": drawing()})
    await answer(caller, plan=compiled(text))
    conditioning = caller.of("draw")[0].payload.conditioning
    assert set(conditioning.positive) == {"draw_out", "draw_two"}
    assert set(conditioning.negative) == {"not draw_out", "not draw_two"}
    failing = FakeCaller(streams={"think": drawing()}, before={"draw_two": [Unavailable("down")]})
    events = await answer(failing, plan=compiled(text))
    assert any(isinstance(event.body, MediaFailed) for event in events)


async def test_several_answers_end_one_by_one() -> None:
    steps: list[Step] = [
        *spoken("a"),
        signal("image", 0, choice=1),
        *spoken("b", choice=1)[1:],
    ]
    caller = FakeCaller(streams={"think": steps})
    events = await answer(caller, asking(sampling=Sampling(n=2, seed=5)))
    assert [event.choice for event in events if isinstance(event.body, Finished)] == [0, 1]
    assert isinstance(events[-1].body, Finished)
    assert caller.of("draw")[0].payload.seed == node_seed(5, "draw#1", 0)


@pytest.mark.parametrize("steps", [[DecodeStarted(1, 0), DecodedText("a")], [DecodeFinished("stop", 0, choice=4)]])
async def test_a_decode_that_breaks_off_is_an_error(steps: list[Step]) -> None:
    with pytest.raises(Unavailable, match="node think"):
        await answer(FakeCaller(streams={"think": steps}))


async def test_forced_outputs_and_seed_reach_the_backbone() -> None:
    caller = FakeCaller()
    request = asking(outputs=("text", "image"), priority=-2)
    await answer(caller, request)
    decoded = caller.of("think")[0].payload
    assert decoded.force_signals == ("image",)
    assert decoded.priority == -2
    assert decoded.sampling == dataclasses.replace(request.sampling, seed=node_seed(5, "think"))


@pytest.mark.parametrize(
    ("outputs", "makes_media", "text_only"),
    [((), True, False), (("image",), True, False), (("text",), True, True), ((), False, True)],
)
async def test_text_alone_is_asked_for_where_nothing_else_may_come(
    outputs: tuple[str, ...], makes_media: bool, text_only: bool
) -> None:
    plan = compiled() if makes_media else compiled(TEXT_ONLY)
    caller = FakeCaller()
    await answer(caller, asking(outputs=outputs), plan)
    assert caller.of("think")[0].payload.text_only is text_only


def test_seeds_are_stable() -> None:
    assert node_seed(1, "draw", 0) == 2010682076105440260
    assert len({node_seed(seed, node, block) for seed in (0, 1) for node in "ab" for block in (0, 1)}) == 8
