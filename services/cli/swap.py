"""``anyplex swap`` and ``anyplex rollback``: other versions under traffic, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from services.cli.connect import DEFAULT_NAME, cluster_state
from services.cli.exits import Exit

if TYPE_CHECKING:
    from services.deploy.state import ClusterState

ANSWER_S = 1800.0


@click.command()
@click.argument("system")
@click.argument("changes", nargs=-1, required=True, metavar="SLOT=VERSION...")
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
def swap(system: str, changes: tuple[str, ...], name: str) -> int:
    """Change versions of SYSTEM, all slots in one flip; requests under way end with the versions they began with."""
    from anyplex.v1 import control_pb2

    slots = {}
    for change in changes:
        slot, separator, version = change.partition("=")
        if not (slot and separator and version):
            raise click.UsageError(f"{change!r}: SLOT=VERSION expected")
        slots[slot] = version
    with _control(name) as (stub, metadata):
        request = control_pb2.SwapRequest(system=system, slots=slots)
        for step in stub.Swap(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True):
            click.echo(f"{step.phase}: {step.line}")
    return Exit.OK


@click.command()
@click.argument("system")
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine.")
def rollback(system: str, name: str) -> int:
    """Go back to the versions that SYSTEM ran before."""
    from anyplex.v1 import control_pb2

    with _control(name) as (stub, metadata):
        request = control_pb2.RollBackRequest(system=system)
        answer = stub.RollBack(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True)
    click.echo(", ".join(f"{slot} {version}" for slot, version in sorted(answer.versions.slots.items())))
    return Exit.OK


@contextmanager
def _control(name: str) -> Iterator[tuple[Any, tuple[tuple[str, str], ...]]]:
    """Connect to the control service of a cluster started here; its errors become ours."""
    import grpc

    from anyplex.v1 import control_pb2_grpc
    from services.runtime.server import token_metadata
    from services.runtime.status import error_from_rpc

    state = _running(name)
    with grpc.insecure_channel(state.control_address) as channel:
        try:
            yield control_pb2_grpc.ControlServiceStub(channel), token_metadata(state.control_token)
        except grpc.RpcError as error:
            known: Any = error
            raise error_from_rpc(known, "") from error


def _running(name: str) -> ClusterState:
    from graph.errors import Unavailable

    state = cluster_state(name)
    if state is None or not state.control_address:
        raise Unavailable(f"no cluster {name!r} runs here; start one: anyplex up --detach")
    return state
