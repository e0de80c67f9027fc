"""What surrounds every method of every server: request id and trace, token, errors, counters.

One interceptor does it all, and wraps each method once: three of them, each wrapping at every call as grpc's own chain
does, cost a third of a small call.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from graph.errors import AnyplexError, Internal, InvalidRequest, PermissionDenied, Unauthenticated
from services.runtime.status import DETAILS_KEY, rich_status, status_message, status_of
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
Handler = Callable[[Any, Context], Any]

NO_TOKEN = "no valid token: metadata 'authorization: Bearer TOKEN' expected"


def metadata_of(context: Context, key: str) -> str:
    """Return one value of a call's metadata, "" when it is absent."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
    return ""


def request_id_of(context: Context) -> str:
    """Return the id of the request a call belongs to; made up when the caller gave none, or a strange one."""
    return _plain_request_id(metadata_of(context, REQUEST_ID))


def _plain_request_id(given: str) -> str:
    return given if _PLAIN_ID.fullmatch(given) else request_id_var.get() or uuid.uuid4().hex


class TokenCheck:
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
            raise Unauthenticated(NO_TOKEN)
        if self.data_tokens and not (is_data or is_control):
            raise Unauthenticated(NO_TOKEN)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives every call its request id and span, asks for its token, turns its errors into statuses, counts its end.

    What nobody foresaw becomes INTERNAL for the caller, and an entry with its trace in the log.

    Args:
        metrics: Where to count.
        tracing: Where spans go.
        tokens: Who may call what.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing, tokens: TokenCheck) -> None:
        self.metrics = metrics
        self.tracing = tracing
        self.tokens = tokens
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the type grpc declares is narrower than what it takes
        """Return the handler of a method, wrapped."""
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        inner: Handler = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        # Requests are parsed in here: grpc's own way answers bytes that are no message with UNKNOWN and a class name.
        parse = _parse_stream if handler.request_streaming else _parse
        self._handlers[method] = wrapped = _MAKERS[handler.request_streaming, handler.response_streaming](
            wrap(method, lambda request, context: inner(parse(handler.request_deserializer, request), context)),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _wrap_unary(self, method: str, inner: Handler) -> Handler:
        async def call(request: object, context: Context) -> object:
            metadata = self._enter(context)
            error: BaseException | None = None
            try:
                self.tokens.check(method, metadata.get(AUTHORIZATION, ""))
                if not self.tracing.on:
                    return await inner(request, context)
                with self._span(method, metadata):
                    return await inner(request, context)
            except BaseException as raised:
                error = raised
                raise await self._translate(method, context, raised) from raised
            finally:
                self._count(method, error)

        return call

    def _wrap_stream(self, method: str, inner: Handler) -> Handler:
        async def call(request: object, context: Context) -> AsyncGenerator[object, None]:
            metadata = self._enter(context)
            error: BaseException | None = None
            try:
                self.tokens.check(method, metadata.get(AUTHORIZATION, ""))
                with self._span(method, metadata):
                    stream = inner(request, context)
                    try:
                        async for item in stream:
                            yield item
                    finally:
                        if hasattr(stream, "aclose"):
                            await stream.aclose()
            except BaseException as raised:
                error = raised
                raise await self._translate(method, context, raised) from raised
            finally:
                self._count(method, error)

        return call

    def _enter(self, context: Context) -> dict[str, str]:
        """Name the request for logs, and return the call's metadata: read once, since each reading costs."""
        metadata = {
            name: value if isinstance(value, str) else value.decode("utf-8", "replace")
            for name, value in context.invocation_metadata() or ()
        }
        request_id_var.set(_plain_request_id(metadata.get(REQUEST_ID, "")))
        return metadata

    def _span(self, method: str, metadata: dict[str, str]) -> AbstractContextManager[str]:
        node, parent = metadata.get(NODE, ""), metadata.get(TRACE_PARENT, "")
        return self.tracing.span(node or method, parent, request_id=request_id_var.get(), node=node)

    async def _translate(self, method: str, context: Context, error: BaseException) -> BaseException:
        """Return what the call ends with; for the project's errors that is the abort with their rich status."""
        if isinstance(error, BaseExceptionGroup):
            error = _first_of(error)
        if isinstance(error, grpc.aio.AbortError) or not isinstance(error, Exception):
            return error
        if not isinstance(error, AnyplexError):
            logger.error("unhandled error in %s", method, exc_info=error)
            error = Internal("internal error; the server's log has the request id")
        context.set_trailing_metadata(((DETAILS_KEY, rich_status(error, request_id_of(context))),))
        try:
            await context.abort(status_of(error), status_message(error))
        except grpc.aio.AbortError as abort:
            return abort

    def _count(self, method: str, error: BaseException | None) -> None:
        status = "ok"
        if isinstance(error, AnyplexError):
            status = error.code
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            status = "cancelled"
        elif error is not None:
            status = "internal"
        self.metrics.count_request(method.rsplit("/", 1)[-1], status)


_MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _parse(deserialize: Callable[[bytes], Any] | None, data: Any) -> Any:  # noqa: ANN401 - any message
    if deserialize is None:
        return data
    try:
        return deserialize(data)
    except DecodeError as error:
        raise InvalidRequest("bytes that are no such message", "request") from error


async def _parse_stream(
    deserialize: Callable[[bytes], Any] | None, stream: AsyncIterator[bytes]
) -> AsyncGenerator[Any, None]:
    async for data in stream:
        yield _parse(deserialize, data)


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


def interceptors(
    metrics: Metrics, tracing: Tracing, data_tokens: Sequence[str], control_token: str = ""
) -> list[grpc.aio.ServerInterceptor]:
    """Return the interceptors of a server."""
    return [CallInterceptor(metrics, tracing, TokenCheck(data_tokens, control_token))]
