"""``anyplex bench``: runs one of ``benchmarks/*.py`` of a checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from graph.errors import NotFound
from services.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[2]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(name: str | None, arguments: tuple[str, ...]) -> int:
    """Run the benchmark NAME, or all of them; NAME --help for its options.

    Each prints a table, writes JSON and a picture to benchmarks/results/, and fails below its bar.
    """
    runner = ROOT / "benchmarks" / "run.py"
    if not runner.exists():
        raise NotFound("benchmarks are part of the repository, and this installation is not a checkout of it")
    command = [sys.executable, str(runner), *([name] if name else []), *arguments]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - our own file
    return code if code >= 0 else Exit.INTERRUPTED
