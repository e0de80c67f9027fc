"""Media on their way out through the gateway: whole, in order, bounded; parameters beyond reason cost nothing."""

from __future__ import annotations

import asyncio
import time
from itertools import groupby

import pytest

from anyplex.v1 import types_pb2
from graph.errors import InvalidRequest, Unavailable
from graph.executor import EVENT_BUFFER
from graph.making import PIECE_BYTES
from graph.messages import (
    DecodedText,
    DecodeFinished,
    DecodeStarted,
    RenderChunk,
    RenderProgress,
    RenderStarted,
    SignalBlock,
)
from services.gateway.runner import BUFFERED_EVENTS
from tests.fakes.caller import FakeCaller, Step, signal
from tests.unit.gateway.conftest import Gateway, Served, ask

TOKEN = (("authorization", "Bearer secret"),)
CHUNKS = 64
CHUNK_BYTES = 4 * PIECE_BYTES


def film(chunks: int = CHUNKS) -> list[Step]:
    """A film of several megabytes."""
    parts: list[Step] = [RenderChunk(bytes([index]) * CHUNK_BYTES, index == chunks - 1) for index in range(chunks)]
    return [RenderStarted("video/mp4"), RenderProgress(1, 1), *parts]


class Counting(FakeCaller):
    """Counts what has left its generators."""

    given = 0

    async def render(self, call, request):  # type: ignore[no-untyped-def,override]  # noqa: ANN001,ANN201
        """Make a medium."""
        async for event in super().render(call, request):
            self.given += isinstance(event, RenderChunk)
            yield event


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", -1.0),
        ("seconds", float("nan")),
        ("seconds", 0.0),
        ("seconds", 1e9),
        ("width", -64),
        ("width", 2**31 - 1),
        ("height", 0),
        ("steps", 0),
        ("steps", 2**31 - 1),
        ("frames", -1),
        ("frames", 10**9),
        ("preview_every_steps", -1),
        ("mime_type", "image/png\n"),
        ("mime_type", "x" * 100_000),
    ],
)
def test_row_3_parameters_beyond_reason_are_refused_before_any_model_runs(
    gateway: Gateway, field: str, value: object
) -> None:
    request = ask()
    setattr(request.media_parameters["image"], field, value)
    start_s = time.perf_counter()
    with pytest.raises(InvalidRequest) as refused:
        gateway.runner.accept(request, "me", "r1", None)
    took_s = time.perf_counter() - start_s
    assert [violation.field for violation in refused.value.violations] == [f"request.media_parameters['image'].{field}"]
    assert len(str(refused.value)) < 1000
    assert gateway.caller.asked == []
    assert took_s < 0.2


def test_row_3_floods_of_parameters_are_counted_before_they_are_read(gateway: Gateway) -> None:
    request = ask(outputs=["image"])
    for index in range(20_000):
        request.media_parameters[f"image{index}"].steps = 3
    start_s = time.perf_counter()
    with pytest.raises(InvalidRequest, match="20000 modalities, full makes text, image, audio"):
        gateway.runner.accept(request, "me", "r1", None)
    assert time.perf_counter() - start_s < 0.2
    with pytest.raises(InvalidRequest, match="5000 modalities"):
        gateway.runner.accept(ask(outputs=["image"] * 5000), "me", "r1", None)
    with pytest.raises(InvalidRequest, match="makes no 'imge'"):
        gateway.runner.accept(ask(outputs=["imge"]), "me", "r1", None)


async def test_several_answers_have_media_of_their_own(served: Served) -> None:
    blocks: list[SignalBlock] = [signal("image", 0, choice=0), signal("audio", 0, choice=1), signal("image", 1, 1)]
    script: list[Step] = [DecodeStarted(3, 0), *blocks]
    script += [DecodeFinished("stop", 5, choice=choice) for choice in (0, 1)]
    served.gateway.caller.streams = {"think": script, "draw": film(2), "play": film(3)}
    request = ask(sampling=types_pb2.Sampling(n=2))
    events = [response.event async for response in served.stub.Generate(request, metadata=TOKEN)]
    sizes: dict[tuple[int, int], int] = {}
    for event in events:
        if event.WhichOneof("event") == "media_chunk":
            key = (event.choice, event.media_chunk.media_index)
            sizes[key] = sizes.get(key, 0) + len(event.media_chunk.data)
    assert sizes == {(0, 0): 2 * CHUNK_BYTES, (1, 0): 3 * CHUNK_BYTES, (1, 1): 2 * CHUNK_BYTES}
    assert [event.sequence for event in events] == list(range(len(events)))
    assert [event.WhichOneof("event") for event in events].count("finished") == 2


async def test_row_15_a_slow_reader_of_a_film_holds_little_of_it(gateway: Gateway) -> None:
    caller = Counting(
        streams={"think": [DecodeStarted(1, 0), signal("image"), DecodeFinished("stop", 4)], "draw": film()}
    )
    slow = Gateway(caller=caller)
    stream = slow.runner.run(slow.runner.accept(ask(), "me", "r1", None))
    while (await anext(stream)).WhichOneof("event") != "media_chunk":
        pass
    # whatever could run has run when the fast neighbour is done
    other = Gateway(caller=FakeCaller())
    for _ in range(5):
        await other.run(ask())
    await asyncio.sleep(0)
    held_bytes = caller.given * CHUNK_BYTES
    assert held_bytes <= (BUFFERED_EVENTS + EVENT_BUFFER + 8) * PIECE_BYTES
    rest = [event async for event in stream]
    assert caller.given == CHUNKS
    assert rest[-1].WhichOneof("event") == "finished"
    data = b"".join(event.media_chunk.data for event in rest if event.WhichOneof("event") == "media_chunk")
    assert [key for key, _ in groupby(data)] == list(range(CHUNKS))
    for each in (slow, other):
        each.media.close()


async def test_a_medium_that_fails_before_it_begins_says_what_it_would_have_been(gateway: Gateway) -> None:
    script: list[Step] = [DecodeStarted(3, 0), signal("image"), DecodedText("words"), DecodeFinished("stop", 5)]
    gateway.caller.streams = {"think": script}
    gateway.caller.before = {"draw_out": [Unavailable("gone", "node draw_out")]}
    events = await gateway.run(ask())
    failed = next(event.media_failed for event in events if event.WhichOneof("event") == "media_failed")
    assert (failed.modality, failed.error.code) == ("image", "unavailable")
