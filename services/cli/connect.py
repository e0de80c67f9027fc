"""Which gateway a command talks to: the one it names, the environment's, or the cluster started here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from anyplex import Client
    from services.deploy.state import ClusterState

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_NAME = "default"


def connection_options(command: Function) -> Function:
    """Give a command the options that say which gateway it talks to."""
    command = click.option("--token", help="Token of the gateway; else ANYPLEX_TOKEN, or the cluster's own.")(command)
    command = click.option("--tls", is_flag=True, help="Encrypt, and trust the system's authorities.")(command)
    return click.option(
        "--address", help="host:port of a gateway; else ANYPLEX_ADDRESS, the cluster started here, localhost:50051."
    )(command)


def cluster_state(name: str = DEFAULT_NAME) -> ClusterState | None:
    """Return what is known of a cluster started on this machine."""
    from services.deploy.state import read_state

    return read_state(name)


def resolve(address: str | None, token: str | None) -> tuple[str | None, str | None]:
    """Return address and token of the gateway a command means; what stays None is the client's to fill in."""
    if address is None and "ANYPLEX_ADDRESS" not in os.environ:
        state = cluster_state()
        if state is not None:
            return state.address, token if token is not None else os.environ.get("ANYPLEX_TOKEN", state.token)
    return address, token


def connect(address: str | None, token: str | None, tls: bool = False) -> Client:
    """Return a client for the gateway a command means."""
    from anyplex import Client

    address, token = resolve(address, token)
    return Client(address, token=token, tls=tls)
