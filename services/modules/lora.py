"""LoRA: several named adapters resident beside the same frozen linear layers, one of them active at a time.

Tensor names are PEFT's (`base_model.model.<layer>.lora_A.weight`), so adapters travel both ways. The layers keep
the names of their own weights: a wrapped model loads the same state as before.

Source: Hu et al. 2021, arXiv 2106.09685, section 4.1.
"""

# R rank, I in width, O out width

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

_PEFT_PREFIX = "base_model.model."
_active: ContextVar[str | None] = ContextVar("active_adapter", default=None)


class LoraAdapter(nn.Module):
    """The two thin matrices of one adapter at one layer; starts as no change."""

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank = rank
        self.scale = alpha / rank
        self.lora_a_RI = nn.Parameter(torch.empty(rank, in_features))
        self.lora_b_OR = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a_RI, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns what the adapter adds to the layer's output."""
        return F.linear(F.linear(inputs, self.lora_a_RI), self.lora_b_OR) * self.scale


class LoraLinear(nn.Linear):
    """A linear layer that adds what the active adapter says; without one it is the layer it was."""

    def __init__(self, linear: nn.Linear) -> None:
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight = linear.weight
        self.bias = linear.bias
        self.adapters = nn.ModuleDict()

    def forward(self, inputs: Tensor) -> Tensor:
        """Runs the layer with the adapter of `use_adapter`."""
        output = F.linear(inputs, self.weight, self.bias)
        name = _active.get()
        if name is None or name not in self.adapters:
            return output
        added: Tensor = self.adapters[name](inputs)
        return output + added


def _wrapped(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield path, module


def _has(model: nn.Module, name: str) -> bool:
    return any(name in layer.adapters for _, layer in _wrapped(model))


def apply_lora(model: nn.Module, targets: Collection[str]) -> int:
    """Makes every linear layer called as one of `targets` ready for adapters; harmless when it is already.

    Returns:
        How many layers are ready.

    Raises:
        ValueError: A target fits no layer.
    """
    found: set[str] = set()
    for path, module in list(model.named_modules()):
        parent_path, _, leaf = path.rpartition(".")
        if leaf not in targets or not isinstance(module, nn.Linear):
            continue
        found.add(leaf)
        if not isinstance(module, LoraLinear):
            setattr(model.get_submodule(parent_path), leaf, LoraLinear(module))
    if missing := set(targets) - found:
        raise ValueError(f"LoRA targets {sorted(missing)} fit no linear layer of the model")
    return sum(1 for _ in _wrapped(model))


def add_adapter(
    model: nn.Module,
    name: str,
    *,
    rank: int,
    alpha: float,
    targets: Collection[str],
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Puts an adapter beside the layers, new or with the tensors of an artifact.

    Raises:
        ValueError: The name is taken or holds a dot, or tensors are missing, extra or of the wrong shape.
    """
    if "." in name or not name or _has(model, name):
        raise ValueError(f"adapter name {name!r} is taken, empty or holds a dot")
    apply_lora(model, targets)
    chosen = [(path, layer) for path, layer in _wrapped(model) if path.rpartition(".")[2] in targets]
    fresh: list[tuple[LoraLinear, LoraAdapter]] = []
    expected: dict[str, nn.Parameter] = {}
    for path, layer in chosen:
        adapter = LoraAdapter(layer.in_features, layer.out_features, rank, alpha)
        fresh.append((layer, adapter))
        expected[f"{_PEFT_PREFIX}{path}.lora_A.weight"] = adapter.lora_a_RI
        expected[f"{_PEFT_PREFIX}{path}.lora_B.weight"] = adapter.lora_b_OR
    if tensors is not None:
        _fill(expected, tensors)
    for layer, adapter in fresh:
        layer.adapters[name] = adapter.to(layer.weight.device)


def _fill(expected: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    if different := set(expected) ^ set(tensors):
        raise ValueError(f"adapter tensors missing or extra: {sorted(different)[:4]} ({len(different)} in all)")
    for key, parameter in expected.items():
        if tensors[key].shape != parameter.shape:
            raise ValueError(f"adapter tensor {key}: {tuple(tensors[key].shape)}, expected {tuple(parameter.shape)}")
        parameter.data = tensors[key].to(torch.float32).clone()


def remove_adapter(model: nn.Module, name: str) -> None:
    """Takes an adapter away; harmless when it is not there."""
    for _, layer in _wrapped(model):
        if name in layer.adapters:
            del layer.adapters[name]


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the resident adapters."""
    return sorted({name for _, layer in _wrapped(model) for name in layer.adapters})


def adapter_modules(model: nn.Module, name: str) -> nn.ModuleList:
    """The adapter's own modules, in the order of the layers: what a trainer trains and saves."""
    return nn.ModuleList(layer.adapters[name] for _, layer in _wrapped(model) if name in layer.adapters)


def adapter_tensors(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The adapter's tensors by PEFT's names."""
    tensors: dict[str, Tensor] = {}
    for path, layer in _wrapped(model):
        adapter = dict(layer.adapters.items()).get(name)
        if isinstance(adapter, LoraAdapter):
            tensors[f"{_PEFT_PREFIX}{path}.lora_A.weight"] = adapter.lora_a_RI.detach()
            tensors[f"{_PEFT_PREFIX}{path}.lora_B.weight"] = adapter.lora_b_OR.detach()
    return tensors


@contextmanager
def use_adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Makes an adapter the active one of this thread's (or task's) forward passes; None for the bare model.

    Raises:
        ValueError: The model has no such adapter.
    """
    if name is not None and not _has(model, name):
        raise ValueError(f"no adapter {name!r}; resident: {', '.join(adapter_names(model)) or 'none'}")
    token = _active.set(name)
    try:
        yield
    finally:
        _active.reset(token)
