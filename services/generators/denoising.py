"""The denoising engine: requests of one shape share a batch, and join and leave it between steps.

Scheduling happens on the event loop, what touches tensors on one thread; they never overlap, so nothing needs a lock.
A reader that falls behind holds up nobody: its medium is made at the batch's pace and waits for it, alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from typing import TypeVar

from graph.errors import AnyplexError, DeadlineExceeded, Internal
from graph.messages import RenderStarted
from services.generators.encoding import Medium
from services.generators.engine import RenderJob
from services.generators.latent_diffusion import LatentDiffusion
from services.generators.outbox import Outbox, RenderEvent
from services.generators.roster import Roster
from services.generators.rows import Row, failure, finish, shape_of, step

Result = TypeVar("Result")


@dataclass(eq=False)
class _Running:
    """A job on its way through the engine.

    Attributes:
        row: Its place in the batch, once it has joined.
        gone: Its reader left, or has all it will get.
    """

    job: RenderJob[LatentDiffusion]
    outbox: Outbox = field(default_factory=Outbox)
    row: Row | None = None
    gone: bool = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.gone or time.monotonic() >= self.job.deadline_s


class DenoisingEngine:
    """Makes media by denoising, several in one step.

    Args:
        max_rows: Most media that denoise at once, all shapes and versions together.
        set_up: Runs first on the engine's thread.
    """

    def __init__(self, max_rows: int, set_up: Callable[[], None] | None = None) -> None:
        self._roster: Roster[_Running] = Roster(max_rows)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="denoise", initializer=set_up)
        self._pump: asyncio.Task[None] | None = None
        self._jobs: set[_Running] = set()
        self.steps = 0

    def close(self) -> None:
        """End the thread after its present step."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def denoising(self) -> int:
        """How many media denoise now."""
        return self._roster.working

    async def submit(self, job: RenderJob[LatentDiffusion]) -> AsyncGenerator[RenderEvent, None]:
        """Make one medium: its start, its progress, itself last. Closing the generator frees its place within a step.

        Raises:
            DeadlineExceeded: The job's time is over.
            Exhausted: There is not enough memory.
            Internal: The model failed.
        """
        running = _Running(job)
        self._jobs.add(running)
        self._roster.wait(running, shape_of(job), job.priority)
        if self._pump is None or self._pump.done():
            # It outlives this request, so what it logs must not carry this request's id.
            self._pump = asyncio.create_task(self._work(), context=Context())
        try:
            event: RenderEvent | None = None
            while not isinstance(event, Medium):
                event = await running.outbox.get()
                yield event
        finally:
            running.gone = True
            self._jobs.discard(running)

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

    def _fail(self, running: _Running, error: AnyplexError) -> None:
        if not running.gone:
            running.gone = True
            running.outbox.put(error)

    async def _begin(self, running: _Running) -> None:
        job = running.job
        if running.over:
            # Others began before it. It is told, if there is anybody to tell, when those who are over are dropped.
            return
        job.began()
        row = await self._on_thread(lambda: Row(job))
        if isinstance(row, AnyplexError):
            self._roster.leave(running)
            self._fail(running, row)
            return
        running.row = row
        running.outbox.put(RenderStarted(job.plan.mime_type))

    async def _step(self, group: Sequence[_Running]) -> None:
        members = [running for running in group if running.row is not None and not running.over]
        rows = [running.row for running in members if running.row is not None]
        if not rows:
            return
        outcomes = await self._on_thread(lambda: step(rows))
        self.steps += 1
        done = []
        for place, running in enumerate(members):
            outcome = outcomes if isinstance(outcomes, AnyplexError) else outcomes[place]
            if isinstance(outcome, AnyplexError):
                self._roster.leave(running)
                self._fail(running, outcome)
                continue
            running.outbox.put(outcome)
            if rows[place].done:
                self._roster.leave(running)
                done.append(running)
        await self._finish(done)

    async def _finish(self, done: Sequence[_Running]) -> None:
        wanted = [running for running in done if not running.gone]
        rows = [running.row for running in wanted if running.row is not None]
        if not rows:
            return
        outcomes = await self._on_thread(lambda: finish(rows))
        for place, running in enumerate(wanted):
            outcome = outcomes if isinstance(outcomes, AnyplexError) else outcomes[place]
            running.row = None
            if isinstance(outcome, AnyplexError):
                self._fail(running, outcome)
            else:
                running.outbox.put(outcome)

    async def _on_thread(self, work: Callable[[], Result]) -> Result | AnyplexError:
        """Run a piece of work on the engine's thread; what it raises comes back as an error of ours."""
        future = asyncio.wrap_future(self._pool.submit(work))
        await asyncio.wait([future])
        error = future.exception()
        if error is None:
            return future.result()
        return error if isinstance(error, AnyplexError) else failure(error)
