"""``anyplex apply`` and ``anyplex delete``: which systems run, in a cluster that runs."""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.exits import Exit
from services.cli.output import print_json
from services.cli.swap import ANSWER_S, cluster_option, connected, json_option

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--profile", type=FILE, help="Profile file; the cluster's own without it.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@cluster_option
@json_option
def apply(file: Path, profile: Path | None, dry_run: bool, name: str, as_json: bool) -> int:
    """Bring a running cluster to the state that a system FILE describes; what is as asked for stays untouched."""
    from anyplex.v1 import control_pb2

    request = control_pb2.ApplySystemRequest(
        system_yaml=file.read_text(), profile_yaml=profile.read_text() if profile else "", dry_run=dry_run
    )
    lines = []
    with connected(name) as (stub, metadata):
        for step in stub.ApplySystem(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True):
            lines.append(step.line)
            click.echo(step.line, err=as_json)
    if as_json:
        print_json({"file": str(file), "dry_run": dry_run, "lines": lines})
    return Exit.OK


@click.command()
@click.argument("system")
@cluster_option
@json_option
def delete(system: str, name: str, as_json: bool) -> int:
    """Take SYSTEM away from a running cluster when its last request has ended."""
    from anyplex.v1 import control_pb2

    with connected(name) as (stub, metadata):
        request = control_pb2.DeleteSystemRequest(system=system)
        stub.DeleteSystem(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True)
    if as_json:
        print_json({"system": system, "deleted": True})
    else:
        click.echo(f"system {system} is gone")
    return Exit.OK
