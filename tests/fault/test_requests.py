"""Rows 1 to 4, 8, 11 and 12: what callers may send, refused before it costs anything."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psutil
import pytest

from anyplex import Client
from anyplex.v1 import gateway_pb2, media_pb2, types_pb2
from services.gateway.server import MAX_INLINE_MEDIA, MESSAGE_SLACK_BYTES
from tests.cluster import Cluster, pid_at
from tests.fault.bad_requests import spoiled, whole, with_media_parameters, with_regions, with_source
from tests.fault.wire import Refusal, answered_since, finished, send
from tests.pictures import encoded

pytestmark = pytest.mark.cluster

CAP_BYTES = MAX_INLINE_MEDIA * 4 * 2**20 + MESSAGE_SLACK_BYTES


# ---- row 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["inline", "handle", "features"])
def test_row_2_every_field_missing_or_out_of_range(
    cluster: Cluster, channel: grpc.Channel, live: dict[str, str], source: str
) -> None:
    good = with_source(whole(live), source, encoded(1))
    expected = grpc.StatusCode.NOT_FOUND if source == "handle" else grpc.StatusCode.OK
    assert send(channel, good.SerializeToString()).code is expected
    before = finished(cluster)
    wrong: list[str] = []
    total = 0
    paths = set()
    # What no system here makes or reads is refused as such, and wrong values of it before that.
    parameters = [found for found in spoiled(with_media_parameters(good)) if found[0].startswith("media_parameters")]
    regions = [found for found in spoiled(with_regions(good)) if ".regions" in found[0]]
    for path, request in [*spoiled(good), *parameters, *regions]:
        refusal = send(channel, request.SerializeToString())
        total += 1
        paths.add(path)
        if refusal.code is not grpc.StatusCode.INVALID_ARGUMENT or not _names(refusal.fields, path):
            wrong.append(f"{path}: {refusal.code.name} {refusal.fields} {refusal.message[:200]}")
    print(f"figure: row 2: {total - len(wrong)} of {total} wrong requests ({len(paths)} fields, picture as {source}) "
          f"refused with INVALID_ARGUMENT and the field's path")  # fmt: skip
    print("\n".join(wrong))
    assert wrong == []
    assert answered_since(cluster, before) == {}, "no model may have run"


def _names(fields: list[str], path: str) -> bool:
    """Whether one of the paths told is the field's, or that of what it stands in."""
    wanted = "request." + path.replace("].media", "].image")
    for field in fields:
        told = field.replace("].media", "].image")
        if wanted.startswith(told) or told.startswith(wanted):
            return told.count(".") >= 1
    return False


@pytest.mark.parametrize(
    ("path", "request_message", "field"),
    [
        ("GatewayService/DescribeSystem", gateway_pb2.DescribeSystemRequest(system="x" * 300_000), "request.system"),
        ("GatewayService/DescribeSystem", gateway_pb2.DescribeSystemRequest(system="\x00"), "request.system"),
        ("MediaService/Delete", media_pb2.DeleteRequest(handle="x" * 300_000), "request.handle"),
        ("MediaService/Delete", media_pb2.DeleteRequest(), "request.handle"),
    ],
)
def test_row_2_the_other_methods(channel: grpc.Channel, path: str, request_message: Any, field: str) -> None:
    refusal = send(channel, request_message.SerializeToString(), f"/anyplex.v1.{path}")
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal.message
    assert field in refusal.fields


@pytest.mark.parametrize(
    ("opened", "field"),
    [
        ({"modality": "x" * 300}, "request.open.modality"),
        ({"modality": ""}, "request.open.modality"),
        ({"mime_type": "x" * 300}, "request.open.mime_type"),
        ({"mime_type": "no type"}, "request.open.mime_type"),
        ({"size_bytes": -1}, "request.open.size_bytes"),
        ({"size_bytes": 2**62}, "request.open.size_bytes"),
        ({"keep_s": float("nan")}, "request.open.keep_s"),
        ({"keep_s": -1.0}, "request.open.keep_s"),
        ({"keep_s": 1e12}, "request.open.keep_s"),
    ],
)
def test_row_2_uploads(channel: grpc.Channel, opened: dict[str, Any], field: str) -> None:
    opening = media_pb2.UploadOpen(**{"modality": "image", "mime_type": "image/png", **opened})
    sent = [media_pb2.UploadRequest(open=opening), media_pb2.UploadRequest(data=b"x")]
    call = channel.stream_unary("/anyplex.v1.MediaService/Upload", media_pb2.UploadRequest.SerializeToString, bytes)
    with pytest.raises(grpc.RpcError) as refused:
        call(iter(sent), timeout=20)
    refusal = Refusal(refused.value, 0.0)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal.message
    assert field in refusal.fields


# ---- row 3 -----------------------------------------------------------------------------------------------


def floods(base: gateway_pb2.GenerateRequest) -> dict[str, gateway_pb2.GenerateRequest]:
    """Numbers that are none, and too much of everything."""
    found: dict[str, gateway_pb2.GenerateRequest] = {}

    def add(name: str, **sampling: Any) -> None:
        request = with_source(base, "inline", encoded(1))
        request.sampling.MergeFrom(types_pb2.Sampling(**sampling))
        found[name] = request

    for field in ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        for value in (float("nan"), float("inf"), -float("inf"), -5.0):
            add(f"{field} {value}", **{field: value})
    for field in ("max_tokens", "top_k", "n", "logprobs"):
        for number in (-1, -(2**31), 2**31 - 1):
            add(f"{field} {number}", **{field: number})
    for value in (float("nan"), float("inf"), -1.0):
        request = with_source(base, "inline", encoded(1))
        request.media_parameters["image"].guidance_scale = value
        request.media_parameters["image"].seconds = value
        found[f"media parameters {value}"] = request
    request = with_source(base, "inline", encoded(1))
    for index in range(10_000):
        request.media_parameters[f"image{index}"].steps = 1
    found["10,000 media parameters"] = request
    add("n 0", n=0)
    add("max_tokens 0", max_tokens=0)
    add("10,000 stop words", stop=["x"] * 10_000)
    add("a stop word of 1 MB", stop=["x" * 1_000_000])
    add("an empty stop word", stop=[""])
    for name, count in (("parts", 50_000), ("messages", 50_000)):
        request = with_source(base, "inline", encoded(1))
        if name == "parts":
            request.messages[0].parts.extend([types_pb2.Part(text="x")] * count)
        else:
            request.messages.extend([types_pb2.Message(parts=[types_pb2.Part(text="x")])] * count)
        found[f"{count} {name}"] = request
    return found


def test_row_3_numbers_that_are_none_and_floods(
    cluster: Cluster, channel: grpc.Channel, base: gateway_pb2.GenerateRequest
) -> None:
    before = finished(cluster)
    took_s: dict[str, float] = {}
    for name, request in floods(base).items():
        data = request.SerializeToString()
        tries = [send(channel, data) for _ in range(5)]
        assert {refusal.code for refusal in tries} == {grpc.StatusCode.INVALID_ARGUMENT}, (name, tries[0].message)
        took_s[name] = statistics.median(refusal.took_s for refusal in tries)
    slowest = max(took_s, key=lambda name: took_s[name])
    middle_ms = statistics.median(took_s.values()) * 1000
    print(f"figure: row 3: {len(took_s)} of {len(took_s)} refused, median {middle_ms:.1f} ms, "
          f"slowest {took_s[slowest] * 1000:.1f} ms ({slowest})")  # fmt: skip
    assert answered_since(cluster, before) == {}, "no model may have run"
    assert middle_ms < 200.0


# ---- row 4 -----------------------------------------------------------------------------------------------


def padded(size_bytes: int) -> bytes:
    """A request of exactly so many bytes."""
    request = gateway_pb2.GenerateRequest(messages=[types_pb2.Message(parts=[types_pb2.Part(text="x")])])
    fill = size_bytes - len(request.SerializeToString()) - 5
    request.idempotency_key = "k" * fill
    data = request.SerializeToString()
    return data[:-1] if len(data) == size_bytes + 1 else data


def test_row_4_the_cap_plus_one_byte(cluster: Cluster, channel: grpc.Channel) -> None:
    gateway = psutil.Process(pid_at(cluster.address))
    data = padded(CAP_BYTES + 1)
    assert len(data) == CAP_BYTES + 1
    before = gateway.memory_info().rss
    peak = before
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, channel, data)
        while not sending.done():
            peak = max(peak, gateway.memory_info().rss)
    refusal = sending.result()
    grown = (peak - before) / 2**20
    print(f"figure: row 4: {len(data)} bytes, the cap plus one: {refusal.code.name}, "
          f"memory + {grown:.0f} MiB (cap {CAP_BYTES / 2**20:.0f} MiB)")  # fmt: skip
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert grown <= CAP_BYTES / 2**20 + 8
    within = send(channel, padded(CAP_BYTES))
    assert within.code is grpc.StatusCode.INVALID_ARGUMENT, "the cap itself is let in, and then looked at"


# ---- rows 11 and 12 --------------------------------------------------------------------------------------


def test_row_11_text_that_cannot_be_read(
    cluster: Cluster, channel: grpc.Channel, base: gateway_pb2.GenerateRequest
) -> None:
    request = with_source(base, "inline", encoded(1))
    request.sampling.max_tokens = 1
    cases: dict[str, bytes] = {}
    for name, text in (("NUL", "a\x00b"), ("prompt beyond the context", "word " * 5_000)):
        request.messages[0].parts[0].text = text
        cases[name] = request.SerializeToString()
    request.messages[0].parts[0].text = "MARK"
    # What no Python string can be sent as: a lone surrogate, and bytes that are no UTF-8 at all.
    cases["lone surrogate"] = request.SerializeToString().replace(b"MARK", b"x\xed\xa0\x80")
    cases["no UTF-8"] = request.SerializeToString().replace(b"MARK", b"\xff\xfe\xff\xfe")
    took_ms = {}
    for name, data in cases.items():
        tries = [send(channel, data) for _ in range(7)]
        assert {refusal.code for refusal in tries} == {grpc.StatusCode.INVALID_ARGUMENT}, (name, tries[0].message)
        assert all(field.startswith("request") for refusal in tries for field in refusal.fields)
        assert tries[0].fields
        took_ms[name] = round(statistics.median(refusal.took_s for refusal in tries) * 1000, 1)
    print(f"figure: row 11: refused after (median, ms) {took_ms}")
    assert max(took_ms.values()) < 500.0


def test_row_12_metadata_and_names_beyond_reason(cluster: Cluster, channel: grpc.Channel, client: Client) -> None:
    good = gateway_pb2.GenerateRequest(messages=[types_pb2.Message(parts=[types_pb2.Part(text="x")])])
    good.sampling.max_tokens = 1
    data = good.SerializeToString()
    refusal = send(channel, data, metadata=(("x-flood", "y" * 65_536),))
    assert refusal.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL), refusal.message
    many = tuple((f"x-{number}", "y" * 100) for number in range(600))
    assert send(channel, data, metadata=many).code is not grpc.StatusCode.OK
    good.system = "nonsense"
    assert send(channel, good.SerializeToString()).code is grpc.StatusCode.NOT_FOUND
    assert send(channel, data, "/anyplex.v1.GatewayService/Nothing").code is grpc.StatusCode.UNIMPLEMENTED
    assert client.generate("still there?", max_tokens=1).usage.completion_tokens == 1
