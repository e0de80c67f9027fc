"""Content-addressed weights, on disk or wherever a URL points to."""

from services.artifacts.store import Artifact, ArtifactStore, version_of

__all__ = ["Artifact", "ArtifactStore", "version_of"]
