"""From trained modules to artifacts and version sets, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from services.artifacts import Artifact, ArtifactStore


@dataclass(frozen=True)
class Trained:
    """One artifact to be: what `ArtifactStore.put` takes, and the slot that it fills."""

    slot: str
    kind: str
    type: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    files: Mapping[str, bytes]


class Weights:
    """A folder of weights: `artifacts/` by version, `sets/` by system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = ArtifactStore(root / "artifacts")

    def _set_path(self, system: str) -> Path:
        return self.root / "sets" / f"{system}.yaml"

    def slots(self, system: str) -> dict[str, str]:
        """Versions of a system's slots; empty where it has none yet."""
        path = self._set_path(system)
        if not path.exists():
            return {}
        return dict(yaml.safe_load(path.read_text())["slots"])

    def find(self, reference: str) -> Artifact:
        """Opens an artifact by its version, or by `SYSTEM:SLOT` of a version set.

        Raises:
            ValueError: The system has no such slot.
        """
        system, colon, slot = reference.partition(":")
        if not colon:
            return self.store.get(reference)
        slots = self.slots(system)
        if slot not in slots:
            raise ValueError(f"{self._set_path(system)}: no slot {slot!r}; train the stage that writes it first")
        return self.store.get(slots[slot])

    def write(self, trained: Trained, annotations: Mapping[str, Any]) -> str:
        """Stores an artifact, tensors rounded to bfloat16; returns its version."""
        return self.store.put(
            kind=trained.kind,
            type=trained.type,
            config=json.loads(json.dumps(trained.config)),
            tensors={
                name: tensor.detach().cpu().to(torch.bfloat16).contiguous() for name, tensor in trained.tensors.items()
            },
            files=dict(trained.files),
            annotations=dict(annotations),
        )

    def fill(self, system: str, slot: str, version: str) -> None:
        """Enters a version into the version set of a system."""
        path = self._set_path(system)
        path.parent.mkdir(parents=True, exist_ok=True)
        slots = {**self.slots(system), slot: version}
        partial = path.with_suffix(".partial")
        partial.write_text(yaml.safe_dump({"system": system, "slots": slots}, sort_keys=False))
        os.replace(partial, path)


def float_tensors(artifact: Artifact) -> dict[str, Tensor]:
    """Tensors of an artifact in float32, as they are served."""
    return {name: tensor.float() for name, tensor in artifact.load_tensors().items()}
