"""One table: error class, gRPC status, HTTP status. And the way there and back through the rich status."""

from __future__ import annotations

from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from anyplex.v1 import error_pb2
from graph import errors as e

DETAILS_KEY = "grpc-status-details-bin"
# Clients refuse answers whose metadata is larger than 8 KiB: line, detail and BadRequest stay below that together.
MESSAGE_BYTES = 1_500
DETAIL_BYTES = 2_000
VIOLATION_CHARS = 200
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

STATUS: dict[type[e.AnyplexError], tuple[grpc.StatusCode, int]] = {
    e.InvalidRequest: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    e.SpecError: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    e.NotFound: (grpc.StatusCode.NOT_FOUND, 404),
    e.AlreadyExists: (grpc.StatusCode.ALREADY_EXISTS, 409),
    e.Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, 401),
    e.PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, 403),
    e.Exhausted: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    e.FailedPrecondition: (grpc.StatusCode.FAILED_PRECONDITION, 412),
    e.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    e.Cancelled: (grpc.StatusCode.CANCELLED, 499),
    e.Unavailable: (grpc.StatusCode.UNAVAILABLE, 503),
    e.Unimplemented: (grpc.StatusCode.UNIMPLEMENTED, 501),
    e.Internal: (grpc.StatusCode.INTERNAL, 500),
}
_BY_STATUS = {status: cls for cls, (status, _) in reversed(STATUS.items())} | {
    grpc.StatusCode.OUT_OF_RANGE: e.InvalidRequest
}


def status_of(error: e.AnyplexError) -> grpc.StatusCode:
    """Return the gRPC status of an error, by its class or the nearest base in the table."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls][0]
    return grpc.StatusCode.INTERNAL


def violations_of(error: e.AnyplexError) -> list[tuple[str, str]]:
    """Return the wrong fields an error names: (path, description)."""
    violations = getattr(error, "violations", ())
    if violations:
        return [(violation.field, violation.description) for violation in violations]
    if isinstance(error, e.InvalidRequest) and error.where and not error.where.startswith("node "):
        return [(error.where, error.message)]
    return []


def status_message(error: e.AnyplexError) -> str:
    """Return the line of a status: as much of the error's as still fits beside its details."""
    text = str(error)
    # gRPC escapes every byte that is not printable ASCII as three.
    while len(quote(text, safe=_PRINTABLE)) > MESSAGE_BYTES:
        text = text[: len(text) * 3 // 4] + "…"
    return text


def detail_of(error: e.AnyplexError, request_id: str = "") -> error_pb2.ErrorDetail:
    """Return the detail that travels with an error."""
    node = error.where.removeprefix("node ") if error.where.startswith("node ") else ""
    detail = error_pb2.ErrorDetail(
        code=error.code,
        message=status_message(error),
        node=node,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        request_id=request_id,
    )
    for field, description in violations_of(error):
        violation = error_pb2.FieldViolation(field=field[:VIOLATION_CHARS], description=description[:VIOLATION_CHARS])
        if detail.field_violations and detail.ByteSize() + violation.ByteSize() > DETAIL_BYTES:
            break
        detail.field_violations.append(violation)
    return detail


def rich_status(error: e.AnyplexError, request_id: str = "") -> bytes:
    """Return ``grpc-status-details-bin`` for an error: ErrorDetail, RetryInfo, BadRequest."""
    code: int = status_of(error).value[0]
    told = detail_of(error, request_id)
    # The line itself stands in the status and in the detail: a third copy here would only take room.
    rich = error_pb2.RpcStatus(code=code, message=told.message[:VIOLATION_CHARS])
    detail = any_pb2.Any()
    detail.Pack(told)
    rich.details.append(detail)
    if error.retry_after_s > 0:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(int(error.retry_after_s * 1e6))
        retry = any_pb2.Any()
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        rich.details.append(retry)
    if told.field_violations:
        bad = error_details_pb2.BadRequest()
        for violation in told.field_violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        packed = any_pb2.Any()
        packed.Pack(bad)
        rich.details.append(packed)
    return rich.SerializeToString()


def error_from_rpc(error: grpc.aio.AioRpcError, node: str = "") -> e.AnyplexError:
    """Turn a failed call to a component into the project's error, its place being the node unless it names one."""
    where = f"node {node}" if node else ""
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        # It is the cluster's token that was refused, not the caller's.
        return e.Internal("the component does not take this cluster's token", where)
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            parsed = _from_details(value, where)
            if parsed is not None:
                return parsed
    cls = _BY_STATUS.get(error.code(), e.Internal)
    if cls is e.Unavailable:
        return e.Unavailable("the replica that served it is gone", where, 1.0)
    if cls is e.DeadlineExceeded:
        return e.DeadlineExceeded("the deadline passed", where)
    if cls is e.Internal:
        return e.Internal("the component failed", where)
    return cls(error.details() or error.code().name.lower().replace("_", " "), where)


def _from_details(data: bytes, where: str) -> e.AnyplexError | None:
    detail = error_pb2.ErrorDetail()
    try:
        rich = error_pb2.RpcStatus.FromString(data)
        found = [item.Unpack(detail) for item in rich.details if item.Is(detail.DESCRIPTOR)]  # type: ignore[arg-type]
    except DecodeError:
        return None
    if any(found):
        cls = e.ERRORS.get(detail.code, e.Internal)
        if detail.field_violations:
            first = detail.field_violations[0]
            return cls(first.description, first.field, detail.retry_after_s)
        return cls(detail.message, where, detail.retry_after_s)
    return None
