"""From names of systems and a profile to plans with versions, without touching a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graph.compile import check_versions, compile_system, merge_components
from graph.errors import InvalidRequest
from graph.plan import ComponentPlan, SystemPlan
from graph.profile import Profile, check_profile, load_profile
from graph.spec import SystemSpec, find_system, raise_problems
from graph.validate import known_systems, load_system
from services.artifacts import ArtifactStore
from services.artifacts.store import VERSION_PATTERN
from services.deploy.versions import Weights, architectures, import_weights, own_artifacts


@dataclass(frozen=True)
class Deployment:
    """What is to run.

    Attributes:
        profile: How.
        systems: Plans by name, in the order they were asked for.
        components: Components they need together.
        store_paths: Directories or URLs of artifacts, searched in order.
    """

    profile: Profile
    systems: dict[str, SystemPlan]
    components: tuple[ComponentPlan, ...]
    store_paths: tuple[str, ...]


def plan_deployment(
    systems: Sequence[str],
    profile_name: str = "local",
    weights: str | None = None,
    store: Path | None = None,
    live: Mapping[str, Mapping[str, str]] | None = None,
) -> Deployment:
    """Plan what is to run.

    Args:
        systems: Names, or paths of system files.
        profile_name: Name, or path of a profile file.
        weights: Checkpoint (directory or hub id) instead of the bundled weights; for one system only.
        store: Where imported checkpoints are kept; by default under the user's Anyplex directory.
        live: Versions that run, by system: they stay where nothing else is named.

    Raises:
        AnyplexError: A file is wrong, weights are missing or do not fill the system's slots.
    """
    if weights and len(systems) != 1:
        raise InvalidRequest("goes with exactly one system", "--weights")
    profile = load_profile(profile_name)
    bundled = Weights.bundled()
    own = store or own_artifacts()
    shelf = ArtifactStore(own, bundled.store.root)
    specs = [load_system(find_system(name)) for name in systems]
    raise_problems(check_profile(profile, known_systems(specs)), f"profile {profile.name!r}")
    plans: dict[str, SystemPlan] = {}
    for spec in specs:
        running = (live or {}).get(spec.name, {})
        versions = _versions(spec, profile, weights, bundled, shelf, running)
        raise_problems(check_versions(spec, versions), f"system {spec.name!r}")
        trimmed = _without_empty_adapters(spec, versions)
        plans[spec.name] = compile_system(trimmed, profile, versions, architectures(shelf, versions))
    return Deployment(profile, plans, tuple(merge_components(plans.values())), (str(own), str(bundled.store.root)))


def _versions(
    spec: SystemSpec,
    profile: Profile,
    weights: str | None,
    bundled: Weights,
    shelf: ArtifactStore,
    running: Mapping[str, str],
) -> dict[str, str]:
    """Return the version set: from ``weights``, else slot by slot from the profile, else from what comes along."""
    if weights:
        return import_weights(spec, weights, shelf)
    sources = {slot: profile.weights_for(spec.name, slot) for slot in spec.slots()}
    stated = {slot: source for slot, source in sources.items() if source}
    versions: dict[str, str] = {}
    if len(stated) < len(sources):
        versions = {slot: version for slot, version in running.items() if slot in sources}
        if set(sources) - set(stated) - set(versions):
            versions = {slot: v for slot, v in bundled.set_of(spec.name).items() if slot in sources} | versions
    imported: dict[str, dict[str, str]] = {}
    for slot, source in stated.items():
        if VERSION_PATTERN.fullmatch(source):
            versions[slot] = source
            continue
        if source not in imported:
            imported[source] = import_weights(spec, source, shelf)
        # A checkpoint without an adapter leaves that slot empty, whatever comes along.
        versions[slot] = imported[source].get(slot, "")
    return {slot: version for slot, version in versions.items() if version}


def _without_empty_adapters(spec: SystemSpec, versions: dict[str, str]) -> SystemSpec:
    """A checkpoint without an adapter leaves that slot empty: the node then runs without one."""
    nodes = {
        name: replace(node, lora=False) if node.lora and not versions.get(node.adapter_slot) else node
        for name, node in spec.nodes.items()
    }
    return replace(spec, nodes=nodes)
