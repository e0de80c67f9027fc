"""From a plan that runs to one with other versions in some of its slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from graph.catalog import Catalog, load_catalog
from graph.compile import component_id
from graph.errors import FailedPrecondition, InvalidRequest
from graph.plan import NodePlan, OutputRoute, SystemPlan

ADAPTER = "adapter"


@dataclass(frozen=True)
class VersionInfo:
    """What has to be known of an artifact before anything is loaded.

    Attributes:
        version: Its version.
        kind: Its kind; "adapter" for what adapts another version.
        type: Its type.
        architecture: Hash of kind, type and config.
    """

    version: str
    kind: str
    type: str
    architecture: str


def with_versions(plan: SystemPlan, changes: Mapping[str, VersionInfo], catalog: Catalog | None = None) -> SystemPlan:
    """Return the plan with other versions, one generation on.

    A node whose new version has the architecture of the old one keeps its component; any other gets a component of
    its own, which then has to be started beside the old.

    Raises:
        InvalidRequest: The system has no such slot.
        FailedPrecondition: A version is of another kind than its slot, or of a type that nobody knows.
    """
    for slot in changes:
        if slot not in plan.slots():
            raise InvalidRequest(f"no such slot; there are: {', '.join(plan.slots())}", f"slots[{slot[:100]!r}]")
    types = load_catalog() if catalog is None else catalog
    nodes = {node.name: _changed(node, changes, types) for node in plan.nodes}

    def after(before: tuple[NodePlan, ...]) -> tuple[NodePlan, ...]:
        return tuple(nodes[node.name] for node in before)

    return replace(
        plan,
        nodes=after(plan.nodes),
        versions={**plan.versions, **{slot: info.version for slot, info in changes.items()}},
        encoders={modality: after(encoders) for modality, encoders in plan.encoders.items()},
        projectors=after(plan.projectors),
        backbone=nodes[plan.backbone.name],
        outputs={
            modality: OutputRoute(after(route.projectors), nodes[route.generator.name])
            for modality, route in plan.outputs.items()
        },
        generation=plan.generation + 1,
    )


def _changed(node: NodePlan, changes: Mapping[str, VersionInfo], types: Catalog) -> NodePlan:
    adapter = changes.get(node.adapter_slot) if node.adapter_slot else None
    if adapter is not None and adapter.kind != ADAPTER:
        _refuse(adapter, node.adapter_slot, f"an {ADAPTER}")
    new = changes.get(node.slot)
    if new is None:
        return node
    if new.kind != node.kind:
        _refuse(new, node.slot, f"{node.kind} {node.type!r}")
    if new.type == node.type and new.architecture == (node.architecture or new.architecture):
        return node
    if (new.kind, new.type) not in types:
        raise FailedPrecondition(f"version {new.version}: there is no {new.kind} {new.type!r}", f"slot {node.slot}")
    return replace(
        node,
        type=new.type,
        factory=types[new.kind, new.type].factory,
        architecture=new.architecture,
        component=component_id(new.kind, new.type, new.architecture, node.options, node.settings),
    )


def _refuse(found: VersionInfo, slot: str, expected: str) -> None:
    problem = f"version {found.version} is {found.kind} {found.type!r}, {expected} expected"
    raise FailedPrecondition(problem, f"slot {slot}")
