"""Memory of a tree of processes, from /proc where there is one, else from ps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process as the system lists it."""

    pid: int
    parent: int
    resident_bytes: int


def resident_tree(root: int) -> list[Process]:
    """Return a process and all that descend from it, with their resident memory."""
    processes = list(_from_proc()) or list(_from_ps())
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found = [process for process in processes if process.pid == root]
    for process in found:  # grows while it is walked
        found.extend(children.get(process.pid, ()))
    return found


def _from_proc() -> Iterable[Process]:
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # it has gone meanwhile
        kilobytes = int(fields.get("VmRSS", "0 kB").split()[0])
        yield Process(int(fields["Pid"]), int(fields["PPid"]), kilobytes * 1024)


def _from_ps() -> Iterable[Process]:
    program = shutil.which("ps")
    if program is None:
        return
    command = [program, "-axo", "pid=,ppid=,rss="]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a program found above
    for line in listed.stdout.splitlines():
        pid, parent, kilobytes = map(int, line.split())
        yield Process(pid, parent, kilobytes * 1024)
