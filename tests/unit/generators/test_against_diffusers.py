"""Pipelines saved by diffusers, imported and run by our own loops, give what diffusers gives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graph.messages import MediaParameters
from services.artifacts import ArtifactStore
from services.checkpoints import import_checkpoint
from services.generators.denoising import DenoisingEngine
from services.generators.engine import RenderJob
from services.generators.latent_diffusion import LatentDiffusion
from services.generators.models import load_generator
from services.generators.plans import plan_medium
from tests.unit.generators.pipelines import SCHEDULERS, call, make_embeds, make_pipeline, save
from tests.unit.generators.test_denoising import made

SLOTS = {"stable_diffusion": "draw", "unclip": "draw", "text_to_video": "film", "audioldm": "play"}
# What is asked of a pipeline in its own words, and of us.
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stable_diffusion": ({"height": 16, "width": 24}, {"height": 16, "width": 24}),
    "unclip": ({"noise_level": 0}, {}),
    "text_to_video": ({"num_frames": 3, "height": 16, "width": 24}, {"frames": 3, "height": 16, "width": 24}),
    "audioldm": ({"audio_length_in_s": 0.0611}, {"seconds": 0.0611}),
}
TOLERANCE = 1e-4


def load(pipeline: Any, type_name: str, tmp_path: Path) -> LatentDiffusion:
    save(pipeline, tmp_path / "pipeline")
    store = ArtifactStore(tmp_path / "store")
    slots = import_checkpoint("x", tmp_path / "pipeline", store)
    artifact = store.get(slots[SLOTS[type_name]])
    assert (artifact.kind, artifact.type) == ("generator", type_name)
    return load_generator(artifact, "float32", "cpu")


def job_of(
    model: LatentDiffusion, type_name: str, seed: int, embeds_seed: int, **parameters: Any
) -> RenderJob[LatentDiffusion]:
    positive, negative = make_embeds(type_name, embeds_seed)
    plan = plan_medium(model.modality, MediaParameters(**parameters), model.defaults, model.caps)
    return RenderJob(model, plan, positive, negative, seed, began=lambda: None)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("type_name", SIZES)
async def test_it_is_what_diffusers_gives(type_name: str, scheduler: str, guidance: float, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pipeline = make_pipeline(type_name, scheduler)
    model = load(pipeline, type_name, tmp_path)
    engine = DenoisingEngine(max_rows=8)
    theirs, ours = SIZES[type_name]
    worst = 0.0
    asked = [(seed, steps) for seed, steps in zip((3, 2**40), (4, 7), strict=True)]
    expected = [call(pipeline, type_name, seed, steps, guidance, seed, **theirs) for seed, steps in asked]
    jobs = [job_of(model, type_name, seed, seed, steps=steps, guidance_scale=guidance, **ours) for seed, steps in asked]
    got = await asyncio.gather(*(made(engine, job) for job in jobs))
    for mine, reference in zip(got, expected, strict=True):
        assert mine.shape == reference.shape
        assert reference.std() > 0.01
        worst = max(worst, float((mine - reference).abs().max()))
    engine.close()
    print(f"figure: {type_name}, {scheduler}, guidance {guidance:g}: at most {worst:.1e} from diffusers")
    assert worst <= TOLERANCE
    assert np.isfinite(worst)
    assert float((got[0] - got[1]).abs().max()) > 0.01
