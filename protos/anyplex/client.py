"""The client for programs that block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from anyplex.connection import DEFAULT_DEADLINE_S, Endpoint, Retry, Tls, as_retry, deadline_of, left_s
from anyplex.conversation import Conversation
from anyplex.errors import AnyplexError, FailedPrecondition, from_call
from anyplex.events import Event
from anyplex.media import CHUNK_BYTES, Medium, Upload
from anyplex.reply import Reply
from anyplex.requests import (
    Carried,
    Parts,
    RequestOptions,
    decode_upload,
    draft_message,
    draft_opening,
    draft_request,
    draft_upload,
)
from anyplex.streaming import EventStream, Received
from anyplex.systems import Limits, System, SystemDescription, decode_description, decode_systems
from anyplex.v1 import gateway_pb2, gateway_pb2_grpc, media_pb2, media_pb2_grpc, types_pb2

Answer = TypeVar("Answer")


class Client:
    """A connection to a gateway; may be shared by threads.

    ::

        with Client("localhost:50051") as client:
            reply = client.generate(["What is this?", Image("cat.png")], system="next-gpt", seed=1)
            print(reply.text)

    Args:
        address: host:port; None means the variable ANYPLEX_ADDRESS, else localhost:50051.
        token: Sent with every call; None means the variable ANYPLEX_TOKEN.
        tls: True to encrypt and trust the system's authorities, or files.
        deadline_s: Longest time for one call where the call does not say; None means no limit.
        retry: What to do while nothing of an answer has come; False tries once only.

    Raises:
        InvalidRequest: An argument is wrong.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool | Tls = False,
        deadline_s: float | None = DEFAULT_DEADLINE_S,
        retry: bool | Retry = True,
    ) -> None:
        self._endpoint = Endpoint.resolve(address, token, tls, deadline_s, retry)
        options = self._endpoint.options()
        if self._endpoint.tls is not None:
            credentials = self._endpoint.tls.credentials()
            self._channel = grpc.secure_channel(self._endpoint.address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self._endpoint.address, options)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._media = media_pb2_grpc.MediaServiceStub(self._channel)
        self._closed = threading.Event()
        self._limits: Limits | None = None

    @property
    def address(self) -> str:
        """The gateway's address."""
        return self._endpoint.address

    def generate(
        self,
        parts: Parts,
        *,
        deadline_s: float | None = None,
        retry: bool | Retry | None = None,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Reply:
        """Send one request, wait for the whole answer.

        Args:
            parts: Text and media in any order.
            deadline_s: Longest time the answer may take; None means the client's, infinity that there is none.
            retry: What to do while nothing has come; None means the client's.
            on_event: Told everything as it happens: text, the progress of media, …. It must not wait.
            **options: See ``RequestOptions``: ``system``, ``seed``, ``max_tokens``, ``history``, ….

        Raises:
            AnyplexError: The request failed; its class says how.
        """
        with self.stream(parts, deadline_s=deadline_s, retry=retry, **options) as stream:
            if on_event is not None:
                for event in stream:
                    on_event(event)
            return stream.reply()

    def stream(
        self,
        parts: Parts,
        *,
        deadline_s: float | None = None,
        retry: bool | Retry | None = None,
        **options: Unpack[RequestOptions],
    ) -> EventStream:
        """Send one request, iterate over what happens; leaving the loop early and closing cancels it.

        The arguments are those of ``generate``.

        Raises:
            AnyplexError: The request failed, now or while iterating.
        """
        self._check_open()
        deadline = self._endpoint.deadline(deadline_s)
        draft = draft_request(parts, options)
        handles = self._upload_all(draft.carried, deadline)
        metadata = self._endpoint.metadata()

        def open_call(timeout_s: float | None) -> Received[gateway_pb2.GenerateResponse]:
            self._check_open()
            return self._gateway.Generate(draft.request, timeout=timeout_s, metadata=metadata)

        def clean_up() -> None:
            self._forget_all(handles)

        return EventStream(open_call, as_retry(retry, self._endpoint.retry), deadline, self._endpoint.address, clean_up)

    def converse(self, *, deadline_s: float | None = None, **options: Unpack[RequestOptions]) -> Conversation:
        """Open a conversation: the gateway remembers the turns, and answers can be interrupted.

        Args:
            deadline_s: Longest time the whole conversation may last; None means no limit of this side.
            **options: See ``RequestOptions``; they hold for every turn.
        """
        self._check_open()
        draft = draft_opening(options)
        deadline = deadline_of(deadline_s)
        handles = self._upload_all(draft.carried, deadline)

        def draft_turn(parts: Parts) -> types_pb2.Message:
            message, carried = draft_message(parts)
            handles.extend(self._upload_all(carried, self._endpoint.deadline(None)))
            return message

        def open_call(
            requests: Iterator[gateway_pb2.ConverseRequest],
        ) -> Received[gateway_pb2.ConverseResponse]:
            timeout_s = left_s(deadline)
            return self._gateway.Converse(requests, timeout=timeout_s, metadata=self._endpoint.metadata())

        def clean_up() -> None:
            self._forget_all(handles)

        return Conversation(open_call, draft.request, draft_turn, self._endpoint.address, clean_up)

    def upload(self, medium: Medium, *, keep_s: float = 0.0, deadline_s: float | None = None) -> Upload:
        """Hand a medium in once, to use it in several requests.

        What is too large to travel inside a request (4 MiB, or less where the gateway's profile says so) is handed in
        this way by ``generate`` and ``stream`` by themselves.

        Args:
            medium: The medium: ``Image("map.png")``.
            keep_s: How long the gateway keeps it; 0 means its default.
            deadline_s: Longest time; None means the client's.

        Raises:
            AnyplexError: It was refused.
        """
        self._check_open()
        return self._upload(medium, keep_s, self._endpoint.deadline(deadline_s))

    def delete(self, upload: Upload | str, *, deadline_s: float | None = None) -> None:
        """Forget an upload (or its handle) before it expires.

        Raises:
            AnyplexError: There is no such upload.
        """
        request = media_pb2.DeleteRequest(handle=upload if isinstance(upload, str) else upload.handle)
        self._call(
            lambda timeout_s, metadata: self._media.Delete(request, timeout=timeout_s, metadata=metadata), deadline_s
        )

    def systems(self, *, deadline_s: float | None = None) -> list[System]:
        """Return the systems that run behind the gateway.

        Raises:
            AnyplexError: The gateway did not say.
        """
        request = gateway_pb2.ListSystemsRequest()
        return decode_systems(
            self._call(
                lambda timeout_s, metadata: self._gateway.ListSystems(request, timeout=timeout_s, metadata=metadata),
                deadline_s,
            )
        )

    def describe(self, system: str = "", *, deadline_s: float | None = None) -> SystemDescription:
        """Return one system with its nodes and limits; an empty name means the default one.

        Raises:
            AnyplexError: There is no such system.
        """
        request = gateway_pb2.DescribeSystemRequest(system=system)
        return decode_description(
            self._call(
                lambda timeout_s, metadata: self._gateway.DescribeSystem(request, timeout=timeout_s, metadata=metadata),
                deadline_s,
            )
        )

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise FailedPrecondition("the client is closed")

    def _call(
        self, call: Callable[[float | None, tuple[tuple[str, str], ...]], Answer], deadline_s: float | None
    ) -> Answer:
        """Make a call that answers with one message, again where that may help."""
        self._check_open()
        deadline = self._endpoint.deadline(deadline_s)
        attempt = 0
        while True:
            try:
                return call(left_s(deadline), self._endpoint.metadata())
            except grpc.RpcError as raw:
                attempt += 1
                error = from_call(raw, self._endpoint.address)
                wait_s = self._endpoint.retry.wait_s(error, attempt, deadline)
                if wait_s is None:
                    raise error from None
            if self._closed.wait(wait_s):
                raise FailedPrecondition("the client is closed")

    def _upload(self, medium: Medium, keep_s: float, deadline: float | None) -> Upload:
        def messages() -> Iterator[media_pb2.UploadRequest]:
            yield draft_upload(medium, keep_s)
            for piece in medium.chunks(CHUNK_BYTES):
                yield media_pb2.UploadRequest(data=piece)

        response = self._call(
            lambda timeout_s, metadata: self._media.Upload(messages(), timeout=timeout_s, metadata=metadata),
            left_s(deadline),
        )
        return decode_upload(medium, response)

    def _upload_all(self, carried: Carried, deadline: float | None) -> list[str]:
        """Upload what is too large to travel inline, and write the handles into the request."""
        handles: list[str] = []
        if carried.has_to_ask:
            carried.fit(self._known_limits(deadline))
        try:
            for media, medium in carried.uploads:
                media.handle = self._upload(medium, 0.0, deadline).handle
                handles.append(media.handle)
        except AnyplexError:
            self._forget_all(handles)
            raise
        return handles

    def _known_limits(self, deadline: float | None) -> Limits:
        """Return what the gateway takes; asked once."""
        if self._limits is None:
            self._limits = self.describe(deadline_s=left_s(deadline)).limits
        return self._limits

    def _forget_all(self, handles: list[str]) -> None:
        """Drop uploads that nobody needs any more; where that fails they expire by themselves."""
        if self._closed.is_set():
            return
        for handle in handles:
            with contextlib.suppress(AnyplexError):
                self.delete(handle, deadline_s=5.0)
