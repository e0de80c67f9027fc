"""What an artifact says it is: kind, type, config, digests; and the version id that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition, InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
VERSION_CHARS = 20
VERSION_PATTERN = re.compile(rf"[0-9a-f]{{{VERSION_CHARS}}}")
FILE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npy", ".npz")

MAX_FILE_BYTES = 64 * 2**20
MAX_FILES = 64
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_ANNOTATION_BYTES = 2**20
MAX_TENSOR_BYTES = 256 * 2**30


@dataclass(frozen=True)
class Manifest:
    """Everything that the version id covers.

    Attributes:
        kind: Kind of node it is for.
        type: Its type in the catalog.
        config: What its architecture is made from.
        tensors: Digest of every tensor by name.
        files: Digest of every small file by name.
    """

    kind: str
    type: str
    config: dict[str, Any]
    tensors: dict[str, str]
    files: dict[str, str]

    @property
    def version(self) -> str:
        """The version id that follows from the content."""
        return version_of(self.kind, self.type, self.config, self.tensors, self.files)

    def to_bytes(self) -> bytes:
        """Return it as it is written down."""
        content = {
            "format": FORMAT, "kind": self.kind, "type": self.type, "config": self.config,
            "tensors": self.tensors, "files": self.files,
        }  # fmt: skip
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def canonical(value: object) -> bytes:
    """Return the one way to write a value as JSON.

    Raises:
        InvalidRequest: It holds what JSON has no form for.
    """
    try:
        # Infinity is let through: schedulers of diffusers have it in their configs.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot be written as JSON: {error}") from error


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
    return hashlib.sha256(canonical(content)).hexdigest()[:VERSION_CHARS]


def tensor_digest(tensor: Tensor) -> str:
    """Return the digest of one tensor: dtype, shape and bytes."""
    import torch

    flat = tensor.detach().cpu().contiguous()
    head = f"{str(flat.dtype).removeprefix('torch.')}:{list(flat.shape)}:".encode()
    digest = hashlib.sha256(head)
    # No copy: a tensor may have gigabytes.
    digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_version(version: str) -> None:
    """Check that something is a version id: it becomes part of paths.

    Raises:
        InvalidRequest: It is not.
    """
    if not VERSION_PATTERN.fullmatch(version):
        raise InvalidRequest(f"{version[:64]!r} is not a version id ({VERSION_CHARS} hexadecimal digits)")


def file_name_problem(name: str) -> str:
    """Return what is wrong with the name of a file in an artifact; "" when nothing is."""
    if not FILE_PATTERN.fullmatch(name):
        return f"file name {name[:120]!r} would leave the artifact"
    if name.lower().endswith(PICKLE_SUFFIXES):
        return f"{name!r} is a pickle or a container of one, which can run code and is never loaded"
    return ""


def parse_manifest(data: bytes, version: str) -> Manifest:
    """Read a manifest, and hold it against the version it was asked for by.

    Raises:
        FailedPrecondition: It is damaged, of another form, or another artifact's.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise FailedPrecondition(f"artifact {version}: manifest larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        content = json.loads(data)
        manifest = Manifest(
            content["kind"], content["type"], content["config"], dict(content["tensors"]), dict(content["files"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FailedPrecondition(f"artifact {version}: manifest cannot be read") from error
    if len(manifest.files) > MAX_FILES:
        raise FailedPrecondition(f"artifact {version}: {len(manifest.files)} files, at most {MAX_FILES} expected")
    for name in manifest.files:
        if problem := file_name_problem(name):
            raise FailedPrecondition(f"artifact {version}: {problem}")
    try:
        actual = manifest.version
    except InvalidRequest as error:
        raise FailedPrecondition(f"artifact {version}: manifest {error.message}") from error
    if actual != version:
        raise FailedPrecondition(f"artifact {version} is damaged: its manifest hashes to {actual}")
    return manifest
