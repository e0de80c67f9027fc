"""Exit codes: one a kind of failure, so that scripts can tell them apart."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the exit code of ``anyplex`` says."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INVALID = 3
    UNAVAILABLE = 4
    NOT_FOUND = 5
    EXHAUSTED = 6
    DEADLINE = 7
    DENIED = 8
    STATE = 9
    SHORT = 10
    INTERRUPTED = 130
    BROKEN_PIPE = 141


_BY_CODE = {
    "invalid_request": Exit.INVALID,
    "invalid_spec": Exit.INVALID,
    "not_found": Exit.NOT_FOUND,
    "already_exists": Exit.STATE,
    "unauthenticated": Exit.DENIED,
    "permission_denied": Exit.DENIED,
    "exhausted": Exit.EXHAUSTED,
    "failed_precondition": Exit.STATE,
    "unimplemented": Exit.STATE,
    "deadline_exceeded": Exit.DEADLINE,
    "cancelled": Exit.INTERRUPTED,
    "unavailable": Exit.UNAVAILABLE,
    "internal": Exit.INTERNAL,
}


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error: of the server's tree, of the client's, or a stranger."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    return _BY_CODE.get(str(getattr(error, "code", "")), Exit.INTERNAL)
