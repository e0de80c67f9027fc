"""Rows 1 to 4, 8, 11 and 12: what callers may send, refused before it costs anything."""

from __future__ import annotations

import io
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image as PillowImage

from anyplex import Client, Image
from anyplex.v1 import error_pb2, gateway_pb2, media_pb2, types_pb2
from services.gateway.server import MAX_INLINE_MEDIA, MESSAGE_SLACK_BYTES
from services.runtime.status import DETAILS_KEY
from tests import statuses
from tests.cluster import Cluster, pid_at
from tests.fault.bad_requests import spoiled, whole, with_media_parameters, with_source
from tests.pictures import encoded

pytestmark = pytest.mark.cluster

GENERATE = "/anyplex.v1.GatewayService/Generate"
CAP_BYTES = MAX_INLINE_MEDIA * 4 * 2**20 + MESSAGE_SLACK_BYTES
SENDABLE = [("grpc.max_send_message_length", -1)]


class Refusal:
    """How a call ended."""

    def __init__(self, error: grpc.RpcError | None, took_s: float) -> None:
        self.code = error.code() if error is not None else grpc.StatusCode.OK  # type: ignore[attr-defined]
        self.message: str = (error.details() or "") if error is not None else ""  # type: ignore[attr-defined]
        self.took_s = took_s
        self.fields: list[str] = []
        for key, value in (error.trailing_metadata() or ()) if error is not None else ():  # type: ignore[attr-defined]
            if key == DETAILS_KEY:
                detail = error_pb2.ErrorDetail()
                error_pb2.RpcStatus.FromString(value).details[0].Unpack(detail)
                self.fields = [violation.field for violation in detail.field_violations]
        statuses.note(self.code, self.message)


@pytest.fixture(scope="module")
def channel(cluster: Cluster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(cluster.address, SENDABLE) as channel:
        yield channel


def send(channel: grpc.Channel, data: bytes, path: str = GENERATE, timeout_s: float = 60.0, **rest: Any) -> Refusal:
    """Send any bytes at all; read the answer to its end."""
    begun_s = time.perf_counter()
    try:
        for _ in channel.unary_stream(path, bytes, bytes)(data, timeout=timeout_s, **rest):
            pass
    except grpc.RpcError as error:
        return Refusal(error, time.perf_counter() - begun_s)
    return Refusal(None, time.perf_counter() - begun_s)


def finished(cluster: Cluster) -> dict[str, int]:
    """How many calls every component has answered; those that it refused are not among them."""
    counts: dict[str, int] = {}
    for replica in cluster.state.replicas:
        stats = cluster.stats(replica.address)
        counts[replica.component] = stats.finished + stats.running
    return counts


@pytest.fixture(scope="module")
def live(cluster: Cluster) -> dict[str, str]:
    with cluster.client() as client:
        systems = {system.name: system for system in client.systems()}
    return dict(systems["next-gpt"].versions)


@pytest.fixture(scope="module")
def base(live: dict[str, str]) -> gateway_pb2.GenerateRequest:
    return whole(live)


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
    parameters = [found for found in spoiled(with_media_parameters(good)) if found[0].startswith("media_parameters")]
    for path, request in [*spoiled(good), *parameters]:
        refusal = send(channel, request.SerializeToString())
        total += 1
        paths.add(path)
        if refusal.code is not grpc.StatusCode.INVALID_ARGUMENT or not _names(refusal.fields, path):
            wrong.append(f"{path}: {refusal.code.name} {refusal.fields} {refusal.message[:200]}")
    print(f"figure: row 2: {total - len(wrong)} of {total} wrong requests ({len(paths)} fields, picture as {source}) "
          f"refused with INVALID_ARGUMENT and the field's path")  # fmt: skip
    print("\n".join(wrong))
    assert wrong == []
    assert finished(cluster) == before, "no model may have run"


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
    assert finished(cluster) == before, "no model may have run"
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


# ---- row 8 -----------------------------------------------------------------------------------------------


def strange_pictures() -> dict[str, bytes]:
    """Pictures that are small, odd, damaged, or none."""
    rng = random.Random(8)
    found: dict[str, bytes] = {}
    for mode, form in (
        ("RGB", "PNG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"),
        ("L", "JPEG"), ("RGB", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP"), ("CMYK", "TIFF"), ("P", "GIF"),
        ("YCbCr", "JPEG"),
    ):  # fmt: skip
        for size in (1, 2, 7, 64):
            found[f"{size}×{size} {mode} {form}"] = encoded(size, size, form, mode)
    deep = PillowImage.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    for name, picture in (("16-bit", deep), ("32-bit", deep.convert("I")), ("float", deep.convert("F"))):
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF" if name != "16-bit" else "PNG")
        found[f"{name} gray"] = buffer.getvalue()
    for shape in ((1, 4000), (4000, 1)):
        buffer = io.BytesIO()
        PillowImage.new("RGB", shape).save(buffer, "PNG")
        found[f"{shape[0]}×{shape[1]}"] = buffer.getvalue()
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        data = encoded(3, 64, form)
        for share in (0.02, 0.2, 0.5, 0.9, 0.99):
            found[f"{form} cut at {share:.0%}"] = data[: max(1, int(len(data) * share))]
        for number in range(6):
            damaged = bytearray(data)
            for _ in range(1 + number):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            found[f"{form} damaged {number}"] = bytes(damaged)
    for size in (1, 8, 1000):
        found[f"{size} random bytes"] = rng.randbytes(size)
    found["text"] = b"this is no picture"
    found["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    return found


def test_row_8_strange_pictures(cluster: Cluster, channel: grpc.Channel, base: gateway_pb2.GenerateRequest) -> None:
    codes: Counter[str] = Counter()
    wrong = []
    for name, data in strange_pictures().items():
        request = with_source(base, "inline", data)
        request.messages[0].parts[1].media.mime_type = ""
        refusal = send(channel, request.SerializeToString())
        codes[refusal.code.name] += 1
        if refusal.code not in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT):
            wrong.append(f"{name}: {refusal.code.name} {refusal.message}")
        elif refusal.code is grpc.StatusCode.INVALID_ARGUMENT:
            assert "request.messages[0].parts[1].image" in refusal.fields, (name, refusal.fields, refusal.message)
    print(f"figure: row 8: {sum(codes.values())} pictures: {dict(codes)}")
    assert wrong == []
    assert codes["OK"] >= 30


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


# ---- row 1 -----------------------------------------------------------------------------------------------

MUTANTS = 10_000
CLEAN = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.UNIMPLEMENTED,
}  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, drop or double some bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at : at + rng.randrange(1, 8)]
            case _:
                changed[at:at] = changed[at : at + rng.randrange(1, 8)]
        if not changed:
            changed = bytearray(b"\x00")
    return bytes(changed)


def test_row_1_mutated_messages(cluster: Cluster, channel: grpc.Channel, base: gateway_pb2.GenerateRequest) -> None:
    # Answers to those that are still good messages are kept short, so that time goes into reading, not into models.
    request = with_source(base, "inline", encoded(1, 8))
    request.sampling.max_tokens = 1
    request.sampling.n = 1
    sources = [request.SerializeToString(), with_source(base, "features", b"").SerializeToString()]
    pids = {replica.address: pid_at(replica.address) for replica in cluster.state.replicas}
    pids[cluster.address] = pid_at(cluster.address)

    def one(number: int) -> Refusal:
        rng = random.Random(number)
        return send(channel, mutated(rng.choice(sources), rng), timeout_s=30.0)

    with ThreadPoolExecutor(16) as pool:
        refusals = list(pool.map(one, range(MUTANTS)))
    codes = Counter(refusal.code.name for refusal in refusals)
    print(f"figure: row 1: {MUTANTS} mutated messages: {dict(codes)}, 0 restarts")
    assert {refusal.code for refusal in refusals} <= CLEAN, [
        refusal.message for refusal in refusals if refusal.code not in CLEAN
    ][:5]
    assert {address: pid_at(address) for address in pids} == pids


def test_pictures_beside_strange_ones_are_answered(client: Client) -> None:
    assert client.generate(["what is this?", Image(encoded(1))], max_tokens=2).usage.media_tokens > 0
