"""What every component owes its callers, whatever its kind and language."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from anyplex.v1 import component_pb2, component_pb2_grpc, error_pb2, types_pb2
from tests.contract.conftest import Target

UNKNOWN_VERSION = "0123456789abcdef0123"
SECRETS = re.compile(r"Traceback|File \"|/tmp|/home|/root|/work|\.py\b|0x[0-9a-f]{6,}|\bpid\b|127\.0\.0\.1")
CODE = grpc.StatusCode


async def refused(coroutine: object) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await coroutine  # type: ignore[misc]
    assert not SECRETS.search(caught.value.details() or ""), "a status message must not tell where the server lives"
    return caught.value


def detail_of(error: grpc.aio.AioRpcError) -> error_pb2.ErrorDetail:
    """The rich status every error carries."""
    trailing = {key: value for key, value in error.trailing_metadata() or ()}
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])  # type: ignore[arg-type]
    detail = error_pb2.ErrorDetail()
    assert any(entry.Unpack(detail) for entry in status.details)
    return detail


async def test_the_card_is_complete_and_true(target: Target) -> None:
    card = target.card
    assert card.contract == "v1"
    assert card.kind
    assert card.type
    assert card.architecture
    assert card.queue_limit > 0
    assert card.dtype != types_pb2.DATA_TYPE_UNSPECIFIED
    assert any(not held.adapter for held in card.versions)
    assert all(held.version and held.config_hash for held in card.versions)
    await target.calls.check_card(card)
    assert await target.describe() == card


async def test_the_same_call_gets_the_same_answer(target: Target) -> None:
    version = next(held.version for held in target.card.versions if not held.adapter)
    first = await target.calls.call(seed=1)
    assert first == await target.calls.call(seed=1)
    assert first == await target.calls.call(seed=1, version=version)
    assert first != await target.calls.call(seed=2)


async def test_answers_do_not_depend_on_company(target: Target) -> None:
    alone = [await target.calls.call(seed=seed) for seed in range(4)]
    together = await asyncio.gather(*(target.calls.call(seed=seed) for seed in range(4)))
    close = [one == other for one, other in zip(alone, together, strict=True)]
    if target.card.kind == "backbone":
        assert all(close)
    else:
        # Batches of another size may round the last bit of a float otherwise.
        assert [len(one) for one in alone] == [len(one) for one in together]  # type: ignore[arg-type]


async def test_bad_requests_are_refused(target: Target) -> None:
    for name, request in target.calls.bad_requests().items():
        begin = time.perf_counter()
        error = await refused(target.calls.send(request))
        took_ms = (time.perf_counter() - begin) * 1000
        assert error.code() == CODE.INVALID_ARGUMENT, f"{name}: {error.code()} {error.details()}"
        assert detail_of(error).code == "invalid_request", name
        assert took_ms < 500, f"{name}: {took_ms:.0f} ms"
    await target.until_idle()
    await target.calls.call()


async def test_a_version_that_is_not_loaded_is_a_failed_precondition(target: Target) -> None:
    error = await refused(target.calls.call(version=UNKNOWN_VERSION))
    assert error.code() == CODE.FAILED_PRECONDITION
    error = await refused(target.calls.call(adapter=UNKNOWN_VERSION))
    assert error.code() == CODE.FAILED_PRECONDITION
    error = await refused(target.calls.call(version="../../etc/passwd"))
    assert error.code() == CODE.FAILED_PRECONDITION


async def test_loading_what_is_not_there(target: Target) -> None:
    load = target.component.LoadVersion
    for version, code in (
        (UNKNOWN_VERSION, CODE.NOT_FOUND),
        ("../x", CODE.INVALID_ARGUMENT),
        ("", CODE.INVALID_ARGUMENT),
    ):
        error = await refused(load(component_pb2.LoadVersionRequest(version=version), metadata=target.metadata))
        assert error.code() == code, version
    request = component_pb2.UnloadVersionRequest(version=UNKNOWN_VERSION)
    error = await refused(target.component.UnloadVersion(request, metadata=target.metadata))
    assert error.code() == CODE.NOT_FOUND
    assert await target.describe() == target.card


async def test_loading_what_does_not_fit(target: Target, misfit_version: str) -> None:
    request = component_pb2.LoadVersionRequest(version=misfit_version)
    error = await refused(target.component.LoadVersion(request, metadata=target.metadata))
    assert error.code() == CODE.FAILED_PRECONDITION
    assert await target.describe() == target.card


async def test_versions_are_loaded_and_dropped_while_it_serves(target: Target, other_version: str) -> None:
    old = next(held.version for held in target.card.versions if not held.adapter)
    before = await target.calls.call(version=old, seed=3)
    request = component_pb2.LoadVersionRequest(version=other_version)
    reply = await target.component.LoadVersion(request, metadata=target.metadata)
    assert {held.version for held in reply.card.versions} >= {old, other_version}
    assert await target.calls.call(version=old, seed=3) == before
    assert await target.calls.call(version=other_version, seed=3) != before
    error = await refused(target.calls.call(seed=3))
    assert error.code() == CODE.FAILED_PRECONDITION, "two versions, and none named"
    drop = component_pb2.UnloadVersionRequest(version=other_version)
    reply = await target.component.UnloadVersion(drop, metadata=target.metadata)
    assert other_version not in {held.version for held in reply.card.versions}
    assert (await refused(target.calls.call(version=other_version))).code() == CODE.FAILED_PRECONDITION
    assert await target.calls.call(seed=3) == before


async def test_the_queue_is_bounded(target: Target) -> None:
    calls = [target.calls.start_long(timeout_s=60) for _ in range(target.card.queue_limit + 40)]
    refusals: list[grpc.aio.AioRpcError] = []
    for ended in asyncio.as_completed([_outcome(call) for call in calls]):
        outcome = await ended
        if outcome is not None:
            refusals.append(outcome)
            break
    assert refusals, "none of many calls at once was refused"
    assert refusals[0].code() == CODE.RESOURCE_EXHAUSTED
    assert detail_of(refusals[0]).retryable
    assert detail_of(refusals[0]).retry_after_s > 0
    for call in calls:
        call.cancel()
    await target.until_idle()
    await target.calls.call()


async def _outcome(call: Any) -> grpc.aio.AioRpcError | None:
    """How a call ended: None when well."""
    code = await call.code()
    if code == CODE.OK:
        return None
    return grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


async def test_a_cancelled_call_frees_its_place(target: Target) -> None:
    for _ in range(3):
        call = target.calls.start_long()
        await call.wait_for_connection()
        call.cancel()
    await target.until_idle()
    await target.calls.call()


async def test_a_stream_that_is_cut_frees_its_place(target: Target) -> None:
    if not target.calls.streams:
        return  # its answers are no streams: a cancelled call is all there is to cut
    call = target.calls.start_long()
    await call.read()
    await call.read()
    assert (await target.stats()).running == 1
    call.cancel()
    begin = time.perf_counter()
    await target.until_idle()
    print(f"freed {1000 * (time.perf_counter() - begin):.0f} ms after the cut")


async def test_deadlines_are_kept(target: Target) -> None:
    begin = time.perf_counter()
    call = target.calls.start_long(timeout_s=0.05 if target.calls.streams else 0.001)

    async def drain() -> None:
        if target.calls.streams:
            async for _ in call:
                pass
        else:
            await call

    error = await refused(drain())
    assert error.code() == CODE.DEADLINE_EXCEEDED
    await target.until_idle()
    print(f"free {1000 * (time.perf_counter() - begin):.0f} ms after the call began")


async def test_stats_count(target: Target) -> None:
    before = await target.stats()
    await target.calls.call()
    after = await target.stats()
    assert after.finished == before.finished + 1
    assert (after.waiting, after.running) == (0, 0)
    assert after.resident_bytes > 0


async def test_health_and_reflection(target: Target) -> None:
    health = health_pb2_grpc.HealthStub(target.channel)
    for service in ("", target.calls.service):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=service), metadata=target.metadata)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(target.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]), metadata=target.metadata)
    reply = await call.read()
    names = {service.name for service in reply.list_services_response.service}
    assert names >= {
        target.calls.service, "anyplex.v1.ComponentService", "anyplex.v1.TensorService", "grpc.health.v1.Health"
    }  # fmt: skip


async def test_tensors_that_are_not_there(target: Target) -> None:
    stub = component_pb2_grpc.TensorServiceStub(target.channel)

    async def fetch() -> None:
        async for _ in stub.Fetch(component_pb2.FetchRequest(tensor_id="nothing"), metadata=target.metadata):
            pass

    assert (await refused(fetch())).code() == CODE.NOT_FOUND
    reply = await stub.Release(component_pb2.ReleaseRequest(lease_id="nobody"), metadata=target.metadata)
    assert reply.released == 0
