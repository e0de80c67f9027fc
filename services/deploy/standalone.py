"""One component in a process of its own, without Ray: started by hand, joined to a system by its address."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graph.catalog import load_catalog
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.deploy.versions import Weights, own_artifacts
from services.runtime.component import Held
from services.runtime.factory import ComponentSpec
from services.runtime.server import ComponentServer
from services.runtime.settings import COMPONENT_TOKEN, settings_from_env
from services.runtime.telemetry import set_up_logging


@dataclass(frozen=True)
class ServeOptions:
    """One component to serve.

    Attributes:
        kind: Kind of node.
        type: Type in the catalog.
        weights: Artifact versions to hold.
        adapters: Versions of adapters to hold.
        host: Address to listen on.
        port: Port; 0 lets the system choose.
        options: The node's options.
        dtype: Element type to compute in.
        device: torch device.
        threads: Threads for torch.
        store: Directory of artifacts, looked in before the user's and the bundled ones.
    """

    kind: str
    type: str
    weights: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    store: Path | None = None

    def spec(self) -> ComponentSpec:
        """Return what to build.

        Raises:
            InvalidRequest: No such type.
            NotFound: There are no such weights.
        """
        catalog = load_catalog()
        if (self.kind, self.type) not in catalog:
            known = ", ".join(f"{kind} {type}" for kind, type in sorted(catalog))
            raise InvalidRequest(f"no component {self.kind} {self.type}; there are: {known}", "--type")
        stores = [path for path in (self.store, own_artifacts(), Weights.bundled().store.root) if path is not None]
        for version in (*self.weights, *self.adapters):
            ArtifactStore(*stores).get(version)
        return ComponentSpec(
            component=f"{self.kind}-{self.type}",
            kind=self.kind,
            type=self.type,
            factory=catalog[self.kind, self.type].factory,
            store_paths=tuple(map(str, stores)),
            held=(*map(Held, self.weights), *(Held(version, adapter=True) for version in self.adapters)),
            options=dict(self.options),
            dtype=self.dtype,
            device=self.device,
            threads=self.threads,
        )


def serve_component(
    options: ServeOptions, report: Callable[[str], None] = lambda line: None, stopped: asyncio.Event | None = None
) -> None:
    """Serve one component until SIGINT or SIGTERM.

    Its tokens come from ``ANYPLEX_COMPONENT_TOKEN`` and ``ANYPLEX_CONTROL_TOKEN``; a cluster that is to call it has to
    be started with the same.

    Args:
        options: What to serve.
        report: Told the address once it serves.
        stopped: Ends it from within the process.

    Raises:
        InvalidRequest: No such type.
        AnyplexError: The weights cannot be loaded, or the port is taken.
    """
    spec = options.spec()
    token = os.environ.get(COMPONENT_TOKEN, "")
    ports = (options.port, options.port)
    settings = settings_from_env(host=options.host, port_range=ports, data_token=token, tls=None)
    set_up_logging(settings.log_level)
    asyncio.run(_serve(ComponentServer(spec.build(), settings), report, stopped))


async def _serve(server: ComponentServer, report: Callable[[str], None], stopped: asyncio.Event | None) -> None:
    stop = stopped or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    report(await server.start())
    await stop.wait()
    await server.stop(grace_s=30.0)
