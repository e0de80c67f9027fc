"""The output projectors by their type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.output_projectors.mlp import MlpProjector
from services.output_projectors.mlp_transformer import MlpTransformerProjector
from services.output_projectors.projector import OutputProjector
from services.output_projectors.transformer import TransformerProjector

PROJECTORS: dict[str, type[OutputProjector]] = {
    "transformer": TransformerProjector,
    "mlp_transformer": MlpTransformerProjector,
    "mlp": MlpProjector,
}


def build_projector(type_name: str, config: Mapping[str, Any]) -> OutputProjector:
    """Builds the projector of an artifact, with random weights.

    Raises:
        ValueError: There is no such type, or the config makes no sense.
    """
    if type_name not in PROJECTORS:
        raise ValueError(f"output projector type {type_name!r}; expected one of {sorted(PROJECTORS)}")
    return PROJECTORS[type_name].from_config(config)
