"""Runs the plan of a request: starts a node as soon as its inputs are there, streams, stops everything at once."""
from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from graph.caller import Caller
from graph.messages import Event, Request
from graph.plan import SystemPlan


class Executor:
    """Runs requests.

    Args:
        caller: How components are reached.
        clock: Monotonic seconds, the same that deadlines are stated in.
    """

    def __init__(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        self.caller = caller
        self.clock = clock

    async def run(
        self, plan: SystemPlan, request: Request, deadline_s: float, trace_parent: str = ""
    ) -> AsyncIterator[Event]:
        """Run a request until ``clock()`` is ``deadline_s``; the last event is a ``Finished``."""
        raise NotImplementedError
        yield
