from __future__ import annotations

from typing import Any

import pytest
import torch

from services.input_projectors.models import PROJECTORS, build_projector
from services.input_projectors.query_transformer import PAD_ID
from services.input_projectors.stages import Stages, concat_adjacent, space_to_depth

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


def test_space_to_depth_joins_neighborhoods() -> None:
    raster = torch.arange(16.0).reshape(1, 16, 1)
    assert space_to_depth(raster, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert concat_adjacent(raster, 4)[0, 1].tolist() == [4, 5, 6, 7]


def test_stages_say_how_many_tokens_come_out() -> None:
    stages = Stages([{"space_to_depth": 2}, {"concat_adjacent": 3}])
    assert stages.tokens_for(36) == 3
    assert stages.width_for(5) == 60
    assert stages(torch.zeros(1, 36, 5)).shape == (1, 3, 60)
    with pytest.raises(ValueError, match="do not divide"):
        stages.tokens_for(35)
    with pytest.raises(ValueError, match="no square raster"):
        space_to_depth(torch.zeros(1, 35, 5), 2)
    with pytest.raises(ValueError, match="stages\\[0\\]: fold: 2"):
        Stages([{"fold": 2}])
