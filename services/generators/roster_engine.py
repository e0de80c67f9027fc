"""What the engines of generators have in common: who waits, who is being made, and that each is told what it gets.

Scheduling happens on the event loop, what touches tensors on one thread; they never overlap, so nothing needs a lock.
A reader that falls behind holds up nobody: its medium is made at the engine's pace and waits for it, alone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from graph.errors import AnyplexError, DeadlineExceeded, Internal
from services.generators.encoding import Medium
from services.generators.engine import RenderJob
from services.generators.outbox import Outbox, RenderEvent
from services.generators.roster import Roster
from services.generators.rows import Row, failure
from services.runtime.pump import Pump

Model = TypeVar("Model")
Result = TypeVar("Result")


@dataclass(eq=False)
class Running(Generic[Model]):
    """A job on its way through an engine.

    Attributes:
        job: The job.
        outbox: What it gave, for its reader.
        row: Its place in a batch, once it has one; engines without batches give none.
        gone: Its reader left, or has all it will get.
    """

    job: RenderJob[Model]
    outbox: Outbox = field(default_factory=Outbox)
    row: Row | None = None
    gone: bool = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone or time.monotonic() >= self.job.deadline_s


class RosterEngine(ABC, Generic[Model]):
    """Lets jobs wait, join, take steps and leave; what a step is, engines say.

    Args:
        most: Most media that are made at once.
        name: Name of the engine's thread.
        set_up: Runs first on that thread.
    """

    def __init__(self, most: int, name: str, set_up: Callable[[], None] | None = None) -> None:
        self._roster: Roster[Running[Model]] = Roster(most)
        self._pump = Pump(self._work, name, set_up)
        self._jobs: set[Running[Model]] = set()

    def close(self) -> None:
        """End the thread after its present step."""
        self._pump.close()

    @property
    def denoising(self) -> int:
        """How many media are being made now."""
        return self._roster.working

    async def submit(self, job: RenderJob[Model]) -> AsyncGenerator[RenderEvent, None]:
        """Make one medium: its start, its progress, itself last. Closing the generator frees its place within a step.

        Raises:
            DeadlineExceeded: The job's time is over.
            Exhausted: There is not enough memory.
            InvalidRequest: The model refuses what it got.
            Internal: The model failed.
        """
        running = Running(job)
        self._jobs.add(running)
        self._roster.wait(running, self._shape(job), job.priority)
        self._pump.wake()
        try:
            event: RenderEvent | None = None
            while not isinstance(event, Medium):
                event = await running.outbox.get()
                yield event
        finally:
            running.gone = True
            self._jobs.discard(running)

    @abstractmethod
    def _shape(self, job: RenderJob[Model]) -> Hashable:
        """Return what must be equal in jobs that take a step together."""

    @abstractmethod
    async def _begin(self, running: Running[Model]) -> None:
        """Begin with a job that waited."""

    @abstractmethod
    async def _step(self, group: Sequence[Running[Model]]) -> None:
        """Take a step with jobs of one shape; those that have ended leave the roster."""

    async def _work(self) -> None:
        try:
            while self._roster:
                for running in self._roster.drop(lambda running: running.over):
                    self._fail(running, DeadlineExceeded("the time of the request is over"))
                for running in self._roster.join():
                    await self._begin(running)
                for group in self._roster.groups():
                    await self._step(group)
        except BaseException as crash:
            self._fail_everybody(crash)
            raise

    def _fail_everybody(self, crash: BaseException) -> None:
        """Let nobody wait for a pump that has ended; the next job begins with nothing left over."""
        self._roster.clear()
        error = Internal("the generator's engine failed")
        error.__cause__ = crash
        for running in list(self._jobs):
            self._fail(running, error)

    def _fail(self, running: Running[Model], error: AnyplexError) -> None:
        if not running.gone:
            running.gone = True
            running.outbox.put(error)

    async def _on_thread(self, work: Callable[[], Result]) -> Result | AnyplexError:
        """Run a piece of work on the engine's thread; what it raises comes back as an error of ours."""
        outcome = await self._pump.on_thread(work)
        return failure(outcome) if isinstance(outcome, BaseException) else outcome
