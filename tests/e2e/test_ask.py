"""A user's first hour: questions about pictures through a real cluster and the real client."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from anyplex import (
    AlreadyExists,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    Image,
    InvalidRequest,
    Message,
    NotFound,
    Unauthenticated,
    Upload,
)
from graph.errors import InvalidRequest as RefusedSettings
from graph.spec import find_system
from graph.validate import load_system
from services.deploy.launch import UpOptions, start_detached
from tests.cluster import SYSTEMS, Cluster
from tests.pictures import encoded, picture

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_answer_streams_and_says_what_it_cost(cluster: Cluster, client: Client, system: str) -> None:
    with client.stream(["what is this?", picture()], system=system, seed=1, max_tokens=24, logprobs=0) as stream:
        events = list(stream)
    kinds = [type(event).__name__ for event in events]
    assert (kinds[0], kinds[-1]) == ("Accepted", "Finished")
    assert set(kinds[1:-1]) == {"Text"}
    assert len(kinds) > 4, "text comes in pieces"
    assert [event.sequence for event in events] == list(range(len(events)))
    assert {event.node for event in events[1:-1]} == {"think"}
    accepted, finished = events[0], events[-1]
    assert accepted.system == system  # type: ignore[attr-defined]
    slots = accepted.versions  # type: ignore[attr-defined]
    assert set(slots) == set(load_system(find_system(system)).slots())
    held = {version for replica in cluster.state.replicas for version in replica.versions}
    assert set(slots.values()) <= held
    usage = finished.usage  # type: ignore[attr-defined]
    assert usage.prompt_tokens > usage.media_tokens > 0
    assert 0 < usage.completion_tokens <= 24
    timings = {timing.node: timing for timing in finished.timings}  # type: ignore[attr-defined]
    assert set(timings) == {"see", "see_in", "think"}
    assert timings["see"].end_s <= timings["see_in"].end_s <= timings["think"].first_s <= timings["think"].end_s


def test_the_request_draws_and_tells_its_seed(client: Client) -> None:
    first = client.generate(["hello", picture()], temperature=1.0, max_tokens=16)
    again = client.generate(["hello", picture()], temperature=1.0, max_tokens=16, seed=first.seed)
    assert again.text == first.text


def test_several_pictures_stand_where_they_were_put(client: Client) -> None:
    def ask(*parts: object) -> tuple[str, int]:
        reply = client.generate(list(parts), seed=1, max_tokens=16, logprobs=0)  # type: ignore[arg-type]
        said = ",".join(f"{item.token_id} {item.logprob:.9f}" for item in reply.logprobs)
        return said, reply.usage.media_tokens

    red, blue = picture(1), picture(2)
    one, tokens = ask("compare", red)
    several = {ask("compare", red, "with", blue), ask("compare", blue, "with", red), ask(red, blue, "compare with")}
    assert len({said for said, _ in several} | {one}) > 2
    assert {count for _, count in several} == {2 * tokens}
    three, count = ask(red, "a", blue, "b", red, "what changed?")
    assert count == 3 * tokens
    assert three


def test_words_alone_need_no_encoder(client: Client) -> None:
    reply = client.generate("is a ring a color or a shape?", max_tokens=8)
    assert reply.usage.media_tokens == 0
    assert [timing.node for timing in reply.timings] == ["think"]


def test_several_turns(client: Client) -> None:
    first = client.generate(["what is this?", picture()], max_tokens=12)
    alone = client.generate("and its color?", max_tokens=12)
    history = [Message("user", ["what is this?", picture()]), first.as_message()]
    second = client.generate("and its color?", history=history, max_tokens=12)
    assert second.usage.media_tokens == first.usage.media_tokens
    assert second.usage.prompt_tokens > max(first.usage.prompt_tokens, alone.usage.prompt_tokens)


def test_several_answers_at_once(client: Client) -> None:
    # Hot: a trained model that is asked what it knows says the same each time.
    reply = client.generate(["name it", picture()], n=4, temperature=2.0, seed=3, max_tokens=24)
    assert len(reply.texts) == 4
    assert len(set(reply.texts)) > 1


def test_stop_words_and_limits_end_an_answer(client: Client) -> None:
    free = client.generate(["what is this?", picture()], max_tokens=24, seed=1)
    cut = client.generate(["what is this?", picture()], max_tokens=2, seed=1)
    assert (cut.finish_reason, cut.usage.completion_tokens) == ("length", 2)
    words = [word for word in free.text if word.isprintable() and word != "�"]
    if words:
        stopped = client.generate(["what is this?", picture()], max_tokens=24, seed=1, stop=[words[-1]])
        assert stopped.finish_reason == "stop"
        assert words[-1] not in stopped.text


def test_sessions_keep_their_versions(client: Client) -> None:
    replies = [client.generate(["what is this?", picture()], session_id="s", max_tokens=4) for _ in range(3)]
    assert all(reply.versions == replies[0].versions for reply in replies)


def test_pinned_versions_must_be_there(client: Client) -> None:
    live = client.generate("hello", max_tokens=2).versions
    pinned = client.generate("hello", max_tokens=2, pinned_versions={"think": live["think"]})
    assert pinned.versions == live
    with pytest.raises(FailedPrecondition, match="not loaded"):
        client.generate("hello", pinned_versions={"think": "0" * 20})
    with pytest.raises(InvalidRequest, match="no such slot"):
        client.generate("hello", pinned_versions={"thunk": live["think"]})


# ---- conversations ---------------------------------------------------------------------------------------


def test_a_conversation_remembers(client: Client) -> None:
    with client.converse(max_tokens=12) as talk:
        first = talk.say(["what is this?", picture()]).reply()
        second = talk.say("and its color?").reply()
    assert second.usage.media_tokens == first.usage.media_tokens > 0
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_an_answer_can_be_interrupted(client: Client) -> None:
    # Hot enough that even a trained model does not soon find the end of its answer.
    with client.converse(max_tokens=200, temperature=2.0, logprobs=0) as talk:
        turn = talk.say(["tell me everything", picture()])
        for event in turn:
            if type(event).__name__ == "Text":
                break
        begun_s = time.monotonic()
        talk.interrupt()
        rest = list(turn)
        took_s = time.monotonic() - begun_s
        assert type(rest[-1]).__name__ == "Finished"
        assert rest[-1].reason in ("interrupted", "stop")  # type: ignore[attr-defined]
        after = talk.say("briefly!").reply()
    print(f"figure: an interrupted answer ended after {took_s * 1000:.0f} ms")
    assert after.usage.media_tokens > 0


# ---- uploads, keys, deadlines ----------------------------------------------------------------------------


def test_an_upload_is_as_good_as_the_bytes(client: Client) -> None:
    inline = client.generate(["what is this?", picture(5)], seed=1, max_tokens=12, logprobs=0)
    upload = client.upload(picture(5))
    by_handle = client.generate(["what is this?", upload], seed=1, max_tokens=12, logprobs=0)
    assert by_handle.logprobs == inline.logprobs
    client.delete(upload)
    with pytest.raises(NotFound):
        client.generate(["what is this?", upload])
    with pytest.raises(NotFound):
        client.delete(upload)


def test_a_large_picture_is_uploaded_by_itself(client: Client) -> None:
    large = encoded(3, 1500, "BMP")
    assert len(large) > 4 * 2**20
    assert client.generate(["what is this?", Image(large)], max_tokens=4).usage.media_tokens > 0


def test_handles_cannot_be_made_up(client: Client) -> None:
    with pytest.raises(NotFound):
        client.generate(["what is this?", Upload("made-up", "image")])


def test_an_idempotency_key_runs_once(client: Client) -> None:
    def ask() -> tuple[str, int]:
        reply = client.generate("say something", temperature=1.5, max_tokens=12, idempotency_key="once")
        return reply.request_id, reply.seed

    with ThreadPoolExecutor(4) as pool:
        replies = {future.result() for future in [pool.submit(ask) for _ in range(8)]}
    assert len(replies) == 1
    with pytest.raises(AlreadyExists):
        client.generate("say something else", idempotency_key="once")


def test_a_deadline_ends_an_answer(cluster: Cluster, client: Client) -> None:
    begun_s = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.generate(["go on", picture()], n=16, temperature=2.0, max_tokens=200, deadline_s=0.03)
    took_s = time.monotonic() - begun_s
    print(f"figure: a deadline of 30 ms was kept after {took_s * 1000:.0f} ms")
    assert took_s < 3.0


# ---- doors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong"])
def test_no_token_no_answer(cluster: Cluster, token: str) -> None:
    with Client(cluster.address, token=token) as stranger, pytest.raises(Unauthenticated):
        stranger.generate("hello")


def test_components_ask_for_the_clusters_own_token(cluster: Cluster) -> None:
    from anyplex.v1 import component_pb2, component_pb2_grpc

    for replica in cluster.state.replicas:
        with grpc.insecure_channel(replica.address) as channel:
            stub = component_pb2_grpc.ComponentServiceStub(channel)
            for metadata in ((), (("authorization", f"Bearer {cluster.token}"),)):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.Describe(component_pb2.DescribeRequest(), metadata=metadata, timeout=10)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
            request = component_pb2.LoadVersionRequest(version="0" * 20)
            with pytest.raises(grpc.RpcError) as denied:
                stub.LoadVersion(request, metadata=cluster.metadata, timeout=10)
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]


def test_a_public_address_without_a_token_is_refused(cluster: Cluster) -> None:
    with cluster.env(), pytest.raises(RefusedSettings, match="token"):
        start_detached(UpOptions(host="0.0.0.0", port=1, name="public"), print)  # noqa: S104


def test_health_and_reflection_on_every_port(cluster: Cluster) -> None:
    state = cluster.state
    doors = {state.address: state.token} | {replica.address: state.component_token for replica in state.replicas}
    assert len(doors) == 1 + len(state.replicas) > len(state.components)
    for address, token in doors.items():
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            reply = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            metadata = (("authorization", f"Bearer {token}"),)
            listed = next(stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=10))
            names = {service.name for service in listed.list_services_response.service}
            assert {"grpc.health.v1.Health"} < names
            assert any(name.startswith("anyplex.v1.") for name in names)


# ---- what there is ---------------------------------------------------------------------------------------


def test_systems_are_listed_and_described(client: Client) -> None:
    systems = {system.name: system for system in client.systems()}
    assert set(systems) == set(SYSTEMS)
    assert [system.name for system in systems.values() if system.default] == [SYSTEMS[0]]
    for system in systems.values():
        assert system.ready
        written = load_system(find_system(system.name)).nodes
        read = [node.modality for node in written.values() if node.kind == "encoder"]
        made = [node.modality for node in written.values() if node.kind == "generator"]
        assert (system.inputs, system.outputs) == (("text", *read), ("text", *made))
        described = client.describe(system.name)
        assert {node.name for node in described.nodes} == set(written)
        assert all(node.replicas == 1 for node in described.nodes)
    with pytest.raises(NotFound, match="next-gpt"):
        client.describe("nonsense")


def test_two_systems_share_one_encoder(cluster: Cluster, client: Client) -> None:
    shared = cluster.component("next-gpt.see")
    assert shared == cluster.component("llava-1.5.see")
    assert cluster.component("next-gpt.see_in") != cluster.component("llava-1.5.see_in")
    (replica,) = cluster.replicas(shared)
    before = cluster.stats(replica.address).finished
    for system in SYSTEMS:
        client.generate(["what is this?", picture(7)], system=system, max_tokens=2)
    assert cluster.stats(replica.address).finished == before + 2


def test_metrics_tell_of_every_component(cluster: Cluster, client: Client) -> None:
    client.generate(["what is this?", picture()], max_tokens=4)

    def read(url: str) -> str:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310
            return str(reply.read().decode())

    base = f"http://{cluster.state.metrics_address}"
    targets = json.loads(read(f"{base}/targets"))
    components = {target["labels"]["component"]: target["targets"][0] for target in targets}
    assert set(components) == {"gateway", *cluster.state.components}
    for component, address in components.items():
        page = read(f"http://{address}/metrics")
        for name in ("num_requests_running", "num_requests_waiting", "request_queue_time_seconds_count"):
            assert f'anyplex:{name}{{component="{component}"' in page
    for component in ("gateway", cluster.component("next-gpt.think")):
        page = read(f"http://{components[component]}/metrics")
        for name in ("time_to_first_token_seconds_count", "generation_tokens_total", "prompt_tokens_total"):
            line = next(line for line in page.splitlines() if line.startswith(f"anyplex:{name}{{"))
            assert float(line.rpartition(" ")[2]) > 0, line


def test_status_as_json(cluster: Cluster) -> None:
    done = cluster.anyplex("status", "--json", "--name", cluster.name)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["cluster"]["phase"] == "ready"
    assert {system["name"] for system in content["systems"]} == set(SYSTEMS)
    assert {found["component"] for found in content["components"]} == set(cluster.state.components)
    assert cluster.token not in done.stdout
    assert cluster.state.component_token not in done.stdout


def test_asking_from_the_command_line(cluster: Cluster) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYPLEX_ADDRESS", cluster.address)
        patch.setenv("ANYPLEX_TOKEN", cluster.token)
        done = cluster.anyplex("ask", "what is this?", "--image", "examples/two-stars-128x128.jpg", "--json")
        wrong = cluster.anyplex("ask", "what is this?", "--system", "nonsense")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert wrong.returncode != 0
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "Traceback" not in wrong.stderr


def test_leaving_early_leaves_nothing_behind(cluster: Cluster, client: Client) -> None:
    def leave() -> None:
        with suppress(StopIteration), client.stream(["go on", picture()], temperature=2.0, max_tokens=200) as stream:
            next(stream)

    threads = [threading.Thread(target=leave) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 10
    while cluster.in_flight() and time.monotonic() < deadline:
        pass
    assert cluster.in_flight() == {}
