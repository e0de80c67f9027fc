"""Artifacts: immutable weights and configuration of one component, named by what they contain.

An artifact is a directory ``<root>/<version>/`` with

* ``artifact.json``: kind, type, config, digest of every tensor and file,
* ``model.safetensors``: the tensors (nothing is ever unpickled),
* ``files/``: small files that belong to the weights (a tokenizer),
* ``annotations.json``: provenance, scores and probes, *not* part of the version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from graph.errors import InvalidRequest, NotFound, Unavailable
from services.artifacts.artifact import FILES, MANIFEST, TENSORS, Artifact
from services.artifacts.cache import Cache
from services.artifacts.local import LocalShelf
from services.artifacts.manifest import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_TENSOR_BYTES,
    VERSION_PATTERN,
    Manifest,
    canonical,
    check_version,
    file_name_problem,
    tensor_digest,
    version_of,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VERSION_PATTERN", "Artifact", "ArtifactStore", "Shelf", "version_of"]


class Shelf(Protocol):
    """A place with artifacts: a directory, or something behind a URL."""

    def get(self, version: str) -> Artifact | None:
        """Open an artifact; None where there is none."""
        ...

    def has(self, version: str) -> bool:
        """Whether an artifact is there."""
        ...

    def put(self, version: str, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a directory, which becomes the artifact."""
        ...

    def annotate(self, version: str, annotations: Mapping[str, Any]) -> None:
        """Merge annotations into those kept beside an artifact."""
        ...

    def versions(self) -> list[str]:
        """List what is there."""
        ...


class ArtifactStore:
    """Places with artifacts: directories, or URLs of anything that fsspec reaches.

    Args:
        root: Directory or URL; what is put goes there. Made on the first ``put``.
        others: Further ones to look in, never written to.
        cache: Where artifacts from behind URLs are kept to be read; by default what the environment says.

    Raises:
        InvalidRequest: A URL is of a protocol that nothing installed here speaks.
    """

    def __init__(self, root: Path | str, *others: Path | str, cache: Cache | None = None) -> None:
        self.root = root
        self._shelves = [shelf_of(place, cache) for place in (root, *others)]

    def put(
        self,
        *,
        kind: str,
        type: str,
        config: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        files: Mapping[str, bytes] | None = None,
        annotations: Mapping[str, Any] | None = None,
    ) -> str:
        """Write an artifact and return its version; the same content twice is one artifact.

        Raises:
            InvalidRequest: A file name or size is not allowed, or the config is no JSON.
        """
        files = files or {}
        _check_sizes(tensors, files)
        manifest = Manifest(
            kind, type, json.loads(canonical(dict(config))),
            {name: tensor_digest(tensor) for name, tensor in tensors.items()},
            {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        )  # fmt: skip
        version, shelf = manifest.version, self._shelves[0]
        if not shelf.has(version):
            shelf.put(version, lambda scratch: _write(scratch, manifest, tensors, files))
        if annotations is not None:
            shelf.annotate(version, annotations)
        return version

    def annotate(self, version: str, annotations: Mapping[str, Any]) -> None:
        """Merge annotations into those kept beside an artifact.

        Raises:
            InvalidRequest: Not a version id, or the annotations are too large.
            NotFound: No such artifact where this store writes.
        """
        check_version(version)
        self._shelves[0].annotate(version, annotations)

    def get(self, version: str) -> Artifact:
        """Open an artifact; tensors are read later.

        Raises:
            InvalidRequest: Not a version id.
            NotFound: No such artifact here.
            FailedPrecondition: It is damaged.
            Unavailable: It is nowhere else, and a store behind a URL cannot be reached.
        """
        check_version(version)
        unreached: Unavailable | None = None
        for shelf in self._shelves:
            try:
                if (artifact := shelf.get(version)) is not None:
                    return artifact
            except Unavailable as error:
                unreached = error
        if unreached is not None:
            raise unreached
        raise NotFound(f"no artifact {version} in this store")

    def versions(self) -> list[str]:
        """List the versions in this store."""
        return sorted({version for shelf in self._shelves for version in shelf.versions()})


def shelf_of(place: Path | str, cache: Cache | None = None) -> Shelf:
    """Return what a path or a URL stands for.

    Raises:
        InvalidRequest: The URL is of a protocol that nothing installed here speaks.
    """
    if isinstance(place, Path) or "://" not in place:
        return LocalShelf(Path(place))
    # Late: fsspec is of no use to most.
    from services.artifacts.remote import RemoteShelf

    return RemoteShelf(place, cache or Cache.from_env())


def _check_sizes(tensors: Mapping[str, Tensor], files: Mapping[str, bytes]) -> None:
    if len(files) > MAX_FILES:
        raise InvalidRequest(f"{len(files)} files, at most {MAX_FILES} expected")
    for name, data in files.items():
        if problem := file_name_problem(name):
            raise InvalidRequest(problem)
        if len(data) > MAX_FILE_BYTES:
            raise InvalidRequest(f"file {name!r}: {len(data)} bytes, at most {MAX_FILE_BYTES} expected")
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size_bytes > MAX_TENSOR_BYTES:
        raise InvalidRequest(f"tensors of {size_bytes} bytes, at most {MAX_TENSOR_BYTES} expected")


def _write(scratch: Path, manifest: Manifest, tensors: Mapping[str, Tensor], files: Mapping[str, bytes]) -> None:
    from safetensors.torch import save_file

    if tensors:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, scratch / TENSORS)
    (scratch / FILES).mkdir()
    for name, data in files.items():
        (scratch / FILES / name).write_bytes(data)
    (scratch / MANIFEST).write_bytes(manifest.to_bytes())
