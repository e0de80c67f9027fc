"""Artifacts behind a URL: anything that fsspec reaches, fetched into a bounded local cache before it is read.

The layout is that of a directory. Object stores have no rename of directories, so every object is written under
another name and moved, and the manifest comes last: an artifact without one is not there.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graph.errors import FailedPrecondition, InvalidRequest, NotFound, Unavailable
from services.artifacts.artifact import ANNOTATIONS, ENTRIES, FILES, MANIFEST, TENSORS, Artifact, entry_problem
from services.artifacts.cache import Cache
from services.artifacts.local import annotation_bytes, scratch_directory
from services.artifacts.manifest import (
    MAX_ANNOTATION_BYTES,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_TENSOR_BYTES,
    VERSION_PATTERN,
    Manifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CHUNK_BYTES = 4 * 2**20


class RemoteShelf:
    """Artifacts behind a URL.

    Args:
        url: Where: ``s3://bucket/prefix``, ``gs://…``, ``memory://…``, …
        cache: Where they are kept to be read.

    Raises:
        InvalidRequest: The URL is of a protocol that nothing installed here speaks.
    """

    def __init__(self, url: str, cache: Cache) -> None:
        from fsspec.core import url_to_fs

        try:
            found: tuple[AbstractFileSystem, str] = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"{str(error)[:200]}", f"artifact store {url[:100]!r}") from error
        self._files, base = found
        self._base = base.rstrip("/")
        self._cache = cache
        self._annotating = threading.Lock()

    def get(self, version: str) -> Artifact | None:
        """Open an artifact, fetched if it has to be; None where there is none.

        Annotations are those of the store, or the last known ones while it cannot be reached.

        Raises:
            FailedPrecondition: It is damaged.
            Unavailable: It was never fetched, and the store cannot be reached.
            Exhausted: The cache has no room for it.
        """
        try:
            artifact = self._cache.find(version)
        except FailedPrecondition:
            # What lies in the cache is damaged: what lies in the store need not be.
            self._cache.drop(version)
            artifact = None
        if artifact is None:
            return self._cache.find(version) if self._fetch(version) else None
        try:
            self._refresh(version, artifact)
        except Unavailable:
            return artifact
        return artifact

    def has(self, version: str) -> bool:
        """Whether an artifact is there, whole.

        Raises:
            Unavailable: The store cannot be reached.
        """
        with self._reached():
            self._files.invalidate_cache()
            return bool(self._files.exists(self._path(version, MANIFEST)))

    def put(self, version: str, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a local directory, and send it.

        Raises:
            Unavailable: The store cannot be reached.
        """
        self._cache.root.mkdir(parents=True, exist_ok=True)
        with scratch_directory(self._cache.root, ".put-") as scratch:
            write(scratch)
            names = [str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file()]
            # The manifest last: with it the artifact is there.
            for name in sorted(names, key=lambda name: name == MANIFEST):
                self._send(version, name, scratch / name)

    def annotate(self, version: str, annotations: Mapping[str, Any]) -> None:
        """Merge annotations into those kept beside an artifact.

        Two processes that do so at the same moment: one of them wins. Stores have no common way to compare and set;
        the registry does.

        Raises:
            NotFound: No such artifact there.
            InvalidRequest: They are too large together.
            Unavailable: The store cannot be reached.
        """
        if not self.has(version):
            raise NotFound(f"no artifact {version} in this store")
        with self._annotating, self._reached():
            merged = {**self._annotations(version), **annotations}
            self._place(version, ANNOTATIONS, lambda path: self._files.pipe_file(path, annotation_bytes(merged)))

    def versions(self) -> list[str]:
        """List what is there.

        Raises:
            Unavailable: The store cannot be reached.
        """
        with self._reached():
            self._files.invalidate_cache()
            try:
                paths: list[str] = self._files.ls(self._base, detail=False)
            except FileNotFoundError:
                return []
        return [name for path in paths if VERSION_PATTERN.fullmatch(name := path.rstrip("/").rpartition("/")[2])]

    # ---- fetching ----------------------------------------------------------------------------------------

    def _fetch(self, version: str) -> bool:
        """Fetch an artifact into the cache; False where there is none."""
        with self._reached():
            self._files.invalidate_cache()
            try:
                manifest = parse_manifest(self._read(version, MANIFEST, MAX_MANIFEST_BYTES), version)
            except FileNotFoundError:
                return False
            wanted = {TENSORS: MAX_TENSOR_BYTES} if manifest.tensors else {}
            wanted |= {f"{FILES}/{name}": MAX_FILE_BYTES for name in manifest.files}
            self._check_entries(version, manifest)
            try:
                size_bytes = sum(self._size(version, name, most) for name, most in wanted.items())
            except FileNotFoundError as error:
                raise FailedPrecondition(f"artifact {version} is damaged: a file of it is missing") from error

            def write(scratch: Path) -> None:
                (scratch / FILES).mkdir()
                for name, most in wanted.items():
                    self._receive(version, name, scratch / name, most)
                (scratch / ANNOTATIONS).write_bytes(annotation_bytes(self._annotations(version)))
                (scratch / MANIFEST).write_bytes(manifest.to_bytes())

            self._cache.keep(version, size_bytes + MAX_ANNOTATION_BYTES, write)
        return True

    def _check_entries(self, version: str, manifest: Manifest) -> None:
        """Refuse an artifact that holds what no artifact holds, fetched or not."""
        for folder, known in (("", ENTRIES), (FILES, frozenset(manifest.files))):
            try:
                entries: list[dict[str, Any]] = self._files.ls(self._path(version, folder).rstrip("/"), detail=True)
            except FileNotFoundError:
                continue
            for entry in entries:
                name = str(entry["name"]).rstrip("/").rpartition("/")[2]
                if entry.get("islink"):
                    raise FailedPrecondition(f"artifact {version}: {name!r} is a symbolic link; plain files expected")
                # Being written: moved to its name in a moment, or left behind by somebody who died.
                if not name.startswith(".new-") and (problem := entry_problem(name, known)):
                    raise FailedPrecondition(f"artifact {version} {problem}")

    def _refresh(self, version: str, artifact: Artifact) -> None:
        with self._reached():
            self._files.invalidate_cache()
            found = self._annotations(version)
        if found != artifact.annotations():
            from services.artifacts.local import write_annotations

            write_annotations(artifact.root, found, self._cache.root)

    def _annotations(self, version: str) -> dict[str, Any]:
        try:
            found = json.loads(self._read(version, ANNOTATIONS, MAX_ANNOTATION_BYTES))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise FailedPrecondition(f"artifact {version}: annotations cannot be read") from error
        if not isinstance(found, dict):
            raise FailedPrecondition(f"artifact {version}: annotations are no JSON object")
        return found

    # ---- one object --------------------------------------------------------------------------------------

    def _path(self, version: str, name: str) -> str:
        return f"{self._base}/{version}/{name}"

    def _size(self, version: str, name: str, most_bytes: int) -> int:
        info: dict[str, Any] = self._files.info(self._path(version, name))
        if info.get("type") != "file" or info.get("islink"):
            raise FailedPrecondition(f"artifact {version}: {name!r} is no plain file")
        size = int(info.get("size") or 0)
        if size > most_bytes:
            raise FailedPrecondition(f"artifact {version}: {name!r} larger than {most_bytes} bytes")
        return size

    def _read(self, version: str, name: str, most_bytes: int) -> bytes:
        self._size(version, name, most_bytes)
        data: bytes = self._files.cat_file(self._path(version, name), start=0, end=most_bytes + 1)
        return data

    def _receive(self, version: str, name: str, target: Path, most_bytes: int) -> None:
        left = most_bytes
        with self._files.open(self._path(version, name), "rb") as source, target.open("wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise FailedPrecondition(f"artifact {version}: {name!r} larger than {most_bytes} bytes")
                sink.write(chunk)

    def _send(self, version: str, name: str, source: Path) -> None:
        with self._reached():
            self._place(version, name, lambda path: self._files.put_file(str(source), path))

    def _place(self, version: str, name: str, write: Callable[[str], object]) -> None:
        """Write an object under another name, then move it: nobody reads half of it."""
        folder, _, last = self._path(version, name).rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        scratch = f"{folder}/.new-{uuid.uuid4().hex}-{last}"
        try:
            write(scratch)
            self._files.mv(scratch, f"{folder}/{last}")
        finally:
            if self._files.exists(scratch):
                self._files.rm_file(scratch)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what goes wrong on the way into one error."""
        try:
            yield
        except OSError as error:
            raise Unavailable(f"{type(error).__name__}: {str(error)[:200]}", "artifact store") from error
