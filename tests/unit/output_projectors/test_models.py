"""The output projectors against forward passes written out by hand, and what their configs may say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from services.output_projectors.models import build_projector
from services.output_projectors.projector import OutputProjector
from tests.fakes import tiny

Weights = dict[str, Tensor]
HEADS = 4


def built(type_name: str, seed: int = 0, **changes: Any) -> OutputProjector:
    config = {**tiny.OUTPUT_PROJECTORS[type_name], "signals": {"image": 4}, **changes}
    with tiny.seeded(seed):
        module = build_projector(type_name, config)
    tensors = tiny.randomized(module, seed)
    # Biases and norms too: what is zero or one by chance hides what is left out.
    generator = torch.Generator().manual_seed(seed + 1)
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            tensors[name] = tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
    module.load_state_dict(tensors)
    return module.eval()


def states(seed: int = 0, blocks: int = 3) -> Tensor:
    return torch.randn(blocks, 4, tiny.BACKBONE_WIDTH, generator=torch.Generator().manual_seed(seed))


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    spread = x.var(-1, unbiased=False, keepdim=True)
    return (x - x.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def attend(x: Tensor, memory: Tensor, w: Weights, name: str) -> Tensor:
    weight, bias = w[f"{name}.in_proj_weight"].chunk(3), w[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (
        (source @ weight[part].T + bias[part]).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part, source in enumerate((x, memory, memory))
    )
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return linear((scores @ v).transpose(1, 2).flatten(2), w, f"{name}.out_proj")


def feed(x: Tensor, w: Weights, name: str) -> Tensor:
    return linear(F.relu(linear(x, w, f"{name}.linear1")), w, f"{name}.linear2")


def transform(source: Tensor, target: Tensor, w: Weights, name: str, norm_first: bool) -> Tensor:
    """An encoder-decoder of two layers each, written out."""

    def sub(x: Tensor, norm_name: str, layer: Any) -> Tensor:
        return x + layer(norm(x, w, norm_name)) if norm_first else norm(x + layer(x), w, norm_name)

    for index in range(2):
        at = f"{name}.encoder.layers.{index}"
        source = sub(source, f"{at}.norm1", lambda x, at=at: attend(x, x, w, f"{at}.self_attn"))
        source = sub(source, f"{at}.norm2", lambda x, at=at: feed(x, w, at))
    source = norm(source, w, f"{name}.encoder.norm")
    for index in range(2):
        at = f"{name}.decoder.layers.{index}"
        target = sub(target, f"{at}.norm1", lambda x, at=at: attend(x, x, w, f"{at}.self_attn"))
        target = sub(target, f"{at}.norm2", lambda x, at=at: attend(x, source, w, f"{at}.multihead_attn"))
        target = sub(target, f"{at}.norm3", lambda x, at=at: feed(x, w, at))
    return norm(target, w, f"{name}.decoder.norm")


@pytest.mark.parametrize("norm_first", [True, False])
@torch.no_grad()
def test_transformer(norm_first: bool) -> None:
    module = built("transformer", norm_first=norm_first)
    w, x = dict(module.state_dict()), states()
    read = transform(linear(x, w, "in_fc"), w["query_embs"].expand(3, -1, -1), w, "tfm", norm_first)
    torch.testing.assert_close(module(x), linear(read, w, "out_fc"), rtol=1e-4, atol=1e-5)
    assert module(x).shape == (3, tiny.TOKENS, tiny.TEXT_WIDTH) == (3, *module.output_shape)
    torch.testing.assert_close(module.negative_conditioning(), w["negative"])


@torch.no_grad()
def test_mlp_transformer() -> None:
    module = built("mlp_transformer")
    w = dict(module.state_dict())

    def reference(x: Tensor) -> Tensor:
        mapped = linear(F.gelu(linear(x, w, "fc.0")), w, "fc.2")
        prompt = w["t2i_decoder_prompt"].expand(len(x), -1, -1)
        return transform(mapped, prompt, w, "llm_to_t2i_mapping", norm_first=True)

    torch.testing.assert_close(module(states()), reference(states()), rtol=1e-4, atol=1e-5)
    zeros = torch.zeros(1, 4, tiny.BACKBONE_WIDTH)
    torch.testing.assert_close(module.negative_conditioning(), reference(zeros)[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_mlp() -> None:
    module = built("mlp")
    w, x = dict(module.state_dict()), states()
    expected = linear(norm(F.gelu(linear(x[:, 0], w, "linear_1")), w, "norm"), w, "linear_2")
    torch.testing.assert_close(module(x), expected)
    assert module.setup.name == "image_embeds"
    assert not module.negative_conditioning().any()
    assert module.negative_conditioning().shape == module.output_shape == (tiny.EMBED_WIDTH,)


@pytest.mark.parametrize("type_name", tiny.OUTPUT_PROJECTORS)
@torch.no_grad()
def test_input_embeddings_are_added_where_wanted(type_name: str) -> None:
    module = built(type_name, adds_input_embeddings=True)
    plain = built(type_name)
    torch.testing.assert_close(module(states(0), states(1)), plain(states(0) + states(1)))
    with pytest.raises(ValueError, match="input embeddings expected"):
        module(states(0))


@pytest.mark.parametrize("negative", ["zeros", "learned", "from_zeros"])
@pytest.mark.parametrize("type_name", tiny.OUTPUT_PROJECTORS)
@torch.no_grad()
def test_vectors_of_length_one(type_name: str, negative: str) -> None:
    module = built(type_name, normalize=True, negative=negative)
    plain = built(type_name, negative=negative)
    lengths = module(states()).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    torch.testing.assert_close(module(states()), F.normalize(plain(states()), dim=-1))
    torch.testing.assert_close(module.negative_conditioning(), F.normalize(plain.negative_conditioning(), dim=-1))
    assert ("negative" in module.state_dict()) == (negative == "learned")


@torch.no_grad()
def test_one_vector_of_a_transformer() -> None:
    module = built("transformer", n_queries=1, vector=True, negative="zeros")
    several = built("transformer", n_queries=1, negative="zeros")
    torch.testing.assert_close(module(states()), several(states())[:, 0])
    assert module.negative_conditioning().shape == module.output_shape == (tiny.TEXT_WIDTH,)


@pytest.mark.parametrize("type_name", tiny.OUTPUT_PROJECTORS)
def test_everything_learns(type_name: str) -> None:
    module = built(type_name, negative="learned").train()
    (module(states()).square().mean() + module.negative_conditioning().square().mean()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("type_name", "changes", "words"),
    [
        ("none", {}, "output projector type 'none'"),
        ("mlp", {"what": 1}, r"unknown \['what'\]"),
        ("transformer", {"heads": None, "signals": {}}, "one modality"),
        ("transformer", {"signals": {"image": 4, "audio": 8}}, "one modality"),
        ("transformer", {"signals": {"image": 0}}, "n_signals: 0"),
        ("transformer", {"output_width": "wide"}, "output_width: 'wide'"),
        ("transformer", {"negative": "empty"}, "negative: 'empty'"),
        ("transformer", {"vector": True}, "n_queries: 5; 1 expected"),
    ],
)
def test_configs_that_make_no_sense(type_name: str, changes: dict[str, Any], words: str) -> None:
    config = {**tiny.OUTPUT_PROJECTORS.get(type_name, {}), "signals": {"image": 4}, **changes}
    with pytest.raises(ValueError, match=words):
        build_projector(type_name, config)


def test_a_config_that_lacks_something() -> None:
    with pytest.raises(ValueError, match=r"missing \['input_width', 'output_width', 'signals'\]"):
        build_projector("mlp", {})
