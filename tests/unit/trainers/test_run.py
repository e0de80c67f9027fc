"""Every stage, tiny, from recipe to artifacts: the whole way that the bundled weights took."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from services.modules.signal_rows import SIGNAL_TENSORS
from services.playroom.cases import picture_cases
from services.playroom.scenes import Split
from services.playroom.speech import can_speak
from services.trainers import grounding, hearing, vision
from services.trainers.answering import Answerer
from services.trainers.loop import Loop
from services.trainers.recipe import read_recipe
from services.trainers.results import Weights
from services.trainers.run import run_recipe
from services.trainers.vision import VisionStage

needs_espeak = pytest.mark.skipif(not can_speak(), reason="espeak-ng is not installed (Debian package espeak-ng)")
GROUNDING = ("align", "instruct", "align_output")
RECIPES = Path(__file__).parents[3] / "weights" / "recipes"
CLIP = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
DECODER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
           "num_key_value_heads": 2}  # fmt: skip
WHISPER = {"n_audio_state": 32, "n_audio_head": 2, "n_audio_layer": 1}


def _tiny(name: str, folder: Path, samples: int) -> Path:
    """Writes a recipe that comes along, shrunk until it runs in seconds."""
    recipe: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    recipe["reads"] = {slot: name for slot, name in recipe.get("reads", {}).items() if recipe["stage"] in GROUNDING}
    recipe |= {"batch": 4, "budget": {"samples": samples}, "bf16": False}
    model = recipe["model"]
    if "clip" in model:
        model["clip"] |= CLIP
    if "decoder" in model:
        model["decoder"] |= DECODER
    if "dims" in model:
        model["dims"] |= WHISPER
        recipe["options"]["sentences"] = 6
    for projector in model.get("projectors", {}).values():
        projector["config"] |= {"feature_width": 32, "output_width": 32}
    for projector in model.get("output_projectors", {}).values():
        projector["config"] |= {"input_width": 32, "hidden_width": 16, "heads": 2, "ff_width": 16, "layers": 1}
    if recipe["stage"] in GROUNDING:
        recipe["workers"] = 0
    if "blocks" in recipe.get("options", {}):
        recipe["options"]["blocks"] = 40
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(autouse=True)
def _few_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "FINAL_SCENES", 250)
    monkeypatch.setattr(grounding, "FINAL_BATCHES", 1)
    monkeypatch.setattr(hearing, "FINAL_SENTENCES", 2)


@needs_espeak
@pytest.mark.timeout(240)
def test_all_stages_run_one_after_the_other_and_fill_the_version_sets(tmp_path: Path) -> None:
    making = ("next-gpt-making", "next-gpt-drawing", "next-gpt-draw-out")
    for name in ("vision", "hearing", "language", "next-gpt-align", "next-gpt-instruct", *making):
        run_recipe(_tiny(name, tmp_path, 8), out=tmp_path / "weights", runs=tmp_path / "runs")
    weights = Weights(tmp_path / "weights")
    slots = weights.slots("next-gpt")
    understands = {"see", "watch", "hear", "think", "see_in", "watch_in", "hear_in", "think/lora"}
    assert set(slots) == understands | {"draw_out", "film_out", "play_out"}
    assert set(SIGNAL_TENSORS) <= set(weights.store.get(slots["think/lora"]).tensor_digests)
    assert slots["watch"] == slots["see"]
    assert weights.slots("llava-1.5") == {"see": slots["see"], "think": slots["think"]}
    for version in slots.values():
        artifact = weights.store.get(version)
        assert {tensor.dtype for tensor in artifact.load_tensors().values()} == {torch.bfloat16}
        assert artifact.annotations()["samples"] == 8
    answerer = Answerer(weights, "next-gpt")
    assert all(isinstance(answerer.ask(case), str) for case in picture_cases(Split.TEST, "question", 2))
    message = {"role": "user", "content": "hello"}
    assert isinstance(answerer.answer([message], []), str)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    recipe = read_recipe(_tiny("vision", tmp_path, 24))
    device = torch.device("cpu")
    straight = VisionStage(recipe, device)
    Loop(recipe, straight, whole, device).run()
    first = VisionStage(recipe, device)
    interrupted = Loop(recipe, first, halves, device)
    halves.mkdir()
    feed = first.batch_maker()
    torch.manual_seed(recipe.seed)
    for index in range(3):
        interrupted.step(feed(index))
    interrupted.save()
    resumed = VisionStage(recipe, device)
    assert Loop(recipe, resumed, halves, device).run().step == 6
    for name, tensor in straight.trained.state_dict().items():
        assert torch.equal(tensor, resumed.trained.state_dict()[name]), name


def test_pictures_of_any_size_and_mode_become_pixels() -> None:
    encoder = vision.VisionTraining(yaml.safe_load((RECIPES / "vision.yaml").read_text())["model"]).encoder.eval()
    wide = Image.new("RGBA", (640, 200), (255, 0, 0, 128))
    gray = Image.new("L", (17, 17), 5)
    buffer = io.BytesIO()
    Image.new("RGB", (128, 128), (9, 9, 9)).save(buffer, "JPEG")
    pixels = encoder.preprocess([wide, gray, Image.open(buffer)])
    assert pixels.shape == (3, 3, 60, 60)
    assert pixels.dtype == torch.float32
    assert encoder(pixels).shape == (3, encoder.tokens_per_image, encoder.feature_width)
    assert encoder.tokens_per_image == 36
