"""Settings of a process, read once at the edge and handed on as objects."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from graph.errors import InvalidRequest

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
COMPONENT_TOKEN = "ANYPLEX_COMPONENT_TOKEN"
"""Variable with the token that components ask for; a cluster makes one up when it is not set."""
CONTROL_TOKEN = "ANYPLEX_CONTROL_TOKEN"
"""Variable with the token that methods ask for which change what a component holds."""


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        # A name: what it stands for is nobody's promise.
        return False


@dataclass(frozen=True)
class TlsSettings:
    """Files of a certificate chain, its key, and the authority that clients of ours are checked against."""

    cert_path: str
    key_path: str
    ca_path: str = ""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Read the files.

        Raises:
            InvalidRequest: A file cannot be read.
        """
        try:
            pair = (Path(self.key_path).read_bytes(), Path(self.cert_path).read_bytes())
            authority = Path(self.ca_path).read_bytes() if self.ca_path else None
        except OSError as error:
            raise InvalidRequest(f"cannot be read: {error.strerror}", f"TLS file {error.filename}") from error
        return grpc.ssl_server_credentials([pair], authority, require_client_auth=bool(self.ca_path))


@dataclass(frozen=True)
class RuntimeSettings:
    """What a component's or gateway's process needs to know about where it runs.

    Attributes:
        host: Address its gRPC server listens on; "" means the node's own address.
        port_range: Ports to choose from, both ends included; (0, 0) lets the system choose.
        data_token: Asked for by every method; "" asks for nothing (loopback only).
        control_token: Asked for by methods that change what a component holds.
        metrics: Whether to serve Prometheus metrics.
        metrics_host: Address they are served on. They ask for no token, so others reach them only if told to.
        metrics_port: Port of the gateway's metrics; the system chooses another one when it is taken.
        log_level: "DEBUG", "INFO", …
        max_deadline_s: Longest time a request may take; drains wait that long.
        tls: Certificate of the public edge; None means plain text.
        trace_endpoint: OTLP endpoint; "" means no tracing.
    """

    host: str = "127.0.0.1"
    port_range: tuple[int, int] = (0, 0)
    data_token: str = ""
    control_token: str = ""
    metrics: bool = True
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    log_level: str = "INFO"
    max_deadline_s: float = 300.0
    tls: TlsSettings | None = None
    trace_endpoint: str = ""

    def __post_init__(self) -> None:
        low, high = self.port_range
        if not 0 <= low <= high <= 65535:
            raise InvalidRequest(f"{low} to {high} is not a range of ports", "port_range")
        if self.log_level not in LOG_LEVELS:
            known = ", ".join(LOG_LEVELS)
            raise InvalidRequest(f"{self.log_level[:40]!r}, one of {known} expected", "ANYPLEX_LOG_LEVEL")
        if self.host and not is_loopback(self.host) and not self.data_token:
            raise InvalidRequest(
                "an address that others can reach needs a token (--token or ANYPLEX_TOKEN)", f"host {self.host}"
            )

    def ports(self) -> range:
        """Return the ports to try, in order."""
        return range(self.port_range[0], self.port_range[1] + 1)


def settings_from_env(env: Mapping[str, str] = os.environ, **overrides: object) -> RuntimeSettings:
    """Read ``ANYPLEX_*`` variables; keyword arguments win over them.

    Raises:
        InvalidRequest: A variable does not make sense.
    """
    values: dict[str, object] = {
        "data_token": env.get("ANYPLEX_TOKEN", ""),
        "control_token": env.get(CONTROL_TOKEN, ""),
        "log_level": env.get("ANYPLEX_LOG_LEVEL", "INFO").upper(),
        "metrics_host": env.get("ANYPLEX_METRICS_HOST", "127.0.0.1"),
        "metrics_port": _port(env.get("ANYPLEX_METRICS_PORT", "0")),
        "trace_endpoint": env.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    }
    if cert := env.get("ANYPLEX_TLS_CERT", ""):
        values["tls"] = TlsSettings(cert, env.get("ANYPLEX_TLS_KEY", ""), env.get("ANYPLEX_TLS_CA", ""))
    return RuntimeSettings(**{**values, **overrides})  # type: ignore[arg-type]


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise InvalidRequest(f"{text[:40]!r} is not a port", "ANYPLEX_METRICS_PORT")
    return int(text)
