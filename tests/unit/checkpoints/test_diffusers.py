"""Pipelines of diffusers become artifacts: the right type, without what reads text, without running anything."""

from __future__ import annotations

import json
import shutil
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph import messages as m
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints import import_checkpoint
from services.checkpoints.diffusers import new_attention_name
from services.generators.diffusers_pipeline import PipelineEngine, load_pipeline
from services.generators.encoding import Medium
from services.generators.engine import RenderJob
from services.generators.plans import plan_medium
from tests.fakes.tiny_generators import TEXT_WIDTH, TOKENS
from tests.unit.generators.pipelines import make_lcm, make_pipeline, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("pipelines") / "stable_diffusion"
    save(make_pipeline("stable_diffusion"), path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_only_what_makes_pictures_is_taken(saved: Path, store: ArtifactStore) -> None:
    slots = import_checkpoint("x", saved, store)
    assert set(slots) == {"draw"}
    artifact = store.get(slots["draw"])
    assert artifact.type == "stable_diffusion"
    assert artifact.config["scheduler"]["_class_name"] == "DDIMScheduler"
    assert {name.partition(".")[0] for name in artifact.tensor_digests} == {"unet", "vae"}
    assert not any(name.startswith(("vae.encoder", "vae.quant_conv")) for name in artifact.tensor_digests)
    assert artifact.annotations()["provenance"]["checkpoint"] == "stable_diffusion"


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler"])
def test_a_part_that_is_missing_is_named(copy: Path, store: ArtifactStore, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(InvalidRequest, match=part):
        import_checkpoint("x", copy, store)


def test_pickles_are_refused(copy: Path, store: ArtifactStore) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InvalidRequest, match="pickle"):
        import_checkpoint("x", copy, store)


@pytest.mark.parametrize("shard", ["../../elsewhere.safetensors", "/etc/passwd", "missing.safetensors"])
def test_shards_stay_in_their_directory(copy: Path, store: ArtifactStore, shard: str) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(copy.parent / "elsewhere.safetensors")
    index = {"weight_map": {"conv_in.weight": shard}}
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidRequest, match="shard"):
        import_checkpoint("x", copy, store)


@pytest.mark.parametrize("content", [{}, {"_class_name": 7}, {"_class_name": "os.system"}, {"_class_name": "Popen"}])
def test_an_index_that_names_no_pipeline_is_refused(copy: Path, store: ArtifactStore, content: dict[str, Any]) -> None:
    (copy / "model_index.json").write_text(json.dumps(content))
    with pytest.raises(InvalidRequest):
        import_checkpoint("x", copy, store)


def test_parts_whose_names_lead_elsewhere_are_refused(copy: Path, store: ArtifactStore) -> None:
    index = {"_class_name": "LatentConsistencyModelPipeline", "../unet": ["diffusers", "UNet2DConditionModel"]}
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidRequest, match="no directory"):
        import_checkpoint("x", copy, store)


@pytest.mark.parametrize("index", [{"unet": 7}, {"unet": ["diffusers", "UNet2DConditionModel"], "vae": "x"}])
def test_an_index_that_makes_no_sense_is_refused(copy: Path, store: ArtifactStore, index: dict[str, Any]) -> None:
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}))
    with pytest.raises(InvalidRequest):
        import_checkpoint("x", copy, store)


def test_names_of_old_autoencoders_are_understood(copy: Path, saved: Path, store: ArtifactStore) -> None:
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(weights)
    for new, before in old.items():
        tensors = {name.replace(f".{new}.", f".{before}."): tensor for name, tensor in tensors.items()}
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, weights)
    slots = import_checkpoint("x", copy, store)
    names = set(store.get(slots["draw"]).tensor_digests)
    assert names == set(store.get(import_checkpoint("x", saved, store)["draw"]).tensor_digests)
    assert new_attention_name("up.query.weight") == "up.query.weight"


async def test_any_other_pipeline_runs_as_diffusers_runs_it(tmp_path: Path, store: ArtifactStore) -> None:
    pipeline = make_lcm()
    save(pipeline, tmp_path / "lcm")
    slots = import_checkpoint("x", tmp_path / "lcm", store)
    artifact = store.get(slots["draw"])
    assert (artifact.type, artifact.config["pipeline"]) == ("diffusers", "LatentConsistencyModelPipeline")
    model = load_pipeline(artifact, "float32", "cpu")
    assert model.conditions()["prompt_embeds"].sizes == (0, TEXT_WIDTH)
    embeds = torch.randn(TOKENS, TEXT_WIDTH, generator=torch.Generator().manual_seed(1))
    expected = pipeline(
        prompt_embeds=embeds[None], num_inference_steps=4, guidance_scale=6.0, output_type="np", return_dict=False,
        height=16, width=24, generator=torch.Generator().manual_seed(5),
    )[0][0]  # fmt: skip
    parameters = m.MediaParameters(steps=4, guidance_scale=6.0, height=16, width=24)
    plan = plan_medium(model.modality, parameters, model.defaults, model.caps)
    job = RenderJob(model, plan, {"prompt_embeds": embeds}, {}, 5, began=lambda: None)
    engine = PipelineEngine()
    async with aclosing(engine.submit(job)) as events:
        got = [event async for event in events]
    engine.close()
    assert [event.step for event in got if isinstance(event, m.RenderProgress)] == [1, 2, 3, 4]
    assert isinstance(got[-1], Medium)
    assert abs(got[-1].values - expected).max() <= 1e-4
    assert expected.std() > 0.01
