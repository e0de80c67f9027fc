"""How to reach a gateway: address, token, TLS, deadlines, retries."""

from __future__ import annotations

import ipaddress
import math
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from anyplex.errors import AnyplexError, Exhausted, InvalidRequest, Unavailable

DEFAULT_ADDRESS = "localhost:50051"
DEFAULT_DEADLINE_S = 120.0
ADDRESS_VARIABLE = "ANYPLEX_ADDRESS"
TOKEN_VARIABLE = "ANYPLEX_TOKEN"  # noqa: S105 - the name of a variable
_MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection; empty paths mean the system's own authorities, and no client certificate.

    Args:
        authority: PEM file with the authorities that the server's certificate is checked against.
        certificate: PEM file with this client's certificate chain (mutual TLS).
        key: PEM file with its private key.
        server_name: Name to expect in the server's certificate, where it is not the address.
    """

    authority: str | os.PathLike[str] = ""
    certificate: str | os.PathLike[str] = ""
    key: str | os.PathLike[str] = ""
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            InvalidRequest: A file cannot be read, or a certificate comes without its key.
        """
        if bool(self.certificate) != bool(self.key):
            raise InvalidRequest("tls: certificate and key belong together, only one was given")
        return grpc.ssl_channel_credentials(_read(self.authority), _read(self.key), _read(self.certificate))


@dataclass(frozen=True)
class Retry:
    """How often to try again while nothing of the answer has come.

    Only what may succeed later is tried again: an unreachable gateway, a dead replica, a full queue that says
    when to come back. No try outlives the deadline.
    """

    attempts: int = 4
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0

    def wait_s(self, error: AnyplexError, attempt: int, deadline: float | None) -> float | None:
        """Return how long to wait before the next attempt (``attempt`` have failed), None to give up."""
        if attempt >= self.attempts:
            return None
        if isinstance(error, Exhausted) and error.retry_after_s > 0:
            wait_s = error.retry_after_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads clients, keeps no secret
        elif isinstance(error, Unavailable):
            wait_s = max(min(self.first_wait_s * 2 ** (attempt - 1), self.longest_wait_s), error.retry_after_s)
            wait_s *= random.uniform(0.8, 1.2)  # noqa: S311
        else:
            return None
        if deadline is not None and time.monotonic() + wait_s >= deadline:
            return None
        return wait_s


NO_RETRY = Retry(attempts=1)


@dataclass(frozen=True)
class Endpoint:
    """A gateway and what opens it.

    Args:
        address: host:port; empty means the variable ANYPLEX_ADDRESS, else localhost:50051.
        token: Sent with every call; None means the variable ANYPLEX_TOKEN, "" none at all.
        tls: True for the system's authorities, or files.
        deadline_s: Longest time for one call where the call does not say; None means no limit.
        retry: False to try once only.
    """

    address: str
    token: str
    tls: Tls | None
    deadline_s: float | None
    retry: Retry

    @classmethod
    def resolve(
        cls,
        address: str | None,
        token: str | None,
        tls: bool | Tls,
        deadline_s: float | None,
        retry: bool | Retry,
    ) -> Endpoint:
        """Fill in what was left out from the environment."""
        found = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
        secret = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
        if not secret.isascii() or any(not char.isprintable() for char in secret):
            raise InvalidRequest("token: expected printable ASCII characters")
        settings = (Tls() if tls else None) if isinstance(tls, bool) else tls
        return cls(_check_address(found), secret, settings, check_deadline(deadline_s), as_retry(retry, Retry()))

    def options(self) -> list[tuple[str, str | int]]:
        """Return the options of a channel."""
        options: list[tuple[str, str | int]] = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            # A gateway that comes back is found again within a second or two, not within two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # One that has vanished without a word is noticed while calls wait for it.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        if _is_loopback(self.address):
            options.append(("grpc.enable_http_proxy", 0))
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def deadline(self, deadline_s: float | None) -> float | None:
        """Return when a call ends that may take so long; None means the client's own limit.

        Raises:
            InvalidRequest: It is no length of time.
        """
        return deadline_of(self.deadline_s if deadline_s is None else deadline_s)


def deadline_of(limit_s: float | None) -> float | None:
    """Return the moment (``time.monotonic()``) after so many seconds; None or infinity mean that there is none.

    Raises:
        InvalidRequest: It is no length of time.
    """
    limit_s = check_deadline(limit_s)
    return None if limit_s is None else time.monotonic() + limit_s


def left_s(deadline: float | None) -> float | None:
    """Return the seconds until a deadline."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.001)


def as_retry(retry: bool | Retry | None, default: Retry) -> Retry:
    """Return a policy: True and None mean the default."""
    if isinstance(retry, Retry):
        return retry
    return NO_RETRY if retry is False else default


def check_deadline(deadline_s: float | None) -> float | None:
    """Return the deadline; infinity means that there is none.

    Raises:
        InvalidRequest: It is not a positive number.
    """
    if deadline_s is not None and not deadline_s > 0:
        raise InvalidRequest(f"deadline_s: {deadline_s}, expected more than 0 seconds, or math.inf for no limit")
    return None if deadline_s is None or math.isinf(deadline_s) else float(deadline_s)


def _check_address(address: str) -> str:
    if "://" in address and not address.startswith(("unix://", "dns://")):
        raise InvalidRequest(f"address {address!r}: expected host:port without a scheme")
    if address.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return address
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidRequest(f"address {address!r}: expected host:port, such as {DEFAULT_ADDRESS}")
    return address


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: str | os.PathLike[str]) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"tls: {path}: cannot be read ({error.strerror})") from error
