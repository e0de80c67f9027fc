"""The input projectors by their type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.input_projectors.linear import LinearProjector
from services.input_projectors.mlp import MlpProjector
from services.input_projectors.projector import InputProjector
from services.input_projectors.query_transformer import QueryTransformer

PROJECTORS: dict[str, type[InputProjector]] = {
    "linear": LinearProjector,
    "mlp": MlpProjector,
    "query_transformer": QueryTransformer,
}


def build_projector(type_name: str, config: Mapping[str, Any]) -> InputProjector:
    """Builds the projector of an artifact, with random weights.

    Raises:
        ValueError: There is no such type.
    """
    if type_name not in PROJECTORS:
        raise ValueError(f"input projector type {type_name!r}; expected one of {sorted(PROJECTORS)}")
    return PROJECTORS[type_name].from_config(config)
