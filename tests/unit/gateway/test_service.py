from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from anyplex.v1 import gateway_pb2, media_pb2, types_pb2
from graph.messages import DecodedText, DecodeFinished, DecodeStarted
from services.runtime.status import error_from_rpc
from tests.fakes.caller import HANG, spoken
from tests.unit.gateway.conftest import SYSTEM, Gateway, Served, ask, picture
from tests.waiting import until

TOKEN = (("authorization", "Bearer secret"),)
PATIENCE_S = 10.0


def said(text: str) -> types_pb2.Message:
    return types_pb2.Message(role=types_pb2.ROLE_USER, parts=[types_pb2.Part(text=text)])


def opened(*messages: types_pb2.Message) -> gateway_pb2.ConverseRequest:
    return gateway_pb2.ConverseRequest(open=gateway_pb2.GenerateRequest(system=SYSTEM, messages=messages))


def then(text: str) -> gateway_pb2.ConverseRequest:
    return gateway_pb2.ConverseRequest(message=said(text))


INTERRUPT = gateway_pb2.ConverseRequest(interrupt=gateway_pb2.Interrupt())


async def generate(served: Served, request: gateway_pb2.GenerateRequest, metadata: Any = TOKEN) -> list[str]:
    stream = served.stub.Generate(request, metadata=metadata, timeout=PATIENCE_S)
    return [response.event.WhichOneof("event") async for response in stream]


async def test_generate_streams(served: Served) -> None:
    assert await generate(served, ask()) == ["accepted", "text", "finished"]


async def test_the_request_id_of_the_caller_is_kept_and_a_strange_one_is_not(served: Served) -> None:
    for given, kept in (("my-id.1", True), ("no spaces please", False), ("x" * 129, False)):
        call = served.stub.Generate(ask(), metadata=(*TOKEN, ("x-request-id", given)), timeout=PATIENCE_S)
        events = [response.event async for response in call]
        assert (events[0].accepted.request_id == given) is kept


async def test_an_idempotency_key_runs_once(served: Served) -> None:
    for _ in range(3):
        assert await generate(served, ask(idempotency_key="k")) == ["accepted", "text", "finished"]
    assert len(served.gateway.caller.of("think")) == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await generate(served, ask(types_pb2.Part(text="other"), idempotency_key="k"))
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_wrong_requests_name_every_wrong_field(served: Served) -> None:
    request = ask(picture(b""), priority=99, sampling=types_pb2.Sampling(temperature=-1.0))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await generate(served, request)
    error = error_from_rpc(refused.value)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.where == "request.messages[0].parts[0].image"
    for path in ("request.priority", "request.sampling.temperature"):
        assert path in (refused.value.details() or "")


async def test_the_worst_refusal_still_fits_into_a_status(served: Served) -> None:
    parts = [picture(b"", mime_type="x" * 300, content_hash="y" * 300) for _ in range(100)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await generate(served, ask(*parts))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(refused.value).where.startswith("request.messages[0].parts[0]")


async def test_cancelling_stops_the_nodes(served: Served) -> None:
    caller = served.gateway.caller
    caller.streams = {"think": [DecodeStarted(1, 0), HANG]}
    call = served.stub.Generate(ask(), metadata=TOKEN)
    await call.read()
    await caller.until("start", "think")
    call.cancel()
    await asyncio.wait_for(caller.until("cancelled", "think"), PATIENCE_S)
    assert caller.running == []


async def test_lists_and_describes_systems(served: Served) -> None:
    listed = await served.stub.ListSystems(gateway_pb2.ListSystemsRequest(), metadata=TOKEN)
    assert [system.name for system in listed.systems] == [SYSTEM]
    assert listed.default_system == SYSTEM
    described = await served.stub.DescribeSystem(gateway_pb2.DescribeSystemRequest(), metadata=TOKEN)
    nodes = {node.name: node for node in described.nodes}
    assert getattr(nodes["think"], "from") == ["see_in", "watch_in", "hear_in"]
    assert described.limits.inline_media_bytes == served.gateway.settings.inline_media_bytes


# ---- conversations ---------------------------------------------------------------------------------------


class Talk:
    """One conversation of a test."""

    def __init__(self, served: Served, metadata: Any = TOKEN) -> None:
        self.call = served.stub.Converse(metadata=metadata, timeout=PATIENCE_S)

    async def say(self, *requests: gateway_pb2.ConverseRequest) -> None:
        for request in requests:
            await self.call.write(request)

    async def next(self) -> gateway_pb2.ConverseResponse:
        response = await self.call.read()
        assert response is not grpc.aio.EOF
        return response

    async def until(self, what: str) -> gateway_pb2.ConverseResponse:
        while True:
            response = await self.next()
            if response.event.WhichOneof("event") == what:
                return response

    async def rest(self) -> list[gateway_pb2.ConverseResponse]:
        await self.call.done_writing()
        responses = []
        while (response := await self.call.read()) is not grpc.aio.EOF:
            responses.append(response)
        return responses

    async def fails(self, *requests: gateway_pb2.ConverseRequest) -> grpc.aio.AioRpcError:
        try:
            await self.say(*requests)
            await self.rest()
        except grpc.aio.AioRpcError as error:
            return error
        pytest.fail("the conversation did not fail")


def heard(gateway: Gateway) -> list[list[str]]:
    """What the backbone was given, by turn, in its last call."""
    request = gateway.caller.of("think")[-1].payload
    return [[segment.text for segment in turn.segments] for turn in request.turns]


async def test_a_conversation_remembers_its_turns(served: Served) -> None:
    served.gateway.caller.streams = {"think": spoken("yes")}
    talk = Talk(served)
    await talk.say(opened(said("one")))
    assert (await talk.until("finished")).turn == 0
    await talk.say(then("two"))
    assert (await talk.until("finished")).turn == 1
    assert await talk.rest() == []
    assert heard(served.gateway) == [["one"], ["yes"], ["two"]]


async def test_a_conversation_may_begin_with_history_or_nothing(served: Served) -> None:
    talk = Talk(served)
    await talk.say(opened(), then("one"))
    assert (await talk.until("finished")).turn == 0
    await talk.rest()
    history = [said("one"), types_pb2.Message(role=types_pb2.ROLE_ASSISTANT, parts=[types_pb2.Part(text="two")])]
    talk = Talk(served)
    await talk.say(opened(*history), then("three"))
    await talk.until("finished")
    await talk.rest()
    assert heard(served.gateway) == [["one"], ["two"], ["three"]]


async def test_an_interrupt_ends_the_answer_and_what_was_said_stays(served: Served) -> None:
    caller = served.gateway.caller
    caller.streams = {"think": [DecodeStarted(1, 0), DecodedText("so far"), HANG]}
    talk = Talk(served)
    await talk.say(opened(said("one")))
    await talk.until("text")
    await talk.say(INTERRUPT)
    finished = await talk.until("finished")
    assert finished.event.finished.reason == types_pb2.FINISH_REASON_INTERRUPTED
    assert finished.event.sequence == 2
    caller.streams = {"think": spoken("yes")}
    await talk.say(then("two"))
    await talk.until("finished")
    await talk.rest()
    assert heard(served.gateway) == [["one"], ["so far"], ["two"]]
    assert caller.running == []


async def test_a_new_message_ends_the_answer_being_given(served: Served) -> None:
    caller = served.gateway.caller
    caller.streams = {"think": [DecodeStarted(1, 0), DecodedText("so far"), HANG]}
    talk = Talk(served)
    await talk.say(opened(said("one")))
    await talk.until("text")
    caller.streams = {"think": spoken("yes")}
    await talk.say(then("two"))
    ends = [await talk.until("finished"), await talk.until("finished")]
    assert [(end.turn, end.event.finished.reason) for end in ends] == [
        (0, types_pb2.FINISH_REASON_INTERRUPTED), (1, types_pb2.FINISH_REASON_STOP),
    ]  # fmt: skip
    await talk.rest()


@pytest.mark.parametrize("first", [then("hello"), INTERRUPT, gateway_pb2.ConverseRequest()])
async def test_a_conversation_must_be_opened(served: Served, first: gateway_pb2.ConverseRequest) -> None:
    talk = Talk(served)
    refused = await talk.fails(first)
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_failing_turn_ends_the_conversation_with_its_error(served: Served) -> None:
    talk = Talk(served)
    refused = await talk.fails(opened(said("\x00")))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(refused).where == "request.messages[0].parts[0].text"


async def test_what_nobody_foresaw_ends_a_conversation_and_is_not_told(served: Served) -> None:
    served.gateway.caller.streams = {"think": [ZeroDivisionError("/secret/path")]}
    talk = Talk(served)
    refused = await talk.fails(opened(said("one")))
    assert refused.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (refused.details() or "")


async def test_leaving_a_conversation_that_nobody_reads_leaves_nothing_behind(served: Served) -> None:
    caller = served.gateway.caller
    caller.streams = {"think": [DecodeStarted(1, 0), *(DecodedText("x" * 50_000) for _ in range(200)), HANG]}
    before = len(asyncio.all_tasks())
    call = served.stub.Converse(metadata=TOKEN)
    await call.write(opened(said("one")))
    await caller.until("start", "think")
    # Long enough for everything between the backbone and the unread stream to be full.
    await asyncio.sleep(0.2)
    call.cancel()
    await asyncio.wait_for(caller.until("cancelled", "think"), PATIENCE_S)
    await until(lambda: len(asyncio.all_tasks()) <= before, PATIENCE_S)
    assert served.gateway.runner.gate.running == 0


# ---- uploads ---------------------------------------------------------------------------------------------


async def put(served: Served, *requests: media_pb2.UploadRequest) -> media_pb2.UploadResponse:
    async def sent() -> Any:
        for request in requests:
            yield request

    return await served.media.Upload(sent(), metadata=TOKEN, timeout=PATIENCE_S)


def opening(**fields: Any) -> media_pb2.UploadRequest:
    return media_pb2.UploadRequest(open=media_pb2.UploadOpen(modality="image", **fields))


def data(content: bytes) -> media_pb2.UploadRequest:
    return media_pb2.UploadRequest(data=content)


async def test_uploads_are_used_and_deleted(served: Served) -> None:
    response = await put(served, opening(size_bytes=6), data(b"abc"), data(b"def"))
    assert response.size_bytes == 6
    assert await generate(served, ask(picture(handle=response.handle))) == ["accepted", "text", "finished"]
    await served.media.Delete(media_pb2.DeleteRequest(handle=response.handle), metadata=TOKEN)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await generate(served, ask(picture(handle=response.handle)))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "requests",
    [[], [data(b"x")], [opening(), opening()], [opening()], [opening(), media_pb2.UploadRequest()]],
)
async def test_uploads_out_of_order_are_refused(served: Served, requests: list[media_pb2.UploadRequest]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await put(served, *requests)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(served.gateway.media) == 0


async def test_finished_answers_are_counted(served: Served) -> None:
    from prometheus_client import generate_latest

    served.gateway.caller.streams = {"think": [DecodeStarted(11, 4), DecodedText("a"), DecodeFinished("stop", 5)]}
    await generate(served, ask())
    page = generate_latest(served.gateway.metrics.registry).decode()
    label = 'component="gateway",kind="gateway"'
    for line in (
        f"anyplex:prompt_tokens_total{{{label}}} 11.0",
        f"anyplex:generation_tokens_total{{{label}}} 5.0",
        f"anyplex:time_to_first_token_seconds_count{{{label}}} 1.0",
        f"anyplex:e2e_request_latency_seconds_count{{{label}}} 1.0",
        f"anyplex:request_queue_time_seconds_count{{{label}}} 1.0",
        f'anyplex:requests_total{{{label},method="Generate",status="ok"}} 1.0',
    ):
        assert line in page
