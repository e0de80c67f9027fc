"""Artifacts: immutable weights and configuration of one component, named by what they contain.

An artifact is a directory ``<root>/<version>/`` with

* ``artifact.json``: kind, type, config, digest of every tensor and file,
* ``model.safetensors``: the tensors (nothing is ever unpickled),
* ``files/``: small files that belong to the weights (a tokenizer),
* ``annotations.json``: provenance and scores, *not* part of the version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition, InvalidRequest, NotFound

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
VERSION_CHARS = 20
VERSION_PATTERN = re.compile(rf"[0-9a-f]{{{VERSION_CHARS}}}")
FILE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_FILE_BYTES = 64 * 2**20
MAX_MANIFEST_BYTES = 16 * 2**20


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def version_of(
    kind: str, type: str, config: Mapping[str, Any], tensors: Mapping[str, str], files: Mapping[str, str]
) -> str:
    """Return the version id: a hash of kind, type, config and the digests of tensors and files."""
    content = {
        "format": FORMAT,
        "kind": kind,
        "type": type,
        "config": config,
        "tensors": tensors,
        "files": files,
    }
    return hashlib.sha256(_canonical(content)).hexdigest()[:VERSION_CHARS]


def tensor_digest(tensor: Tensor) -> str:
    """Return the digest of one tensor: dtype, shape and bytes."""
    import torch

    flat = tensor.detach().cpu().contiguous()
    head = f"{str(flat.dtype).removeprefix('torch.')}:{list(flat.shape)}:".encode()
    return hashlib.sha256(head + flat.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


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

        path = self.root / "model.safetensors"
        _refuse_links(path)
        try:
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
        path = self.root / "files" / name
        _refuse_links(path.parent)
        _refuse_links(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FailedPrecondition(f"artifact {self.version} cannot be read: file {name!r}") from error
        if hashlib.sha256(data).hexdigest() != self.file_digests[name]:
            raise FailedPrecondition(f"artifact {self.version} is damaged: digest of file {name!r} is wrong")
        return data

    def annotations(self) -> dict[str, Any]:
        """Return provenance and scores kept beside the artifact; empty when there are none."""
        path = self.root / "annotations.json"
        return json.loads(path.read_bytes()) if path.exists() else {}


def _refuse_links(path: Path) -> None:
    if path.is_symlink():
        raise FailedPrecondition(f"artifact file {path.name!r} is a symbolic link; artifacts hold plain files only")


def _read_manifest(root: Path, version: str) -> Artifact:
    path = root / "artifact.json"
    _refuse_links(path)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise FailedPrecondition(f"artifact {version}: manifest larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(path.read_bytes())
        artifact = Artifact(
            root, version, manifest["kind"], manifest["type"], manifest["config"],
            dict(manifest["tensors"]), dict(manifest["files"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise FailedPrecondition(f"artifact {version}: manifest cannot be read") from error
    for name in artifact.file_digests:
        if not FILE_PATTERN.fullmatch(name):
            raise FailedPrecondition(f"artifact {version}: file name {name!r} would leave the artifact")
    actual = version_of(artifact.kind, artifact.type, artifact.config, artifact.tensor_digests, artifact.file_digests)
    if actual != version:
        raise FailedPrecondition(f"artifact {version} is damaged: its manifest hashes to {actual}")
    return artifact


class ArtifactStore:
    """A directory of artifacts.

    Args:
        root: The directory; made on the first ``put``.
        others: Further directories to look in, never written to.
    """

    def __init__(self, root: Path, *others: Path) -> None:
        self.root = root
        self.others = others

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
            InvalidRequest: A file name or size is not allowed.
        """
        files = files or {}
        for name, data in files.items():
            if not FILE_PATTERN.fullmatch(name) or len(data) > MAX_FILE_BYTES:
                raise InvalidRequest(f"file {name!r}: plain name and at most {MAX_FILE_BYTES} bytes expected")
        plain_config = json.loads(_canonical(dict(config)))
        tensor_digests = {name: tensor_digest(tensor) for name, tensor in tensors.items()}
        file_digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        version = version_of(kind, type, plain_config, tensor_digests, file_digests)
        manifest = {
            "format": FORMAT, "kind": kind, "type": type, "config": plain_config,
            "tensors": tensor_digests, "files": file_digests,
        }  # fmt: skip
        if not (self.root / version).exists():
            self._write(version, manifest, tensors, files)
        if annotations is not None:
            self.annotate(version, annotations)
        return version

    def _write(
        self,
        version: str,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        files: Mapping[str, bytes],
    ) -> None:
        from safetensors.torch import save_file

        self.root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".put-", dir=self.root))
        try:
            if tensors:
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                    scratch / "model.safetensors",
                )
            (scratch / "files").mkdir()
            for name, data in files.items():
                (scratch / "files" / name).write_bytes(data)
            (scratch / "artifact.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            for path in [*scratch.rglob("*"), scratch]:
                _sync(path)
            scratch.chmod(0o755)
            try:
                scratch.rename(self.root / version)
            except OSError:
                # Somebody else wrote the same content first: theirs is as good.
                if not (self.root / version / "artifact.json").exists():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def annotate(self, version: str, annotations: Mapping[str, Any]) -> None:
        """Merge annotations into those kept beside an artifact."""
        artifact = self.get(version)
        merged = {**artifact.annotations(), **annotations}
        handle, scratch = tempfile.mkstemp(dir=artifact.root)
        with os.fdopen(handle, "w") as file:
            json.dump(merged, file, indent=1, sort_keys=True)
            file.write("\n")
        os.chmod(scratch, 0o644)
        os.replace(scratch, artifact.root / "annotations.json")

    def get(self, version: str) -> Artifact:
        """Open an artifact; tensors are read later.

        Raises:
            InvalidRequest: Not a version id.
            NotFound: No such artifact here.
            FailedPrecondition: The manifest is damaged.
        """
        if not VERSION_PATTERN.fullmatch(version):
            raise InvalidRequest(f"{version!r} is not a version id ({VERSION_CHARS} hexadecimal digits)")
        for directory in (self.root, *self.others):
            root = directory / version
            if not root.is_symlink() and (root / "artifact.json").exists():
                return _read_manifest(root, version)
        raise NotFound(f"no artifact {version} in this store")

    def versions(self) -> list[str]:
        """List the versions in this store."""
        roots = [root for root in (self.root, *self.others) if root.exists()]
        return sorted({p.name for root in roots for p in root.iterdir() if VERSION_PATTERN.fullmatch(p.name)})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
