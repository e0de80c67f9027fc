"""What can go wrong, as a small tree; the codes are those of the server.

::

    AnyplexError
    ├── InvalidRequest          the request is wrong; ``violations`` name the fields
    ├── NotFound                no such system, medium, version
    ├── AlreadyExists           the name or key is taken by something else
    ├── Unauthenticated         no token, or one nobody issued
    ├── PermissionDenied        a valid token, for something else
    ├── Exhausted               a queue, quota or cap is full: try again after ``retry_after_s``
    ├── FailedPrecondition      right request, wrong state
    ├── DeadlineExceeded        ``deadline_s`` is over
    ├── Cancelled               the call was cancelled
    ├── Unavailable             nobody answers there, or whoever did has died
    ├── Unimplemented           the server does not do that
    └── Internal                the server's fault

A failed call carries an ``ErrorDetail`` in its rich status; where a proxy has lost it, the status code decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.message import DecodeError

from anyplex.v1 import error_pb2


@dataclass(frozen=True)
class Violation:
    """One wrong field: its path in the request, and what was expected."""

    field: str
    description: str


class AnyplexError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        message: One line for people.
        node: Path of the node that failed; empty when it was the gateway or this side of the wire.
        retry_after_s: How long to wait before the same request may succeed; 0 means unknown.
        retryable: Whether it may succeed later at all.
        violations: Wrong fields, where the request was at fault.
        request_id: Id to look the request up in the server's logs.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        node: str = "",
        retry_after_s: float = 0.0,
        retryable: bool = False,
        violations: tuple[Violation, ...] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(message, node, retry_after_s, retryable, violations, request_id)
        self.message = message
        self.node = node
        self.retry_after_s = retry_after_s
        self.retryable = retryable
        self.violations = violations
        self.request_id = request_id

    def __str__(self) -> str:
        return self.message


class InvalidRequest(AnyplexError):
    """The request is wrong; the message and ``violations`` name the fields."""

    code = "invalid_request"


class NotFound(AnyplexError):
    """No such system, medium or version."""

    code = "not_found"


class AlreadyExists(AnyplexError):
    """The name or idempotency key is taken by something else."""

    code = "already_exists"


class Unauthenticated(AnyplexError):
    """No token, or one that nobody issued."""

    code = "unauthenticated"


class PermissionDenied(AnyplexError):
    """A valid token for something else."""

    code = "permission_denied"


class Exhausted(AnyplexError):
    """A queue, quota or cap is full."""

    code = "exhausted"


class FailedPrecondition(AnyplexError):
    """The request is right, the state is not."""

    code = "failed_precondition"


class DeadlineExceeded(AnyplexError):
    """The time the caller gave is over."""

    code = "deadline_exceeded"


class Cancelled(AnyplexError):
    """The call was cancelled."""

    code = "cancelled"


class Unavailable(AnyplexError):
    """Nobody answers at the address, or whoever did has died."""

    code = "unavailable"


class Unimplemented(AnyplexError):
    """The server does not do that."""

    code = "unimplemented"


class Internal(AnyplexError):
    """The server's fault."""

    code = "internal"


_BY_CODE: Mapping[str, type[AnyplexError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest, NotFound, AlreadyExists, Unauthenticated, PermissionDenied, Exhausted, FailedPrecondition,
        DeadlineExceeded, Cancelled, Unavailable, Unimplemented, Internal,
    )
} | {"invalid_spec": InvalidRequest}  # fmt: skip

_BY_STATUS: dict[grpc.StatusCode, type[AnyplexError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}

_DETAILS_KEY = "grpc-status-details-bin"


def from_detail(detail: error_pb2.ErrorDetail) -> AnyplexError:
    """Return the error that the server describes."""
    cls = _BY_CODE.get(detail.code, Internal)
    return cls(
        detail.message or detail.code or "the server gave no reason",
        detail.node,
        detail.retry_after_s,
        detail.retryable,
        tuple(Violation(violation.field, violation.description) for violation in detail.field_violations),
        detail.request_id,
    )


def from_status(
    status: grpc.StatusCode, message: str, trailing: Iterable[tuple[str, str | bytes]], address: str
) -> AnyplexError:
    """Return the error of a failed call, from its rich status where there is one."""
    for key, value in trailing:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            detail = _find_detail(value)
            if detail is not None:
                return from_detail(detail)
    cls = _BY_STATUS.get(status, Internal)
    if cls is Unavailable:
        return Unavailable(f"{address} cannot be reached: {message or 'no answer'}", retryable=True)
    if cls is DeadlineExceeded:
        return DeadlineExceeded(f"{address} did not answer within the deadline", retryable=True)
    return cls(message or status.name.lower().replace("_", " "))


def from_call(error: grpc.RpcError, address: str) -> AnyplexError:
    """Return the error of a failed call of the sync or the async library."""
    trailing = getattr(error, "trailing_metadata", None)  # neither library declares it on RpcError itself
    if trailing is None:
        return Internal(str(error) or type(error).__name__)
    return from_status(error.code(), error.details() or "", _pairs(trailing()), address)


def _pairs(metadata: object) -> list[tuple[str, str | bytes]]:
    """Return metadata as pairs, whichever of gRPC's shapes it has."""
    if not isinstance(metadata, Iterable):
        return []
    return [(str(pair[0]), pair[1]) for pair in metadata if isinstance(pair, tuple) and len(pair) >= 2]


def _find_detail(packed: bytes) -> error_pb2.ErrorDetail | None:
    """Return the ErrorDetail in a packed google.rpc.Status, if it has one."""
    try:
        status = error_pb2.RpcStatus.FromString(packed)
        for item in status.details:
            detail = error_pb2.ErrorDetail()
            if item.Unpack(detail):
                return detail
    except DecodeError:
        return None  # a proxy's own details: the status code has to do
    return None
