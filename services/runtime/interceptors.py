"""What surrounds every method of every server: request id and trace, token, errors, metrics.

Order, outermost first: ``ErrorInterceptor`` (turns exceptions into rich statuses), ``TokenInterceptor``,
``RequestInterceptor`` (request id, span, counters).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from graph.errors import AnyplexError, Internal, PermissionDenied, Unauthenticated
from services.runtime.status import DETAILS_KEY, rich_status, status_of
from services.runtime.telemetry import Metrics, Tracing, request_id_var

logger = logging.getLogger("anyplex.rpc")

REQUEST_ID = "x-request-id"
NODE = "x-anyplex-node"
TRACE_PARENT = "traceparent"
AUTHORIZATION = "authorization"
OPEN_SERVICES = ("/grpc.health.v1.Health/",)
CONTROL_METHODS = (
    "/anyplex.v1.ComponentService/LoadVersion",
    "/anyplex.v1.ComponentService/UnloadVersion",
    "/anyplex.v1.ControlService/",
    "/anyplex.v1.TrainingService/",
)
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

Context = grpc.aio.ServicerContext[Any, Any]
Call = Callable[[Any, Context], Any]


def metadata_of(context: Context, key: str) -> str:
    """Return one value of a call's metadata, "" when it is absent."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
    return ""


def request_id_of(context: Context) -> str:
    """Return the id of the request a call belongs to; made up when the caller gave none, or a strange one."""
    given = metadata_of(context, REQUEST_ID)
    return given if _PLAIN_ID.fullmatch(given) else request_id_var.get() or uuid.uuid4().hex


class _Wrapper(grpc.aio.ServerInterceptor):
    """Wraps a method, whatever its shape, in ``around``."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the type grpc declares is narrower than what it takes
        """Return the handler of a method, wrapped."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        make = _MAKERS[handler.request_streaming, handler.response_streaming]
        inner = _inner(handler)
        return make(
            wrap(method, inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrap_unary(self, method: str, inner: Call) -> Call:
        async def call(request: object, context: Context) -> object:
            async with self.around(method, context):
                return await inner(request, context)

        return call

    def _wrap_stream(self, method: str, inner: Call) -> Call:
        async def call(request: object, context: Context) -> AsyncIterator[object]:
            async with self.around(method, context):
                stream = inner(request, context)
                try:
                    async for item in stream:
                        yield item
                finally:
                    if hasattr(stream, "aclose"):
                        await stream.aclose()

        return call

    def around(self, method: str, context: Context) -> Any:  # noqa: ANN401 - an async context manager
        """Return the async context manager a call runs in."""
        raise NotImplementedError


_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _inner(handler: Any) -> Call:  # noqa: ANN401
    inner: Call = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return inner


class _Errors:
    def __init__(self, method: str, context: Context) -> None:
        self.method, self.context = method, context

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
            return False
        if isinstance(error, grpc.aio.AbortError):
            return False
        if isinstance(error, BaseExceptionGroup):
            error = _first_of(error)
        if not isinstance(error, AnyplexError):
            if not isinstance(error, Exception):
                return False
            logger.error("unhandled error in %s", self.method, exc_info=error)
            error = Internal("internal error; the server's log has the request id")
        request_id = request_id_of(self.context)
        self.context.set_trailing_metadata(((DETAILS_KEY, rich_status(error, request_id)),))
        await self.context.abort(status_of(error), str(error)[:2000])


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the project's own error of a group if it has one, else the first."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop(0)
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, AnyplexError)), leaves[0])


class ErrorInterceptor(_Wrapper):
    """Turns exceptions into gRPC statuses with details. What nobody foresaw becomes INTERNAL, its trace a log entry."""

    def around(self, method: str, context: Context) -> _Errors:
        """Run a call."""
        return _Errors(method, context)


class _Tokens:
    def __init__(self, owner: TokenInterceptor, method: str, context: Context) -> None:
        self.owner, self.method, self.context = owner, method, context

    async def __aenter__(self) -> None:
        self.owner.check(self.method, metadata_of(self.context, AUTHORIZATION))

    async def __aexit__(self, *_: object) -> bool:
        return False


class TokenInterceptor(_Wrapper):
    """Asks for a token: the data token, or for methods that change what runs the control token.

    Args:
        data_tokens: Any of them opens data methods; none means they are open.
        control_token: Opens control methods; "" means the data tokens do.
    """

    def __init__(self, data_tokens: Sequence[str], control_token: str = "") -> None:
        self.data_tokens = tuple(token for token in data_tokens if token)
        self.control_token = control_token

    def check(self, method: str, authorization: str) -> None:
        """Check the token of a call.

        Raises:
            Unauthenticated: No token, or one nobody issued.
            PermissionDenied: A data token for a control method.
        """
        if method.startswith(OPEN_SERVICES) or not (self.data_tokens or self.control_token):
            return
        token = authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else ""
        is_data = any(hmac.compare_digest(token.encode(), known.encode()) for known in self.data_tokens)
        is_control = bool(self.control_token) and hmac.compare_digest(token.encode(), self.control_token.encode())
        if self.control_token and method.startswith(CONTROL_METHODS):
            if is_control:
                return
            if is_data:
                raise PermissionDenied("this method asks for the control token")
            raise Unauthenticated("no valid token: metadata 'authorization: Bearer TOKEN' expected")
        if self.data_tokens and not (is_data or is_control):
            raise Unauthenticated("no valid token: metadata 'authorization: Bearer TOKEN' expected")

    def around(self, method: str, context: Context) -> _Tokens:
        """Run a call."""
        return _Tokens(self, method, context)


class _Request:
    def __init__(self, owner: RequestInterceptor, method: str, context: Context) -> None:
        self.owner, self.method, self.context = owner, method.rsplit("/", 1)[-1], context

    async def __aenter__(self) -> None:
        request_id_var.set(request_id_of(self.context))
        parent = metadata_of(self.context, TRACE_PARENT)
        node = metadata_of(self.context, NODE)
        self.span = self.owner.tracing.span(node or self.method, parent, request_id=request_id_var.get(), node=node)
        trace_parent_var_token = self.span.__enter__()
        self.trace_parent = trace_parent_var_token

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:  # noqa: ANN401
        self.span.__exit__(kind, error, trace)
        status = "ok"
        if isinstance(error, AnyplexError):
            status = error.code
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            status = "cancelled"
        elif error is not None:
            status = "internal"
        self.owner.metrics.count_request(self.method, status)
        return False


class RequestInterceptor(_Wrapper):
    """Gives a call its request id and span, and counts how it ended.

    Args:
        metrics: Where to count.
        tracing: Where spans go.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self.metrics = metrics
        self.tracing = tracing

    def around(self, method: str, context: Context) -> _Request:
        """Run a call."""
        return _Request(self, method, context)


def interceptors(
    metrics: Metrics, tracing: Tracing, data_tokens: Sequence[str], control_token: str = ""
) -> list[grpc.aio.ServerInterceptor]:
    """Return the interceptors of a server, outermost first."""
    return [ErrorInterceptor(), TokenInterceptor(data_tokens, control_token), RequestInterceptor(metrics, tracing)]
