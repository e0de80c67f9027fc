from __future__ import annotations

from typing import Any

import pytest
import torch

from services.input_projectors.models import PROJECTORS, build_projector
from services.input_projectors.query_transformer import PAD_ID

CONFIGS: dict[str, dict[str, Any]] = {
    "linear": {"feature_width": 6, "output_width": 10, "stages": [{"space_to_depth": 2}]},
    "mlp": {"feature_width": 6, "hidden_width": 12, "output_width": 10, "stages": [{"concat_adjacent": 4}]},
    "query_transformer": {
        "feature_width": 6,
        "hidden_width": 8,
        "output_width": 10,
        "n_queries": 5,
        "layers": 3,
        "heads": 2,
        "cross_attention_every": 2,
        "text_vocab": 20,
    },
}


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_every_projector_keeps_its_promises(name: str) -> None:
    torch.manual_seed(0)
    projector = build_projector(name, CONFIGS[name]).eval()
    features = torch.randn(3, 16, 6)
    embeddings = projector(features)
    assert embeddings.shape == (3, projector.tokens_for(16), projector.output_width)
    assert torch.allclose(projector(features[1:2]), embeddings[1:2], atol=1e-5)
    assert projector.feature_width == 6


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_unknown_and_missing_keys_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        build_projector(name, {**CONFIGS[name], "witdh": 1})
    config = dict(CONFIGS[name])
    del config["feature_width"]
    with pytest.raises(ValueError, match="missing"):
        build_projector(name, config)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        build_projector("perceiver", {})


def test_query_transformer_reads_the_prompt_but_not_its_padding() -> None:
    torch.manual_seed(0)
    projector = build_projector("query_transformer", CONFIGS["query_transformer"]).eval()
    features = torch.randn(1, 16, 6)
    assert projector.reads_prompt
    first, second = torch.tensor([[3, 4, 5]]), torch.tensor([[3, 4, 6]])
    padded = torch.tensor([[3, 4, 5, PAD_ID, PAD_ID]])
    assert not torch.allclose(projector(features, first), projector(features, second))
    assert torch.allclose(projector(features, first), projector(features, padded), atol=1e-6)


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_frames_are_projected_one_by_one_and_follow_each_other(name: str) -> None:
    torch.manual_seed(0)
    projector = build_projector(name, CONFIGS[name]).eval()
    videos = torch.randn(2, 3, 16, 6)
    prompts = torch.tensor([[3, 4, 5], [6, 7, 8]]) if projector.reads_prompt else None
    together = projector(videos, prompts)
    assert together.shape == (2, projector.tokens_for(16, 3), projector.output_width)
    for index in range(2):
        own = None if prompts is None else prompts[index : index + 1].expand(3, -1)
        alone = projector(videos[index], own).flatten(0, 1)
        assert torch.allclose(together[index], alone, atol=1e-5)


@pytest.mark.parametrize("name", sorted(PROJECTORS))
def test_frames_that_a_stage_joins_are_projected_as_one(name: str) -> None:
    torch.manual_seed(0)
    config = {**CONFIGS[name], "stages": [{"add_time_positions": 8}, {"mean_pool": 16}, {"concat_items": 1}]}
    projector = build_projector(name, config).eval()
    videos = torch.randn(2, 5, 16, 6)
    n_tokens = projector.tokens_for(16, 5)
    assert n_tokens == 5
    assert projector(videos).shape == (2, n_tokens, projector.output_width)
    backwards = projector(videos.flip(1))
    assert not torch.allclose(projector(videos).flip(1), backwards, atol=1e-5)
    with pytest.raises(ValueError, match="9 frames, at most 8"):
        projector.tokens_for(16, 9)


def test_stages_without_time_add_no_tensors() -> None:
    assert sorted(build_projector("linear", CONFIGS["linear"]).state_dict()) == ["projection.bias", "projection.weight"]
    config = {**CONFIGS["linear"], "stages": [{"add_time_positions": 3}]}
    assert "stages.time_positions" in build_projector("linear", config).state_dict()
