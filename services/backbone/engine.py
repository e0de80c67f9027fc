"""What every engine of a backbone does: jobs in, events out.

The plain engine (``plain_engine``) is the oracle that faster ones are held against.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from graph.messages import DecodeEvent, Sampling

if TYPE_CHECKING:
    import torch

    from services.backbone.loaded import LoadedBackbone

Result = TypeVar("Result")


@dataclass(frozen=True)
class MediaRun:
    """Embeddings spliced into a prompt.

    Attributes:
        embeddings: What stands there, TD.
        shared_position: All of them have one position (CogVLM).
    """

    embeddings: torch.Tensor
    shared_position: bool = False


PromptRun = tuple[int, ...] | MediaRun


@dataclass(frozen=True, eq=False)
class Job:
    """One request as an engine runs it; checked.

    Attributes:
        backbone: The version that runs it.
        adapter: Version of the LoRA adapter on top; "" means none.
        prompt: What it reads, in order.
        sampling: How it answers; ``max_tokens`` fits the context.
        priority: Higher goes first.
        deadline_s: ``time.monotonic()`` at which it ends.
        produced_ids: Tokens of the answer that were produced elsewhere.
        force_signals: Modalities whose signal block must come.
        text_only: No signal block may come.
        began: Called once, when it stops waiting.
    """

    backbone: LoadedBackbone
    adapter: str
    prompt: tuple[PromptRun, ...]
    sampling: Sampling
    began: Callable[[], None]
    priority: int = 0
    deadline_s: float = float("inf")
    produced_ids: tuple[int, ...] = ()
    force_signals: tuple[str, ...] = ()
    text_only: bool = False

    @property
    def prompt_ids(self) -> list[int]:
        """The ids of the prompt, media left out."""
        return [i for run in self.prompt if not isinstance(run, MediaRun) for i in run]

    @property
    def media_tokens(self) -> int:
        """How many tokens of the prompt stand for media."""
        return sum(len(run.embeddings) for run in self.prompt if isinstance(run, MediaRun))

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.prompt_ids) + self.media_tokens


class Engine(Protocol):
    """Runs jobs, several in one model step; jobs join and leave between steps."""

    def submit(self, job: Job) -> AsyncGenerator[DecodeEvent, None]:
        """Run a job. Closing the generator frees everything it held within one model step.

        ``DecodeStarted`` comes first, then the events of its answers, one ``DecodeFinished`` for each.

        Raises:
            DeadlineExceeded: The job's time is over.
            Internal: The model failed.
        """
        ...

    async def between_steps(self, change: Callable[[], Result]) -> Result:
        """Run a function while no model step runs: to change what is loaded."""
        ...

    def close(self) -> None:
        """End the engine's thread after its present step."""
        ...
