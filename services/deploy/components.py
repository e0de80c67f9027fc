"""Components and artifacts as the control service needs them: started and removed through Serve, read from a store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve

from graph.plan import ComponentPlan
from graph.replan import VersionInfo
from services.artifacts import ArtifactStore
from services.deploy.versions import architecture_of
from services.runtime.settings import RuntimeSettings

FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


@dataclass(frozen=True)
class ServeComponents:
    """Starts and removes the Serve applications of components.

    Attributes:
        store_paths: Where artifacts are.
        settings: What components are started with.
    """

    store_paths: tuple[str, ...]
    settings: RuntimeSettings

    async def launch(self, plan: ComponentPlan) -> None:
        """Start a component; returns before it is ready."""
        await asyncio.to_thread(self._launch, plan)

    def _launch(self, plan: ComponentPlan) -> None:
        from services.deploy.applications import component_application

        if plan.id in serve.status().applications:
            return
        application = component_application(plan, self.store_paths, self.settings)
        target = serve.RunTarget(target=application, name=plan.id, route_prefix=None)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    async def problem(self, component: str) -> str:
        """Return why a component does not start; "" while nothing is wrong."""
        status = (await asyncio.to_thread(serve.status)).applications.get(component)
        return reason_of(status) if status is not None and status.status in FAILED else ""

    async def running(self) -> frozenset[str]:
        """Return the applications there are."""
        return frozenset((await asyncio.to_thread(serve.status)).applications)

    async def remove(self, component: str) -> None:
        """Take a component away; its replicas drain."""
        await asyncio.to_thread(serve.delete, component, _blocking=False)


@dataclass(frozen=True)
class StoreShelf:
    """What the artifacts of a store are.

    Attributes:
        store_paths: Where they are.
    """

    store_paths: tuple[str, ...]

    async def describe(self, version: str) -> VersionInfo:
        """Say what an artifact is.

        Raises:
            InvalidRequest: That is no version.
            NotFound: There is no such artifact.
            FailedPrecondition: It cannot be read.
        """
        return await asyncio.to_thread(self._describe, version)

    def _describe(self, version: str) -> VersionInfo:
        store = ArtifactStore(*map(Path, self.store_paths))
        artifact = store.get(version)
        return VersionInfo(version, artifact.kind, artifact.type, architecture_of(store, version))


def reason_of(status: Any) -> str:  # noqa: ANN401
    """Return the line that says why an application failed, without the trace."""
    for deployment in status.deployments.values():
        lines: list[str] = [line.strip() for line in deployment.message.splitlines() if line.strip()]
        named = [line for line in lines if line.startswith("graph.errors.")]
        if named:
            return named[-1].partition(": ")[2] or named[-1]
        if lines:
            return lines[-1][:300]
    return str(status.message)[:300] or "it did not start"
