"""Large media, handed in once and used by handle: owner, expiry, quota. Kept as files, bounded in all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from graph.checks import MIME_PATTERN, MODALITY_PATTERN
from graph.errors import Exhausted, InvalidRequest, NotFound

CHUNK_CAP_BYTES = 1024 * 1024
MAX_MEDIA = 10_000
MAX_HANDLE_CHARS = 128


@dataclass(frozen=True)
class StoredMedium:
    """A medium that was handed in."""

    handle: str
    owner: str
    modality: str
    mime_type: str
    path: Path
    size_bytes: int
    sha256: str
    expires_s: float


class MediaStore:
    """Media by handle.

    Args:
        media_bytes: Largest medium.
        total_bytes: All media together.
        keep_s: How long a medium is kept unless it says otherwise.
        max_keep_s: Longest time it may ask for.
        clock: Monotonic clock.
    """

    def __init__(
        self,
        media_bytes: int,
        total_bytes: int,
        keep_s: float,
        max_keep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.media_bytes = media_bytes
        self.total_bytes = total_bytes
        self.keep_s = keep_s
        self.max_keep_s = max_keep_s
        self.bytes_held = 0
        self._uploading = 0
        self._clock = clock
        # Below the cluster's scratch folder where there is one: that goes with the cluster, whatever ends this process.
        self._root = Path(tempfile.mkdtemp(prefix="anyplex-media-", dir=os.environ.get("ANYPLEX_SCRATCH") or None))
        self._media: dict[str, StoredMedium] = {}

    def __len__(self) -> int:
        return len(self._media)

    async def put(
        self, owner: str, modality: str, mime_type: str, size_bytes: int, keep_s: float, chunks: AsyncIterator[bytes]
    ) -> StoredMedium:
        """Keep a medium; nothing of it stays when anything goes wrong.

        Raises:
            InvalidRequest: Too large, empty, or another size than announced.
            Exhausted: The quota is full.
        """
        if not 0 <= keep_s <= self.max_keep_s:
            raise InvalidRequest(f"{keep_s} s, 0 to {self.max_keep_s} expected", "request.open.keep_s")
        if size_bytes < 0 or size_bytes > self.media_bytes:
            raise InvalidRequest(f"{size_bytes} bytes, at most {self.media_bytes} allowed", "request.open.size_bytes")
        if not MODALITY_PATTERN.fullmatch(modality):
            raise InvalidRequest(f"{modality[:40]!r}, the name of a modality expected", "request.open.modality")
        if mime_type and not MIME_PATTERN.fullmatch(mime_type):
            raise InvalidRequest(
                f"{mime_type[:40]!r}, a media type like image/png expected", "request.open.mime_type"
            )  # fmt: skip
        self.sweep()
        if len(self._media) + self._uploading >= MAX_MEDIA:
            raise Exhausted(f"{MAX_MEDIA} media are kept already", "", 30.0)
        self._uploading += 1
        try:
            return await self._receive(owner, modality, mime_type, size_bytes, keep_s, chunks)
        finally:
            self._uploading -= 1

    async def _receive(
        self, owner: str, modality: str, mime_type: str, size_bytes: int, keep_s: float, chunks: AsyncIterator[bytes]
    ) -> StoredMedium:
        handle = secrets.token_urlsafe(18)
        path = self._root / handle
        digest, received = hashlib.sha256(), 0
        try:
            with path.open("wb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    self._check_size(received, size_bytes, len(chunk))
                    self.bytes_held += len(chunk)
                    digest.update(chunk)
                    await asyncio.to_thread(_write, file, chunk)
            if received == 0 or (size_bytes and received != size_bytes):
                raise InvalidRequest(f"{received} bytes came, {size_bytes or 'at least 1'} announced", "request.data")
        except BaseException:
            self.bytes_held -= min(received, self.bytes_held)
            path.unlink(missing_ok=True)
            raise
        expires_s = self._clock() + (keep_s or self.keep_s)
        medium = StoredMedium(handle, owner, modality, mime_type, path, received, digest.hexdigest(), expires_s)
        self._media[handle] = medium
        return medium

    def _check_size(self, received: int, announced: int, chunk: int) -> None:
        if chunk > CHUNK_CAP_BYTES:
            # Counted by the caller's clean-up, which subtracts all that was received.
            self.bytes_held += chunk
            raise InvalidRequest(f"a chunk of {chunk} bytes, at most {CHUNK_CAP_BYTES} allowed", "request.data")
        if received > self.media_bytes or (announced and received > announced):
            self.bytes_held += chunk
            raise InvalidRequest(f"more than {announced or self.media_bytes} bytes", "request.data")
        if self.bytes_held + chunk > self.total_bytes:
            self.bytes_held += chunk
            raise Exhausted(f"all media together may have {self.total_bytes} bytes", "", 30.0)

    def get(self, handle: str, owner: str) -> StoredMedium:
        """Return a medium.

        Raises:
            NotFound: No such handle, expired, or somebody else's (the answer is the same).
        """
        self.sweep()
        medium = self._media.get(handle)
        if medium is None or medium.owner != owner:
            raise NotFound("no medium with this handle: never handed in, expired, or deleted")
        return medium

    def delete(self, handle: str, owner: str) -> None:
        """Forget a medium.

        Raises:
            NotFound: As ``get``.
        """
        if not 0 < len(handle) <= MAX_HANDLE_CHARS:
            raise InvalidRequest(f"{len(handle)} characters, the handle of an upload expected", "request.handle")
        self._forget(self.get(handle, owner))

    def sweep(self) -> None:
        """Forget what has expired."""
        now = self._clock()
        for medium in [medium for medium in self._media.values() if medium.expires_s <= now]:
            self._forget(medium)

    def expires_in_s(self, medium: StoredMedium) -> float:
        """Return the seconds left to a medium."""
        return max(0.0, medium.expires_s - self._clock())

    def close(self) -> None:
        """Forget everything."""
        self._media.clear()
        shutil.rmtree(self._root, ignore_errors=True)

    def _forget(self, medium: StoredMedium) -> None:
        del self._media[medium.handle]
        self.bytes_held -= medium.size_bytes
        medium.path.unlink(missing_ok=True)


def _write(file: BinaryIO, chunk: bytes) -> None:
    file.write(chunk)
