"""The error tree.

::

    AnyplexError
    ├── InvalidRequest          the caller's input is wrong (names the field)
    │   └── SpecError           a YAML file is wrong (carries every problem at once)
    ├── NotFound                no such system, medium, version
    ├── AlreadyExists           the name or key is taken by something else
    ├── Unauthenticated         no token, or one nobody issued
    ├── PermissionDenied        a valid token, for something else
    ├── Exhausted               a queue, quota or cap is full: come back after ``retry_after_s``
    ├── FailedPrecondition      right request, wrong state (card mismatch, version not loaded, damaged artifact)
    ├── DeadlineExceeded        the time the caller gave is over
    ├── Cancelled               the caller went away
    ├── Unavailable             the replica died or cannot be reached
    ├── Unimplemented           the component does not do that
    └── Internal                our fault

Arguments go positionally to ``super().__init__`` so that errors survive pickling. The table of status codes
lives in ``services.runtime.status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class AnyplexError(Exception):
    """Base of all errors this project raises on purpose.

    Args:
        message: What was wrong, what was expected.
        where: Path of the field (``request.messages[0].parts[2].image``) or of the node (``node think``).
        retry_after_s: How long the caller should wait before trying again; 0 means unknown or useless.
    """

    code = "internal"
    retryable = False

    def __init__(self, message: str, where: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, where, retry_after_s)
        self.message = message
        self.where = where
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def at(self, where: str) -> AnyplexError:
        """Return the same error with its place filled in, if it had none."""
        return self if self.where else type(self)(self.message, where, *self.args[2:])


@dataclass(frozen=True)
class Violation:
    """One wrong field: its path, and what was expected."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class InvalidRequest(AnyplexError):
    """The caller's input is wrong; ``where`` names the field, ``violations`` all of them if there are several."""

    code = "invalid_request"

    def __init__(
        self, message: str, where: str = "", retry_after_s: float = 0.0, violations: Sequence[Violation] = ()
    ) -> None:
        super().__init__(message, where, retry_after_s)
        self.args = (message, where, retry_after_s, tuple(violations))
        self.violations = tuple(violations)


class SpecError(InvalidRequest):
    """A system or profile file is wrong; ``problems`` lists everything found, one line each."""

    code = "invalid_spec"

    def __init__(self, message: str, where: str = "", retry_after_s: float = 0.0, problems: Sequence[str] = ()) -> None:
        super().__init__(message, where, retry_after_s)
        self.args = (message, where, retry_after_s, tuple(problems))
        self.problems = tuple(problems)


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
    retryable = True


class FailedPrecondition(AnyplexError):
    """The request is right, the state is not."""

    code = "failed_precondition"


class DeadlineExceeded(AnyplexError):
    """The time the caller gave is over."""

    code = "deadline_exceeded"


class Cancelled(AnyplexError):
    """The caller went away."""

    code = "cancelled"


class Unavailable(AnyplexError):
    """The replica died or cannot be reached."""

    code = "unavailable"
    retryable = True


class Unimplemented(AnyplexError):
    """The component does not do that."""

    code = "unimplemented"


class Internal(AnyplexError):
    """Our fault."""

    code = "internal"


ERRORS: dict[str, type[AnyplexError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest, SpecError, NotFound, AlreadyExists, Unauthenticated, PermissionDenied, Exhausted,
        FailedPrecondition, DeadlineExceeded, Cancelled, Unavailable, Unimplemented, Internal,
    )
}  # fmt: skip
