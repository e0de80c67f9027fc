"""One component in a process of its own, without Ray: started by hand, joined to a system by its address."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graph.catalog import load_catalog
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.deploy.state import home
from services.deploy.versions import Weights
from services.runtime.component import Held
from services.runtime.factory import ComponentSpec
from services.runtime.server import ComponentServer
from services.runtime.settings import COMPONENT_TOKEN, settings_from_env
from services.runtime.telemetry import set_up_logging


def serve_component(
    kind: str,
    type: str,
    weights: Sequence[str],
    adapters: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    options: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 1,
    store: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
    stopped: asyncio.Event | None = None,
) -> None:
    """Serve one component until SIGINT or SIGTERM.

    Its tokens come from ``ANYPLEX_COMPONENT_TOKEN`` and ``ANYPLEX_CONTROL_TOKEN``; a cluster that is to call it has to
    be started with the same.

    Args:
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
        report: Told the address once it serves.
        stopped: Ends it from within the process.

    Raises:
        InvalidRequest: No such type.
        AnyplexError: The weights cannot be loaded, or the port is taken.
    """
    catalog = load_catalog()
    if (kind, type) not in catalog:
        known = ", ".join(f"{k} {t}" for k, t in sorted(catalog))
        raise InvalidRequest(f"no component {kind} {type}; there are: {known}", "--type")
    stores = [path for path in (store, home() / "artifacts", Weights.bundled().store.root) if path is not None]
    for version in (*weights, *adapters):
        ArtifactStore(*stores).get(version)
    spec = ComponentSpec(
        component=f"{kind}-{type}",
        kind=kind,
        type=type,
        factory=catalog[kind, type].factory,
        store_paths=tuple(map(str, stores)),
        held=tuple(map(Held, weights)) + tuple(Held(version, adapter=True) for version in adapters),
        options=dict(options or {}),
        dtype=dtype,
        device=device,
        threads=threads,
    )
    token = os.environ.get(COMPONENT_TOKEN, "")
    settings = settings_from_env(host=host, port_range=(port, port), data_token=token, tls=None)
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
