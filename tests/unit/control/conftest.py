from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.artifacts import ArtifactStore
from services.registry import Registry


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def versions(store: ArtifactStore) -> list[str]:
    return [
        store.put(
            kind="encoder", type="x", config={}, tensors={"a": torch.tensor([number])}, annotations={"scores": {}}
        )
        for number in range(4)
    ]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(f"sqlite:///{tmp_path}/registry.db")
