"""The asyncio client: the same behaviour as the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import anyplex
from anyplex import AsyncClient, Audio, Image, Video
from anyplex.v1 import gateway_pb2
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.client.conftest import PNG


@pytest.fixture
async def aclient(gateway: FakeGateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(gateway.address, deadline_s=20) as client:
        yield client


async def _forever(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
    yield fake.accepted(request)
    await asyncio.Event().wait()


async def test_generate_and_stream(aclient: AsyncClient, gateway: FakeGateway, picture: Path) -> None:
    reply = await aclient.generate(["What is this?", Image(picture)], seed=1)
    assert reply.text == f"What is this? <image:{len(PNG)}> "
    kinds = [type(event) async for event in aclient.stream("hello")]
    assert kinds == [anyplex.Accepted, anyplex.Text, anyplex.Finished]
    assert [system.name for system in await aclient.systems()] == ["next-gpt", "llava-1.5"]
    assert len((await aclient.describe()).nodes) == 3


async def test_media_are_told_of_while_they_are_made(aclient: AsyncClient, gateway: FakeGateway) -> None:
    async def makes(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        for event in fake.medium(0, "image", "image/png", b"abcd"):
            yield event
        yield fake.finished()

    gateway.scripts = [makes]
    seen: list[anyplex.Event] = []
    reply = await aclient.generate("draw", on_event=seen.append)
    assert [image.data for image in reply.images] == [b"abcd"]
    assert [event.step for event in seen if isinstance(event, anyplex.MediaProgress)] == [1, 2]
    assert isinstance(seen[-1], anyplex.Finished)


async def test_many_at_once(aclient: AsyncClient) -> None:
    replies = await asyncio.gather(*(aclient.generate(f"word{i}") for i in range(16)))
    assert [reply.text for reply in replies] == [f"word{i} " for i in range(16)]


async def test_retries_and_errors(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gone = fake.failing(grpc.StatusCode.UNAVAILABLE, "gone", "unavailable")
    gateway.scripts = [gone, gone]
    assert (await aclient.generate("hello")).text == "hello "
    gateway.scripts = [gone]
    with pytest.raises(anyplex.Unavailable, match="gone"):
        await aclient.generate("hello", retry=False)
    gateway.scripts = [fake.failing(grpc.StatusCode.NOT_FOUND, "no system 'x'", "not_found")]
    with pytest.raises(anyplex.NotFound):
        await aclient.generate("hello", system="x")


async def test_tries_again_when_no_more_than_accepted_came(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gateway.scripts = [fake.dying() for _ in range(5)]
    with pytest.raises(anyplex.Unavailable, match="it died"):
        await aclient.generate("hello", retry=anyplex.Retry(attempts=3, first_wait_s=0.001))
    assert (await aclient.generate("hello")).text == "hello "
    assert len(gateway.requests) == 3 + 3


async def test_a_smaller_cap_of_the_gateway_is_kept(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gateway.inline_media_bytes = 300 << 10
    reply = await aclient.generate([Image(PNG + bytes(200 << 10)), Image(PNG + bytes(299 << 10))])
    assert reply.text == f"<image:{len(PNG) + (200 << 10)}> <image:handle-0> "
    assert gateway.deleted == ["handle-0"]


async def test_cancelling_the_task_cancels_the_request(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    stream = aclient.stream("x")
    assert isinstance(await anext(stream), anyplex.Accepted)
    task = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(gateway.cancelled.wait, 5)


async def test_closing_ends_the_loop(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    async with aclient.stream("x") as stream:
        await anext(stream)
        task = asyncio.ensure_future(stream.reply())
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(anyplex.Cancelled):
            await task
    assert await asyncio.to_thread(gateway.cancelled.wait, 5)


async def test_deadline(aclient: AsyncClient, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    with pytest.raises(anyplex.DeadlineExceeded):
        await aclient.generate("x", deadline_s=0.2)


async def test_large_media(aclient: AsyncClient, gateway: FakeGateway) -> None:
    reply = await aclient.generate([Image(PNG + bytes(5 << 20)), "?"])
    assert reply.text == "<image:handle-0> ? "
    assert gateway.deleted == ["handle-0"]
    upload = await aclient.upload(Image(PNG))
    await aclient.delete(upload)


async def test_conversation(aclient: AsyncClient, gateway: FakeGateway) -> None:
    async with aclient.converse() as talk:
        assert (await (await talk.say("hello")).reply()).text == "0: hello"
        waiting = await talk.say("wait")
        assert isinstance(await anext(waiting), anyplex.Accepted)
        await talk.interrupt()
        assert (await waiting.reply()).finish_reason == "interrupted"
        assert (await (await talk.say("more")).reply()).text == "2: more"
    with pytest.raises(anyplex.FailedPrecondition):
        await talk.say("again")


async def test_what_no_upload_may_hold_is_not_sent(aclient: AsyncClient, gateway: FakeGateway, tmp_path: Path) -> None:
    film = tmp_path / "long.mp4"
    with film.open("wb") as file:
        file.write(b"\0\0\0\x20ftypisom")
        file.truncate((64 << 20) + 1)
    with pytest.raises(anyplex.InvalidRequest, match=r"long.mp4: 67108865 bytes, at most 67108864 allowed"):
        await aclient.generate([Video(film), Audio(b"RIFF\0\0\0\0WAVE")])
    assert gateway.requests == []
