"""A cluster for the length of one command: on free ports, under a name of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import click

from services.cli.output import Progress

if TYPE_CHECKING:
    from services.deploy.state import ClusterState


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def temporary_cluster(
    systems: tuple[str, ...], purpose: str, say: Callable[[str], None] | None = None
) -> Iterator[ClusterState]:
    """Start a cluster, and stop it whatever happens; also where the command is ended by SIGTERM.

    Args:
        systems: What it serves.
        purpose: Part of its name.
        say: Told what goes on; by default it is shown as progress.
    """
    from services.deploy.launch import UpOptions, start_detached, stop

    name = f"{purpose}-{os.getpid()}"
    options = UpOptions(systems=systems, name=name, port=free_port())
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Progress("starting", quiet_s=0.0) as progress:
            state = start_detached(options, say or progress.report)
        yield state
    finally:
        signal.signal(signal.SIGTERM, before)
        stop(name, say or (lambda line: click.echo(line, err=True)))
