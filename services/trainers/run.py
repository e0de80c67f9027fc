"""Runs a recipe from its file to its artifacts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from services.backbone.model import build_decoder
from services.encoders.clip_vision import ClipVision
from services.modules.lora import adapter_tensors
from services.trainers.grounding import GroundingParts, GroundingStage
from services.trainers.language import LanguageStage
from services.trainers.loop import Loop, Progress
from services.trainers.recipe import Recipe, read_recipe
from services.trainers.results import Trained, Weights, float_tensors
from services.trainers.vision import VisionStage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from services.artifacts import Artifact

logger = logging.getLogger(__name__)
WEIGHTS_FOLDER = Path("weights")
RUNS_FOLDER = Path(".runs")
_GENERATION = {"max_new_tokens": 128, "temperature": 0.0}


def pick_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_encoder(artifact: Artifact) -> ClipVision:
    """Builds the vision encoder of an artifact."""
    encoder = ClipVision.from_config(artifact.config)
    encoder.load_state_dict(float_tensors(artifact))
    return encoder


def load_decoder(artifact: Artifact) -> PreTrainedModel:
    """Builds the decoder of a backbone artifact; a head tied to the embeddings is not stored."""
    decoder = build_decoder(artifact.config)
    missing, unexpected = decoder.load_state_dict(float_tensors(artifact), strict=False)
    if unexpected or any(name != "lm_head.weight" for name in missing):
        raise ValueError(f"artifact {artifact.version}: missing {missing}, unexpected {unexpected}")
    return decoder


def _grounding_stage(recipe: Recipe, weights: Weights, device: torch.device) -> GroundingStage:
    backbone = weights.find(recipe.reads["backbone"])
    projector_type, config = recipe.model["projector"]["type"], recipe.model["projector"]["config"]
    tensors = None
    if "projector" in recipe.reads:
        projector = weights.find(recipe.reads["projector"])
        projector_type, config, tensors = projector.type, projector.config, float_tensors(projector)
    parts = GroundingParts(
        encoder=load_encoder(weights.find(recipe.reads["encoder"])),
        decoder=load_decoder(backbone),
        tokenizer_json=backbone.read_file("tokenizer.json"),
        projector_type=projector_type,
        projector_config=config,
        projector_tensors=tensors,
    )
    return GroundingStage(recipe, device, parts)


def make_stage(recipe: Recipe, weights: Weights, device: torch.device, folder: Path) -> Any:  # noqa: ANN401 - batches differ
    """Builds the stage of a recipe."""
    match recipe.stage:
        case "vision":
            return VisionStage(recipe, device)
        case "language":
            return LanguageStage(recipe, device, folder)
        case _:
            return _grounding_stage(recipe, weights, device)


def results_of(recipe: Recipe, stage: VisionStage | LanguageStage | GroundingStage) -> list[Trained]:
    """What a finished stage has to store."""
    writes = recipe.writes
    if isinstance(stage, VisionStage):
        tensors = stage.trained.encoder.state_dict()
        return [Trained(writes["encoder"], "encoder", "clip_vision", recipe.model, tensors, {})]
    if isinstance(stage, LanguageStage):
        tensors = stage.trained.state_dict()
        if recipe.model["decoder"].get("tie_word_embeddings", False):
            tensors.pop("lm_head.weight")
        eos = {"eos_token_id": recipe.model["decoder"]["eos_token_id"]}
        files = {**stage.files, "generation_config.json": json.dumps({**_GENERATION, **eos}).encode()}
        return [Trained(writes["backbone"], "backbone", "decoder", recipe.model, tensors, files)]
    parts = stage.parts
    results = [
        Trained(
            writes["projector"],
            "input_projector",
            parts.projector_type,
            parts.projector_config,
            stage.projector.state_dict(),
            {},
        )
    ]
    if stage.adapter is not None:
        lora = {**recipe.model["lora"], "base_architecture": type(stage.decoder).__name__}
        tensors = adapter_tensors(stage.decoder, stage.adapter)
        results.append(Trained(writes["adapter"], "adapter", "lora", lora, tensors, {}))
    return results


def run_recipe(
    path: Path, *, out: Path | None = None, max_minutes: float | None = None, runs: Path | None = None
) -> dict[str, str]:
    """Trains what a recipe describes, from its last checkpoint where there is one, and stores the result.

    Args:
        path: The recipe.
        out: Folder of the weights that it reads and writes; `weights/` by default.
        max_minutes: Ends the budget earlier.
        runs: Folder of checkpoints; `.runs/` by default.

    Returns:
        Version of every slot that was written.
    """
    recipe = read_recipe(path)
    if max_minutes is not None:
        minutes = min(max_minutes, recipe.budget.minutes or max_minutes)
        recipe = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"minutes": minutes})})
    weights = Weights(out or WEIGHTS_FOLDER)
    device = pick_device()
    folder = (runs or RUNS_FOLDER) / recipe.name
    stage = make_stage(recipe, weights, device, folder)
    progress: Progress = Loop(recipe, stage, folder, device).run()
    annotations = {
        "recipe": recipe.model_dump(mode="json"),
        "steps": progress.step,
        "samples": progress.samples,
        "train_s": round(progress.train_s),
        "torch": torch.__version__,
        "scores": progress.scores,
    }
    written: dict[str, str] = {}
    for trained in results_of(recipe, stage):
        version = weights.write(trained, annotations)
        for system in recipe.systems:
            weights.fill(system, trained.slot, version)
        written[trained.slot] = version
        logger.info("%s: %s is %s", recipe.name, trained.slot, version)
    return written
