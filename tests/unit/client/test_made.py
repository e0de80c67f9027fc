"""Media that come with answers: whole, told of while they are made, saved under names that are no paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import anyplex
from anyplex import Client
from anyplex.v1 import error_pb2, gateway_pb2, types_pb2
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway


def test_media_come_with_the_answer(client: Client, gateway: FakeGateway, tmp_path: Path) -> None:
    async def draws(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        event = gateway_pb2.Event
        yield fake.accepted(request)
        yield fake.text("Here: ")
        yield event(node="draw", media_started=gateway_pb2.MediaStarted(modality="image", mime_type="image/png"))
        yield event(media_started=gateway_pb2.MediaStarted(media_index=1, modality="audio", mime_type="audio/wav"))
        yield event(media_progress=gateway_pb2.MediaProgress(step=1, steps=2, preview=b"p"))
        yield event(media_chunk=gateway_pb2.MediaChunk(data=b"ab"))
        yield event(media_failed=gateway_pb2.MediaFailed(
            media_index=1, error=error_pb2.ErrorDetail(code="unavailable", message="no replica", node="play")
        ))  # fmt: skip
        yield event(media_chunk=gateway_pb2.MediaChunk(data=b"cd", last=True, handle="h1"))
        yield fake.finished()

    gateway.scripts = [draws]
    reply = client.generate("draw")
    assert reply.text == "Here: "
    assert [image.data for image in reply.images] == [b"abcd"]
    assert reply.audios == reply.videos == []
    assert reply.images[0].save(tmp_path / "drawn").name == "drawn.png"
    assert isinstance(reply.failures[0].error, anyplex.Unavailable)
    client.generate("again", history=[reply.as_message()])
    assert fake.said(gateway.requests[-1].messages[0]) == "Here:  <image:h1>"


def test_media_are_told_of_while_they_are_made(client: Client, gateway: FakeGateway, tmp_path: Path) -> None:
    async def makes(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        for event in [*fake.medium(0, "video", "video/mp4", b"film", steps=3), *fake.medium(1, "audio", "", b"tune")]:
            yield event
        yield fake.failed_medium(2, "no replica")
        yield fake.finished()

    gateway.scripts = [makes]
    seen: list[anyplex.Event] = []
    reply = client.generate("film and play", outputs=("video", "audio"), on_event=seen.append)
    assert list(gateway.requests[0].outputs) == ["video", "audio"]
    steps = [(event.step, event.steps) for event in seen if isinstance(event, anyplex.MediaProgress)]
    assert steps == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert [medium.data for medium in (*reply.videos, *reply.audios)] == [b"film", b"tune"]
    assert reply.videos[0].save(tmp_path / "clip").read_bytes() == b"film"
    assert [(failure.modality, str(failure.error)) for failure in reply.failures] == [("image", "no replica")]


def test_a_medium_that_was_cut_off_is_no_medium(client: Client, gateway: FakeGateway) -> None:
    async def stops(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        for event in list(fake.medium(0, "image", "image/png", b"abcd"))[:-1]:
            yield event
        yield fake.finished(types_pb2.FINISH_REASON_INTERRUPTED)

    gateway.scripts = [stops]
    reply = client.generate("draw")
    assert reply.media == ()
    assert [failure.modality for failure in reply.failures] == ["image"]
    assert isinstance(reply.failures[0].error, anyplex.Unavailable)


@pytest.mark.parametrize(
    "mime_type", ["image/../../etc", "image//tmp/x", "", "image", "image/" + "x" * 99, "image/a b"]
)
def test_the_ending_of_a_file_is_no_path(mime_type: str, tmp_path: Path) -> None:
    medium = anyplex.MadeMedium("image", mime_type, b"x")
    assert medium.suffix == ".bin"
    assert medium.save(tmp_path / "made") == tmp_path / "made.bin"
