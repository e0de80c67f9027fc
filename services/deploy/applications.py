"""From component plans to Serve applications: one application a component, and one for the gateway."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from graph.plan import ComponentPlan
from graph.profile import GatewaySettings
from services.control.ports import ComponentsPort, PlansPort, ShelfPort, SuitesPort
from services.control.server import ControlHost
from services.deploy.control import Control
from services.gateway.server import GatewayHost
from services.runtime.component import Held
from services.runtime.factory import ComponentSpec
from services.runtime.host import Host
from services.runtime.scaling import OngoingPolicy
from services.runtime.settings import RuntimeSettings

GATEWAY_APP = "gateway"
CONTROL_APP = "control"
HEALTH_PERIOD_S = 2.0
HEALTH_TIMEOUT_S = 6.0
LOOK_BACK_S = 2.0


def component_spec(plan: ComponentPlan, store_paths: tuple[str, ...]) -> ComponentSpec:
    """Return what a replica of a component is built from."""
    held = tuple(Held(version) for version in plan.versions)
    return ComponentSpec(
        component=plan.id,
        kind=plan.kind,
        type=plan.type,
        factory=plan.factory,
        store_paths=store_paths,
        held=held + tuple(Held(version, adapter=True) for version in plan.adapters),
        options=dict(plan.options),
        dtype=plan.settings.dtype,
        device=plan.settings.device,
        threads=plan.settings.threads,
        max_batch=plan.settings.max_batch,
        queue_limit=plan.settings.queue_limit,
    )


def component_application(
    plan: ComponentPlan, store_paths: tuple[str, ...], settings: RuntimeSettings
) -> serve.Application:
    """Return the Serve application of a component."""
    process = plan.settings
    scaling: dict[str, Any] = {"num_replicas": process.replicas.min}
    if process.replicas.min != process.replicas.max:
        scaling = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=process.replicas.min,
                max_replicas=process.replicas.max,
                initial_replicas=process.replicas.min,
                upscale_delay_s=process.autoscaling.upscale_delay_s,
                downscale_delay_s=process.autoscaling.downscale_delay_s,
                metrics_interval_s=0.5,
                look_back_period_s=LOOK_BACK_S,
                policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
                    policy_function=OngoingPolicy,
                    policy_kwargs={"target_ongoing": process.autoscaling.target_ongoing},
                ),
            )
        }
    deployment: Any = serve.deployment(
        name=plan.kind,
        ray_actor_options={"num_cpus": process.cpus, "num_gpus": process.gpus},
        max_ongoing_requests=1000,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=settings.max_deadline_s + 5.0,
        graceful_shutdown_wait_loop_s=0.1,
        **scaling,
    )(Host)
    application: serve.Application = deployment.bind(component_spec(plan, store_paths), settings)
    return application


def control_application(
    control: Control,
    store_paths: tuple[str, ...],
    runtime: RuntimeSettings,
    components: ComponentsPort,
    shelf: ShelfPort,
    suites: SuitesPort,
    plans: PlansPort,
) -> serve.Application:
    """Return the Serve application of the control service: one replica, on a fixed port."""
    deployment: Any = serve.deployment(
        name="control",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.01},
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=1.0,
    )(ControlHost)
    application: serve.Application = deployment.bind(
        (control.host, control.port), control.registry_url, store_paths, runtime, components, shelf, suites, plans
    )
    return application


def gateway_application(settings: GatewaySettings, runtime: RuntimeSettings, component_token: str) -> serve.Application:
    """Return the Serve application of the gateway: one replica, on a fixed port."""
    deployment: Any = serve.deployment(
        name="gateway",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=runtime.max_deadline_s + 5.0,
        graceful_shutdown_wait_loop_s=0.1,
    )(GatewayHost)
    application: serve.Application = deployment.bind(settings, runtime, component_token)
    return application
