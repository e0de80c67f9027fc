"""What is known of versions: artifacts and what is said of them, version sets, aliases, rollouts and their history."""

from services.registry.records import Change, KnownArtifact, KnownSystem, Page, Rollout, VersionSet
from services.registry.registry import Registry

__all__ = ["Change", "KnownArtifact", "KnownSystem", "Page", "Registry", "Rollout", "VersionSet"]
