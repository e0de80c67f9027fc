"""Checks systems without running anything, and tells everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from graph.catalog import Catalog, ComponentType, load_catalog
from graph.edges import check_edges
from graph.errors import SpecError
from graph.problems import Problem, Report, did_you_mean
from graph.profile import Profile, check_profile, read_profile
from graph.spec import TEXT, NodeSpec, SystemSpec, raise_problems, read_system, read_system_file, system_files
from graph.yaml_lines import read_yaml, shown

SERVED_KINDS = ("encoder", "input_projector", "backbone", "output_projector", "generator")
STILL = ("image", "audio")
"""Modalities without frames."""
KEY_OWNERS = {
    "modality": ("encoder", "generator"),
    "frames": ("encoder",),
    "signals": ("backbone",),
    "signal": ("output_projector",),
}


def check_system(spec: SystemSpec, catalog: Catalog) -> list[Problem]:
    """Return everything that is wrong with a system, by line."""
    report = Report(spec.file)
    for node in spec.nodes.values():
        _check_node(spec, node, catalog, report)
    _check_backbone(spec, report)
    check_edges(spec, catalog, report)
    _check_signals(spec, report)
    _check_promises(spec, report)
    return report.in_order()


def load_system(path: Path, catalog: Catalog | None = None) -> SystemSpec:
    """Read and check a system file.

    Raises:
        SpecError: The file has problems; ``problems`` tells all of them.
    """
    report = Report(str(path))
    spec = read_system_file(path, report)
    problems = report.in_order()
    if spec is not None:
        problems = _together(problems, check_system(spec, load_catalog() if catalog is None else catalog))
    raise_problems(problems, path.name)
    if spec is None:
        raise SpecError("nothing to read", str(path))
    return spec


def check_files(paths: Iterable[Path], catalog: Catalog | None = None) -> list[Problem]:
    """Check system and profile files, by what their top says; a name that two systems share is a problem too.

    Entries of profiles must name something in these systems, or in one of those that come along.
    """
    types = load_catalog() if catalog is None else catalog
    problems: list[list[Problem]] = []
    named: dict[str, str] = {}
    specs: list[SystemSpec] = []
    profiles: list[tuple[int, Profile]] = []
    for index, path in enumerate(paths):
        report = Report(str(path))
        located = read_yaml(path, report)
        found: Sequence[Problem] = ()
        if located is not None and isinstance(located.value, dict) and "profile" in located.value:
            profiles.append((index, read_profile(located, report)))
        elif located is not None:
            spec = read_system(located, report)
            specs.append(spec)
            found = check_system(spec, types)
            if spec.name and named.setdefault(spec.name, report.file) != report.file:
                report.add(spec.line("system"), f"system {spec.name!r} is also in {named[spec.name]}", "rename one")
        problems.append(_together(report.in_order(), found))
    for index, profile in profiles:
        problems[index] = _together(problems[index], check_profile(profile, known_systems(specs)))
    return [problem for found in problems for problem in found]


def known_systems(specs: Iterable[SystemSpec]) -> list[SystemSpec]:
    """Return systems together with those that come along and have none of their names."""
    known = {spec.name: spec for spec in specs}
    for path in system_files().values():
        spec = read_system_file(path, Report(str(path)))
        if spec is not None:
            known.setdefault(spec.name, spec)
    return list(known.values())


def _together(one: Sequence[Problem], other: Sequence[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys([*one, *other]))


def _check_node(spec: SystemSpec, node: NodeSpec, catalog: Catalog, report: Report) -> None:
    what = f"node {node.name!r}"
    if not node.kind:
        return
    for key, owners in KEY_OWNERS.items():
        if key in node.lines and node.kind not in owners:
            report.add(node.line(key), f"{what}: {key} is for {' and '.join(owners)} nodes, this one is {node.kind}")
    if node.kind in KEY_OWNERS["modality"] and "modality" not in node.lines:
        report.add(node.line(), f"{what}: key 'modality' is missing", "add 'modality: image', say")
    if node.kind == "output_projector" and "signal" not in node.lines:
        report.add(node.line(), f"{what}: key 'signal' is missing", "name the modality whose signals it reads")
    if node.frames and node.modality in STILL:
        report.add(node.line("frames"), f"{what}: frames are taken of a video, this node reads {node.modality}")
    if node.modality == TEXT:
        report.add(node.line("modality"), f"{what}: text is read and written by the backbone itself")
    _check_weights(spec, node, report)
    if node.kind not in SERVED_KINDS:
        report.add(node.line("kind"), f"{what}: kind {node.kind!r} cannot be served yet")
    elif node.type:
        known = catalog.get((node.kind, node.type))
        if known is None:
            report.add(
                node.line("type"), f"{what}: unknown type {shown(node.type)} of {node.kind}", _type_hint(node, catalog)
            )
        else:
            _check_type(node, known, report)


def _type_hint(node: NodeSpec, catalog: Catalog) -> str:
    elsewhere = [kind for kind, type in catalog if type == node.type]
    if elsewhere:
        return f"it is a type of {elsewhere[0]}"
    return did_you_mean(node.type, [type for kind, type in catalog if kind == node.kind])


def _check_type(node: NodeSpec, known: ComponentType, report: Report) -> None:
    what = f"node {node.name!r}"
    speaks_modality = node.kind in KEY_OWNERS["modality"]
    if speaks_modality and node.modality and known.modalities and node.modality not in known.modalities:
        verb = "reads" if node.kind == "encoder" else "makes"
        report.add(
            node.line("modality"),
            f"{what}: type {node.type!r} {verb} {' and '.join(known.modalities)}, not {node.modality}",
            did_you_mean(node.modality, known.modalities),
        )
    options = known.all_options()
    for key, value in node.options.items():
        if key not in options:
            report.add(
                node.line(f"options.{key}"),
                f"{what}: options: type {node.type!r} has no option {shown(key)}",
                did_you_mean(key, options),
            )
        elif expected := options[key].complaint(value):
            report.add(
                node.line(f"options.{key}"), f"{what}: options: {key}: {expected} expected, found {shown(value)}"
            )


def _check_weights(spec: SystemSpec, node: NodeSpec, report: Report) -> None:
    if not node.weights or node.weights == node.name:
        return
    what = f"node {node.name!r}: weights"
    owner = spec.nodes.get(node.weights)
    if owner is None:
        hint = did_you_mean(node.weights, [name for name in spec.nodes if name != node.name])
        report.add(node.line("weights"), f"{what}: there is no node {shown(node.weights)}", hint)
    elif owner.weights:
        report.add(node.line("weights"), f"{what}: {owner.name!r} borrows its weights itself", "name their owner")
    elif owner.kind and node.kind and (owner.kind, owner.type) != (node.kind, node.type):
        report.add(
            node.line("weights"),
            f"{what}: {owner.name!r} is {owner.kind} {owner.type!r}, this is {node.kind} {node.type!r}",
            "only nodes of the same type share weights",
        )


def _check_backbone(spec: SystemSpec, report: Report) -> None:
    backbones = [node for node in spec.nodes.values() if node.kind == "backbone"]
    unreadable = any(not node.kind for node in spec.nodes.values())
    if not backbones and spec.nodes and not unreadable:
        report.add(spec.line("nodes"), "there is no backbone", "add 'think: {kind: backbone, type: decoder, from: …}'")
    for node in backbones[1:]:
        first = backbones[0].name
        report.add(node.line("kind"), f"node {node.name!r}: a second backbone, after {first!r}; one expected")


def _check_signals(spec: SystemSpec, report: Report) -> None:
    readers = [node for node in spec.nodes.values() if node.kind == "output_projector"]
    emitted = {modality for node in spec.nodes.values() for modality in node.signals}
    for node in spec.nodes.values():
        for modality in node.signals:
            if not any(reader.signal == modality for reader in readers):
                report.add(
                    node.line("signals"),
                    f"node {node.name!r}: signals: no output projector reads {modality!r}",
                    f"add one with 'signal: {modality}', or leave it out",
                )
    for reader in readers:
        sources = [spec.nodes[name] for name in reader.inputs if name in spec.nodes]
        if reader.signal and sources and not any(reader.signal in source.signals for source in sources):
            report.add(
                reader.line("signal"),
                f"node {reader.name!r}: signal: its backbone emits no {reader.signal!r} signals",
                did_you_mean(reader.signal, emitted) or f"add 'signals: {{{reader.signal}: …}}' to the backbone",
            )
    made: dict[str, str] = {}
    for node in spec.nodes.values():
        if node.kind != "generator" or not node.modality:
            continue
        first = made.setdefault(node.modality, node.name)
        if first != node.name:
            report.add(node.line(), f"node {node.name!r}: {node.modality} is already made by {first!r}")


def _check_promises(spec: SystemSpec, report: Report) -> None:
    takes = {TEXT} | {node.modality for node in spec.nodes.values() if node.kind == "encoder"}
    makes = {TEXT} | {node.modality for node in spec.nodes.values() if node.kind == "generator"}
    for key, promised, kept, how in (
        ("inputs", spec.inputs, takes, "an encoder for"),
        ("outputs", spec.outputs, makes, "a generator of"),
    ):
        for modality in promised:
            if modality not in kept:
                hint = did_you_mean(modality, kept) if len(kept) > 1 else f"add {how} {modality}"
                report.add(spec.line(key), f"{key}: {modality!r} is promised, but the graph has not {how} it", hint)
