"""Which version every slot of a system runs: the bundled version set, or a checkpoint brought along."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from graph.errors import FailedPrecondition, NotFound
from graph.spec import SystemSpec
from services.artifacts import ArtifactStore
from services.deploy.state import home

logger = logging.getLogger("anyplex.deploy")

WEIGHTS_DIR = Path(__file__).resolve().parents[2] / "weights"


@dataclass(frozen=True)
class Weights:
    """Artifacts and version sets in one place.

    Attributes:
        store: The artifacts.
        sets_dir: Directory of ``<system>.yaml`` files.
    """

    store: ArtifactStore
    sets_dir: Path

    @classmethod
    def bundled(cls) -> Weights:
        """Return the weights that come along, or those that ``ANYPLEX_WEIGHTS`` names."""
        root = Path(os.environ.get("ANYPLEX_WEIGHTS", "") or WEIGHTS_DIR)
        return cls(ArtifactStore(root / "artifacts"), root / "sets")

    def set_of(self, system: str) -> dict[str, str]:
        """Return the version set of a system.

        Raises:
            NotFound: There is none.
            FailedPrecondition: The file makes no sense.
        """
        path = self.sets_dir / f"{system}.yaml"
        if not path.exists():
            raise NotFound(f"no weights for {system!r} come along; name some with --weights DIR_OR_HUB_ID")
        content = yaml.safe_load(path.read_text())
        slots = content.get("slots") if isinstance(content, dict) else None
        if not isinstance(slots, dict) or not all(isinstance(v, str) for v in slots.values()):
            raise FailedPrecondition("'slots' with a version for each expected", f"version set {path.name}")
        return {str(slot): version for slot, version in slots.items()}


def own_artifacts() -> Path | str:
    """Return where this user's artifacts are: what ``ANYPLEX_ARTIFACTS`` names, a directory or a URL."""
    return os.environ.get("ANYPLEX_ARTIFACTS", "") or home() / "artifacts"


def architecture_of(store: ArtifactStore, version: str) -> str:
    """Return the hash of an artifact's architecture: kind, type and config."""
    artifact = store.get(version)
    content = json.dumps([artifact.kind, artifact.type, artifact.config], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def import_weights(spec: SystemSpec, source: str, store: ArtifactStore) -> dict[str, str]:
    """Import a checkpoint (directory or hub id) for a system and return its version set.

    Raises:
        AnyplexError: It cannot be read, or is not one this system can run.
    """
    from services.checkpoints import import_checkpoint

    return import_checkpoint(spec.name, source, store)


def architectures(store: ArtifactStore, versions: Mapping[str, str]) -> dict[str, str]:
    """Return the architecture of every slot."""
    return {slot: architecture_of(store, version) for slot, version in versions.items()}
