"""A component in a process of its own, for benchmarks; in a module that a fresh process can import."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path


def serve(kind: str, type_name: str, versions: tuple[str, str], store: Path, threads: int, tell: Connection) -> None:
    """Serve weights, and the adapter if there is one, until the process is ended; tell the address."""
    from services.deploy.standalone import ServeOptions, serve_component

    weights, adapter = versions
    adapters = (adapter,) if adapter else ()
    serve_component(ServeOptions(kind, type_name, (weights,), adapters, threads=threads, store=store), tell.send)
