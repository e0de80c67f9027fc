"""Checkpoints of other projects, imported as artifacts: directories and hub ids in Hugging Face format."""

from __future__ import annotations

from pathlib import Path

from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints.directory import PIPELINE_FILE, open_checkpoint

CLIP_TYPES = ("clip", "clip_vision_model")


def import_checkpoint(system: str, source: str | Path, store: ArtifactStore) -> dict[str, str]:
    """Import a checkpoint directory or hub id for a system.

    Args:
        system: Name of the system; stands in messages.
        source: The directory, or OWNER/NAME on the hub.
        store: Where the artifacts go.

    Returns:
        Version by slot: ``see``, ``see_in`` and ``think`` of a LLaVA checkpoint; ``see`` of a CLIP one, ``hear`` of
        a Whisper one, ``think`` of a decoder; ``draw``, ``film`` or ``play`` of a pipeline of diffusers.

    Raises:
        NotFound: No such directory, and the hub cannot be reached.
        InvalidRequest: Not a checkpoint that can be imported; pickles never are.
    """
    from services.checkpoints.clip import import_clip
    from services.checkpoints.decoder import import_decoder
    from services.checkpoints.diffusers import import_pipeline
    from services.checkpoints.llava import import_llava
    from services.checkpoints.whisper import import_whisper

    checkpoint = open_checkpoint(source)
    if checkpoint.read_json(PIPELINE_FILE) is not None:
        try:
            slot, version = import_pipeline(checkpoint, store)
        except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"checkpoint {checkpoint.source}: its files are no pipeline of diffusers") from error
        return {slot: version}
    model_type = checkpoint.config.get("model_type")
    try:
        if model_type == "llava":
            return import_llava(checkpoint, store)
        if model_type in CLIP_TYPES:
            return {"see": import_clip(checkpoint, store)}
        if model_type == "whisper":
            return {"hear": import_whisper(checkpoint, store)}
        return {"think": import_decoder(checkpoint, store)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"checkpoint {checkpoint.source} (model type {model_type!r}) cannot be imported for {system}: its files "
            "are no llava, CLIP, Whisper or decoder checkpoint of transformers"
        ) from error
