"""One table: error class, gRPC status, HTTP status. And the way there and back through the rich status."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2

from anyplex.v1 import error_pb2
from graph import errors as e

DETAILS_KEY = "grpc-status-details-bin"

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
    if isinstance(error, e.InvalidRequest) and error.where:
        return [(error.where, error.message)]
    return []


def detail_of(error: e.AnyplexError, request_id: str = "") -> error_pb2.ErrorDetail:
    """Return the detail that travels with an error."""
    node = error.where.removeprefix("node ") if error.where.startswith("node ") else ""
    detail = error_pb2.ErrorDetail(
        code=error.code,
        message=str(error),
        node=node,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        request_id=request_id,
    )
    for field, description in violations_of(error):
        detail.field_violations.append(error_pb2.FieldViolation(field=field, description=description))
    return detail


def rich_status(error: e.AnyplexError, request_id: str = "") -> bytes:
    """Return ``grpc-status-details-bin`` for an error: ErrorDetail, RetryInfo, BadRequest."""
    code: int = status_of(error).value[0]
    rich = error_pb2.RpcStatus(code=code, message=str(error))
    detail = any_pb2.Any()
    detail.Pack(detail_of(error, request_id))
    rich.details.append(detail)
    if error.retry_after_s > 0:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(int(error.retry_after_s * 1e6))
        retry = any_pb2.Any()
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        rich.details.append(retry)
    violations = violations_of(error)
    if violations:
        bad = error_details_pb2.BadRequest()
        for field, description in violations:
            bad.field_violations.add(field=field, description=description)
        packed = any_pb2.Any()
        packed.Pack(bad)
        rich.details.append(packed)
    return rich.SerializeToString()


def error_from_rpc(error: grpc.aio.AioRpcError, node: str = "") -> e.AnyplexError:
    """Turn a failed call to a component into the project's error, its place being the node unless it names one."""
    where = f"node {node}" if node else ""
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
    rich = error_pb2.RpcStatus()
    try:
        rich.ParseFromString(data)
    except ValueError:
        return None
    for item in rich.details:
        detail = error_pb2.ErrorDetail()
        if not item.Is(detail.DESCRIPTOR):  # type: ignore[arg-type]
            continue
        item.Unpack(detail)
        cls = e.ERRORS.get(detail.code, e.Internal)
        if detail.field_violations:
            first = detail.field_violations[0]
            return cls(first.description, first.field, detail.retry_after_s)
        return cls(detail.message, where, detail.retry_after_s)
    return None
