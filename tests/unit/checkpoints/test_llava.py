"""A LLaVA checkpoint, taken apart and served by components, answers as transformers does in one piece."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph.errors import InvalidRequest, NotFound
from graph.messages import Sampling
from services.artifacts import ArtifactStore
from services.checkpoints import import_checkpoint
from services.encoders.clip_vision import ClipVision
from tests.e2e import llava_reference
from tests.e2e.llava_reference import NEW_TOKENS, Case, Reference, make_cases, make_checkpoint, png
from tests.fakes.components import chain

N_CASES = 54


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("llava") / "checkpoint"
    make_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return make_cases(N_CASES)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def turns_of(case: Case) -> list[tuple[str, list[str | bytes]]]:
    return [(turn.role, [part if isinstance(part, str) else png(part) for part in turn.parts]) for turn in case.turns]


async def test_greedy_tokens_are_the_reference_s(
    checkpoint: Path, reference: Reference, cases: list[Case], store: ArtifactStore
) -> None:
    expected = [reference.answer(case) for case in cases]
    slots = import_checkpoint("llava-1.5", checkpoint, store)
    assert set(slots) == {"see", "see_in", "think"}
    async with chain(store, **slots, queue_limit=256) as components:
        sampling = Sampling(max_tokens=NEW_TOKENS)
        answers = await asyncio.gather(*(components.ask(turns_of(case), sampling) for case in cases))
    same = sum(list(answer.ids) == ids for answer, ids in zip(answers, expected, strict=True))
    print(f"{same} of {len(cases)} answers have the reference's tokens")
    assert same == len(cases)
    assert [answer.text for answer in answers] == [reference.text(ids) for ids in expected]


def test_the_reference_looks_at_its_pictures(reference: Reference, cases: list[Case]) -> None:
    share = llava_reference.changed_share(reference, cases)
    print(f"exchanging the pictures changes {share:.0%} of the reference's answers")
    assert share >= 0.9


def test_pixels_are_the_processor_s(
    checkpoint: Path, reference: Reference, cases: list[Case], store: ArtifactStore
) -> None:
    artifact = store.get(import_checkpoint("llava-1.5", checkpoint, store)["see"])
    encoder = ClipVision.from_config(artifact.config)
    pictures = [picture for case in cases for picture in case.pictures]
    expected = reference.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess(pictures), expected, rtol=0, atol=1e-6)


def rewrite(checkpoint: Path, target: Path, rename: dict[str, str]) -> None:
    shutil.copytree(checkpoint, target)
    tensors = load_file(target / "model.safetensors")
    for old, new in rename.items():
        tensors = {name.replace(old, new, 1) if name.startswith(old) else name: t for name, t in tensors.items()}
    save_file(tensors, target / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "rename",
    [
        {"vision_tower.": "vision_tower.vision_model."},
        {
            "language_model.lm_head": "lm_head",
            "language_model.model.": "model.language_model.",
            "vision_tower.": "model.vision_tower.vision_model.",
            "multi_modal_projector.": "model.multi_modal_projector.",
        },
    ],
    ids=["as published", "as in memory"],
)
def test_every_layout_of_names_gives_the_same_versions(
    rename: dict[str, str], checkpoint: Path, tmp_path: Path, store: ArtifactStore
) -> None:
    rewrite(checkpoint, tmp_path / "other", rename)
    assert import_checkpoint("x", tmp_path / "other", store) == import_checkpoint("x", checkpoint, store)


def test_shards_give_the_same_versions(checkpoint: Path, tmp_path: Path, store: ArtifactStore) -> None:
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(checkpoint)
    shutil.copytree(checkpoint, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "sharded", max_shard_size="200KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    assert import_checkpoint("x", tmp_path / "sharded", store) == import_checkpoint("x", checkpoint, store)


def test_pickles_are_refused(checkpoint: Path, tmp_path: Path, store: ArtifactStore) -> None:
    shutil.copytree(checkpoint, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InvalidRequest, match=r"pytorch_model.bin is a pickle"):
        import_checkpoint("x", tmp_path / "pickled", store)


def test_a_missing_directory_is_not_found(tmp_path: Path, store: ArtifactStore) -> None:
    with pytest.raises(NotFound, match="no directory"):
        import_checkpoint("x", tmp_path / "nowhere", store)


def test_a_hub_id_without_network_is_not_found(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFound, match="hub cannot be reached"):
        import_checkpoint("x", "nobody-at-all/no-such-model", store)


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("config.json", "{", "no JSON"),
        ("config.json", '{"model_type": "t5"}', "cannot be imported"),
        ("processor_config.json", '{"image_processor": {"do_resize": false}}', "do_resize"),
        ("processor_config.json", '{"image_processor": {"resample": 0}}', "resample 0"),
        ("processor_config.json", "{}", "no preprocessor_config.json"),
    ],
)
def test_what_cannot_be_imported_is_said(
    file: str, content: str, complaint: str, checkpoint: Path, tmp_path: Path, store: ArtifactStore
) -> None:
    shutil.copytree(checkpoint, tmp_path / "other")
    (tmp_path / "other" / file).write_text(content)
    with pytest.raises(InvalidRequest, match=complaint):
        import_checkpoint("x", tmp_path / "other", store)
