"""Rows 13 and 14: deadlines and cancels, wherever a request is; nothing of it goes on, nothing of it stays."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from anyplex.v1 import (
    backbone_pb2,
    backbone_pb2_grpc,
    component_pb2,
    component_pb2_grpc,
    encoder_pb2,
    encoder_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    input_projector_pb2,
    input_projector_pb2_grpc,
    types_pb2,
)
from tests.cluster import Cluster
from tests.fakes import tiny
from tests.fault.test_scaling import heavy_picture
from tests.pictures import encoded
from tests.waiting import until

pytestmark = pytest.mark.cluster

CANCELS = 1_000
AT_ONCE = 100
GUARD_S = 60.0
Call = Callable[[grpc.aio.Channel, float], Awaitable[object]]


def request(pictures: int, *, heavy: bool = False, **sampling: Any) -> gateway_pb2.GenerateRequest:
    """A request that takes a while: hot, so that no model soon finds the end of its answer."""
    data = heavy_picture() if heavy else encoded(1)
    parts = [types_pb2.Part(text="go on")]
    parts += [types_pb2.Part(media=types_pb2.Media(modality="image", inline=data)) for _ in range(pictures)]
    given = {"max_tokens": 150, "temperature": 2.0, "n": 4, "logprobs": 0, **sampling}
    return gateway_pb2.GenerateRequest(
        system="next-gpt", messages=[types_pb2.Message(parts=parts)], sampling=types_pb2.Sampling(**given)
    )


async def gateway_gauge(cluster: Cluster, name: str) -> float:
    """A gauge of the gateway."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{cluster.state.metrics_address}/metrics", timeout=10) as reply:  # noqa: S310
            return str(reply.read().decode())

    page = await asyncio.to_thread(read)
    return float(next(line for line in page.splitlines() if line.startswith(name)).rpartition(" ")[2])


async def is_idle(cluster: Cluster) -> bool:
    """Whether no replica has anything to do, or to keep, any more."""
    return not await asyncio.to_thread(cluster.in_flight)


# ---- row 13 ----------------------------------------------------------------------------------------------


def encode(channel: grpc.aio.Channel, timeout_s: float, metadata: Any) -> Awaitable[object]:
    items = [types_pb2.Media(modality="image", inline=heavy_picture())] * 64
    message = encoder_pb2.EncodeRequest(items=items)
    return encoder_pb2_grpc.EncoderServiceStub(channel).Encode(message, timeout=timeout_s, metadata=metadata)


def project(channel: grpc.aio.Channel, timeout_s: float, metadata: Any) -> Awaitable[object]:
    width = tiny.FEATURE_WIDTH
    tensor = types_pb2.Tensor(dtype=types_pb2.DATA_TYPE_FLOAT32, shape=[16, width], inline=bytes(16 * width * 4))
    message = input_projector_pb2.ProjectRequest(items=[encoder_pb2.Features(tensor=tensor)] * 256)
    return input_projector_pb2_grpc.InputProjectorServiceStub(channel).Project(
        message, timeout=timeout_s, metadata=metadata
    )


def decoding(version: str) -> Callable[[grpc.aio.Channel, float, Any], Awaitable[object]]:
    async def decode(channel: grpc.aio.Channel, timeout_s: float, metadata: Any) -> object:
        turn = backbone_pb2.Turn(role=types_pb2.ROLE_USER, segments=[types_pb2.Segment(text="go on")])
        sampling = types_pb2.Sampling(max_tokens=200, n=16, temperature=2.0)
        message = backbone_pb2.DecodeRequest(turns=[turn], sampling=sampling)
        message.version.version = version
        stream = backbone_pb2_grpc.BackboneServiceStub(channel).Decode(message, timeout=timeout_s, metadata=metadata)
        return [event async for event in stream]

    return decode


async def stop_times_s(cluster: Cluster, address: str, call: Any, timeouts_s: list[float]) -> list[float]:
    """How long after its deadline a component still worked, for each of some deadlines."""
    took = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = component_pb2_grpc.ComponentServiceStub(channel)

        async def idle() -> bool:
            stats = await stub.GetStats(component_pb2.GetStatsRequest(), metadata=cluster.metadata)
            return not stats.waiting + stats.running

        for timeout_s in timeouts_s:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await call(channel, timeout_s, cluster.metadata)
            assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            took.append(await until(idle, GUARD_S))
    return took


@pytest.mark.parametrize("node", ["see", "see_in", "think"])
async def test_row_13_a_deadline_in_each_component(cluster: Cluster, node: str) -> None:
    address = cluster.address_of(f"next-gpt.{node}")
    (versions,) = [replica.versions for replica in cluster.state.replicas if replica.address == address]
    call, timeouts_s = {
        "see": (encode, [0.02, 0.05, 0.1, 0.2, 0.3]),
        "see_in": (project, [0.003, 0.004, 0.005, 0.006, 0.007]),
        "think": (decoding(await _base_version(cluster, address, versions)), [0.02, 0.05, 0.1, 0.15, 0.2]),
    }[node]
    took_s = await stop_times_s(cluster, address, call, timeouts_s)
    middle_ms = statistics.median(took_s) * 1000
    print(f"figure: row 13: deadline in {node}: stopped {middle_ms:.0f} ms later (median of {len(took_s)}, "
          f"most {max(took_s) * 1000:.0f} ms)")  # fmt: skip
    assert middle_ms < 1_000


async def _base_version(cluster: Cluster, address: str, versions: tuple[str, ...]) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = component_pb2_grpc.ComponentServiceStub(channel)
        card = (await stub.Describe(component_pb2.DescribeRequest(), metadata=cluster.metadata)).card
    return next(held.version for held in card.versions if not held.adapter)


async def test_row_13_a_deadline_stops_the_whole_request(cluster: Cluster) -> None:
    took_s, codes = [], Counter[str]()
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        for timeout_s in (0.02, 0.05, 0.1, 0.2, 0.4):
            begun_s = time.monotonic()
            try:
                async for _ in stub.Generate(request(12, heavy=True), timeout=timeout_s):
                    pass
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
                late_s = time.monotonic() - begun_s - timeout_s
                took_s.append(late_s + await until(lambda: is_idle(cluster), GUARD_S))
    middle_ms = statistics.median(took_s) * 1000
    print(
        f"figure: row 13: deadline of a whole request: {dict(codes)}, everything idle {middle_ms:.0f} ms later (median)"
    )
    assert set(codes) == {"DEADLINE_EXCEEDED"}
    assert len(took_s) >= 4
    assert middle_ms < 1_500


def resident_mib(cluster: Cluster) -> dict[str, float]:
    """Memory of every replica."""
    asked = cluster.all_stats()
    return {replica.address: stats.resident_bytes / 2**20 for replica, stats in asked if stats is not None}


# ---- row 14 ----------------------------------------------------------------------------------------------


async def cancel_many(cluster: Cluster, count: int, seed: int) -> Counter[str]:
    """Start requests, a hundred at once, and cancel each at a moment of its own: queued, in a component, streaming."""
    rng = random.Random(seed)
    codes: Counter[str] = Counter()
    turn = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)

        async def one(wait_s: float, message: gateway_pb2.GenerateRequest, *, midstream: bool) -> None:
            async with turn:
                call = stub.Generate(message)
                seen = 0
                try:
                    async with asyncio.timeout(wait_s if not midstream else GUARD_S):
                        async for response in call:
                            seen += response.event.WhichOneof("event") == "text"
                            if midstream and seen >= 3:
                                break
                except TimeoutError:
                    pass
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1
                call.cancel()
                codes["cancelled while streaming" if seen else "cancelled before any text"] += 1

        await asyncio.gather(
            *(
                one(rng.choice((0.0, 0.005, 0.02, 0.1, 0.5)), request(rng.randrange(3)), midstream=number % 3 == 0)
                for number in range(count)
            )
        )
    return codes


async def test_row_14_a_thousand_cancels(cluster: Cluster) -> None:
    await cancel_many(cluster, 300, seed=0)
    await until(lambda: is_idle(cluster), GUARD_S)
    before = resident_mib(cluster)
    codes = await cancel_many(cluster, CANCELS, seed=1)
    idle_s = await until(lambda: is_idle(cluster), GUARD_S)

    async def nobody_inside() -> bool:
        running = await gateway_gauge(cluster, "anyplex:num_requests_running")
        return running + await gateway_gauge(cluster, "anyplex:num_requests_waiting") == 0

    await until(nobody_inside, GUARD_S)
    await cancel_many(cluster, CANCELS // 4, seed=2)
    await until(lambda: is_idle(cluster), GUARD_S)
    # More replicas may have come, so many requests at once: those that were there before are compared.
    after = resident_mib(cluster)
    grown_mib = sum(after[address] - before[address] for address in before.keys() & after.keys())
    print(f"figure: row 14: {CANCELS} cancels {dict(codes)}: nothing in flight after {idle_s * 1000:.0f} ms, "
          f"memory of all components {grown_mib:+.1f} MiB")  # fmt: skip
    assert codes["cancelled while streaming"] > CANCELS // 10
    assert codes["cancelled before any text"] > CANCELS // 10
    assert set(codes) <= {"cancelled while streaming", "cancelled before any text", "RESOURCE_EXHAUSTED"}
    assert idle_s < 10.0
    assert grown_mib < 64


async def test_the_same_place_serves_as_before(cluster: Cluster) -> None:
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        events = [response.event async for response in stub.Generate(request(1, max_tokens=4, n=1), timeout=60)]
    assert events[-1].WhichOneof("event") == "finished"


# ---- row 15 ----------------------------------------------------------------------------------------------


async def test_row_15_a_client_that_stops_reading(cluster: Cluster) -> None:
    """Its answer waits in bounded buffers; others are answered meanwhile."""
    async with grpc.aio.insecure_channel(cluster.address) as slow, grpc.aio.insecure_channel(cluster.address) as good:
        unread = [gateway_pb2_grpc.GatewayServiceStub(slow).Generate(request(0, n=16, logprobs=20)) for _ in range(8)]
        for call in unread:
            await call.read()
        stub = gateway_pb2_grpc.GatewayServiceStub(good)
        answered = 0
        for _ in range(8):
            async for response in stub.Generate(request(1, max_tokens=4, n=1), timeout=GUARD_S):
                answered += response.event.WhichOneof("event") == "finished"
        assert answered == 8
        for call in unread:
            call.cancel()
    await until(lambda: is_idle(cluster), GUARD_S)
