"""Content-addressed weights on disk."""

from services.artifacts.store import Artifact, ArtifactStore, version_of

__all__ = ["Artifact", "ArtifactStore", "version_of"]
