"""The plain engine against transformers' ``generate``: the same tokens, alone and in any batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from services.artifacts import ArtifactStore
from services.backbone.engine import MediaRun
from services.backbone.loaded import LoadedBackbone
from services.backbone.plain_engine import PlainEngine
from tests.fakes import tiny
from tests.unit.backbone.conftest import make_job, run_job

N_PROMPTS = 50
NEW_TOKENS = 16
SMALL: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SMALL},
    "llama-tied": {"model_type": "llama", **SMALL, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **SMALL},
    "mistral": {"model_type": "mistral", **SMALL, "sliding_window": 8},
    "gemma": {"model_type": "gemma", **SMALL, "head_dim": 12},
    "gemma2": {"model_type": "gemma2", **SMALL, "head_dim": 12, "sliding_window": 8},
    "opt": {
        "model_type": "opt", "hidden_size": 48, "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 256, "word_embed_proj_dim": 32,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256},
}  # fmt: skip


def reference(backbone: LoadedBackbone, embeddings_TD: torch.Tensor) -> list[int]:
    with torch.inference_mode():
        out = backbone.model.generate(
            inputs_embeds=embeddings_TD[None],
            attention_mask=torch.ones(1, len(embeddings_TD), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=0,
        )
    ids = out[0].tolist()
    return ids[: ids.index(2)] if 2 in ids else ids


@pytest.mark.parametrize("name", DECODERS)
async def test_greedy_tokens_are_those_of_generate(
    name: str, store: ArtifactStore, make_engine: Callable[..., PlainEngine]
) -> None:
    # Without signals: the rest of a block is fed, not chosen.
    config = {**tiny.decoder_config(DECODERS[name]), "signals": {}}
    backbone = LoadedBackbone.from_artifact(store.get(tiny.decoder(store, config=config)), "float32", "cpu")
    draw = random.Random(1)
    generator = torch.Generator().manual_seed(1)
    jobs, expected = [], []
    for _ in range(N_PROMPTS):
        head = tuple(draw.randrange(3, 1024) for _ in range(draw.randrange(1, 24)))
        tail = tuple(draw.randrange(3, 1024) for _ in range(draw.randrange(1, 8)))
        media_TD = torch.randn(draw.randrange(1, 9), backbone.width, generator=generator)
        run = MediaRun(media_TD)
        jobs.append(make_job(backbone, head, run, tail, max_tokens=NEW_TOKENS))
        expected.append(reference(backbone, torch.cat([backbone.embed(head), media_TD, backbone.embed(tail)])))
    engine = make_engine(7)
    together = await asyncio.gather(*(run_job(engine, job) for job in jobs))
    assert [outcome.ids.get(0, []) for outcome in together] == expected
    alone = [await run_job(engine, job) for job in jobs[:10]]
    assert [outcome.ids.get(0, []) for outcome in alone] == expected[:10]
    assert len({tuple(ids) for ids in expected}) > N_PROMPTS // 2, "the decoder must depend on its prompt"
