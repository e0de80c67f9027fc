"""What people see while something runs, and tables afterwards."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.status import Status

QUIET_S = 2.0


class Progress:
    """Says what takes so long: a spinner on a terminal, plain lines elsewhere; nothing in the first two seconds.

    Everything goes to stderr, so that stdout holds results alone.

    Args:
        message: What is going on.
        quiet_s: How long to say nothing.
    """

    def __init__(self, message: str, quiet_s: float = QUIET_S) -> None:
        self._message = message
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._status: Status | None = None
        self._shown = False
        self._started = time.monotonic()

    def update(self, message: str) -> None:
        """Say what is going on now."""
        with self._lock:
            self._message = message
            if self._status is not None:
                self._status.update(message)
            elif self._shown:
                self._line(message)

    def report(self, line: str) -> None:
        """Write a line that stays, with the time since the start."""
        with self._lock:
            self._line(line)

    def stop(self) -> None:
        """Say no more."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._status is not None:
                self._status.stop()
                self._status = None

    def __enter__(self) -> Self:
        self._timer = threading.Timer(self._quiet_s, self._show)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _show(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._shown = True
            if sys.stderr.isatty():
                from rich.console import Console

                self._status = Console(stderr=True).status(self._message)
                self._status.start()
            else:
                self._line(self._message)

    def _line(self, line: str) -> None:
        text = f"[{time.monotonic() - self._started:5.1f} s] {line}"
        if self._status is not None:
            self._status.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)


def print_json(value: object) -> None:
    """Write a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a plain table; columns of numbers are set to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    lines = [title] if title else []
    return "\n".join([*lines, line(columns), "  ".join("-" * width for width in widths), *map(line, cells)])


def mebibytes(size_bytes: float) -> str:
    """Return a size for people."""
    return f"{size_bytes / 2**20:.0f} MiB"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
