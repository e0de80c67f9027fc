"""What lies beside frozen modules and is switched on by name: LoRA's matrices, rows of signal tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar

from torch import Tensor, nn

active_adapter: ContextVar[str | None] = ContextVar("active_adapter", default=None)
"""Name of the adapter of this thread's (or task's) forward passes; None for the bare model."""


class AdapterPart(nn.Module, ABC):
    """What one adapter has beside one module."""

    @abstractmethod
    def artifact_tensors(self, path: str) -> dict[str, Tensor]:
        """Its tensors by the names that an artifact gives them; `path` is that of the module beside it."""


class Adapted(nn.Module):
    """A module beside which parts of adapters lie.

    Attributes:
        adapters: The parts, by the adapter's name.
    """

    adapters: nn.ModuleDict

    def active_part(self) -> nn.Module | None:
        """The part of the active adapter, if it has one here."""
        name = active_adapter.get()
        return None if name is None or name not in self.adapters else self.adapters[name]
