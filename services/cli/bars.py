"""Progress bars of the media of an answer: on a terminal alone; elsewhere a line when one begins."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from anyplex import Event


class MediaBars:
    """Shows how far each medium is, on stderr.

    Args:
        quiet: Show nothing but bars on a terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: RichProgress | None = None
        self._tasks: dict[tuple[int, int], TaskID] = {}
        self._names: dict[tuple[int, int], str] = {}

    def take(self, event: Event) -> None:
        """Take in what happens."""
        from anyplex import MediaChunk, MediaFailed, MediaProgress, MediaStarted

        match event:
            case MediaStarted():
                self._names[event.choice, event.media_index] = event.modality
                self._begin((event.choice, event.media_index), event.modality)
            case MediaProgress():
                self._step((event.choice, event.media_index), event.step, event.steps)
            case MediaChunk(last=True) | MediaFailed():
                self._end((event.choice, event.media_index))

    def say(self, line: str) -> None:
        """Write a line, above the bars where there are any."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=True)

    def stop(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _begin(self, key: tuple[int, int], modality: str) -> None:
        if sys.stderr.isatty():
            self._tasks[key] = self._shown().add_task(f"making {modality}", total=None)
        elif not self._quiet:
            click.echo(f"making {modality} …", err=True)

    def _step(self, key: tuple[int, int], step: int, steps: int) -> None:
        if self._bars is not None and key in self._tasks:
            self._bars.update(self._tasks[key], completed=step, total=steps)

    def _end(self, key: tuple[int, int]) -> None:
        task = self._tasks.pop(key, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self.stop()

    def _shown(self) -> RichProgress:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            # What is written to stdout meanwhile has to go above the bars where both are the same terminal, and must
            # not be touched where it goes into a file.
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=False,
            )
            self._bars.start()
        return self._bars
