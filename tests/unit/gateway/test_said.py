"""What a conversation remembers of its answers: text, and what was made with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from anyplex.v1 import gateway_pb2, types_pb2
from graph.messages import DecodedText, DecodeFinished, DecodeStarted
from services.gateway.said import Said, forget_oldest
from tests.fakes import gateway as fake
from tests.fakes.caller import rendered, signal
from tests.unit.gateway.conftest import Served, ask

TOKEN = (("authorization", "Bearer secret"),)


def test_text_and_whole_media_of_the_first_answer_are_remembered() -> None:
    said = Said(("image", "video"), 100)
    said.take(fake.text("here "))
    said.take(fake.text("other", choice=1))
    for event in [*fake.medium(1, "video", "video/mp4", b"film"), *fake.medium(0, "image", "image/png", b"drawn")]:
        said.take(event)
    for event in list(fake.medium(2, "image", "image/png", b"half"))[:-1]:
        said.take(event)
    for event in [*fake.medium(3, "audio", "", b"unread"), *fake.medium(4, "image", "image/png", b"x" * 101)]:
        said.take(event)
    said.take(fake.text("it is"))
    message = said.message()
    assert message is not None
    assert message.role == types_pb2.ROLE_ASSISTANT
    assert [part.text or part.media.inline for part in message.parts] == ["here it is", b"drawn", b"film"]
    assert message.parts[1].media.modality == "image"
    assert message.parts[1].media.mime_type == "image/png"


def test_nothing_leaves_nothing() -> None:
    assert Said((), 100).message() is None


def test_the_oldest_of_what_was_made_is_forgotten_first() -> None:
    def turn(role: types_pb2.Role, *data: bytes) -> types_pb2.Message:
        media = [types_pb2.Part(media=types_pb2.Media(modality="image", inline=item)) for item in data]
        return types_pb2.Message(role=role, parts=media)

    request = gateway_pb2.GenerateRequest(
        messages=[
            turn(types_pb2.ROLE_USER, b"x" * 500),
            turn(types_pb2.ROLE_ASSISTANT, b"a" * 60),
            turn(types_pb2.ROLE_ASSISTANT, b"b" * 30, b"c" * 30),
        ]
    )
    forget_oldest(request.messages, 60)
    assert [len(message.parts[0].media.inline) for message in request.messages] == [500, 0, 30]
    assert request.messages[1].parts[0].text
    forget_oldest(request.messages, 60)
    assert len(request.messages[2].parts) == 2


async def test_it_is_what_was_made_in_the_turn_before(served: Served) -> None:
    caller = served.gateway.caller
    drawing = [DecodeStarted(3, 0), DecodedText("here"), signal("image"), DecodeFinished("stop", 5)]
    caller.streams = {"think": drawing, "draw": rendered(b"dra", b"wn")}

    answered = asyncio.Event()

    async def turns() -> AsyncIterator[gateway_pb2.ConverseRequest]:
        yield gateway_pb2.ConverseRequest(open=ask())
        await answered.wait()
        message = types_pb2.Message(role=types_pb2.ROLE_USER, parts=[types_pb2.Part(text="make it blue")])
        yield gateway_pb2.ConverseRequest(message=message)

    finished = 0
    async for response in served.stub.Converse(turns(), metadata=TOKEN):
        if response.event.WhichOneof("event") == "finished":
            finished += 1
            answered.set()
    assert finished == 2
    (media,), _ = caller.of("see")[0].payload
    assert media.data == b"drawn"
