"""The denoising engine: requests of one shape share a batch, and join and leave it between steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from graph.errors import AnyplexError
from graph.messages import RenderStarted
from services.generators.engine import RenderJob
from services.generators.latent_diffusion import LatentDiffusion
from services.generators.roster_engine import RosterEngine, Running
from services.generators.rows import Row, finish, shape_of, step

Member: TypeAlias = Running[LatentDiffusion]


class DenoisingEngine(RosterEngine[LatentDiffusion]):
    """Makes media by denoising, several in one step.

    Args:
        max_rows: Most media that denoise at once, all shapes and versions together.
        set_up: Runs first on the engine's thread.
    """

    def __init__(self, max_rows: int, set_up: Callable[[], None] | None = None) -> None:
        super().__init__(max_rows, "denoise", set_up)
        self.steps = 0

    def _shape(self, job: RenderJob[LatentDiffusion]) -> Hashable:
        return shape_of(job)

    async def _begin(self, running: Member) -> None:
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

    async def _step(self, group: Sequence[Member]) -> None:
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

    async def _finish(self, done: Sequence[Member]) -> None:
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
