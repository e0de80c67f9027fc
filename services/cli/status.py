"""``anyplex status``: what runs, where, and how loaded it is; updates in place on a terminal."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from services.cli.connect import DEFAULT_NAME, cluster_state
from services.cli.exits import Exit
from services.cli.output import mebibytes, print_json, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.deploy.state import ClusterState
    from services.deploy.status import ComponentStatus

PERIOD_S = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything once, as JSON.")
@click.option("--watch/--once", default=None, help="Update in place until Ctrl-C; the default on a terminal.")
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
def status(as_json: bool, watch: bool | None, name: str) -> int:
    """Show the cluster started here: systems, components, replicas, versions, load.

    Exits with 4 if none runs.
    """
    state = cluster_state(name)
    if state is None:
        if as_json:
            print_json({"cluster": None, "systems": [], "components": []})
        else:
            click.echo(f"no cluster {name!r} runs here; start one with: anyplex up", err=True)
        return Exit.UNAVAILABLE
    if as_json:
        print_json(collect(state))
        return Exit.OK
    if watch or (watch is None and sys.stdout.isatty()):
        _watch(name)
    else:
        click.echo(render(collect(state)))
    return Exit.OK


def collect(state: ClusterState) -> dict[str, Any]:
    """Ask gateway and components for everything there is to show."""
    from anyplex import AnyplexError, Client
    from services.deploy.status import component_stats

    systems: list[dict[str, Any]] = []
    problem = ""
    if state.phase == "ready":
        try:
            with Client(state.address, token=state.token, deadline_s=5.0, retry=False) as client:
                systems = [dataclasses.asdict(system) for system in client.systems()]
        except AnyplexError as error:
            problem = str(error)
    return {
        "cluster": {
            "name": state.name,
            "phase": state.phase,
            "line": state.line,
            "address": state.address,
            "metrics_address": state.metrics_address,
            "pid": state.pid,
            "profile": state.profile,
            "started_at": state.started_at,
            "uptime_s": round(time.time() - state.started_at, 1),
            "log_path": state.log_path,
            "problem": problem,
        },
        "systems": systems,
        "components": [_component(item) for item in component_stats(state)],
    }


def _component(item: ComponentStatus) -> dict[str, Any]:
    return dataclasses.asdict(item)


def render(found: dict[str, Any]) -> str:
    """Return the status as text."""
    cluster = found["cluster"]
    head = f"{cluster['name']}: {cluster['phase']} at {cluster['address']}, profile {cluster['profile']}"
    head += f", up {cluster['uptime_s']:.0f} s"
    lines = [head]
    if cluster["phase"] != "ready" and cluster["line"]:
        lines.append(f"  {cluster['line']}")
    if cluster["problem"]:
        lines.append(f"  gateway: {cluster['problem']}")
    systems = [
        (
            system["name"] + (" (default)" if system["default"] else ""),
            "ready" if system["ready"] else "starting",
            ", ".join(system["inputs"]),
            ", ".join(system["outputs"]),
            ", ".join(f"{slot} {version[:8]}" for slot, version in sorted(system["versions"].items())),
        )
        for system in found["systems"]
    ]
    lines += ["", table("", ("system", "state", "takes", "makes", "versions"), systems)]
    lines += ["", table("", _COLUMNS, [row for item in found["components"] for row in _rows(item)])]
    return "\n".join(lines)


# What a narrow terminal cuts off stands last.
_COLUMNS = (
    "component", "replica", "wait", "run", "done", "failed", "memory", "up s", "start s", "versions", "serves",
)  # fmt: skip


def _rows(item: dict[str, Any]) -> list[tuple[object, ...]]:
    """Return one row a replica; a component that sleeps has one without."""
    uses = ", ".join(item["uses"])
    if not item["replicas"]:
        return [(item["component"], "none", None, None, None, None, "", None, None, "", uses)]
    return [
        (
            item["component"],
            replica["address"] + (f" ({replica['error']})" if replica["error"] else ""),
            replica["waiting"],
            replica["running"],
            replica["finished"],
            replica["failed"],
            mebibytes(replica["resident_bytes"]),
            round(replica["uptime_s"]),
            round(replica["cold_start_s"], 1),
            ", ".join(version[:8] for version in replica["versions"]),
            uses,
        )
        for replica in item["replicas"]
    ]


def _watch(name: str) -> None:
    """Show the status until Ctrl-C or until the cluster is gone."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def shown() -> Text:
        state = cluster_state(name)
        text = render(collect(state)) if state is not None else f"no cluster {name!r} runs here any more"
        return Text(f"{text}\n\nCtrl-C leaves; the cluster goes on", no_wrap=True, overflow="ellipsis")

    with Live(shown(), console=Console(), auto_refresh=False) as live:
        _until_interrupted(lambda: live.update(shown(), refresh=True), lambda: cluster_state(name) is not None)


def _until_interrupted(step: Callable[[], None], going: Callable[[], bool]) -> None:
    try:
        while going():
            time.sleep(PERIOD_S)
            step()
    except KeyboardInterrupt:
        return
