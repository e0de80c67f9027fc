"""From the artifact store to the registry: what is loaded has to be known."""

from __future__ import annotations

from collections.abc import Iterable

from services.artifacts import ArtifactStore
from services.registry import KnownArtifact, Registry
from services.runtime.probes import ANNOTATION
from services.runtime.resident import config_hash


def register(registry: Registry, store: ArtifactStore, versions: Iterable[str]) -> list[KnownArtifact]:
    """Make artifacts known, with what is said of them; again is harmless. Probes stay beside the weights.

    Raises:
        InvalidRequest: One is no version id.
        NotFound: There is no such artifact.
        FailedPrecondition: One is damaged.
        Unavailable: Store or registry cannot be reached.
    """
    known = []
    for version in dict.fromkeys(versions):
        artifact = store.get(version)
        said = {key: value for key, value in artifact.annotations().items() if key != ANNOTATION}
        known.append(registry.put_artifact(version, artifact.kind, artifact.type, config_hash(artifact.config), said))
    return known
