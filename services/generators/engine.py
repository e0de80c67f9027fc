"""What every engine of a generator does: jobs in, events out; and what it asks of a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from services.generators.outbox import RenderEvent
from services.generators.plans import Caps, Defaults, MediumPlan

if TYPE_CHECKING:
    import torch

Model = TypeVar("Model")


@dataclass(frozen=True)
class ConditionShape:
    """One tensor of conditioning.

    Attributes:
        tokens: How many vectors; 0: any number; None: it is one vector, without an axis of tokens.
        width: Width of its vectors.
        optional: It may be left out.
    """

    tokens: int | None
    width: int
    optional: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its axes, 0 where any size will do."""
        return (self.width,) if self.tokens is None else (self.tokens, self.width)


class GeneratorModel(Protocol):
    """A loaded version."""

    @property
    def modality(self) -> str:
        """What it makes."""
        ...

    @property
    def defaults(self) -> Defaults:
        """What a request that says nothing gets."""
        ...

    @property
    def caps(self) -> Caps:
        """The most that may be asked for."""
        ...

    def conditions(self) -> dict[str, ConditionShape]:
        """Return what it reads, by name; the first is the one that an output projector gives."""
        ...


@dataclass(frozen=True, eq=False)
class RenderJob(Generic[Model]):
    """One medium to make; checked.

    Attributes:
        model: The version that makes it.
        plan: What it shall be.
        positive: Conditioning, float32.
        negative: Negative conditioning; what is missing is the generator's own.
        seed: Of everything that is drawn for it.
        began: Called once, when it stops waiting.
        priority: Higher goes first.
        deadline_s: ``time.monotonic()`` at which it ends.
    """

    model: Model
    plan: MediumPlan
    positive: dict[str, torch.Tensor]
    negative: dict[str, torch.Tensor]
    seed: int
    began: Callable[[], None]
    priority: int = 0
    deadline_s: float = float("inf")


class Engine(Protocol):
    """Makes media."""

    @property
    def denoising(self) -> int:
        """How many media are being made now."""
        ...

    def submit(self, job: RenderJob[Any]) -> AsyncGenerator[RenderEvent, None]:
        """Make one medium: its start, its progress, itself last. Closing the generator frees its place within a step.

        Raises:
            DeadlineExceeded: The job's time is over.
            Exhausted: There is not enough memory.
            Internal: The model failed.
        """
        ...

    def close(self) -> None:
        """End the engine's thread after its present step."""
        ...
