"""``anyplex register``, ``versions``, ``rollout`` and ``history``: what the registry knows."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.cli.connect import DEFAULT_NAME, cluster_state
from services.cli.exits import Exit
from services.cli.output import print_json, table

if TYPE_CHECKING:
    from services.registry import Page, Registry, Rollout

Result = TypeVar("Result")


def registry_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options that say which registry it reads, and how it prints; it takes them opened."""

    @click.option("--registry", "url", help="Database of the registry; else ANYPLEX_REGISTRY, or the cluster's.")
    @click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
    @click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
    @functools.wraps(command)
    def with_registry(url: str | None, name: str, as_json: bool, **rest: Any) -> Result:  # noqa: ANN401 - the command's own
        from services.deploy.state import registry_of
        from services.registry import Registry

        state = cluster_state(name)
        registry = Registry(url or (state.registry_url if state else "") or registry_of(name))
        try:
            return command(registry=registry, as_json=as_json, **rest)
        finally:
            registry.close()

    return with_registry


def page_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options that bound what it lists."""
    command = click.option("--limit", type=click.IntRange(1, 100), default=50, show_default=True)(command)
    return click.option("--page", "page_token", default="", help="Where to go on: next_page of the page before.")(
        command
    )


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="VERSION|SYSTEM...")
@registry_options
def register(names: tuple[str, ...], registry: Registry, as_json: bool) -> int:
    """Make artifacts known: by their VERSION, or all that the bundled set of a SYSTEM names. Again is harmless."""
    from services.artifacts import ArtifactStore
    from services.artifacts.store import VERSION_PATTERN
    from services.control.known import register as register_artifacts
    from services.deploy.versions import Weights, own_artifacts

    weights = Weights.bundled()
    store = ArtifactStore(own_artifacts(), weights.store.root)
    wanted: dict[str, None] = {}
    for name in names:
        wanted |= dict.fromkeys([name] if VERSION_PATTERN.fullmatch(name) else weights.set_of(name).values())
    known = register_artifacts(registry, store, wanted)
    if as_json:
        print_json([dataclasses.asdict(item) for item in known])
    else:
        click.echo(table("", ("version", "kind", "type"), [(item.version, item.kind, item.type) for item in known]))
    return Exit.OK


@click.command()
@click.argument("version", required=False)
@click.option("--system", default="", help="Only those that a set of this system has had.")
@click.option("--kind", default="", help="Only those of a kind.")
@page_options
@registry_options
def versions(
    version: str | None, system: str, kind: str, limit: int, page_token: str, registry: Registry, as_json: bool
) -> int:
    """List the artifacts that are known, or show one VERSION with all that is said of it."""
    if version is not None:
        known = registry.artifact(version)
        if as_json:
            print_json(dataclasses.asdict(known))
        else:
            rows = [("kind", known.kind), ("type", known.type), ("config", known.config_hash),
                    ("registered", _moment(known.registered_at)), ("live in", ", ".join(known.live_in) or "-"),
                    *((name, _short(value)) for name, value in sorted(known.annotations.items()))]  # fmt: skip
            click.echo(table(known.version, ("what", "is"), rows))
        return Exit.OK
    page = registry.artifacts(system=system, kind=kind, limit=limit, page_token=page_token)
    cells = [
        (item.version, item.kind, item.type, _moment(item.registered_at), ", ".join(item.live_in) or "-")
        for item in page.items
    ]
    _print_page("versions", page, as_json, ("version", "kind", "type", "registered", "live in"), cells)
    return Exit.OK


@click.command()
@click.argument("system")
@click.option("--id", "rollout_id", default="", help="Only this one, with its versions and scores.")
@page_options
@registry_options
def rollout(system: str, rollout_id: str, limit: int, page_token: str, registry: Registry, as_json: bool) -> int:
    """Show the rollouts of SYSTEM, the last first: where they are, and why."""
    if rollout_id:
        one = registry.rollout(rollout_id)
        if as_json:
            print_json(dataclasses.asdict(one))
        else:
            click.echo(_told(one))
        return Exit.OK
    registry.system(system)
    page = registry.rollouts(system, limit, page_token)
    cells = [
        (item.id, item.state, f"{item.before.generation} → {item.after.generation}", _changes(item),
         "-" if item.canary is None else f"{item.canary:.0%}", _moment(item.updated_at), item.why or "-")
        for item in page.items
    ]  # fmt: skip
    _print_page("rollouts", page, as_json, ("id", "state", "sets", "changes", "canary", "at", "why"), cells)
    return Exit.OK


@click.command()
@click.argument("system")
@page_options
@registry_options
def history(system: str, limit: int, page_token: str, registry: Registry, as_json: bool) -> int:
    """Show what happened to the versions of SYSTEM, the last first."""
    page = registry.history(system, limit, page_token)
    cells = [
        (item.number, _moment(item.at), item.what, item.live or None, item.rollout or "-", item.why or "-")
        for item in page.items
    ]
    _print_page("history", page, as_json, ("number", "at", "what", "live set", "rollout", "why"), cells)
    return Exit.OK


def _print_page(
    name: str,
    page: Page[Any],
    as_json: bool,
    columns: tuple[str, ...],
    cells: Sequence[Sequence[object]],
) -> None:
    if as_json:
        print_json({name: [dataclasses.asdict(item) for item in page.items], "next_page": page.next_token})
        return
    click.echo(table("", columns, cells))
    if page.next_token:
        click.echo(f"more: --page {page.next_token}")


def _told(one: Rollout) -> str:
    rows = [
        (slot, one.before.slots.get(slot, "-"), one.after.slots.get(slot, "-"))
        for slot in sorted({*one.before.slots, *one.after.slots})
        if one.before.slots.get(slot) != one.after.slots.get(slot)
    ]
    lines = [f"{one.id} of {one.system}: {one.state}" + (f" ({one.why})" if one.why else "")]
    lines.append(table("", ("slot", f"set {one.before.generation}", f"set {one.after.generation}"), rows))
    if one.scores:
        lines.append("scores: " + ", ".join(f"{name} {score:g}" for name, score in sorted(one.scores.items())))
    return "\n".join(lines)


def _changes(one: Rollout) -> str:
    if one.undoes:
        return "back"
    return ", ".join(f"{slot} {version or 'emptied'}" for slot, version in sorted(one.changes.items()))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
