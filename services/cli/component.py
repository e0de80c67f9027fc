"""``anyplex component serve``: one component in a process of its own, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from graph.errors import NotFound
from graph.problems import did_you_mean
from services.cli.exits import Exit
from services.cli.output import Progress


@click.group()
def component() -> None:
    """Run one component by hand; a profile joins it to systems by its address."""


_EXAMPLE = """\b
Example:
  anyplex component serve --kind encoder --type clip_vision --weights next-gpt:see --port 50300
"""


@component.command(epilog=_EXAMPLE)
@click.option("--kind", required=True, help="Kind of node: encoder, input_projector, backbone.")
@click.option("--type", "type_", required=True, help="Type in the catalog: clip_vision, linear, decoder.")
@click.option("--weights", "-w", multiple=True, required=True, help="Version to hold, or SYSTEM:SLOT of the bundled.")
@click.option("--adapter", "adapters", multiple=True, help="Version of an adapter to hold, or SYSTEM:SLOT.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; beyond loopback it needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0 lets the system choose.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the node.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Device of torch.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads for torch.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Directory of artifacts.")
def serve(
    kind: str,
    type_: str,
    weights: tuple[str, ...],
    adapters: tuple[str, ...],
    host: str,
    port: int,
    options: tuple[str, ...],
    dtype: str,
    device: str,
    threads: int,
    store: Path | None,
) -> int:
    """Serve one component until Ctrl-C. Tokens: ANYPLEX_COMPONENT_TOKEN, ANYPLEX_CONTROL_TOKEN."""
    from services.deploy.standalone import ServeOptions, serve_component

    held = tuple(_version(name) for name in weights)
    held_adapters = tuple(_version(name) for name in adapters)
    with Progress(f"loading {kind} {type_}") as progress:

        def report(address: str) -> None:
            progress.stop()
            click.echo(f"{kind} {type_} serves at {address}")

        serve_component(
            ServeOptions(
                kind, type_, held, held_adapters, host, port, dict(map(_option, options)), dtype, device, threads, store
            ),
            report,
        )
    return Exit.OK


def _version(name: str) -> str:
    """Return a version: the name itself, or what a bundled set has in ``SYSTEM:SLOT``."""
    system, colon, slot = name.partition(":")
    if not colon:
        return name
    from services.deploy.versions import Weights

    slots = Weights.bundled().set_of(system)
    if slot not in slots:
        raise NotFound(f"{system} has no slot {slot!r} ({did_you_mean(slot, slots)})")
    return slots[slot]


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--option {text}: expected NAME=VALUE")
    return name, yaml.safe_load(value)
