"""Decoders and CLIP towers in Hugging Face format, imported and held against transformers."""

from __future__ import annotations

import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from graph import messages as m
from graph.errors import InvalidRequest
from services.artifacts import ArtifactStore
from services.checkpoints import import_checkpoint
from services.runtime.component import Held
from services.runtime.tensors import to_torch
from tests.e2e.llava_reference import picture, png
from tests.fakes import tiny
from tests.fakes.components import make_component, started

NEW_TOKENS = 12
SMALL: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 1024, "eos_token_id": 2,
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SMALL},
    "qwen2-tied": {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **SMALL, "sliding_window": None},
    "gemma": {"model_type": "gemma", **SMALL, "head_dim": 12},
    "opt": {
        "model_type": "opt", "hidden_size": 48, "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 256, "word_embed_proj_dim": 48, "vocab_size": 1024, "eos_token_id": 2,
    },
    "gpt2": {
        "model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": 1024,
        "eos_token_id": 2, "bos_token_id": 1,
    },
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path / "store")


def make_checkpoint(path: Path, config: dict[str, Any]) -> Any:
    """Write a random decoder with a tokenizer; return the model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = dict(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    model.load_state_dict(tiny.randomized(model, 0), strict=False)
    model.tie_weights()
    model.save_pretrained(path)
    for name, data in tiny.tokenizer_files().items():
        (path / name).write_bytes(data)
    return model.eval()


@pytest.mark.parametrize("name", DECODERS)
async def test_a_decoder_answers_as_transformers_does(name: str, tmp_path: Path, store: ArtifactStore) -> None:
    from transformers import AutoTokenizer

    model = make_checkpoint(tmp_path / name, DECODERS[name])
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / name)
    slots = import_checkpoint("chat", tmp_path / name, store)
    draw = random.Random(2)
    async with started(make_component(store, Held(slots["think"]))) as backbone:
        for _ in range(8):
            text = " ".join(draw.choice(tiny.LINES[0].split()) for _ in range(draw.randrange(1, 12)))
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                out = model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0)
            expected = out[0, prompt["input_ids"].shape[1] :].tolist()
            expected = expected[: expected.index(2)] if 2 in expected else expected
            request = m.DecodeRequest((m.Turn("user", (m.Segment(text=text),)),), m.Sampling(max_tokens=NEW_TOKENS))
            ids: list[int] = []
            async with aclosing(backbone.decode(m.VersionRef(), request, "lease")) as events:
                async for event in events:
                    ids += event.token_ids if isinstance(event, m.DecodedText) else ()
            assert ids == expected


def test_names_without_their_prefix_are_understood(tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "gpt2", DECODERS["gpt2"])
    version = import_checkpoint("chat", tmp_path / "gpt2", store)
    file = tmp_path / "gpt2" / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}, file)
    assert import_checkpoint("chat", tmp_path / "gpt2", store) == version


def test_tensors_that_do_not_fit_the_config_are_refused(tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "llama", DECODERS["llama"])
    file = tmp_path / "llama" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1].clone()
    save_file(tensors, file)
    with pytest.raises(InvalidRequest, match=r"1 tensors are .* 'model.norm.weight' first"):
        import_checkpoint("chat", tmp_path / "llama", store)


def test_a_checkpoint_without_tokenizer_is_refused(tmp_path: Path, store: ArtifactStore) -> None:
    make_checkpoint(tmp_path / "llama", DECODERS["llama"])
    for name in tiny.tokenizer_files():
        (tmp_path / "llama" / name).unlink()
    with pytest.raises(InvalidRequest, match="tokenizer"):
        import_checkpoint("chat", tmp_path / "llama", store)


async def test_a_clip_tower_gives_transformers_features(tmp_path: Path, store: ArtifactStore) -> None:
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    model = CLIPVisionModel(CLIPVisionConfig(**tiny.CLIP_CONFIG["clip"])).eval()
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)
    model.save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    slots = import_checkpoint("eyes", tmp_path / "clip", store)
    images: list[Image.Image] = [picture(random.Random(seed), (70, 50)) for seed in range(3)]
    with torch.inference_mode():
        expected = model(processor(images, return_tensors="pt")["pixel_values"]).last_hidden_state
    async with started(make_component(store, Held(slots["see"]))) as encoder:
        found = await encoder.encode(m.VersionRef(), [m.Media("image", data=png(one)) for one in images], 0, "l")
    for one, expected_TF in zip(found, expected, strict=True):
        torch.testing.assert_close(to_torch(one.tensor), expected_TF, rtol=1e-4, atol=1e-4)
