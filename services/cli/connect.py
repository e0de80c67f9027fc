"""Which gateway a command talks to: the one it names, the environment's, or the cluster started here."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from anyplex import AsyncClient, Client, Tls
    from services.deploy.state import ClusterState

Result = TypeVar("Result")

DEFAULT_NAME = "default"


@dataclass(frozen=True)
class Connection:
    """A gateway as the command line names it; what is left out comes from the environment or the state file.

    Attributes:
        address: host:port; None means ANYPLEX_ADDRESS, the cluster started here, localhost:50051.
        token: None means ANYPLEX_TOKEN, or the cluster's own.
        tls: Whether to encrypt.
        authority: PEM file of the authorities to trust; None means the system's.
    """

    address: str | None = None
    token: str | None = None
    tls: bool = False
    authority: Path | None = None

    @property
    def named(self) -> bool:
        """Whether somebody named a gateway, so that it has to be there."""
        return self.address is not None or "ANYPLEX_ADDRESS" in os.environ

    def client(self) -> Client:
        """Return a client that blocks."""
        from anyplex import Client

        address, token = self._resolved()
        return Client(address, token=token, tls=self._tls())

    def async_client(self) -> AsyncClient:
        """Return a client for asyncio."""
        from anyplex import AsyncClient

        address, token = self._resolved()
        return AsyncClient(address, token=token, tls=self._tls())

    def _resolved(self) -> tuple[str | None, str | None]:
        state = None if self.named else cluster_state()
        if state is None:
            return self.address, self.token
        token = os.environ.get("ANYPLEX_TOKEN", state.token) if self.token is None else self.token
        return state.address, token

    def _tls(self) -> bool | Tls:
        from anyplex import Tls

        return Tls(authority=self.authority) if self.authority is not None else self.tls


def connection_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command the options that say which gateway it talks to; it takes them as ``connection``."""

    @click.option("--address", help="host:port of a gateway; else ANYPLEX_ADDRESS, or the cluster started here.")
    @click.option("--token", help="Token of the gateway; else ANYPLEX_TOKEN, or the cluster's own.")
    @click.option("--tls", is_flag=True, help="Encrypt, and trust the system's authorities.")
    @click.option(
        "--tls-ca", type=click.Path(exists=True, path_type=Path), help="Encrypt, and trust those of a PEM file."
    )
    @functools.wraps(command)
    def with_connection(
        address: str | None,
        token: str | None,
        tls: bool,
        tls_ca: Path | None,
        **rest: Any,  # noqa: ANN401 - whatever the command takes besides
    ) -> Result:
        return command(connection=Connection(address, token, tls, tls_ca), **rest)

    return with_connection


def cluster_state(name: str = DEFAULT_NAME) -> ClusterState | None:
    """Return what is known of a cluster started on this machine."""
    from services.deploy.state import read_state

    return read_state(name)
