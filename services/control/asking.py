"""Evaluation suites asked of a set that is loaded, through the gateway, by a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from graph.errors import FailedPrecondition
from services.control.suites import scores_of

ASKED = (0, 10)
"""Exit codes of ``anyplex eval``: everything was asked; and something scored less than its suite asks for."""

CONCURRENCY = 4
NICENESS = 10
"""People who wait for an answer go first."""


@dataclass(frozen=True)
class SuitesByCommand:
    """Asks suites with ``anyplex eval``.

    Attributes:
        address: host:port of the gateway.
        token: Its token; "" for none.
        tls: Whether it encrypts.
    """

    address: str
    token: str = ""
    tls: bool = False

    async def ask(self, suite: str, system: str, versions: Mapping[str, str], cases: int) -> Mapping[str, float]:
        """Ask a suite of a set that is loaded; return its scores by row, greater is better.

        Raises:
            FailedPrecondition: It could not be asked, and why.
        """
        with tempfile.TemporaryDirectory(prefix="anyplex-gate-") as folder:
            process = await asyncio.create_subprocess_exec(
                *self._command(suite, system, versions, cases, folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "ANYPLEX_TOKEN": self.token},
                preexec_fn=_step_back,  # noqa: PLW1509 - only sets a niceness
            )
            try:
                out, said = await process.communicate()
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
        if process.returncode not in ASKED:
            lines = said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise FailedPrecondition(lines[-1][:300])
        (result,) = json.loads(out)
        return scores_of(result)

    def _command(self, suite: str, system: str, versions: Mapping[str, str], cases: int, folder: str) -> list[str]:
        command = [sys.executable, "-m", "services.cli.main", "eval", suite, "--system", system, "--json"]
        command += ["--address", self.address, "--out", folder, "--concurrency", str(CONCURRENCY)]
        command += [f"--pin={slot}={version}" for slot, version in sorted(versions.items()) if version]
        return [*command, *(["--limit", str(cases)] if cases else []), *(["--tls"] if self.tls else [])]


def _step_back() -> None:
    os.nice(NICENESS)
