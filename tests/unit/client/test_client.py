"""The blocking client against a real server with scripted answers."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import anyplex
from anyplex import Client, Image, MediaParameters, Message, Video
from anyplex.v1 import error_pb2, gateway_pb2, types_pb2
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.client.conftest import PNG


def test_the_use_in_the_readme(client: Client, gateway: FakeGateway, picture: Path) -> None:
    reply = client.generate(["What is this?", Image(picture)], system="next-gpt", seed=1)
    assert reply.text == f"What is this? <image:{len(PNG)}> "
    assert reply.versions == fake.VERSIONS
    assert reply.usage == anyplex.Usage(12, 3, 9)
    assert reply.finish_reason == "stop"
    assert reply.request_id == "req-1"
    assert reply.seed == 1
    assert [timing.node for timing in reply.timings] == ["see", "think"]
    kinds = [type(event) for event in client.stream([Image(picture), Image(picture), "What changed?"])]
    assert kinds[0] is anyplex.Accepted
    assert kinds[-1] is anyplex.Finished
    assert set(kinds[1:-1]) == {anyplex.Text}
    assert gateway.requests[1].messages[0].parts[0].media.mime_type == "image/png"


def test_options_arrive(client: Client, gateway: FakeGateway) -> None:
    client.generate(
        "And now?",
        system="llava-1.5",
        instructions="Be short.",
        history=[Message("user", "Hello"), Message("assistant", ["Hi"])],
        outputs=["image"],
        media_parameters={"image": MediaParameters(width=64, guidance_scale=2.0)},
        session_id="s",
        priority=3,
        idempotency_key="k",
        pinned_versions={"think": "v9"},
        seed=7,
        max_tokens=5,
        temperature=0.5,
        stop=["\n"],
        n=2,
    )
    request = gateway.requests[0]
    roles = [message.role for message in request.messages]
    assert roles == [types_pb2.ROLE_SYSTEM, types_pb2.ROLE_USER, types_pb2.ROLE_ASSISTANT, types_pb2.ROLE_USER]
    assert fake.said(request.messages[-1]) == "And now?"
    assert (request.system, request.session_id, request.priority, request.idempotency_key) == ("llava-1.5", "s", 3, "k")
    assert dict(request.pinned_versions) == {"think": "v9"}
    assert list(request.outputs) == ["image"]
    assert request.media_parameters["image"].width == 64
    assert not request.media_parameters["image"].HasField("height")
    assert (request.sampling.seed, request.sampling.max_tokens, request.sampling.n) == (7, 5, 2)
    assert list(request.sampling.stop) == ["\n"]
    assert not request.sampling.HasField("top_p")


def test_wrong_arguments_name_the_field(client: Client, gateway: FakeGateway) -> None:
    for options, field in (
        ({"seed": -1}, "seed"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stop": "x"}, "stop"),
        ({"outputs": [3]}, "outputs[0]"),
        ({"history": [Message("robot", "x")]}, "history[0]"),  # type: ignore[arg-type]
        ({"deadline_s": -1.0}, "deadline_s"),
    ):
        with pytest.raises(anyplex.InvalidRequest) as caught:
            client.generate("x", **options)  # type: ignore[arg-type]
        assert field in str(caught.value)
    with pytest.raises(anyplex.InvalidRequest, match=r"parts\[1\]"):
        client.generate(["x", 3])  # type: ignore[list-item]
    with pytest.raises(anyplex.InvalidRequest, match=r"parts\[0\]"):
        client.generate(["\ud800"])
    with pytest.raises(TypeError, match="temprature"):
        client.generate("x", temprature=1)  # type: ignore[call-arg]
    assert gateway.requests == []


def test_rich_errors(client: Client, gateway: FakeGateway) -> None:
    violation = error_pb2.FieldViolation(field="request.sampling.n", description="0, expected 1 to 16")
    gateway.scripts = [
        fake.failing(
            grpc.StatusCode.INVALID_ARGUMENT, "request.sampling.n: 0", "invalid_request",
            field_violations=[violation], request_id="r7",
        ),
        fake.failing(grpc.StatusCode.UNAVAILABLE, "it died", "unavailable", node="think", retryable=True),
        fake.failing(grpc.StatusCode.PERMISSION_DENIED, "not yours"),
    ]  # fmt: skip
    with pytest.raises(anyplex.InvalidRequest) as caught:
        client.generate("x")
    assert caught.value.violations == (anyplex.Violation("request.sampling.n", "0, expected 1 to 16"),)
    assert caught.value.request_id == "r7"
    with pytest.raises(anyplex.Unavailable, match="it died") as lost:
        client.generate("x", retry=False)
    assert lost.value.node == "think"
    with pytest.raises(anyplex.PermissionDenied, match="not yours"):
        client.generate("x")


def test_tries_again_while_nothing_came(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [
        fake.failing(grpc.StatusCode.UNAVAILABLE, "gone", "unavailable", retryable=True),
        fake.failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "exhausted", retry_after_s=0.05),
    ]
    assert client.generate("hello").text == "hello "
    assert len(gateway.requests) == 3


def test_does_not_try_again_in_vain(client: Client, gateway: FakeGateway) -> None:
    full = fake.failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", "exhausted")
    gone = fake.failing(grpc.StatusCode.UNAVAILABLE, "gone", "unavailable")
    later = fake.failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", "exhausted", retry_after_s=60.0)
    gateway.scripts = [full, gone, later]
    with pytest.raises(anyplex.Exhausted):
        client.generate("x")
    with pytest.raises(anyplex.Unavailable):
        client.generate("x", retry=False)
    with pytest.raises(anyplex.Exhausted):
        client.generate("x", deadline_s=5)  # the wait would outlive the deadline
    assert len(gateway.requests) == 3


def test_does_not_repeat_an_answer_that_has_begun(client: Client, gateway: FakeGateway) -> None:
    async def breaks(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        yield fake.text("half of it")
        await fake.fail(context, grpc.StatusCode.UNAVAILABLE, "it died", "unavailable", retryable=True)

    gateway.scripts = [breaks]
    seen = []
    with pytest.raises(anyplex.Unavailable, match="it died"):
        seen.extend(event for event in client.stream("x"))
    assert len(gateway.requests) == 1


def test_tries_again_when_no_more_than_accepted_came(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [fake.dying(), fake.dying()]
    reply = client.generate("hello")
    assert (reply.text, reply.request_id) == ("hello ", "req-1")
    assert len(gateway.requests) == 3
    gateway.scripts = [fake.dying() for _ in range(20)]
    with pytest.raises(anyplex.Unavailable, match="it died"):
        client.generate("hello", retry=anyplex.Retry(attempts=5, first_wait_s=0.001))
    assert len(gateway.requests) == 3 + 5


def test_a_medium_that_has_begun_is_not_begun_again(client: Client, gateway: FakeGateway) -> None:
    begun = gateway_pb2.Event(media_started=gateway_pb2.MediaStarted(modality="image", mime_type="image/png"))
    gateway.scripts = [fake.dying(begun)]
    with pytest.raises(anyplex.Unavailable, match="it died"):
        client.generate("draw")
    assert len(gateway.requests) == 1


async def _forever(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
    yield fake.accepted(request)
    await asyncio.Event().wait()


def test_leaving_early_cancels(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    with client.stream("x") as stream:
        next(stream)
    assert gateway.cancelled.wait(5)
    assert list(stream) == []


def test_dropping_the_stream_cancels(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    for _ in client.stream("x"):
        break
    assert gateway.cancelled.wait(5)


def test_closing_from_another_thread_ends_the_loop(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    stream = client.stream("x")
    assert isinstance(next(stream), anyplex.Accepted)
    threading.Timer(0.05, stream.close).start()
    assert list(stream) == []
    with pytest.raises(anyplex.Cancelled):
        stream.reply()


def test_deadline(client: Client, gateway: FakeGateway) -> None:
    gateway.scripts = [_forever]
    with pytest.raises(anyplex.DeadlineExceeded):
        client.generate("x", deadline_s=0.2)
    client.generate("x")
    assert gateway.deadlines_s[-1] == pytest.approx(20, abs=2)
    client.generate("x", deadline_s=math.inf)
    assert gateway.deadlines_s[-1] is None


def test_nobody_there() -> None:
    with (
        Client("127.0.0.1:1", deadline_s=20) as client,
        pytest.raises(anyplex.Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"),
    ):
        client.generate("x")


def test_token(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGateway(token="secret") as guarded:
        with Client(guarded.address) as client, pytest.raises(anyplex.Unauthenticated):
            client.generate("x")
        with Client(guarded.address, token="secret") as client:
            assert client.generate("x").text == "x "
        monkeypatch.setenv("ANYPLEX_TOKEN", "secret")
        monkeypatch.setenv("ANYPLEX_ADDRESS", guarded.address)
        with Client() as client:
            assert client.systems()[0].name == "next-gpt"


@pytest.mark.parametrize("address", ["localhost", "http://localhost:50051", "localhost:port", ":50051", "h:99999"])
def test_wrong_addresses(address: str) -> None:
    with pytest.raises(anyplex.InvalidRequest, match="address"):
        Client(address)


def test_closed_client(client: Client) -> None:
    client.close()
    with pytest.raises(anyplex.FailedPrecondition):
        client.generate("x")


def test_large_media_are_uploaded_and_forgotten(client: Client, gateway: FakeGateway, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(PNG + bytes(5 << 20))
    small = Image(PNG)
    reply = client.generate([small, Image(large), "What changed?"])
    assert reply.text == f"<image:{small.size_bytes}> <image:handle-0> What changed? "
    assert gateway.uploads["handle-0"] == large.read_bytes()
    assert gateway.deleted == ["handle-0"]


def test_many_media_stay_below_the_cap_together(client: Client, gateway: FakeGateway) -> None:
    client.generate([Image(PNG + bytes(3 << 20)), Image(PNG + bytes(3 << 20))])
    sources = [part.media.WhichOneof("source") for part in gateway.requests[0].messages[0].parts]
    assert sources == ["inline", "handle"]


def test_a_smaller_cap_of_the_gateway_is_kept(client: Client, gateway: FakeGateway) -> None:
    gateway.inline_media_bytes = 300 << 10
    client.generate([Image(PNG + bytes(200 << 10)), "small ones ask for nothing"])
    assert gateway.described == 0
    for _ in range(2):
        client.generate([Image(PNG + bytes(200 << 10)), Image(PNG + bytes(299 << 10)), Image(PNG)])
        sources = [part.media.WhichOneof("source") for part in gateway.requests[-1].messages[0].parts]
        assert sources == ["inline", "handle", "inline"]
    assert gateway.described == 1
    assert gateway.deleted == ["handle-0", "handle-1"]


def test_what_no_upload_may_hold_is_not_sent(client: Client, gateway: FakeGateway, tmp_path: Path) -> None:
    film = tmp_path / "long.mp4"
    with film.open("wb") as file:
        file.write(b"\0\0\0\x20ftypisom")
        file.truncate((64 << 20) + 1)
    with pytest.raises(anyplex.InvalidRequest, match=r"long.mp4: 67108865 bytes, at most 67108864 allowed"):
        client.generate([Video(film), "what is this?"])
    assert gateway.uploads == {}
    assert gateway.requests == []


def test_upload_by_hand(client: Client, gateway: FakeGateway, picture: Path) -> None:
    upload = client.upload(Image(picture), keep_s=30)
    assert upload.size_bytes == len(PNG)
    assert client.generate([upload]).text == "<image:handle-0> "
    assert gateway.deleted == []
    client.delete(upload)
    assert gateway.deleted == ["handle-0"]
    with pytest.raises(anyplex.NotFound):
        client.delete("nothing")


def test_systems(client: Client) -> None:
    systems = client.systems()
    assert [(system.name, system.default) for system in systems] == [("next-gpt", True), ("llava-1.5", False)]
    described = client.describe("llava-1.5")
    assert [node.name for node in described.nodes] == ["see", "see_in", "think"]
    assert described.nodes[2].reads_from == ("see_in",)
    with pytest.raises(anyplex.NotFound, match="nope"):
        client.describe("nope")


def test_tokens_have_their_own_alternatives_and_answers_point_to_regions(client: Client, gateway: FakeGateway) -> None:
    def logprob(token_id: int, *others: int) -> types_pb2.TokenLogprob:
        alternatives = [types_pb2.TokenLogprob(token_id=other, logprob=-1.0) for other in others]
        return types_pb2.TokenLogprob(token_id=token_id, logprob=-0.5, alternatives=alternatives)

    async def points(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        delta = gateway_pb2.TextDelta(text="a cat", logprobs=[logprob(1, 1, 2), logprob(3, 4, 3)])
        yield gateway_pb2.Event(node="think", text=delta)
        regions = [types_pb2.Region(x1=0.25, y1=0.25, x2=0.5, y2=1.0, label="cat")]
        found = types_pb2.RegionsFound(media_index=0, regions=regions, text_start=2, text_end=5)
        yield gateway_pb2.Event(node="ground", regions_found=found)
        yield fake.finished()

    gateway.scripts = [points]
    reply = client.generate("x", logprobs=2)
    assert [item.token_id for item in reply.logprobs] == [1, 3]
    assert [[other.token_id for other in item.alternatives] for item in reply.logprobs] == [[1, 2], [4, 3]]
    (found,) = reply.regions
    assert found.regions == (anyplex.Region(0.25, 0.25, 0.5, 1.0, "cat"),)
    assert (found.node, found.media_index, reply.text[found.text_start : found.text_end]) == ("ground", 0, "cat")


def test_several_answers(client: Client, gateway: FakeGateway) -> None:
    async def two(request: gateway_pb2.GenerateRequest, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        for choice, piece in ((1, "b"), (0, "a"), (1, "B"), (0, "A")):
            yield fake.text(piece, choice)
        yield fake.finished()

    gateway.scripts = [two]
    reply = client.generate("x", n=2)
    assert reply.texts == ("aA", "bB")
    assert reply.text == "aA"


def test_threads_share_a_client(client: Client) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda i=i: answers.append(client.generate(f"word{i}").text)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == [f"word{i} " for i in range(8)]


def test_errors_survive_pickling() -> None:
    import pickle

    error = anyplex.Exhausted("full", "think", 1.5, True, (anyplex.Violation("a", "b"),), "r1")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.message, copy.node, copy.retry_after_s, copy.violations) == ("full", "think", 1.5, error.violations)


def test_conversation(client: Client, gateway: FakeGateway, picture: Path) -> None:
    with client.converse(system="next-gpt") as talk:
        first = talk.say(["What is this?", Image(picture)])
        assert isinstance(next(first), anyplex.Accepted)
        assert first.reply().text.startswith("0: What is this?")
        assert talk.say("And its colour?").reply().text == "1: And its colour?"
        waiting = talk.say("wait")
        while not isinstance(next(waiting), anyplex.Text):
            pass
        talk.interrupt()
        assert waiting.reply().finish_reason == "interrupted"
        dropped = talk.say("wait")
        after = talk.say("go on")
        assert after.reply().text == "4: go on"
        assert list(dropped) == []
    with pytest.raises(anyplex.FailedPrecondition):
        talk.say("more")
    assert len(gateway.turns) == 5
