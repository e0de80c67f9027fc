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

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from services.modules.adapters import Adapted, AdapterPart, active_adapter

_PEFT_PREFIX = "base_model.model."


class LoraAdapter(AdapterPart):
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

    def artifact_tensors(self, path: str) -> dict[str, Tensor]:
        """Its tensors by PEFT's names."""
        return {
            f"{_PEFT_PREFIX}{path}.lora_A.weight": self.lora_a_RI.detach(),
            f"{_PEFT_PREFIX}{path}.lora_B.weight": self.lora_b_OR.detach(),
        }


class LoraLinear(nn.Linear, Adapted):
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
        part = self.active_part()
        if part is None:
            return output
        added: Tensor = part(inputs)
        return output + added


def _wrapped(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield path, module


def _adapted(model: nn.Module) -> Iterator[tuple[str, Adapted]]:
    for path, module in model.named_modules():
        if isinstance(module, Adapted):
            yield path, module


def _has(model: nn.Module, name: str) -> bool:
    return any(name in module.adapters for _, module in _adapted(model))


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
    """Takes an adapter away, rows of signal tokens too; harmless when it is not there."""
    for _, module in _adapted(model):
        if name in module.adapters:
            del module.adapters[name]


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the resident adapters."""
    return sorted({name for _, module in _adapted(model) for name in module.adapters})


def adapter_modules(model: nn.Module, name: str) -> nn.ModuleList:
    """The adapter's own modules, layers and rows of signal tokens: what a trainer trains and saves."""
    return nn.ModuleList(module.adapters[name] for _, module in _adapted(model) if name in module.adapters)


def adapter_tensors(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The adapter's tensors as an artifact names them: LoRA's as PEFT does, those of `signal_rows` as that says."""
    tensors: dict[str, Tensor] = {}
    for path, module in _adapted(model):
        part = dict(module.adapters.items()).get(name)
        if isinstance(part, AdapterPart):
            tensors |= part.artifact_tensors(path)
    return tensors


@contextmanager
def use_adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Makes an adapter the active one of this thread's (or task's) forward passes; None for the bare model.

    Raises:
        ValueError: The model has no such adapter.
    """
    if name is not None and not _has(model, name):
        raise ValueError(f"no adapter {name!r}; resident: {', '.join(adapter_names(model)) or 'none'}")
    token = active_adapter.set(name)
    try:
        yield
    finally:
        active_adapter.reset(token)
