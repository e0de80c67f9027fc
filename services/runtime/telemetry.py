"""Logs, metrics, traces of one process.

Metric names follow those that vLLM's users know, under the prefix ``anyplex:``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

request_id_var: ContextVar[str] = ContextVar("request_id", default="")

_FIRST_TOKEN_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the id of the request it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        entry: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := request_id_var.get():
            entry["request_id"] = request_id
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up_logging(level: str = "INFO") -> None:
    """Send the project's logs to standard error as JSON."""
    root = logging.getLogger("anyplex")
    root.setLevel(level)
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
    root.propagate = False


@dataclass
class Metrics:
    """Metrics of one process, labelled by component (and by node where a request passed one).

    Args:
        component: Id of the component, or "gateway".
        kind: Its kind.
    """

    component: str
    kind: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        labels, r = ("component", "kind"), self.registry
        mine = (self.component, self.kind)
        self.running = Gauge("anyplex:num_requests_running", "Requests that run", labels, registry=r).labels(*mine)
        self.waiting = Gauge("anyplex:num_requests_waiting", "Requests that wait", labels, registry=r).labels(*mine)
        self.first_token_s = Histogram(
            "anyplex:time_to_first_token_seconds", "From arrival to first output", labels,
            registry=r, buckets=_FIRST_TOKEN_S,
        ).labels(*mine)  # fmt: skip
        self.inter_token_s = Histogram(
            "anyplex:inter_token_latency_seconds", "Between two outputs of one answer", labels,
            registry=r, buckets=_TOKEN_S,
        ).labels(*mine)  # fmt: skip
        self.queue_s = Histogram(
            "anyplex:request_queue_time_seconds", "Waiting before the first step", labels,
            registry=r, buckets=_FIRST_TOKEN_S,
        ).labels(*mine)  # fmt: skip
        self.latency_s = Histogram(
            "anyplex:e2e_request_latency_seconds", "From arrival to the end", labels,
            registry=r, buckets=_FIRST_TOKEN_S,
        ).labels(*mine)  # fmt: skip
        self.prompt_tokens = Counter("anyplex:prompt_tokens", "Tokens read", labels, registry=r).labels(*mine)
        self.generation_tokens = Counter(
            "anyplex:generation_tokens", "Tokens produced", labels, registry=r
        ).labels(*mine)  # fmt: skip
        self._counters: dict[tuple[str, str], Counter] = {}
        self._requests = Counter(
            "anyplex:requests", "Requests ended, by status", (*labels, "method", "status"), registry=r
        )

    def count_request(self, method: str, status: str) -> None:
        """Count a request that ended."""
        counter = self._counters.get((method, status))
        if counter is None:
            counter = self._requests.labels(self.component, self.kind, method, status)
            self._counters[method, status] = counter
        counter.inc()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Say nothing: scrapes are not events."""


class MetricsServer:
    """Serves ``/metrics`` over HTTP, and ``/targets`` (Prometheus HTTP service discovery) where there are any.

    Args:
        registry: What to serve.
        host: Address to listen on.
        port: Port; 0, or one that is taken, lets the system choose.
        targets: Returns the addresses of all metrics servers of the cluster.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int = 0,
        targets: Any = None,  # noqa: ANN401
    ) -> None:
        metrics_app = make_wsgi_app(registry)

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                pages: Iterable[bytes] = metrics_app(environ, start_response)
                return pages
            if path == "/targets" and targets is not None:
                start_response("200 OK", [("Content-Type", "application/json")])
                return [json.dumps(targets()).encode()]
            start_response(f"{HTTPStatus.NOT_FOUND.value} Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics or /targets\n"]

        try:
            self._server = make_server(host, port, app, _Server, _QuietHandler)
        except OSError:
            if port == 0:
                raise
            self._server = make_server(host, 0, app, _Server, _QuietHandler)
        self.port: int = self._server.server_port
        self.address = f"{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class Tracing:
    """One span per node and request; does nothing unless an exporter is set.

    Args:
        service: Name of the process in traces.
        endpoint: OTLP endpoint; "" means no tracing.
    """

    def __init__(self, service: str, endpoint: str) -> None:
        self._tracer: Tracer | None = None
        self._provider: TracerProvider | None = None
        if not endpoint:
            return
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https"))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._provider = provider
        self._tracer = provider.get_tracer("anyplex")

    @property
    def on(self) -> bool:
        """Whether spans go anywhere."""
        return self._tracer is not None

    def close(self) -> None:
        """Send what has not been sent yet."""
        if self._provider is not None:
            self._provider.shutdown()

    @contextlib.contextmanager
    def span(self, name: str, trace_parent: str = "", **attributes: str) -> Iterator[str]:
        """Open a span under a W3C parent; yields the trace context to hand on ("" when tracing is off)."""
        if self._tracer is None:
            yield trace_parent
            return
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Not "current": a stream's body may be resumed and closed in other contexts than it was begun in.
        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract({"traceparent": trace_parent}) if trace_parent else None
        span = self._tracer.start_span(name, context=parent, attributes=attributes)
        carrier: dict[str, str] = {}
        propagator.inject(carrier, set_span_in_context(span))
        try:
            yield carrier.get("traceparent", "")
        finally:
            span.end()


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self._start
