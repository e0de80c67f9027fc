"""A directory of artifacts: written to a temporary place, synced, renamed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graph.errors import InvalidRequest, NotFound
from services.artifacts.artifact import ANNOTATIONS, MANIFEST, Artifact, open_artifact
from services.artifacts.manifest import MAX_ANNOTATION_BYTES, VERSION_PATTERN


class LocalShelf:
    """Artifacts in a directory, one directory each.

    Args:
        root: The directory; made when something is put there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, version: str) -> Artifact | None:
        """Open an artifact; None where there is none.

        Raises:
            FailedPrecondition: It is damaged.
        """
        return open_artifact(self.root / version, version)

    def has(self, version: str) -> bool:
        """Whether an artifact was put here."""
        return (self.root / version / MANIFEST).exists()

    def put(self, version: str, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a directory, which becomes the artifact when everything in it is on the disk."""
        self.root.mkdir(parents=True, exist_ok=True)
        with scratch_directory(self.root, ".put-") as scratch:
            write(scratch)
            for path in [*scratch.rglob("*"), scratch]:
                _sync(path)
            scratch.chmod(0o755)
            try:
                scratch.rename(self.root / version)
            except OSError:
                # Somebody else wrote the same content first: theirs is as good.
                if not self.has(version):
                    raise
            _sync(self.root)

    def annotate(self, version: str, annotations: Mapping[str, Any]) -> None:
        """Merge annotations into those kept beside an artifact; safe when several do it at once.

        Raises:
            NotFound: No such artifact here.
            InvalidRequest: They are too large together.
        """
        artifact = self.get(version)
        if artifact is None:
            raise NotFound(f"no artifact {version} in this store")
        with locked(artifact.root):
            write_annotations(artifact.root, {**artifact.annotations(), **annotations}, self.root)

    def versions(self) -> list[str]:
        """List what is here."""
        try:
            names = [path.name for path in self.root.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in names if VERSION_PATTERN.fullmatch(name)]


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a directory that is gone afterwards, unless it was renamed."""
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for oneself among those who ask for it this way, in this process and in others."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def annotation_bytes(annotations: Mapping[str, Any]) -> bytes:
    """Return annotations as they are written down.

    Raises:
        InvalidRequest: They are no JSON, or too large.
    """
    try:
        # Scores of nothing are NaN, which JSON has no word for: nothing was measured.
        plain = json.loads(json.dumps(annotations), parse_constant=lambda _: None)
        data = (json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot be written as JSON: {error}", "annotations") from error
    if len(data) > MAX_ANNOTATION_BYTES:
        raise InvalidRequest(f"{len(data)} bytes, at most {MAX_ANNOTATION_BYTES} expected", "annotations")
    return data


def write_annotations(root: Path, annotations: Mapping[str, Any], scratch_parent: Path) -> None:
    """Replace what is kept beside an artifact, in one step."""
    data = annotation_bytes(annotations)
    # Not in the artifact's own directory: whoever opens it meanwhile would find a file that does not belong there.
    handle, scratch = tempfile.mkstemp(prefix=".annotate-", dir=scratch_parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(scratch, 0o644)
    os.replace(scratch, root / ANNOTATIONS)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
