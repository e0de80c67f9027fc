"""From an artifact to the model it describes."""

from __future__ import annotations

from graph.errors import FailedPrecondition
from services.artifacts.store import Artifact
from services.generators.audioldm import AudioLdm
from services.generators.latent_diffusion import LatentDiffusion
from services.generators.stable_diffusion import StableDiffusion
from services.generators.text_to_video import TextToVideo
from services.generators.unclip import UnClip
from services.runtime.resident import fill_module

GENERATORS: dict[str, type[LatentDiffusion]] = {
    "stable_diffusion": StableDiffusion,
    "unclip": UnClip,
    "text_to_video": TextToVideo,
    "audioldm": AudioLdm,
}


def build_generator(type_name: str, config: dict[str, object]) -> LatentDiffusion:
    """Build the model of a config, its weights not loaded.

    Raises:
        FailedPrecondition: The config makes no sense.
    """
    try:
        return GENERATORS[type_name](config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FailedPrecondition(f"the config of this {type_name} generator cannot be built: {error}") from error


def load_generator(artifact: Artifact, dtype: str, device: str) -> LatentDiffusion:
    """Build the model of an artifact, ready to run.

    Raises:
        FailedPrecondition: Config and tensors do not fit each other.
    """
    model = build_generator(artifact.type, artifact.config)
    if not any(name.startswith("vae.encoder.") for name in artifact.tensor_digests):
        model.drop_encoder()
    fill_module(model, artifact, dtype, device)
    return model
