"""``anyplex systems`` and ``anyplex describe``: what runs, and what could."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from services.cli.connect import Connection, connection_options
from services.cli.exits import Exit
from services.cli.output import Progress, mebibytes, print_json, table

if TYPE_CHECKING:
    from anyplex import System, SystemDescription
    from graph.spec import SystemSpec


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@connection_options
def systems(as_json: bool, connection: Connection) -> int:
    """List the systems that run behind the gateway, and those that come along and could be started."""
    running = {system.name: system for system in _running(connection)}
    rows = [_running_row(system) for system in running.values()]
    for name, spec in _bundled().items():
        if name not in running:
            takes, makes = _modalities(spec)
            rows.append({"name": name, "state": "not running", "takes": takes, "makes": makes, "source": spec.source})
    if as_json:
        print_json(rows)
    else:
        cells = [(r["name"], r["state"], ", ".join(r["takes"]), ", ".join(r["makes"]), r["source"]) for r in rows]
        click.echo(table("", ("system", "state", "takes", "makes", "source"), cells))
    return Exit.OK


@click.command()
@click.argument("system")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@connection_options
def describe(system: str, as_json: bool, connection: Connection) -> int:
    """Show one SYSTEM: its nodes and what serves them; from its file where it does not run."""
    from anyplex import NotFound

    try:
        running = _running(connection)
        found = next((item for item in running if item.name == system), None)
        if found is not None or connection.named:
            with connection.client() as client:
                shown = _described(client.describe(system))
        else:
            shown = _from_file(system)
    except NotFound as error:
        from graph.errors import NotFound as NoSuchSystem
        from graph.problems import did_you_mean

        raise NoSuchSystem(f"{error} ({did_you_mean(system, [item.name for item in running])})") from error
    if as_json:
        print_json(shown)
    else:
        click.echo(_text(shown))
    return Exit.OK


def _running(connection: Connection) -> list[System]:
    """Return what runs; nothing where no gateway was named and none is there."""
    from anyplex import Unavailable

    try:
        with connection.client() as client, Progress(f"asking {client.address}"):
            return client.systems(deadline_s=10.0)
    except Unavailable:
        if connection.named:
            raise
        return []


def _bundled() -> dict[str, SystemSpec]:
    from graph.spec import system_files
    from graph.validate import load_system

    return {name: load_system(path) for name, path in sorted(system_files().items())}


def _running_row(system: System) -> dict[str, Any]:
    state = "ready" if system.ready else "starting"
    return {
        "name": system.name,
        "state": f"{state} (default)" if system.default else state,
        "takes": list(system.inputs),
        "makes": list(system.outputs),
        "source": system.source,
    }


def _modalities(spec: SystemSpec) -> tuple[list[str], list[str]]:
    """Return what a system takes and makes, from its file."""
    takes = spec.inputs or tuple(
        dict.fromkeys(["text", *(node.modality for node in spec.nodes.values() if node.kind == "encoder")])
    )
    makes = spec.outputs or tuple(
        dict.fromkeys(["text", *(node.modality for node in spec.nodes.values() if node.kind == "generator")])
    )
    return list(takes), list(makes)


def _described(description: SystemDescription) -> dict[str, Any]:
    system, limits = description.system, description.limits
    return {
        "name": system.name,
        "state": "ready" if system.ready else "starting",
        "source": system.source,
        "takes": list(system.inputs),
        "makes": list(system.outputs),
        "versions": dict(system.versions),
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "type": node.type,
                "modality": node.modality,
                "from": list(node.reads_from),
                "component": node.component,
                "replicas": node.replicas,
            }
            for node in description.nodes
        ],
        "limits": vars(limits),
    }


def _from_file(name: str) -> dict[str, Any]:
    from graph.spec import find_system
    from graph.validate import load_system

    spec = load_system(find_system(name))
    takes, makes = _modalities(spec)
    return {
        "name": spec.name,
        "state": "not running",
        "source": spec.source,
        "takes": takes,
        "makes": makes,
        "versions": {},
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "type": node.type,
                "modality": node.modality,
                "from": list(node.inputs),
                "component": "",
                "replicas": None,
            }
            for node in spec.nodes.values()
        ],
        "limits": vars(spec.limits),
    }


def _text(shown: dict[str, Any]) -> str:
    lines = [f"{shown['name']} ({shown['source']}): {shown['state']}" if shown["source"] else shown["name"]]
    lines += [f"takes {', '.join(shown['takes'])}; makes {', '.join(shown['makes'])}", ""]
    rows = [
        (
            node["name"],
            node["kind"],
            node["type"],
            node["modality"] or "-",
            ", ".join(node["from"]) or "-",
            node["component"] or "-",
            node["replicas"],
        )
        for node in shown["nodes"]
    ]
    lines.append(table("", ("node", "kind", "type", "modality", "from", "component", "replicas"), rows))
    if shown["versions"]:
        lines += ["", "versions: " + ", ".join(f"{slot} {version}" for slot, version in shown["versions"].items())]
    limits = (f"{name} {_limit(name, value)}" for name, value in shown["limits"].items())
    return "\n".join([*lines, "", "limits: " + ", ".join(limits)])


def _limit(name: str, value: float) -> str:
    return mebibytes(value) if name.endswith("_bytes") else f"{value:g}"
