"""One artifact in a directory: what is read of it is checked, and nothing but plain files is read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition, NotFound
from services.artifacts.manifest import (
    MAX_ANNOTATION_BYTES,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_TENSOR_BYTES,
    PICKLE_SUFFIXES,
    parse_manifest,
)

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "artifact.json"
TENSORS = "model.safetensors"
FILES = "files"
ANNOTATIONS = "annotations.json"
ENTRIES = frozenset({MANIFEST, TENSORS, FILES, ANNOTATIONS})


@dataclass(frozen=True)
class Artifact:
    """One artifact on disk, its manifest read, its tensors not yet."""

    root: Path
    version: str
    kind: str
    type: str
    config: dict[str, Any]
    tensor_digests: dict[str, str]
    file_digests: dict[str, str]

    def load_tensors(self) -> dict[str, Tensor]:
        """Read every tensor and check it against its digest.

        Raises:
            FailedPrecondition: A tensor is missing, extra, unreadable or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from services.artifacts.manifest import tensor_digest

        path = self.root / TENSORS
        try:
            if self.tensor_digests:
                os.close(_open_plain(path, MAX_TENSOR_BYTES, self.version))
            tensors: dict[str, Tensor] = load_file(path) if self.tensor_digests else {}
        except (SafetensorError, OSError, ValueError) as error:
            raise FailedPrecondition(f"artifact {self.version} cannot be read: {type(error).__name__}") from error
        if set(tensors) != set(self.tensor_digests):
            names = sorted(set(tensors) ^ set(self.tensor_digests))[:5]
            raise FailedPrecondition(f"artifact {self.version} is damaged: tensors missing or extra: {names}")
        for name, tensor in tensors.items():
            if tensor_digest(tensor) != self.tensor_digests[name]:
                raise FailedPrecondition(f"artifact {self.version} is damaged: digest of tensor {name!r} is wrong")
        return tensors

    def read_file(self, name: str) -> bytes:
        """Read one small file and check it against its digest.

        Raises:
            NotFound: The artifact has no such file.
            FailedPrecondition: The file is damaged.
        """
        if name not in self.file_digests:
            raise NotFound(f"artifact {self.version} has no file {name!r}; it has {sorted(self.file_digests)}")
        if (self.root / FILES).is_symlink():
            raise _link(FILES, self.version)
        try:
            data = _read_plain(self.root / FILES / name, MAX_FILE_BYTES, self.version)
        except OSError as error:
            raise FailedPrecondition(f"artifact {self.version} cannot be read: file {name!r}") from error
        if hashlib.sha256(data).hexdigest() != self.file_digests[name]:
            raise FailedPrecondition(f"artifact {self.version} is damaged: digest of file {name!r} is wrong")
        return data

    def annotations(self) -> dict[str, Any]:
        """Return provenance, scores and probes kept beside the artifact; empty when there are none.

        Raises:
            FailedPrecondition: They are no JSON object, or too large.
        """
        try:
            data = _read_plain(self.root / ANNOTATIONS, MAX_ANNOTATION_BYTES, self.version)
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(data, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            raise FailedPrecondition(f"artifact {self.version}: annotations cannot be read") from error
        if not isinstance(found, dict):
            raise FailedPrecondition(f"artifact {self.version}: annotations are no JSON object")
        return found


def open_artifact(root: Path, version: str) -> Artifact | None:
    """Open an artifact's directory; tensors are read later.

    Returns:
        None where there is none.

    Raises:
        FailedPrecondition: It is damaged, or holds what no artifact holds: links, pickles, anything unknown.
    """
    if root.is_symlink():
        return None
    try:
        data = _read_plain(root / MANIFEST, MAX_MANIFEST_BYTES, version)
        manifest = parse_manifest(data, version)
        _check_entries(root, version, ENTRIES)
        if (root / FILES).exists():
            _check_entries(root / FILES, version, frozenset(manifest.files))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FailedPrecondition(f"artifact {version} cannot be read: {type(error).__name__}") from error
    return Artifact(root, version, manifest.kind, manifest.type, manifest.config, manifest.tensors, manifest.files)


def entry_problem(name: str, known: frozenset[str]) -> str:
    """Return why a name has no place in an artifact; "" when it has."""
    if name in known:
        return ""
    if name.lower().endswith(PICKLE_SUFFIXES):
        return f"holds {name!r}: pickles can run code and are never loaded; safetensors expected"
    return f"holds {name[:120]!r}, which belongs to no artifact"


def _check_entries(directory: Path, version: str, known: frozenset[str]) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise _link(entry.name, version)
            if problem := entry_problem(entry.name, known):
                raise FailedPrecondition(f"artifact {version} {problem}")


def _link(name: str, version: str) -> FailedPrecondition:
    return FailedPrecondition(f"artifact {version}: {name!r} is a symbolic link; artifacts hold plain files only")


def _open_plain(path: Path, most_bytes: int, version: str) -> int:
    """Open a file that is neither a link nor a device, and not too large."""
    try:
        # Not blocking: a pipe with nobody at its other end would hold whoever opens it.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path.name, version) from error
        raise
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size <= most_bytes:
        return handle
    os.close(handle)
    if not stat.S_ISREG(status.st_mode):
        raise FailedPrecondition(f"artifact {version}: {path.name!r} is no plain file")
    raise FailedPrecondition(f"artifact {version}: {path.name!r} larger than {most_bytes} bytes")


def _read_plain(path: Path, most_bytes: int, version: str) -> bytes:
    with os.fdopen(_open_plain(path, most_bytes, version), "rb") as file:
        return file.read(most_bytes + 1)
