"""The executor's port to components in this process: the contract without the wire.

For tests, notebooks and offline use: the same handlers run, nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from graph.caller import Call
from graph.errors import DeadlineExceeded, NotFound, Unimplemented
from services.runtime.component import Component
from services.runtime.contract_caller import ContractCaller, Method, metadata_for, time_left_s


class _Handlers:
    """Takes what ``add_to`` adds to a server."""

    def __init__(self) -> None:
        self.by_path: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Generic handlers are the same methods again."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Keep the methods of a service."""
        self.by_path.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


class LocalContext:
    """What a handler may ask about a call that never was on a wire.

    Args:
        metadata: What travels beside the call.
        deadline_s: ``time.monotonic()`` at which it ends.
    """

    def __init__(self, metadata: Sequence[tuple[str, str]], deadline_s: float) -> None:
        self._metadata = tuple(metadata)
        self._deadline_s = deadline_s

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what travels beside the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None when there is none."""
        return None if self._deadline_s == float("inf") else max(0.0, self._deadline_s - time.monotonic())

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Nobody reads it: errors come as they are raised."""

    def add_done_callback(self, callback: Any) -> None:  # noqa: ANN401
        """A call ends when its handler does."""

    def cancelled(self) -> bool:
        """A call that was given up has its task cancelled."""
        return False


class LocalCaller(ContractCaller):
    """Calls components in this process.

    Args:
        components: Started components by id.
    """

    def __init__(self, components: Mapping[str, Component]) -> None:
        self._components = dict(components)
        self._handlers: dict[str, dict[str, Any]] = {}
        for name, component in components.items():
            handlers = _Handlers()
            server: Any = handlers
            component.add_to(server)
            self._handlers[name] = handlers.by_path

    async def release(self, request_id: str) -> None:
        """End the leases of a request at every component."""
        for component in self._components.values():
            component.context.tensors.release(request_id)

    async def _unary(self, call: Call, method: Method, request: Any) -> Any:  # noqa: ANN401
        handler = self._handler(call, method)
        try:
            async with asyncio.timeout(time_left_s(call)):
                return await handler.unary_unary(request, self._context(call))
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed", f"node {call.node}") from error

    async def _stream(self, call: Call, method: Method, request: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401
        handler = self._handler(call, method)
        try:
            async with (
                asyncio.timeout(time_left_s(call)),
                contextlib.aclosing(handler.unary_stream(request, self._context(call))) as stream,
            ):
                async for event in stream:
                    yield event
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed", f"node {call.node}") from error

    def _handler(self, call: Call, method: Method) -> Any:  # noqa: ANN401
        if call.component not in self._handlers:
            raise NotFound(f"no component {call.component} in this process", f"node {call.node}")
        handler = self._handlers[call.component].get(method.path)
        if handler is None:
            raise Unimplemented(f"{call.component} has no method {method.name}", f"node {call.node}")
        return handler

    def _context(self, call: Call) -> LocalContext:
        return LocalContext(metadata_for(call), call.deadline_s)
