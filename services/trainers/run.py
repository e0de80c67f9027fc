"""Runs a recipe from its file to its artifacts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from services.backbone.model import build_decoder
from services.encoders.clip_vision import ClipVision
from services.encoders.whisper import WhisperEncoder
from services.modules.lora import adapter_tensors
from services.trainers.autoencoding import PictureAutoencoderStage
from services.trainers.captions import CaptionEncoder
from services.trainers.diffusing import DiffusionStage
from services.trainers.generators import autoencoder_results, generator_results, make_diffusion_stage
from services.trainers.grounding import GroundingParts, GroundingStage, ProjectorParts
from services.trainers.hearing import HearingStage
from services.trainers.language import Earlier, LanguageStage
from services.trainers.loop import Loop, Progress
from services.trainers.output_alignment import OutputAlignmentStage
from services.trainers.outputs import OutputParts
from services.trainers.probes import add_probes
from services.trainers.recipe import Recipe, read_recipe
from services.trainers.results import Trained, Weights, float_tensors
from services.trainers.spectrograms import SoundAutoencoderStage
from services.trainers.vision import VisionStage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from services.artifacts import Artifact

Stage: TypeAlias = (
    VisionStage
    | HearingStage
    | LanguageStage
    | GroundingStage
    | OutputAlignmentStage
    | PictureAutoencoderStage
    | SoundAutoencoderStage
    | DiffusionStage
)

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


def load_hearing(artifact: Artifact) -> WhisperEncoder:
    """Builds the audio encoder of an artifact."""
    encoder = WhisperEncoder.from_config(artifact.config)
    encoder.load_state_dict(float_tensors(artifact))
    return encoder


def _grounding_stage(recipe: Recipe, weights: Weights, device: torch.device) -> GroundingStage:
    backbone = weights.find(recipe.reads["backbone"])
    encoders: dict[str, ClipVision | WhisperEncoder] = {}
    projectors: dict[str, ProjectorParts] = {}
    configs: dict[str, dict[str, Any]] = {}
    for modality, model in recipe.model["projectors"].items():
        encoder = weights.find(recipe.reads[f"{modality}_encoder"])
        configs[modality] = dict(encoder.config)
        encoders[modality] = load_hearing(encoder) if encoder.type == "whisper" else load_encoder(encoder)
        projectors[modality] = ProjectorParts(model["type"], model["config"], None)
        if earlier := recipe.reads.get(f"{modality}_projector"):
            artifact = weights.find(earlier)
            projectors[modality] = ProjectorParts(artifact.type, dict(artifact.config), float_tensors(artifact))
    tokenizer_json = backbone.read_file("tokenizer.json")
    parts = GroundingParts(
        encoders,
        projectors,
        load_decoder(backbone),
        tokenizer_json,
        adapter_tensors=float_tensors(weights.find(recipe.reads["adapter"])) if "adapter" in recipe.reads else None,
        encoder_configs=configs,
        outputs=_outputs(recipe, weights),
    )
    return GroundingStage(recipe, device, parts)


def _outputs(recipe: Recipe, weights: Weights) -> dict[str, OutputParts]:
    """Output projectors of a recipe: those of an artifact, or new ones."""
    found: dict[str, OutputParts] = {}
    for modality, model in recipe.model.get("output_projectors", {}).items():
        captions = CaptionEncoder(modality, model["config"]["output_width"])
        found[modality] = OutputParts(model["type"], model["config"], None, captions)
        if earlier := recipe.reads.get(f"{modality}_output_projector"):
            artifact = weights.find(earlier)
            found[modality] = OutputParts(artifact.type, dict(artifact.config), float_tensors(artifact), captions)
    return found


def _earlier_encoder(recipe: Recipe, weights: Weights) -> dict[str, torch.Tensor] | None:
    """Weights of the encoder that a recipe goes on from."""
    return float_tensors(weights.find(recipe.reads["encoder"])) if "encoder" in recipe.reads else None


def make_stage(recipe: Recipe, weights: Weights, device: torch.device, folder: Path) -> Any:  # noqa: ANN401 - batches differ
    """Builds the stage of a recipe."""
    match recipe.stage:
        case "vision":
            return VisionStage(recipe, device, _earlier_encoder(recipe, weights))
        case "hearing":
            return HearingStage(recipe, device, folder, _earlier_encoder(recipe, weights))
        case "language":
            earlier = None
            if "backbone" in recipe.reads:
                artifact = weights.find(recipe.reads["backbone"])
                earlier = Earlier(artifact.read_file("tokenizer.json"), float_tensors(artifact))
            return LanguageStage(recipe, device, folder, earlier)
        case "picture_autoencoder":
            return PictureAutoencoderStage(recipe, device)
        case "sound_autoencoder":
            return SoundAutoencoderStage(recipe, device)
        case "diffusion":
            return make_diffusion_stage(recipe, weights, device)
        case "align_output":
            return OutputAlignmentStage(recipe, _grounding_stage(recipe, weights, device))
        case _:
            return _grounding_stage(recipe, weights, device)


def results_of(recipe: Recipe, stage: Stage, weights: Weights) -> list[Trained]:
    """What a finished stage has to store."""
    writes = recipe.writes
    if isinstance(stage, PictureAutoencoderStage | SoundAutoencoderStage):
        return autoencoder_results(recipe, stage)
    if isinstance(stage, DiffusionStage):
        return generator_results(recipe, stage, weights.find(recipe.reads["autoencoder"]))
    if isinstance(stage, VisionStage):
        tensors = stage.trained.encoder.state_dict()
        return [Trained(slot, "encoder", "clip_vision", recipe.model, tensors, {}) for slot in writes.values()]
    if isinstance(stage, HearingStage):
        tensors = stage.trained.encoder.tensors_to_store()
        return [Trained(writes["encoder"], "encoder", "whisper", recipe.model, tensors, {})]
    if isinstance(stage, LanguageStage):
        tensors = stage.trained.state_dict()
        if recipe.model["decoder"].get("tie_word_embeddings", False):
            tensors.pop("lm_head.weight")
        eos = {"eos_token_id": recipe.model["decoder"]["eos_token_id"]}
        files = {**stage.files, "generation_config.json": json.dumps({**_GENERATION, **eos}).encode()}
        return [Trained(writes["backbone"], "backbone", "decoder", recipe.model, tensors, files)]
    if isinstance(stage, OutputAlignmentStage):
        part = stage.parts.outputs[stage.modality]
        slot = writes[f"{stage.modality}_output_projector"]
        return [Trained(slot, "output_projector", part.type, part.config, stage.projector.state_dict(), {})]
    return _grounding_results(recipe, stage)


def _grounding_results(recipe: Recipe, stage: GroundingStage) -> list[Trained]:
    """Projectors of both sides, the encoders that learned with them, and the adapter."""
    writes = recipe.writes
    results = [
        Trained(
            writes[f"{modality}_projector"],
            "input_projector",
            part.type,
            part.config,
            stage.inputs.projectors[modality].state_dict(),
            {},
        )
        for modality, part in stage.parts.projectors.items()
    ]
    for modality, output in stage.parts.outputs.items():
        if stage.outputs is not None:
            tensors = stage.outputs.projectors[modality].state_dict()
            slot = writes[f"{modality}_output_projector"]
            results.append(Trained(slot, "output_projector", output.type, output.config, tensors, {}))
    for modality, encoder in stage.inputs.encoders.items():
        if f"{modality}_encoder" in writes:
            slot = writes[f"{modality}_encoder"]
            is_whisper = isinstance(encoder, WhisperEncoder)
            tensors = encoder.tensors_to_store() if isinstance(encoder, WhisperEncoder) else encoder.state_dict()
            config = stage.parts.encoder_configs[modality]
            kind = "whisper" if is_whisper else "clip_vision"
            results.append(Trained(slot, "encoder", kind, config, tensors, {}))
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
    for trained in results_of(recipe, stage, weights):
        version = weights.write(trained, annotations)
        system, colon, slot = trained.slot.rpartition(":")
        for name in (system,) if colon else recipe.systems:
            weights.fill(name, slot, version)
        written[trained.slot] = version
        logger.info("%s: %s is %s", recipe.name, trained.slot, version)
    for system in recipe.systems:
        add_probes(weights.store, weights.slots(system), frozenset(written.values()))
    return written
