"""Media as parts of a request: ``Image("cat.png")``, ``Audio(wav_bytes)``, ``Video(Path("clip.mp4"))``."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from anyplex.errors import InvalidRequest

CHUNK_BYTES = 1 << 20

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AIF", "audio/aiff"),
    (0, b"fLaC", "audio/flac"),
    (28, b"\x80theora", "video/ogg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (8, b"AVI ", "video/x-msvideo"),
)
# Some say a little later which of their kinds they are: PNG that it is animated, Matroska that it is no WebM.
_VARIANTS: dict[str, tuple[bytes, str]] = {
    "image/png": (b"acTL", "image/apng"),
    "video/webm": (b"matroska", "video/x-matroska"),
}
# An MPEG frame starts with eleven set bits, then two of version and two of layer; layer III is 01, and ADTS has 00.
_MPEG_SYNC, _MPEG_LAYER = 0xE0, 0x06
_LAYERS = {0x02: "audio/mpeg", 0x00: "audio/aac"}
# One container, several modalities: a GIF may be shown as a film, an MP4 or Ogg may hold sound alone.
_SHARED: dict[str, frozenset[str]] = {
    "image/gif": frozenset({"image", "video"}),
    "image/apng": frozenset({"image", "video"}),
    "image/webp": frozenset({"image", "video"}),
    "video/mp4": frozenset({"video", "audio"}),
    "video/quicktime": frozenset({"video", "audio"}),
    "video/webm": frozenset({"video", "audio"}),
    "video/x-matroska": frozenset({"video", "audio"}),
    "audio/ogg": frozenset({"audio", "video"}),
}
_PLAIN_KIND = re.compile(r"[a-z0-9][a-z0-9.+-]{0,31}")


@runtime_checkable
class PillowImage(Protocol):
    """What is needed of a ``PIL.Image.Image``; Pillow itself is not."""

    mode: str

    def convert(self, mode: str) -> PillowImage:
        """Return the picture in another mode."""
        ...

    def save(self, fp: io.BytesIO, format: str) -> None:
        """Write the picture."""
        ...


MediumSource = str | os.PathLike[str] | bytes | PillowImage


def sniff(head: bytes) -> str:
    """Return the media type that the first bytes of a file tell (64 are enough), or an empty string."""
    for offset, magic, mime_type in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            mark, variant = _VARIANTS.get(mime_type, (b"", mime_type))
            return variant if mark in head else mime_type
    if len(head) > 1 and head[0] == 0xFF and head[1] & _MPEG_SYNC == _MPEG_SYNC:
        return _LAYERS.get(head[1] & _MPEG_LAYER, "")
    return ""


@dataclass(frozen=True)
class Region:
    """A box or point in a medium that the text refers to, in fractions of its width and height (0 to 1)."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""


class Medium:
    """A medium of any modality; ``Image``, ``Audio`` and ``Video`` are the usual ones.

    Args:
        source: A path, the bytes of an encoded file, or a Pillow picture.
        modality: Name of the modality; open ("depth", "point_cloud", …).
        mime_type: IANA media type; empty means that the bytes tell.
        regions: Places in it that the text refers to.

    Raises:
        InvalidRequest: The file is not there, is empty, or is of another modality.
    """

    default_modality: ClassVar[str] = ""

    def __init__(
        self,
        source: MediumSource,
        *,
        modality: str = "",
        mime_type: str = "",
        regions: tuple[Region, ...] = (),
    ) -> None:
        self.modality = modality or self.default_modality
        if not self.modality:
            raise InvalidRequest("a medium needs a modality: Medium(source, modality='image'), or Image(source)")
        self.regions = regions
        self._data: bytes | None = None
        self._path: Path | None = None
        self._load(source)
        found = sniff(self._head())
        self._check_modality(found)
        self.mime_type = mime_type or found

    @property
    def name(self) -> str:
        """What to call it in messages: its path, or its modality."""
        return str(self._path) if self._path is not None else self.modality

    @property
    def size_bytes(self) -> int:
        """Size of the encoded file."""
        if self._data is not None:
            return len(self._data)
        return self._path.stat().st_size if self._path is not None else 0

    def read(self) -> bytes:
        """Return the encoded file."""
        if self._data is not None:
            return self._data
        return b"".join(self.chunks())

    def chunks(self, size_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the encoded file in pieces, without holding all of it."""
        if self._data is not None:
            for start in range(0, len(self._data), size_bytes):
                yield self._data[start : start + size_bytes]
        elif self._path is not None:
            try:
                with self._path.open("rb") as file:
                    while piece := file.read(size_bytes):
                        yield piece
            except OSError as error:
                raise InvalidRequest(f"{self._path}: cannot be read ({error.strerror})") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.size_bytes} bytes, {self.mime_type or 'unknown type'})"

    def _load(self, source: MediumSource) -> None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            self._data = bytes(source)
        elif isinstance(source, (str, os.PathLike)):
            self._path = Path(source).expanduser()
            self._check_file(self._path)
        elif isinstance(source, PillowImage) and self.modality not in {"audio", "video"}:
            picture = source if source.mode in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"} else source.convert("RGB")
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            self._data = buffer.getvalue()
        else:
            known = "a path, bytes or a Pillow picture" if self.modality == "image" else "a path or bytes"
            raise InvalidRequest(f"{type(self).__name__} takes {known}, not {type(source).__name__}")
        if self.size_bytes == 0:
            raise InvalidRequest(f"{self.name}: empty, expected an encoded file")

    @staticmethod
    def _check_file(path: Path) -> None:
        if path.is_dir():
            raise InvalidRequest(f"{path}: a folder, expected a file")
        if not path.exists():
            raise InvalidRequest(f"{path}: no such file")
        if not path.is_file():
            raise InvalidRequest(f"{path}: a pipe or device, expected a file")
        if not os.access(path, os.R_OK):
            raise InvalidRequest(f"{path}: may not be read (permission denied)")

    def _head(self) -> bytes:
        return next(self.chunks(64), b"")

    def _check_modality(self, found: str) -> None:
        """Refuse a sound handed in as a picture; what the bytes do not tell is left to the server."""
        group = found.split("/")[0]
        if not found or self.modality not in {"image", "audio", "video"}:
            return
        if self.modality != group and self.modality not in _SHARED.get(found, frozenset()):
            raise InvalidRequest(f"{self.name}: is {found}, expected {self.modality}")


class Image(Medium):
    """A picture: a path, the bytes of a PNG, JPEG, …, or a Pillow picture."""

    default_modality = "image"


class Audio(Medium):
    """A sound or speech: a path, or the bytes of a WAV, FLAC, MP3, OGG, …."""

    default_modality = "audio"


class Video(Medium):
    """A film: a path, or the bytes of an MP4, WebM, GIF, …."""

    default_modality = "video"


@dataclass(frozen=True)
class Upload:
    """A medium that lies on the server; a part of requests like any other, until it expires."""

    handle: str
    modality: str
    mime_type: str = ""
    size_bytes: int = 0
    sha256: str = ""
    expires_in_s: float = 0.0
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class MadeMedium:
    """A medium that a system has made.

    ``handle`` hands it in again without sending its bytes; empty when the server keeps none.
    """

    modality: str
    mime_type: str
    data: bytes = field(repr=False)
    node: str = ""
    handle: str = ""
    choice: int = 0

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; a name without an ending gets the one of its media type."""
        target = Path(path)
        if not target.suffix:
            target = target.with_suffix(self.suffix)
        target.write_bytes(self.data)
        return target

    @property
    def suffix(self) -> str:
        """Ending of file names for its media type: ".png"."""
        kind = self.mime_type.partition("/")[2].partition(";")[0].strip().lower()
        # the server's word becomes part of a file's name here
        if not _PLAIN_KIND.fullmatch(kind):
            kind = "bin"
        return "." + {"jpeg": "jpg", "mpeg": "mp3", "x-wav": "wav", "svg+xml": "svg"}.get(kind, kind)

    def as_part(self) -> Medium | Upload:
        """Return it as a part of the next request."""
        if self.handle:
            return Upload(self.handle, self.modality, self.mime_type, len(self.data))
        return Medium(self.data, modality=self.modality, mime_type=self.mime_type)
