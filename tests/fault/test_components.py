"""Row 10, and row 2 at the doors of components: tensors that lie, fields out of range. Nothing is ever unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from anyplex.v1 import (
    backbone_pb2,
    backbone_pb2_grpc,
    component_pb2,
    component_pb2_grpc,
    encoder_pb2,
    encoder_pb2_grpc,
    input_projector_pb2,
    input_projector_pb2_grpc,
    types_pb2,
)
from tests import statuses
from tests.cluster import Cluster, pid_at
from tests.fakes import tiny
from tests.fault.wire import processes
from tests.pictures import encoded

pytestmark = pytest.mark.cluster

WIDTH = tiny.FEATURE_WIDTH
FLOAT32 = types_pb2.DATA_TYPE_FLOAT32
PICKLE = "a pickle of the right size"


class Bomb:
    """What would leave a trace if anybody unpickled it."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.trace, "w"))


def tensor(**changed: Any) -> types_pb2.Tensor:
    """A good tensor of features, unless told otherwise."""
    given: dict[str, Any] = {"dtype": FLOAT32, "shape": [16, WIDTH], "inline": bytes(16 * WIDTH * 4), **changed}
    if "ref" in given:
        given.pop("inline")
    return types_pb2.Tensor(**given)


def lying_tensors(trace: str) -> dict[str, types_pb2.Tensor]:
    """Tensors whose shape, type and bytes disagree, and worse."""
    nan = b"\x00\x00\xc0\x7f"
    loopback = {"address": "127.0.0.1:1", "tensor_id": "t", "lease_id": "l"}
    return {
        "a byte short": tensor(inline=bytes(16 * WIDTH * 4 - 1)),
        "a byte long": tensor(inline=bytes(16 * WIDTH * 4 + 1)),
        "no bytes": types_pb2.Tensor(dtype=FLOAT32, shape=[16, WIDTH]),
        "no type": tensor(dtype=0),
        "unknown type": tensor(dtype=99),
        "of integers": tensor(dtype=types_pb2.DATA_TYPE_INT32),
        "negative shape": tensor(shape=[-16, -WIDTH]),
        "huge shape": tensor(shape=[2**40, 2**40]),
        "shape that overflows": tensor(shape=[2**62, 4, WIDTH]),
        "many axes": tensor(shape=[1] * 200 + [16, WIDTH]),
        "a scalar": tensor(shape=[], inline=bytes(4)),
        "no vectors": tensor(shape=[0, WIDTH], inline=b""),
        "another width": tensor(shape=[WIDTH, 16]),
        "names for other axes": tensor(dims=["a", "b", "c"]),
        "NaN": tensor(inline=nan * 16 * WIDTH),
        PICKLE: tensor(inline=pickle.dumps(Bomb(trace)).ljust(16 * WIDTH * 4, b".")),
        "a pickle alone": tensor(inline=pickle.dumps(Bomb(trace))),
        "a reference of another size": tensor(ref=types_pb2.TensorRef(size_bytes=7, **loopback)),
        "a huge reference": tensor(shape=[2**40], ref=types_pb2.TensorRef(size_bytes=2**42, **loopback)),
    }


@pytest.fixture(scope="module")
def channels(cluster: Cluster) -> Iterator[dict[str, grpc.Channel]]:
    opened = {
        node: grpc.insecure_channel(cluster.address_of(f"next-gpt.{node}")) for node in ("see", "see_in", "think")
    }
    yield opened
    for channel in opened.values():
        channel.close()


def code_of(cluster: Cluster, method: Any, request: Any) -> grpc.StatusCode:
    """How a call ends."""
    try:
        reply = method(request, metadata=cluster.metadata, timeout=60)
        if hasattr(reply, "__iter__"):
            list(reply)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
        statuses.note(code, error.details())  # type: ignore[attr-defined]
        return code
    return grpc.StatusCode.OK


def test_row_10_tensors_that_lie(cluster: Cluster, channels: dict[str, grpc.Channel], tmp_path: Any) -> None:
    trace = tmp_path / "unpickled"
    project = input_projector_pb2_grpc.InputProjectorServiceStub(channels["see_in"]).Project
    decode = backbone_pb2_grpc.BackboneServiceStub(channels["think"]).Decode
    pids = processes(cluster)
    wrong, total = [], 0
    for name, lie in lying_tensors(str(trace)).items():
        projected = input_projector_pb2.ProjectRequest(items=[encoder_pb2.Features(tensor=lie)])
        segment = types_pb2.Segment(embeddings=lie)
        turn = backbone_pb2.Turn(role=types_pb2.ROLE_USER, segments=[segment])
        decoded = backbone_pb2.DecodeRequest(turns=[turn], sampling=types_pb2.Sampling(max_tokens=1))
        decoded.version.version = next(
            version for version in cluster.replicas(cluster.component("next-gpt.think"))[0].versions
            if version in _plain_versions(cluster)
        )  # fmt: skip
        for method, request in ((project, projected), (decode, decoded)):
            total += 1
            code = code_of(cluster, method, request)
            # Of the right size it is as good as any numbers; what matters is that nobody unpickles it.
            if code is not grpc.StatusCode.INVALID_ARGUMENT and name != PICKLE:
                wrong.append(f"{name} at {type(request).__name__}: {code.name}")
    print(f"figure: row 10: {total - len(wrong)} of {total} refused, nothing unpickled")
    assert wrong == []
    assert not trace.exists()
    assert {address: pid_at(address) for address in pids} == pids


def _plain_versions(cluster: Cluster) -> set[str]:
    """Versions of the backbone that are no adapters."""
    with grpc.insecure_channel(cluster.address_of("next-gpt.think")) as channel:
        stub = component_pb2_grpc.ComponentServiceStub(channel)
        card = stub.Describe(component_pb2.DescribeRequest(), metadata=cluster.metadata, timeout=20).card
    return {held.version for held in card.versions if not held.adapter}


def test_good_tensors_pass(cluster: Cluster, channels: dict[str, grpc.Channel]) -> None:
    project = input_projector_pb2_grpc.InputProjectorServiceStub(channels["see_in"]).Project
    request = input_projector_pb2.ProjectRequest(items=[encoder_pb2.Features(tensor=tensor())])
    assert code_of(cluster, project, request) is grpc.StatusCode.OK


def test_a_tensor_of_a_producer_that_is_not_there_is_unavailable(
    cluster: Cluster, channels: dict[str, grpc.Channel]
) -> None:
    project = input_projector_pb2_grpc.InputProjectorServiceStub(channels["see_in"]).Project
    ref = types_pb2.TensorRef(address="127.0.0.1:1", tensor_id="t", lease_id="l", size_bytes=16 * WIDTH * 4)
    request = input_projector_pb2.ProjectRequest(items=[encoder_pb2.Features(tensor=tensor(ref=ref))])
    assert code_of(cluster, project, request) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "change",
    [
        {"items": []},
        {"items": [types_pb2.Media(modality="audio", inline=b"x")]},
        {"items": [types_pb2.Media(modality="image")]},
        {"items": [types_pb2.Media(modality="image", handle="h")]},
        {"items": [types_pb2.Media(modality="image", inline=b"x")] * 257},
        {"frames": -1},
        {"frames": 2**31 - 1},
        {"window_adapters": [encoder_pb2.WindowAdapters(indices=[1])]},
    ],
)
def test_encoders_refuse(cluster: Cluster, channels: dict[str, grpc.Channel], change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"items": [types_pb2.Media(modality="image", inline=encoded())]}
    encode = encoder_pb2_grpc.EncoderServiceStub(channels["see"]).Encode
    code = code_of(cluster, encode, encoder_pb2.EncodeRequest(**{**good, **change}))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("version", ["0" * 20, "x", "../../etc/passwd", "\x00"])
def test_versions_that_are_not_loaded_are_refused(
    cluster: Cluster, channels: dict[str, grpc.Channel], version: str
) -> None:
    encode = encoder_pb2_grpc.EncoderServiceStub(channels["see"]).Encode
    request = encoder_pb2.EncodeRequest(items=[types_pb2.Media(modality="image", inline=encoded())])
    request.version.version = version
    assert code_of(cluster, encode, request) is grpc.StatusCode.FAILED_PRECONDITION
