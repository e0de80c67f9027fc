"""Rows of an adapter's own for the signal tokens: as if they had been written into the model, while it is active."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from services.backbone.model import build_decoder
from services.modules.lora import (
    adapter_modules,
    adapter_names,
    adapter_tensors,
    add_adapter,
    remove_adapter,
    use_adapter,
)
from services.modules.signal_rows import EMBEDDINGS, HEAD, add_signal_rows
from tests.fakes import tiny

IDS = (14, 9, 11)
READ = torch.tensor([[5, 9, 300, 14, 11, 9]])


def decoder(seed: int = 0, **changes: Any) -> Any:
    config = tiny.decoder_config({**tiny.LLAMA, **changes})
    with tiny.seeded(seed):
        return build_decoder(config).eval()


def rows(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(len(IDS), tiny.BACKBONE_WIDTH, generator=generator) for name in (EMBEDDINGS, HEAD)}


def with_adapter(model: Any, name: str, seed: int) -> dict[str, torch.Tensor]:
    add_adapter(model, name, rank=2, alpha=4.0, targets=["q_proj"])
    tensors = rows(seed)
    add_signal_rows(model, name, IDS, tensors)
    return tensors


@pytest.mark.parametrize("tied", [True, False])
def test_rows_stand_in_for_the_models(tied: bool) -> None:
    model = decoder(tie_word_embeddings=tied)
    plain = model(input_ids=READ).logits
    written = decoder(tie_word_embeddings=False)
    written.load_state_dict(model.state_dict() | {"lm_head.weight": model.lm_head.weight})
    tensors = {name: with_adapter(model, name, seed) for seed, name in enumerate("ab")}
    for name in "ab":
        expected = copy.deepcopy(written)
        with torch.no_grad():
            # In ascending order of ids, whatever order they were named in.
            expected.model.embed_tokens.weight[sorted(IDS)] = tensors[name][EMBEDDINGS]
            expected.lm_head.weight[sorted(IDS)] = tensors[name][HEAD]
        with use_adapter(model, name):
            torch.testing.assert_close(model(input_ids=READ).logits, expected(input_ids=READ).logits)
    torch.testing.assert_close(model(input_ids=READ).logits, plain, rtol=0, atol=0)


def test_new_rows_change_nothing_and_learn_alone() -> None:
    model = decoder()
    model.requires_grad_(False)
    add_adapter(model, "new", rank=2, alpha=4.0, targets=["q_proj"])
    add_signal_rows(model, "new", IDS)
    with use_adapter(model, "new"):
        changed = model(input_ids=READ).logits
        changed.sum().backward()
    torch.testing.assert_close(changed, model(input_ids=READ).logits)
    learned = adapter_modules(model, "new")[-1]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learned.parameters())
    assert model.model.embed_tokens.weight.grad is None
    tensors = adapter_tensors(model, "new")
    assert {EMBEDDINGS, HEAD} < set(tensors)
    again = decoder()
    rest = {name: tensor for name, tensor in tensors.items() if name not in (EMBEDDINGS, HEAD)}
    add_adapter(again, "read", rank=2, alpha=4.0, targets=["q_proj"], tensors=rest)
    add_signal_rows(again, "read", IDS, {name: tensors[name] for name in (EMBEDDINGS, HEAD)})
    assert set(adapter_tensors(again, "read")) == set(tensors)


def test_only_one_of_the_two_may_be_given() -> None:
    model = decoder()
    plain = model(input_ids=READ).logits
    for name, key in (("reads", EMBEDDINGS), ("scores", HEAD)):
        add_adapter(model, name, rank=2, alpha=4.0, targets=["q_proj"])
        add_signal_rows(model, name, IDS, {key: rows(0)[key]})
        with use_adapter(model, name):
            assert not torch.equal(model(input_ids=READ).logits, plain)


def test_an_adapter_of_rows_alone() -> None:
    model = decoder()
    add_signal_rows(model, "rows", IDS, rows(0))
    assert adapter_names(model) == ["rows"]
    with use_adapter(model, "rows"):
        model(input_ids=READ)
    remove_adapter(model, "rows")
    with pytest.raises(ValueError, match="no adapter 'rows'"), use_adapter(model, "rows"):
        pass


@pytest.mark.parametrize(
    ("ids", "tensors", "words"),
    [
        ((), {}, "has none"),
        (IDS, {EMBEDDINGS: torch.zeros(2, 48)}, r"signal_embeddings: \(2, 48\), expected \(3, 48\)"),
        (IDS, {HEAD: torch.full((3, 48), float("nan"))}, "signal_head: NaN or Inf"),
        (IDS, {"other": torch.zeros(3, 48)}, "'other' is unknown"),
    ],
)
def test_rows_that_do_not_fit_are_refused(ids: tuple[int, ...], tensors: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        add_signal_rows(decoder(), "bad", ids, tensors)
