"""Versions side by side: loaded, used, dropped when the last request has left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from torch import nn

from graph.errors import FailedPrecondition, NotFound
from services.artifacts import ArtifactStore
from services.artifacts.store import Artifact
from services.runtime.resident import Resident, architecture_hash, fill_module


def build(artifact: Artifact) -> nn.Module:
    module = nn.Linear(artifact.config["width"], 2)
    fill_module(module, artifact, "float32", "cpu")
    return module


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


@pytest.fixture
def resident(store: ArtifactStore) -> Resident[nn.Module]:
    return Resident(store, "encoder", "toy", build)


def put(store: ArtifactStore, seed: int = 0, kind: str = "encoder", width: int = 3, **tensors: torch.Tensor) -> str:
    torch.manual_seed(seed)
    module = nn.Linear(width, 2)
    return store.put(kind=kind, type="toy", config={"width": width}, tensors={**module.state_dict(), **tensors})


async def test_versions_are_used_by_name(store: ArtifactStore, resident: Resident[nn.Module]) -> None:
    one, two = put(store), put(store, seed=1)
    first = await resident.load(one)
    assert await resident.load(one) is first
    with resident.use("") as only:
        assert only is first
    await resident.load(two)
    with pytest.raises(FailedPrecondition, match="must name one"), resident.use(""):
        pass
    with resident.use(two) as second:
        assert second is not first
    assert [held.version for held in resident.held()] == [one, two]
    assert resident.architecture == architecture_hash("encoder", "toy", {"width": 3})


async def test_unloading_waits_for_the_last_request(store: ArtifactStore, resident: Resident[nn.Module]) -> None:
    version = put(store)
    await resident.load(version)
    with pytest.raises(FailedPrecondition, match="the only one"):
        await resident.unload(version)
    await resident.load(put(store, seed=1))
    with resident.use(version):
        dropping = asyncio.create_task(resident.unload(version))
        await asyncio.sleep(0)
        assert not dropping.done()
        with pytest.raises(FailedPrecondition, match="not loaded"), resident.use(version):
            pass
    await dropping
    with pytest.raises(NotFound):
        await resident.unload(version)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "generator"}, "a generator 'toy', a encoder 'toy' expected"),
        ({"weight": torch.full((2, 3), float("nan"))}, "'weight' holds NaN"),
        ({"weight": torch.zeros(5, 3)}, "does not fit its config"),
        ({"extra": torch.zeros(1)}, "unknown tensors"),
        ({"width": 4}, "another architecture"),
    ],
)
async def test_what_does_not_fit_is_refused(
    change: dict[str, object], complaint: str, store: ArtifactStore, resident: Resident[nn.Module]
) -> None:
    await resident.load(put(store))
    version = put(store, **change)  # type: ignore[arg-type]
    with pytest.raises(FailedPrecondition, match=complaint):
        await resident.load(version)
    assert len(resident) == 1
    with resident.use(""):
        pass


async def test_a_config_that_makes_no_model_is_refused(store: ArtifactStore, resident: Resident[nn.Module]) -> None:
    version = store.put(kind="encoder", type="toy", config={}, tensors={})
    with pytest.raises(FailedPrecondition, match="does not make"):
        await resident.load(version)
