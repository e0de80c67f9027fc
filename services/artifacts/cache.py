"""Artifacts of remote stores on the local disk: bounded, least recently used ones leave first."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from graph.errors import Exhausted
from services.artifacts.artifact import MANIFEST, Artifact, open_artifact
from services.artifacts.local import locked, scratch_directory

DEFAULT_BYTES = 50 * 2**30
KEPT_S = 60.0
"""Nothing leaves that was asked for within this time: whoever asked may not have opened its tensors yet."""


class Cache:
    """A directory that several processes share.

    Args:
        root: The directory; made when something is kept.
        max_bytes: Most bytes that lie in it.
    """

    def __init__(self, root: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        self.root = root
        self.max_bytes = max_bytes

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Cache:
        """Return the cache that ``ANYPLEX_CACHE`` names (else one under ``ANYPLEX_HOME``)."""
        home = Path(env.get("ANYPLEX_HOME", "") or Path.home() / ".anyplex")
        root = Path(env.get("ANYPLEX_CACHE", "") or home / "cache")
        return cls(root, int(env.get("ANYPLEX_CACHE_BYTES", "") or DEFAULT_BYTES))

    def find(self, version: str) -> Artifact | None:
        """Open an artifact that is kept; None when it is not."""
        artifact = open_artifact(self.root / version, version)
        if artifact is not None:
            os.utime(artifact.root)
        return artifact

    def drop(self, version: str) -> None:
        """Forget an artifact, because it is damaged."""
        if self.root.exists():
            with locked(self.root):
                _remove(self.root / version)

    def keep(self, version: str, size_bytes: int, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a directory of about ``size_bytes``, and keep it.

        One at a time: replicas of one machine that want the same artifact fetch it once.

        Raises:
            Exhausted: There is no room for it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root):
            if (self.root / version / MANIFEST).exists():
                return
            self._make_room(size_bytes)
            with scratch_directory(self.root, ".get-") as scratch:
                write(scratch)
                scratch.chmod(0o755)
                scratch.rename(self.root / version)

    def _make_room(self, size_bytes: int) -> None:
        if size_bytes > self.max_bytes:
            raise Exhausted(f"{size_bytes} bytes do not fit into a cache of {self.max_bytes} (ANYPLEX_CACHE_BYTES)")
        # Whoever left a half-written directory behind is gone: we hold the lock.
        for leftover in self.root.glob(".get-*"):
            _remove(leftover)
        entries = sorted((path for path in self.root.iterdir() if path.is_dir()), key=_age_s, reverse=True)
        sizes = {path: sum(file.lstat().st_size for file in path.rglob("*")) for path in entries}
        total = sum(sizes.values())
        for path in entries:
            if total + size_bytes <= self.max_bytes:
                return
            if _age_s(path) < KEPT_S:
                break
            _remove(path)
            total -= sizes[path]
        if total + size_bytes > self.max_bytes:
            raise Exhausted(
                f"no room for {size_bytes} bytes in the cache (ANYPLEX_CACHE_BYTES): all of it is in use", "", KEPT_S
            )


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _remove(path: Path) -> None:
    # Renamed first: nobody finds half of an artifact.
    gone = path.with_name(f".get-gone-{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)
