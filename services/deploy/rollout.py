"""What is done inside a running Ray cluster: deploy applications, wait for them, follow the directory."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

import grpc
import ray
from ray import serve

from anyplex.v1 import component_pb2, component_pb2_grpc
from graph.errors import FailedPrecondition, Unavailable
from graph.plan import ComponentPlan
from graph.profile import GatewaySettings
from services.control.asking import SuitesByCommand
from services.deploy.applications import (
    CONTROL_APP,
    GATEWAY_APP,
    component_application,
    control_application,
    gateway_application,
)
from services.deploy.components import FAILED, ServeComponents, StoreShelf, reason_of
from services.deploy.control import Control
from services.deploy.planner import Planner
from services.deploy.plans import Deployment
from services.runtime.cluster import directory_actor
from services.runtime.directory import Entry, Snapshot
from services.runtime.server import token_metadata
from services.runtime.settings import RuntimeSettings

logger = logging.getLogger("anyplex.deploy")

ASK_S = 5.0


def deploy(
    deployment: Deployment,
    gateway: GatewaySettings,
    edge: RuntimeSettings,
    inside: RuntimeSettings,
    control: Control,
    profile_name: str,
) -> None:
    """Start every component and the gateway; returns before they are ready.

    Raises:
        Unavailable: A component that was started by hand does not answer.
        FailedPrecondition: It is another kind or type.
    """
    directory = directory_actor()
    ray.get(directory.publish_systems.remote(deployment.systems))
    serve.start(proxy_location="Disabled")
    targets = []
    for plan in deployment.components:
        if plan.settings.address:
            ray.get(directory.register.remote(static_entry(plan, inside.data_token)))
            continue
        application = component_application(plan, deployment.store_paths, inside)
        targets.append(serve.RunTarget(target=application, name=plan.id, route_prefix=None))
    edge_application = gateway_application(gateway, edge, inside.data_token)
    targets.append(serve.RunTarget(target=edge_application, name=GATEWAY_APP, route_prefix=None))
    reached = SuitesByCommand(_reached(gateway), edge.data_token, edge.tls is not None)
    control_app = control_application(
        control,
        deployment.store_paths,
        inside,
        ServeComponents(deployment.store_paths, inside),
        StoreShelf(deployment.store_paths),
        reached,
        Planner(profile_name),
    )
    targets.append(serve.RunTarget(target=control_app, name=CONTROL_APP, route_prefix=None))
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _reached(gateway: GatewaySettings) -> str:
    """Return where this machine reaches a gateway that listens on every address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]"}.get(gateway.host, gateway.host)  # noqa: S104 - nothing is bound
    return f"{host}:{gateway.port}"


def static_entry(plan: ComponentPlan, token: str) -> Entry:
    """Ask a component that was started by hand what it is, and return its entry.

    Raises:
        Unavailable: It does not answer.
        FailedPrecondition: It is another kind or type, or holds other versions.
    """
    address = plan.settings.address
    with grpc.insecure_channel(address) as channel:
        stub = component_pb2_grpc.ComponentServiceStub(channel)
        try:
            request = component_pb2.DescribeRequest()
            card = stub.Describe(request, timeout=ASK_S, metadata=token_metadata(token)).card
        except grpc.RpcError as error:
            raise Unavailable(f"the component at {address} does not answer", f"component {plan.id}") from error
    if (card.kind, card.type) != (plan.kind, plan.type):
        raise FailedPrecondition(
            f"at {address} there is {card.kind} {card.type}, {plan.kind} {plan.type} expected", f"component {plan.id}"
        )
    held = frozenset(item.version for item in card.versions)
    missing = sorted({*plan.versions, *plan.adapters} - held)
    if missing:
        raise FailedPrecondition(
            f"at {address} versions {sorted(held)} are held, {missing} expected", f"component {plan.id}"
        )
    return Entry(uuid.uuid4().hex, plan.id, address, versions=held, card=card.SerializeToString(), static=True)


def wait_ready(
    deployment: Deployment, say: Callable[[str], None], stop: threading.Event, timeout_s: float
) -> tuple[Snapshot, str]:
    """Wait until every component that should be awake has its replicas, and the gateway answers.

    Returns:
        What the directory knows, and the address of the gateway's metrics.

    Raises:
        FailedPrecondition: An application failed to start.
        Unavailable: It took too long, or was interrupted.
    """
    directory = directory_actor()
    wanted = {plan.id: plan.settings.replicas.min for plan in deployment.components}
    give_up, told = time.monotonic() + timeout_s, -1
    while time.monotonic() < give_up and not stop.wait(0.2):
        snapshot: Snapshot = ray.get(directory.snapshot.remote())
        ready = [component for component, least in wanted.items() if len(snapshot.of(component)) >= least]
        statuses = serve.status().applications
        for name, status in statuses.items():
            if status.status in FAILED:
                raise FailedPrecondition(reason_of(status), f"component {name}")
        if len(ready) != told:
            told = len(ready)
            say(f"{told} of {len(wanted)} components ready")
        gateway = statuses.get(GATEWAY_APP)
        if told == len(wanted) and gateway is not None and gateway.status == "RUNNING":
            handle = serve.get_app_handle(GATEWAY_APP)
            _, metrics_address = handle.addresses.remote().result(timeout_s=10.0)
            return snapshot, metrics_address
    if stop.is_set():
        raise Unavailable("interrupted while starting")
    late = [component for component, least in wanted.items() if component not in ready]
    raise Unavailable(f"not ready after {timeout_s:.0f} s: {', '.join(late) or 'the gateway'}")


def follow(stop: threading.Event, changed: Callable[[Snapshot], None]) -> None:
    """Tell about every change of the directory until told to stop."""
    known = ("", -1)
    while not stop.wait(0.5):
        try:
            snapshot: Snapshot = ray.get(directory_actor().snapshot.remote(), timeout=5.0)
        except (ray.exceptions.RayError, TimeoutError, ValueError):
            logger.warning("the directory does not answer")
            continue
        stamp = (snapshot.epoch, snapshot.generation)
        if stamp != known:
            known = stamp
            changed(snapshot)


def withdraw(drain_s: float) -> None:
    """Take every application away, giving what is in flight ``drain_s`` to end."""
    thread = threading.Thread(target=_shutdown_serve, daemon=True)
    thread.start()
    thread.join(drain_s)


def _shutdown_serve() -> None:
    try:
        serve.shutdown()  # type: ignore[no-untyped-call]
    except (ray.exceptions.RayError, RuntimeError, ValueError) as error:
        logger.warning("Serve did not shut down cleanly: %s", type(error).__name__)
