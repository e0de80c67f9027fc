"""From what is written to what is run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping

from graph.catalog import WIDTHS, Catalog, load_catalog
from graph.plan import ComponentPlan, NodePlan, OutputRoute, SystemPlan
from graph.problems import Problem, Report
from graph.profile import ComponentSettings, Profile, Replicas
from graph.spec import NodeSpec, SystemSpec, raise_problems
from graph.validate import check_system

ID_CHARS = 6


def compile_system(
    spec: SystemSpec,
    profile: Profile,
    versions: Mapping[str, str] | None = None,
    architectures: Mapping[str, str] | None = None,
    catalog: Catalog | None = None,
) -> SystemPlan:
    """Compile a system for a profile.

    Args:
        spec: The system.
        profile: Where its components run.
        versions: Slot to artifact version; may be incomplete (see ``check_versions``).
        architectures: Slot to hash of kind, type and config of its artifact. Nodes whose slots have the same one
            share a component. Without it a node shares with nodes of the same version, without that with none.
        catalog: Types of component; the installed ones unless given.

    Raises:
        SpecError: The system has problems; all of them are told.
    """
    types = load_catalog() if catalog is None else catalog
    raise_problems(check_system(spec, types), f"system {spec.name!r}")
    slots, shapes = dict(versions or {}), dict(architectures or {})
    nodes = {
        name: _plan_node(spec, spec.nodes[name], profile, slots, shapes, types) for name in topological_order(spec)
    }
    encoders: dict[str, tuple[NodePlan, ...]] = {}
    # In the order of the file, so that media with two encoders are laid side by side as written.
    for name, node in spec.nodes.items():
        if node.kind == "encoder":
            encoders[node.modality] = (*encoders.get(node.modality, ()), nodes[name])
    return SystemPlan(
        system=spec.name,
        source=spec.source,
        profile=profile.name,
        nodes=tuple(nodes.values()),
        versions=slots,
        encoders=encoders,
        projectors=tuple(node for node in nodes.values() if node.kind == "input_projector"),
        backbone=next(node for node in nodes.values() if node.kind == "backbone"),
        outputs={
            node.modality: OutputRoute(tuple(nodes[name] for name in node.inputs), node)
            for node in nodes.values()
            if node.kind == "generator"
        },
        default_sampling=spec.default_sampling,
        limits=spec.limits,
        file=spec.file,
    )


def topological_order(spec: SystemSpec) -> list[str]:
    """Return the nodes so that each stands after those it reads from; ties in the order of the file.

    Nodes on a cycle, and what follows them, are left out; validation tells about them.
    """
    waiting = {name: {source for source in node.inputs if source in spec.nodes} for name, node in spec.nodes.items()}
    readers: dict[str, list[str]] = {name: [] for name in spec.nodes}
    for name, sources in waiting.items():
        for source in sources:
            readers[source].append(name)
    ready = [name for name, sources in waiting.items() if not sources]
    order: list[str] = []
    for name in ready:
        order.append(name)
        for reader in readers[name]:
            waiting[reader].discard(name)
            if not waiting[reader]:
                ready.append(reader)
    return order


def _plan_node(
    spec: SystemSpec,
    node: NodeSpec,
    profile: Profile,
    versions: Mapping[str, str],
    architectures: Mapping[str, str],
    catalog: Catalog,
) -> NodePlan:
    settings = profile.settings_for(spec.name, node.name, node.kind)
    architecture = architectures.get(node.slot, "")
    identity = architecture or versions.get(node.slot, "") or f"{spec.name}.{node.slot}"
    return NodePlan(
        name=node.name,
        kind=node.kind,
        type=node.type,
        component=component_id(node.kind, node.type, identity, node.options, settings),
        factory=catalog[node.kind, node.type].factory,
        modality=node.modality,
        inputs=node.inputs,
        frames=node.frames,
        signal=node.signal,
        signals=node.signals,
        slot=node.slot,
        adapter_slot=node.adapter_slot,
        architecture=architecture,
        options=node.options,
        settings=settings,
        line=node.line(),
    )


def component_id(
    kind: str, type: str, architecture: str, options: Mapping[str, object], settings: ComponentSettings
) -> str:
    """Return the id of the component that serves such a node.

    How many replicas there are is left out, so that scaling never makes another component; stated widths are
    left out, because they only check.
    """
    process = dataclasses.asdict(settings)
    for key in ("replicas", "autoscaling"):
        del process[key]
    shaping = {key: value for key, value in options.items() if key not in WIDTHS}
    content = json.dumps([kind, type, architecture, shaping, process], sort_keys=True).encode()
    return f"{kind}-{type}-{hashlib.sha256(content).hexdigest()[:ID_CHARS]}"


def merge_components(plans: Iterable[SystemPlan]) -> list[ComponentPlan]:
    """Return the components that these systems need together, each once, with every version it must hold.

    Systems that ask for different numbers of replicas of the same component get the larger ones.
    """
    merged: dict[str, ComponentPlan] = {}
    for plan in plans:
        for node in plan.nodes:
            version = node.version(plan.versions)
            own = ComponentPlan(
                id=node.component,
                kind=node.kind,
                type=node.type,
                factory=node.factory,
                architecture=node.architecture,
                versions=(version.version,) if version.version else (),
                adapters=(version.adapter,) if version.adapter else (),
                options=node.options,
                settings=node.settings,
                uses=((plan.system, node.name),),
            )
            merged[own.id] = _merge(merged[own.id], own) if own.id in merged else own
    return list(merged.values())


def _merge(one: ComponentPlan, other: ComponentPlan) -> ComponentPlan:
    a, b = one.settings.replicas, other.settings.replicas
    return dataclasses.replace(
        one,
        versions=tuple(dict.fromkeys(one.versions + other.versions)),
        adapters=tuple(dict.fromkeys(one.adapters + other.adapters)),
        settings=dataclasses.replace(one.settings, replicas=Replicas(max(a.min, b.min), max(a.max, b.max))),
        uses=tuple(dict.fromkeys(one.uses + other.uses)),
    )


def check_versions(spec: SystemSpec, versions: Mapping[str, str]) -> list[Problem]:
    """Check that a version set fills every slot of weights (adapters may be absent) and no slot that is not there."""
    report = Report(spec.file)
    slots = spec.slots()
    needed = {node.slot: node.line() for node in spec.nodes.values()}
    for slot, line in needed.items():
        if not versions.get(slot):
            report.add(line, f"the version set has no version for slot {slot!r}", "name its weights in the profile")
    for slot in versions:
        if slot not in slots:
            report.add(0, f"the version set fills slot {slot!r}, which this system does not have")
    return report.in_order()
