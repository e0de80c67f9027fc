"""The input projector component: features of any source in, embeddings out, prompts read where wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from graph import messages as m
from graph.errors import FailedPrecondition, InvalidRequest
from services.artifacts import ArtifactStore
from services.input_projectors.models import build_projector
from services.runtime.component import Held
from services.runtime.convert import card_from_proto
from services.runtime.tensors import from_torch, to_torch
from tests.fakes import tiny
from tests.fakes.components import make_component, started

ANY = m.VersionRef()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    torch.set_num_threads(1)
    return ArtifactStore(tmp_path)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, tiny.FEATURE_WIDTH, generator=torch.Generator().manual_seed(seed))


def item(tensor: torch.Tensor) -> m.Features:
    return m.Features(from_torch(tensor), "hash")


@pytest.mark.parametrize("type_name", list(tiny.PROJECTORS))
async def test_embeddings_are_the_model_s(type_name: str, store: ArtifactStore) -> None:
    version = tiny.projector(store, type_name)
    model = build_projector(type_name, tiny.PROJECTORS[type_name])
    model.load_state_dict(store.get(version).load_tensors())
    inputs = [features(16, seed=1), features(36, seed=2), features(16, seed=3)]
    prompt = torch.tensor([list(b"what?")]) if model.reads_prompt else None
    with torch.inference_mode():
        expected = [model.eval()(one[None], prompt)[0] for one in inputs]
    async with started(make_component(store, Held(version))) as projector:
        found = await projector.project(ANY, [item(one) for one in inputs], "what?", "lease")
    for segment, expected_TD in zip(found, expected, strict=True):
        assert segment.embeddings is not None
        torch.testing.assert_close(to_torch(segment.embeddings), expected_TD, rtol=1e-4, atol=1e-5)
        assert segment.content_hash == "hash"


async def test_frames_are_projected_one_by_one_and_joined(store: ArtifactStore) -> None:
    video = features(3, 16, seed=4)
    async with started(make_component(store, Held(tiny.projector(store, "linear")))) as projector:
        (joined,) = await projector.project(ANY, [item(video)], "", "lease")
        single = await projector.project(ANY, [item(frame) for frame in video], "", "lease")
    expected = torch.cat([to_torch(segment.embeddings) for segment in single if segment.embeddings])
    assert joined.embeddings is not None
    torch.testing.assert_close(to_torch(joined.embeddings), expected, rtol=1e-4, atol=1e-5)


async def test_films_of_any_length_and_pictures_share_a_batch(store: ArtifactStore) -> None:
    config = {
        **tiny.WIDTHS,
        "stages": [{"space_to_depth": 2}, {"add_time_positions": 8}, {"mean_pool": 4}, {"concat_items": 1}],
    }
    model = build_projector("linear", config).eval()
    version = store.put(kind="input_projector", type="linear", config=config, tensors=model.state_dict())
    inputs = [features(8, 16, seed=1), features(3, 16, seed=2), features(16, seed=3), features(8, 16, seed=4)]
    with torch.inference_mode():
        expected = [model(one[None])[0] for one in inputs]
    assert [len(one) for one in expected] == [8, 3, 1, 8]
    async with started(make_component(store, Held(version))) as projector:
        found = await projector.project(ANY, [item(one) for one in inputs], "", "lease")
        with pytest.raises(InvalidRequest, match="9 frames, at most 8 have a position"):
            await projector.project(ANY, [item(features(9, 16))], "", "lease")
    for segment, expected_TD in zip(found, expected, strict=True):
        torch.testing.assert_close(to_torch(segment.embeddings), expected_TD, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("type_name", "stages", "expected"),
    [
        ("linear", [], None),
        ("linear", [{"add_time_positions": 64}, {"concat_items": 1}], (0, 0, 64)),
        ("query_transformer", [], (0, 5, 0)),
        ("query_transformer", [{"add_time_positions": 9}], (0, 5, 9)),
        ("query_transformer", [{"concat_items": 1}], (5, 0, 0)),
    ],
)
async def test_the_card_tells_tokens_and_frames(
    type_name: str, stages: list[dict[str, int]], expected: tuple[int, int, int] | None, store: ArtifactStore
) -> None:
    config = {**tiny.PROJECTORS[type_name], "stages": stages}
    tensors = build_projector(type_name, config).state_dict()
    version = store.put(kind="input_projector", type=type_name, config=config, tensors=tensors)
    async with started(make_component(store, Held(version))) as projector:
        card = projector.card()
    assert set(card.token_counts) == ({"video"} if expected else set())
    if expected:
        count = card.token_counts["video"]
        assert (count.fixed_tokens, count.tokens_per_unit, count.max_units) == expected
        assert count.unit == "frame"
        assert card_from_proto(card).max_frames == expected[2]


async def test_prompts_of_others_do_not_leak(store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.projector(store, "query_transformer")))) as projector:
        prompts = ["what?", "how many are there?", "", "what?"]
        one = [item(features(16))]
        alone = [(await projector.project(ANY, one, prompt, "l"))[0].embeddings for prompt in prompts]
        many = await asyncio.gather(*(projector.project(ANY, one, prompt, "l") for prompt in prompts))
        assert alone[0] == alone[3] != alone[1]
        for (segment,), expected in zip(many, alone, strict=True):
            torch.testing.assert_close(to_torch(segment.embeddings), to_torch(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (torch.zeros(16, tiny.FEATURE_WIDTH + 1), r"\[tokens, 32\] or \[frames, tokens, 32\] expected"),
        (torch.zeros(15, tiny.FEATURE_WIDTH), "space_to_depth"),
        (torch.full((16, tiny.FEATURE_WIDTH), float("inf")), "NaN or Inf"),
        (torch.zeros(16, tiny.FEATURE_WIDTH, dtype=torch.int32), "dtype int32"),
        (torch.zeros(0, tiny.FEATURE_WIDTH), "shape"),
    ],
)
async def test_wrong_features_are_named(tensor: torch.Tensor, complaint: str, store: ArtifactStore) -> None:
    async with started(make_component(store, Held(tiny.projector(store, "linear")))) as projector:
        with pytest.raises(InvalidRequest, match=complaint) as caught:
            await projector.project(ANY, [item(features(16)), item(tensor)], "", "lease")
        assert caught.value.where == "items[1].tensor"


def test_bytes_need_a_vocabulary_of_bytes(store: ArtifactStore) -> None:
    config = {**tiny.PROJECTORS["query_transformer"], "text_vocab": 100}
    tensors = build_projector("query_transformer", config).state_dict()
    version = store.put(kind="input_projector", type="query_transformer", config=config, tensors=tensors)
    with pytest.raises(FailedPrecondition, match="tokenizer"):
        asyncio.run(make_component(store, Held(version)).start())
