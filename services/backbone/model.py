"""The decoder of a backbone, built from its artifact's config. Torch only; the engine drives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_decoder(config: Mapping[str, Any]) -> PreTrainedModel:
    """Builds the decoder of a config, any that transformers knows, with random weights.

    Args:
        config: Config of a backbone artifact; `decoder` is the transformers config as a dict.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    decoder = dict(config["decoder"])
    config_object = AutoConfig.for_model(decoder.pop("model_type"), **decoder)
    built: PreTrainedModel = AutoModelForCausalLM.from_config(config_object)  # type: ignore[no-untyped-call]
    return built
