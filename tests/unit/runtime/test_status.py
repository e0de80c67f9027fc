from __future__ import annotations

import pickle

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from anyplex import errors as client_errors
from anyplex.v1 import error_pb2
from graph import errors as e
from services.runtime.status import (
    DETAILS_KEY,
    STATUS,
    detail_of,
    error_from_rpc,
    rich_status,
    status_message,
    status_of,
)

CLASSES = sorted(e.ERRORS.values(), key=lambda cls: cls.code)
CLIENT_METADATA_BYTES = 8192


def failed(error: e.AnyplexError, request_id: str = "r") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((DETAILS_KEY, rich_status(error, request_id)))
    return grpc.aio.AioRpcError(status_of(error), grpc.aio.Metadata(), trailing, status_message(error))


def parsed(error: e.AnyplexError) -> error_pb2.RpcStatus:
    return error_pb2.RpcStatus.FromString(rich_status(error, "r"))


REFUSALS = (e.Unauthenticated, e.PermissionDenied)


@pytest.mark.parametrize("cls", REFUSALS)
def test_a_component_that_refuses_the_cluster_is_not_the_caller_s_fault(cls: type[e.AnyplexError]) -> None:
    assert type(error_from_rpc(failed(cls("no valid token")), "see")) is e.Internal


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in REFUSALS])
def test_every_error_survives_the_way_to_a_caller(cls: type[e.AnyplexError]) -> None:
    error = cls("what was wrong", "node think", 2.5)
    found = error_from_rpc(failed(error), "see")
    assert type(found) is cls
    assert found.retry_after_s == 2.5
    assert "what was wrong" in str(found)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_a_status_and_survives_pickling(cls: type[e.AnyplexError]) -> None:
    assert cls in STATUS
    error = cls("a", "b", 1.0)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again), again.retry_after_s) == (cls, "b: a", 1.0)


def test_the_client_knows_every_code() -> None:
    known = {cls.code for cls in vars(client_errors).values() if isinstance(cls, type) and hasattr(cls, "code")}
    assert {cls.code for cls in CLASSES} - {"invalid_spec"} <= known


def test_an_heir_gets_the_status_of_its_base() -> None:
    class Special(e.NotFound):
        pass

    assert status_of(Special("x")) is grpc.StatusCode.NOT_FOUND


def test_violations_survive_and_keep_their_places() -> None:
    violations = [e.Violation(f"request.messages[{n}]", f"wrong {n}") for n in range(3)]
    error = e.InvalidRequest("wrong 0; …", "request.messages[0]", 0.0, violations)
    detail = detail_of(error)
    assert [(v.field, v.description) for v in detail.field_violations] == [(v.field, v.description) for v in violations]
    found = error_from_rpc(failed(error))
    assert (found.where, found.message) == ("request.messages[0]", "wrong 0")
    bad = error_details_pb2.BadRequest()
    assert any(item.Unpack(bad) for item in parsed(error).details)
    assert [violation.field for violation in bad.field_violations] == [violation.field for violation in violations]


def test_nodes_are_named_as_nodes() -> None:
    detail = detail_of(e.Unavailable("gone", "node think", 1.0), "r")
    assert (detail.node, detail.request_id, detail.retryable) == ("think", "r", True)
    assert not detail_of(e.InvalidRequest("bad", "node think")).field_violations


def test_when_to_come_back_is_told_twice() -> None:
    retry = error_details_pb2.RetryInfo()
    assert any(item.Unpack(retry) for item in parsed(e.Exhausted("full", "", 1.5)).details)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1.5


@pytest.mark.parametrize("letter", ["x", "%", "é", "語", "\x7f", "\n", "\U0001f600"])
def test_statuses_fit_whatever_they_have_to_tell(letter: str) -> None:
    flood = [e.Violation(f"request.messages[{n}].{letter * 300}", letter * 3000) for n in range(20)]
    error = e.InvalidRequest(letter * 100_000, letter * 5000, 1.0, flood)
    line = len(status_message(error).encode()) * 3
    assert line + len(rich_status(error, "r" * 128)) * 4 / 3 < CLIENT_METADATA_BYTES
    assert error_from_rpc(failed(error)).where


def test_short_messages_are_told_whole() -> None:
    message = "größer als 16 × 16 pixels: " + "x" * 500
    assert status_message(e.InvalidRequest(message)) == message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, e.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, e.DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, e.Internal),
        (grpc.StatusCode.ABORTED, e.Internal),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, e.Exhausted),
        (grpc.StatusCode.CANCELLED, e.Cancelled),
    ],
)
def test_a_status_without_details_is_told_without_what_is_nobodys_business(
    code: grpc.StatusCode, expected: type[e.AnyplexError]
) -> None:
    words = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:50103: connection refused"
    bare = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), words)
    found = error_from_rpc(bare, "think")
    assert type(found) is expected
    if expected in (e.Unavailable, e.Internal, e.DeadlineExceeded):
        assert "10.0.0.7" not in str(found)
    assert found.where == "node think"


@pytest.mark.parametrize("details", [b"", b"\xff\xff\xff", b"\x08\x03"])
def test_details_that_nobody_can_read_are_left_aside(details: bytes) -> None:
    trailing = grpc.aio.Metadata((DETAILS_KEY, details))
    error = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailing, "no such thing")
    assert type(error_from_rpc(error)) is e.NotFound
