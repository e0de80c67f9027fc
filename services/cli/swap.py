"""``anyplex swap``, ``promote`` and ``rollback``: other versions under traffic, for all or for some, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from services.cli.connect import DEFAULT_NAME, cluster_state
from services.cli.exits import Exit
from services.cli.given import numbers_given, slots_given
from services.cli.output import print_json

if TYPE_CHECKING:
    from services.deploy.state import ClusterState

ANSWER_S = 1800.0

cluster_option = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster on this machine."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, progress beside it.")


@click.command()
@click.argument("system")
@click.argument("changes", nargs=-1, required=True, metavar="SLOT=VERSION...")
@click.option("--canary", "share", default="", metavar="SHARE", help="So many sessions get it first: 5%, 0.05.")
@click.option("--gate", "suite", default="", metavar="SUITE", help="Suite that decides about the canary's promotion.")
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="ROW=LEAST", help="Least score that the gate accepts."
)
@click.option("--gate-limit", "limits", multiple=True, metavar="NAME=NUMBER", help="min_requests, max_wait_s, cases, …")
@cluster_option
@json_option
def swap(
    system: str,
    changes: tuple[str, ...],
    share: str,
    suite: str,
    thresholds: tuple[str, ...],
    limits: tuple[str, ...],
    name: str,
    as_json: bool,
) -> int:
    """Change versions of SYSTEM, all slots in one flip; requests under way end with the versions they began with.

    With --canary a share of sessions gets them first. It is taken back by itself when it fails or is slower, promoted
    by itself when the gate is content, and otherwise by `anyplex promote` or `anyplex rollback`.
    """
    from anyplex.v1 import control_pb2
    from graph.canary import parse_share

    request = control_pb2.SwapRequest(
        system=system,
        slots=slots_given(changes),
        canary_share=parse_share(share) if share else 0.0,
        gate_suite=suite,
        gate_thresholds=numbers_given(thresholds, "ROW"),
        gate_limits=numbers_given(limits, "NAME"),
    )
    rollout_id = ""
    with connected(name) as (stub, metadata):
        for step in stub.Swap(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True):
            rollout_id = step.rollout_id or rollout_id
            click.echo(f"{step.phase}: {step.line}", err=as_json)
        if as_json:
            asked = control_pb2.GetRolloutRequest(system=system, rollout_id=rollout_id)
            print_json(_told(stub.GetRollout(asked, metadata=metadata, timeout=ANSWER_S).rollout))
    return Exit.OK


@click.command()
@click.argument("system")
@click.option("--id", "rollout_id", default="", help="Rollout; the last one of SYSTEM without it.")
@cluster_option
@json_option
def promote(system: str, rollout_id: str, name: str, as_json: bool) -> int:
    """Make the canary of SYSTEM live, whatever its gate says."""
    from anyplex.v1 import control_pb2

    with connected(name) as (stub, metadata):
        asked = control_pb2.GetRolloutRequest(system=system, rollout_id=rollout_id)
        found = stub.GetRollout(asked, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True).rollout
        request = control_pb2.PromoteRequest(rollout_id=found.rollout_id)
        answer = stub.Promote(request, metadata=metadata, timeout=ANSWER_S)
    if as_json:
        print_json(_told(answer.rollout))
    else:
        click.echo(_set(answer.rollout.after.slots))
    return Exit.OK


@click.command()
@click.argument("system")
@cluster_option
@json_option
def rollback(system: str, name: str, as_json: bool) -> int:
    """Go back to the versions that SYSTEM ran before; take its canary back where there is one."""
    from anyplex.v1 import control_pb2

    with connected(name) as (stub, metadata):
        request = control_pb2.RollBackRequest(system=system)
        answer = stub.RollBack(request, metadata=metadata, timeout=ANSWER_S, wait_for_ready=True)
    if as_json:
        print_json({"system": system, "slots": dict(answer.versions.slots)})
    else:
        click.echo(_set(answer.versions.slots))
    return Exit.OK


def _set(slots: Any) -> str:  # noqa: ANN401 - protobuf's map
    return ", ".join(f"{slot} {version}" for slot, version in sorted(slots.items()))


def _told(rollout: Any) -> dict[str, Any]:  # noqa: ANN401 - its types are imported where they are used
    return {
        "rollout": rollout.rollout_id, "system": rollout.after.system, "state": rollout.state,
        "reason": rollout.reason, "before": dict(rollout.before.slots), "after": dict(rollout.after.slots),
        "canary_share": rollout.canary_share, "scores": dict(rollout.scores),
    }  # fmt: skip


@contextmanager
def connected(name: str) -> Iterator[tuple[Any, tuple[tuple[str, str], ...]]]:
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
