"""The one Serve deployment class of all components: owns the replica's gRPC server, its listing, its draining.

Serve places, starts, scales and restarts it; requests never pass through Serve.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from dataclasses import replace

import ray

from graph.errors import AnyplexError, Unavailable
from services.runtime.cluster import Registration, directory_actor
from services.runtime.component import Held
from services.runtime.directory import Entry, Snapshot, answers
from services.runtime.factory import ComponentSpec
from services.runtime.live_sets import wanted_of
from services.runtime.scaling import LoadReport
from services.runtime.server import ComponentServer
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import set_up_logging

logger = logging.getLogger("anyplex.host")

DEREGISTER_S = 0.3
"""Time for callers to hear that a replica left the routing before it stops taking calls."""


class Host:
    """One replica of one component.

    Args:
        spec: The component.
        settings: Where to listen, tokens.
    """

    async def __init__(self, spec: ComponentSpec, settings: RuntimeSettings) -> None:  # type: ignore[misc]
        # Asynchronous, which Serve allows: a replica counts as started only when it serves, and a failure to load is
        # a failed start that Serve reports.
        set_up_logging(settings.log_level)
        os.environ["ANYPLEX_NODE_ADDRESS"] = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._spec = spec
        self._server: ComponentServer | None = None
        self._registration: Registration | None = None
        self._reported = LoadReport()
        live, kept = await self._wanted()
        self._spec = spec = replace(spec, held=live or spec.held)
        component = await asyncio.to_thread(spec.build)
        server = ComponentServer(component, settings)
        await server.start()
        self._server = server
        await self._load(server, kept)
        self._registration = Registration(self._entry(server))
        server.on_change = self._renew
        await self._registration.start()
        # Listed now, so that a swap which begins from here on comes to this replica by itself. One that began in the
        # meantime did not see it.
        await self._load(server, sum(await self._wanted(), ()))

    async def _wanted(self) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
        """Return what the live sets need of this component, and those that are kept beside them.

        Nothing where the directory knows nothing yet: then it is what the component was deployed with.
        """
        try:
            actor = await asyncio.to_thread(directory_actor)
            snapshot: Snapshot = await actor.snapshot.remote()
        except (ray.exceptions.RayError, ValueError) as error:
            logger.warning("the directory does not answer: %s", type(error).__name__)
            return (), ()
        return wanted_of(self._spec.component, snapshot.systems, snapshot.kept)

    async def _load(self, server: ComponentServer, wanted: tuple[Held, ...]) -> None:
        """Load what is not there yet. What fails to load is not said to be held, and asked for by nobody."""
        held = {version.version for version in server.component.card().versions}
        for version in wanted:
            if version.version not in held:
                try:
                    await server.component.load_version(version)
                    await server.announce()
                except AnyplexError as error:
                    logger.warning("version %s cannot be loaded: %s", version.version, error)

    def _entry(self, server: ComponentServer) -> Entry:
        card = server.component.card()
        return Entry(
            replica_id=self._registration.entry.replica_id if self._registration else uuid.uuid4().hex,
            component=self._spec.component,
            address=server.address,
            metrics_address=server.metrics_address,
            versions=frozenset(held.version for held in card.versions),
            card=card.SerializeToString(),
        )

    async def _renew(self) -> None:
        if self._registration is not None and self._server is not None:
            await self._registration.renew(self._entry(self._server))

    async def wake(self) -> str:
        """Answer the empty call that started this replica."""
        return self._spec.component

    async def check_health(self) -> None:
        """Raise when the replica cannot serve: Serve then replaces it."""
        if self._server is None or not await answers(self._server.address, timeout_s=5.0):
            raise Unavailable(f"{self._spec.component} does not answer its own health check")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the load that the scaling policy reads."""
        if self._server is None:
            return {"ongoing": 0.0}
        return {"ongoing": self._reported.ongoing(self._server.component.load)}

    async def __del__(self) -> None:
        """Leave the routing, let the calls in flight end, stop. Serve calls and awaits this when it scales down."""
        if self._registration is not None:
            await self._registration.stop()
            await asyncio.sleep(DEREGISTER_S)
        if self._server is not None:
            await self._server.stop()
