"""What becomes of a canary: what gateways have seen, what its suite says, and the gate's word on both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from graph.errors import AnyplexError, FailedPrecondition
from services.control.gates import Decision, GateSpec, Seen, Verdict, decide
from services.control.ports import DirectoryPort, SuitesPort
from services.control.rollouts import Rollout, RolloutLog

logger = logging.getLogger("anyplex.control")


class Canaries:
    """Watches canaries. Suites are asked beside everything else, one run for a rollout.

    Args:
        directory: What gateways have seen.
        suites: Asks suites.
        log: Where scores are written down.
    """

    def __init__(self, directory: DirectoryPort, suites: SuitesPort, log: RolloutLog) -> None:
        self._directory = directory
        self._suites = suites
        self._log = log
        self._running: dict[str, asyncio.Task[Mapping[str, float]]] = {}

    async def decision(self, rollout: Rollout) -> Decision:
        """Say what becomes of a canary, as far as is known.

        Raises:
            InvalidRequest: Its gate cannot be read.
            Unavailable: The directory does not answer.
        """
        gate = GateSpec.read(rollout.gate)
        try:
            rollout = self._scored(rollout, gate)
        except AnyplexError as error:
            return Decision(Verdict.ROLL_BACK, f"suite {gate.suite} could not be asked: {error}")
        both = await self._directory.compared(rollout.rollout_id)
        waited_s = self._log.now() - rollout.offered_s
        return decide(gate, Seen(both.canary, both.live, rollout.scores, waited_s))

    def forget(self, rollout: Rollout) -> None:
        """Stop asking: it is decided."""
        task = self._running.pop(rollout.rollout_id, None)
        if task is not None:
            task.cancel()

    def _scored(self, rollout: Rollout, gate: GateSpec) -> Rollout:
        """Return the rollout with what its suite says; begins to ask it where nobody has.

        Raises:
            AnyplexError: It could not be asked.
        """
        if not gate.suite or set(gate.thresholds) <= set(rollout.scores):
            return rollout
        task = self._running.get(rollout.rollout_id)
        if task is None:
            asked = self._suites.ask(gate.suite, rollout.system, rollout.after, gate.cases)
            self._running[rollout.rollout_id] = asyncio.ensure_future(asked)
            return rollout
        if not task.done():
            return rollout
        del self._running[rollout.rollout_id]
        scores = task.result()
        if lacking := sorted(set(gate.thresholds) - set(scores)):
            raise FailedPrecondition(f"it gives no score {', '.join(lacking[:5])}")
        return self._log.score(rollout, scores)
