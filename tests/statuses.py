"""Collects every status message that servers send to the tests, so that one of them can read them all."""

from __future__ import annotations

import re
from typing import Any

import grpc
import grpc.aio
from grpc.aio import _call as grpc_call

from anyplex import errors as client_errors
from services.runtime.status import DETAILS_KEY

SEEN: dict[str, str] = {}
"""Message to the code it came with."""

# What gRPC says on its own side of the wire, of connections and of time, is no server's message.
LOCAL = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

SECRETS = {
    "a path": re.compile(r"(?<![\w.:/])/(?:[\w.-]+/)+[\w.-]+|\b[\w-]+\.(?:py|pyx|so|yaml|json|safetensors)\b"),
    "an address": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\blocalhost\b|\[?::1\]?|ipv[46]:"),
    "a process": re.compile(r"\bpid\b|\bprocess \d+|\bactor\b.*\b[0-9a-f]{16,}", re.IGNORECASE),
    "a traceback": re.compile(
        r"Traceback|\bFile \"|, line \d+|object at 0x|<class |\b[A-Z]\w+(?:Error|Exception)\b|\bcygrpc\b|\bray::"
    ),
}


def note(code: object, message: str | None) -> None:
    """Remember a message."""
    if message:
        SEEN.setdefault(message, str(code))


def leaks(message: str) -> list[str]:
    """Return what a message tells that is nobody's business."""
    return [what for what, pattern in SECRETS.items() if pattern.search(message)]


def watch() -> None:
    """Look at every status from now on."""
    calls: Any = grpc_call
    make_rpc_error = calls._create_rpc_error
    make_error = client_errors.AnyplexError.__init__

    def noting_rpc_error(*arguments: Any) -> Any:
        error = make_rpc_error(*arguments)
        from_server = any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
        if from_server or error.code() not in LOCAL:
            note(error.code(), error.details())
        return error

    def noting_error(self: client_errors.AnyplexError, *arguments: Any, **named: Any) -> None:
        make_error(self, *arguments, **named)
        if self.request_id:
            note(self.code, self.message)

    # Where calls make them: errors that tests make by hand are no server's.
    calls._create_rpc_error = noting_rpc_error
    client_errors.AnyplexError.__init__ = noting_error  # type: ignore[method-assign]
