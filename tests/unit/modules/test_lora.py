from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from services.modules.lora import (
    adapter_modules,
    adapter_names,
    adapter_tensors,
    add_adapter,
    apply_lora,
    remove_adapter,
    use_adapter,
)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(8, 8, bias=False)
        self.up_proj = nn.Linear(8, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.up_proj(torch.tanh(self.q_proj(inputs)))
        return out


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(_Block(), nn.Linear(16, 8), _Block())


def _filled(model: nn.Module, name: str, value: float) -> None:
    add_adapter(model, name, rank=2, alpha=4, targets=["q_proj", "up_proj"])
    for module in adapter_modules(model, name):
        nn.init.constant_(module.get_parameter("lora_b_OR"), value)


def test_wrapping_changes_neither_state_nor_results(model: nn.Sequential) -> None:
    inputs = torch.randn(3, 8)
    before, names = model(inputs), list(model.state_dict())
    assert apply_lora(model, ["q_proj", "up_proj"]) == 4
    assert apply_lora(model, ["q_proj", "up_proj"]) == 4
    assert list(model.state_dict()) == names
    assert torch.equal(model(inputs), before)


def test_a_new_adapter_is_no_change_and_only_the_active_one_counts(model: nn.Sequential) -> None:
    inputs = torch.randn(3, 8)
    bare = model(inputs)
    add_adapter(model, "fresh", rank=2, alpha=4, targets=["q_proj"])
    _filled(model, "one", 0.1)
    _filled(model, "two", 0.2)
    with use_adapter(model, "fresh"):
        assert torch.equal(model(inputs), bare)
    with use_adapter(model, "one"):
        one = model(inputs)
        with use_adapter(model, None):
            assert torch.equal(model(inputs), bare)
        assert torch.equal(model(inputs), one)
    with use_adapter(model, "two"):
        assert not torch.allclose(model(inputs), one)
    assert torch.equal(model(inputs), bare)
    assert adapter_names(model) == ["fresh", "one", "two"]


def test_the_adapter_adds_scale_times_b_a_x(model: nn.Sequential) -> None:
    _filled(model, "one", 0.1)
    layer = model[0].q_proj
    inputs = torch.randn(3, 8)
    lora_a = layer.adapters["one"].lora_a_RI
    lora_b = layer.adapters["one"].lora_b_OR
    with use_adapter(model, "one"):
        assert torch.allclose(layer(inputs), inputs @ (layer.weight + 2.0 * lora_b @ lora_a).T, atol=1e-6)


def test_tensors_travel_by_the_names_of_peft(model: nn.Sequential) -> None:
    _filled(model, "one", 0.1)
    tensors = adapter_tensors(model, "one")
    assert "base_model.model.0.q_proj.lora_A.weight" in tensors
    assert "base_model.model.2.up_proj.lora_B.weight" in tensors
    add_adapter(model, "copy", rank=2, alpha=4, targets=["q_proj", "up_proj"], tensors=tensors)
    inputs = torch.randn(3, 8)
    with use_adapter(model, "one"):
        expected = model(inputs)
    with use_adapter(model, "copy"):
        assert torch.equal(model(inputs), expected)


def test_an_adapter_can_be_taken_away(model: nn.Sequential) -> None:
    _filled(model, "one", 0.1)
    remove_adapter(model, "one")
    remove_adapter(model, "one")
    assert adapter_names(model) == []
    with pytest.raises(ValueError, match="no adapter 'one'"), use_adapter(model, "one"):
        pass


def test_what_does_not_fit_is_refused(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="fit no linear layer"):
        apply_lora(model, ["q_proj", "nowhere"])
    _filled(model, "one", 0.1)
    with pytest.raises(ValueError, match="taken"):
        _filled(model, "one", 0.1)
    tensors = adapter_tensors(model, "one")
    with pytest.raises(ValueError, match=r"expected \(3, 8\)"):
        add_adapter(model, "wide", rank=3, alpha=4, targets=["q_proj", "up_proj"], tensors=tensors)
    tensors.popitem()
    with pytest.raises(ValueError, match="missing or extra"):
        add_adapter(model, "short", rank=2, alpha=4, targets=["q_proj", "up_proj"], tensors=tensors)
    assert adapter_names(model) == ["one"]


def test_only_the_adapter_learns(model: nn.Sequential) -> None:
    model.requires_grad_(False)
    _filled(model, "one", 0.1)
    with use_adapter(model, "one"):
        model(torch.randn(3, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in adapter_modules(model, "one").parameters())
    assert all(p.grad is None for name, p in model.named_parameters() if "adapters" not in name)
