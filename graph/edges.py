"""Checks what runs along the edges of a system: order of kinds, cycles, dead ends, modalities, widths."""

from __future__ import annotations

from collections.abc import Mapping

from graph.catalog import Catalog
from graph.problems import Report, did_you_mean
from graph.spec import NodeSpec, SystemSpec
from graph.yaml_lines import shown

SOURCES: Mapping[str, tuple[str, ...]] = {
    "encoder": (),
    "input_projector": ("encoder", "input_projector"),
    "backbone": ("input_projector",),
    "output_projector": ("backbone",),
    "generator": ("output_projector",),
}
READERS: Mapping[str, str] = {
    "encoder": "an input_projector",
    "input_projector": "the backbone",
    "output_projector": "a generator",
}


def check_edges(spec: SystemSpec, catalog: Catalog, report: Report) -> None:
    """Check every edge of a system."""
    for node in spec.nodes.values():
        _check_sources(spec, node, report)
    cyclic = _check_cycles(spec, report)
    _check_dead_ends(spec, cyclic, report)
    for node in spec.nodes.values():
        for source in (spec.nodes[name] for name in node.inputs if name in spec.nodes):
            _check_widths(source, node, report)
            _check_signal_modality(source, node, report)
    _check_read_modalities(spec, catalog, report)


def _check_sources(spec: SystemSpec, node: NodeSpec, report: Report) -> None:
    what = f"node {node.name!r}"
    allowed = SOURCES.get(node.kind)
    if allowed == () and node.inputs:
        report.add(node.line("from"), f"{what}: from: encoders read what the request brings, not other nodes")
        return
    if allowed and not node.inputs and node.kind != "backbone":
        report.add(node.line("from"), f"{what}: reads from nothing", f"add 'from:' with the name of {_one_of(allowed)}")
    for name in node.inputs:
        line = node.line(f"from.{name}")
        source = spec.nodes.get(name)
        if source is None:
            others = [other for other in spec.nodes if other != node.name]
            report.add(line, f"{what}: from: there is no node {shown(name)}", did_you_mean(name, others))
        elif allowed and source.kind in SOURCES and source.kind not in allowed and source is not node:
            hint = ""
            if (source.kind, node.kind) == ("encoder", "backbone"):
                hint = "put an input_projector between them"
            elif (source.kind, node.kind) == ("backbone", "generator"):
                hint = "put an output_projector between them"
            wanted = f"{node.kind} reads from {_one_of(allowed)}"
            report.add(line, f"{what}: from: {wanted}, {name!r} is {source.kind}", hint)


def _one_of(kinds: tuple[str, ...]) -> str:
    return " or ".join(f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds)


def _check_cycles(spec: SystemSpec, report: Report) -> set[str]:
    """Report every cycle once, at its first node in the file; return the nodes on cycles."""
    sources = {name: [s for s in node.inputs if s in spec.nodes] for name, node in spec.nodes.items()}
    cyclic: set[str] = set()
    finished: set[str] = set()
    for start in spec.nodes:
        # Depth first along `from`, with a stack of its own: files are not limited to Python's recursion.
        path: list[str] = []
        open_nodes: set[str] = set()
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                open_nodes.discard(name)
                finished.add(name)
            elif name in open_nodes:
                cycle = path[path.index(name) :]
                if not cyclic.issuperset(cycle):
                    _report_cycle(spec, cycle, report)
                cyclic.update(cycle)
            elif name not in finished:
                path.append(name)
                open_nodes.add(name)
                stack.append((name, True))
                stack.extend((source, False) for source in reversed(sources[name]))
    return cyclic


def _report_cycle(spec: SystemSpec, cycle: list[str], report: Report) -> None:
    order = list(spec.nodes)
    # Found against the edges; told along them, from the node that comes first in the file.
    along = cycle[::-1]
    first = min(range(len(along)), key=lambda index: order.index(along[index]))
    told = along[first:] + along[:first]
    node = spec.nodes[told[0]]
    report.add(
        node.line("from"),
        f"cycle: {' → '.join([*told, told[0]])}",
        f"take {shown(told[-1])} out of 'from' of {told[0]!r}, or cut it elsewhere",
    )


def _check_dead_ends(spec: SystemSpec, cyclic: set[str], report: Report) -> None:
    """Report nodes whose output nobody uses; nodes that feed only such ones are told too."""
    read = {name for node in spec.nodes.values() for name in node.inputs}
    dangling = {name for name in read if name not in spec.nodes}
    for name, node in spec.nodes.items():
        reader = READERS.get(node.kind)
        if reader is None or name in read or name in cyclic:
            continue
        near = [word for word in dangling if did_you_mean(word, [name]).startswith("did you mean")]
        if near:
            # Somebody means this node and misspelt it: that is one problem, and it has been told.
            continue
        report.add(node.line(), f"node {name!r}: nothing reads from it", f"name it in 'from' of {reader}")


def _check_widths(source: NodeSpec, node: NodeSpec, report: Report) -> None:
    given, wanted = source.options.get("output_width"), node.options.get("input_width")
    if isinstance(given, int) and isinstance(wanted, int) and given != wanted:
        report.add(
            node.line("options.input_width"),
            f"node {node.name!r}: input_width {wanted}, but {source.name!r} states output_width {given}",
            "make them the same",
        )


def _check_signal_modality(source: NodeSpec, node: NodeSpec, report: Report) -> None:
    if node.kind != "generator" or source.kind != "output_projector" or not source.signal or not node.modality:
        return
    if source.signal != node.modality:
        report.add(
            node.line("modality"),
            f"node {node.name!r}: makes {node.modality}, but {source.name!r} reads {source.signal} signals",
            "they must be the same modality",
        )


def _check_read_modalities(spec: SystemSpec, catalog: Catalog, report: Report) -> None:
    """Check that projectors which read only some modalities are given those."""
    for node in spec.nodes.values():
        known = catalog.get((node.kind, node.type))
        if node.kind != "input_projector" or known is None or not known.modalities:
            continue
        for source in _encoders_above(spec, node):
            if source.modality and source.modality not in known.modalities:
                report.add(
                    node.line("from"),
                    f"node {node.name!r}: type {node.type!r} reads {' and '.join(known.modalities)}, "
                    f"{source.name!r} gives {source.modality}",
                )


def _encoders_above(spec: SystemSpec, node: NodeSpec) -> list[NodeSpec]:
    seen: dict[str, NodeSpec] = {}
    waiting = [node]
    while waiting:
        for name in waiting.pop().inputs:
            if name in spec.nodes and name not in seen:
                seen[name] = spec.nodes[name]
                waiting.append(spec.nodes[name])
    return [source for source in seen.values() if source.kind == "encoder"]
