"""``anyplex up`` and ``anyplex down``."""

from __future__ import annotations

import click

from services.cli.connect import DEFAULT_NAME
from services.cli.exits import Exit
from services.cli.output import Progress


@click.command()
@click.argument("systems", nargs=-1, metavar="[SYSTEM...]")
@click.option("--profile", "-p", default="local", show_default=True, help="Name or file of the profile.")
@click.option("--weights", metavar="DIR_OR_HUB_ID", help="A checkpoint instead of the bundled weights.")
@click.option("--detach", "-d", is_flag=True, help="Return when it is ready; it goes on in the background.")
@click.option("--host", default="", help="Address of the gateway; else the profile's (loopback).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the gateway; else the profile's (50051).")
@click.option("--token", default="", envvar="ANYPLEX_TOKEN", help="Token to ask for; needed beyond loopback.")
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
@click.option("--ray-address", default="", help="A Ray cluster to join; else one is started here.")
def up(
    systems: tuple[str, ...],
    profile: str,
    weights: str | None,
    detach: bool,
    host: str,
    port: int | None,
    token: str,
    name: str,
    ray_address: str,
) -> int:
    """Start a cluster that serves SYSTEMs (names, or files; next-gpt if none is named).

    Without --detach it runs until Ctrl-C, and takes everything down then.
    """
    from services.deploy.launch import UpOptions, run_foreground, start_detached

    options = UpOptions(
        systems=systems or UpOptions.systems,
        profile=profile,
        weights=weights,
        host=host,
        port=port or 0,
        token=token,
        name=name,
        ray_address=ray_address,
    )
    if not detach:
        with Progress("starting", quiet_s=0.0) as progress:

            def report(line: str) -> None:
                progress.report(line)
                if line.startswith("ready"):
                    progress.stop()
                    click.echo("press Ctrl-C to stop it", err=True)

            run_foreground(options, report)
        return Exit.OK
    with Progress("starting", quiet_s=0.0) as progress:
        state = start_detached(options, progress.report)
    click.echo(f"{', '.join(state.systems)} at {state.address} (log: {state.log_path}); stop with: {_down(name)}")
    return Exit.OK


@click.command()
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
def down(name: str) -> int:
    """Stop the cluster started here; requests under way may end first. Fine if there is none."""
    from services.deploy.launch import stop

    with Progress("stopping", quiet_s=0.0) as progress:
        stopped = stop(name, progress.report)
    click.echo("stopped" if stopped else "nothing runs here")
    return Exit.OK


def _down(name: str) -> str:
    return "anyplex down" if name == DEFAULT_NAME else f"anyplex down --name {name}"
