"""Pictures from untrusted bytes: measured by their header first, decoded only when they fit.

Every outcome is an RGB picture or an ``InvalidRequest``; nothing here trusts a length that a file states.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from graph.errors import InvalidRequest

MAX_PIXELS = 16_777_216
MAX_FRAMES = 4_096
MAX_FILE_BYTES = 64 * 2**20
MAX_BLOCKS = 100_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

# What Pillow's decoders raise on damaged files, seen by feeding them damaged files.
_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, IndexError, KeyError, TypeError,
    AttributeError, OverflowError, RuntimeError, MemoryError, ZeroDivisionError, AssertionError,
    Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What the first bytes of a picture say about it."""

    format: str
    width: int
    height: int
    frames: int = 1


def decode_image(data: bytes) -> Image.Image:
    """Decode a picture into RGB: first frame, upright, transparency on white, 16 bits scaled to 8.

    Raises:
        InvalidRequest: Too large, too many frames, damaged, or no format we read.
    """
    pictures, _ = decode_frames(data, 1)
    return pictures[0]


def decode_frames(data: bytes, count: int) -> tuple[list[Image.Image], tuple[float, ...]]:
    """Decode at most ``count`` frames of an animated picture, evenly spaced from the first to the last.

    Returns:
        The frames, each as ``decode_image`` gives it, and their times in seconds.

    Raises:
        InvalidRequest: As ``decode_image``.
    """
    header = read_header(data)
    check_size(header.width, header.height)
    if header.frames > MAX_FRAMES:
        raise InvalidRequest(f"more than {MAX_FRAMES} frames, at most {MAX_FRAMES} allowed")
    count = min(count, header.frames)
    wanted = {round(step * (header.frames - 1) / max(1, count - 1)) for step in range(count)}
    _check_total(header.width * header.height * count, "in the frames wanted", 4 * MAX_PIXELS)
    _check_total(header.width * header.height * (max(wanted) + 1), "up to the last frame wanted", 32 * MAX_PIXELS)
    pictures: list[Image.Image] = []
    times_s: list[float] = []
    now_s = 0.0
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as file:
            for index in range(max(wanted) + 1):
                if index:
                    file.seek(index)
                # A frame may claim to be larger than the canvas that its file's header stated.
                check_size(*file.size)
                if index in wanted:
                    file.load()
                    pictures.append(_to_rgb(_upright(file)))
                    times_s.append(now_s)
                now_s += float(file.info.get("duration", 0)) / 1000
    except InvalidRequest:
        raise
    except _DECODING_ERRORS as error:
        raise InvalidRequest(f"a damaged or truncated {header.format} picture") from error
    return pictures, tuple(times_s)


def _check_total(pixels: int, which: str, limit: int) -> None:
    if pixels > limit:
        raise InvalidRequest(f"{pixels} pixels {which}, at most {limit} in all")


def check_size(width: int, height: int) -> None:
    """Refuse pictures of no or too many pixels.

    Raises:
        InvalidRequest: It is one.
    """
    if width < 1 or height < 1:
        raise InvalidRequest(f"{width}×{height} pixels, at least 1×1 expected")
    if width * height > MAX_PIXELS:
        raise InvalidRequest(f"{width}×{height} pixels, at most {MAX_PIXELS} in all")


def pixel_hash(picture: Image.Image, preprocessing: str) -> str:
    """Return the content hash of a decoded picture and of what is done to it before the encoder."""
    digest = hashlib.sha256(f"rgb:{picture.width}x{picture.height}:{preprocessing}:".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


def read_header(data: bytes) -> Header:
    """Read format, size and number of frames without decoding anything.

    Raises:
        InvalidRequest: No picture of a format we read, or its header is cut off.
    """
    if not data:
        raise InvalidRequest("0 bytes, a picture expected")
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{len(data)} bytes, at most {MAX_FILE_BYTES} allowed")
    for magic, reader in _READERS:
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise InvalidRequest("a picture whose header is cut off") from error
    raise InvalidRequest(f"not a picture of a known format, one of {', '.join(FORMATS)} expected")


class _Walk:
    """Counts the blocks of a file, so that one made of millions of tiny ones is refused soon."""

    def __init__(self) -> None:
        self._left = MAX_BLOCKS

    def step(self) -> bool:
        self._left -= 1
        if self._left < 0:
            raise InvalidRequest(f"more than {MAX_BLOCKS} blocks in one picture")
        return True


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    frames, at, walk = 1, 8, _Walk()
    # An animated PNG states its frames in a chunk that must come before the first pixels.
    while at + 12 <= len(data) and (kind := data[at + 4 : at + 8]) != b"IDAT" and walk.step():
        (size,) = struct.unpack_from(">I", data, at)
        if kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, at + 8)
        at += 12 + size
    return Header("PNG", width, height, frames)


_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg(data: bytes) -> Header:
    at, walk = 2, _Walk()
    while walk.step():
        at = data.find(b"\xff", at)
        if at < 0:
            raise IndexError
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Header("JPEG", width, height)
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    raise IndexError


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames, walk = 13 + _palette_bytes(flags), 0, _Walk()
    while at < len(data) and frames <= MAX_FRAMES and walk.step():
        block = data[at]
        if block == 0x2C:
            if frames == 0:
                left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            at = _skip_blocks(data, walk, at + 11 + _palette_bytes(data[at + 9]))
        elif block == 0x21:
            at = _skip_blocks(data, walk, at + 2)
        else:
            break
    return Header("GIF", width, height, max(1, frames))


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, walk: _Walk, at: int) -> int:
    while at < len(data) and data[at] and walk.step():
        at += data[at] + 1
    return at + 1


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise InvalidRequest(f"not a picture of a known format, one of {', '.join(FORMATS)} expected")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    frames, at, walk = 0, 12, _Walk()
    while at + 8 <= len(data) and frames <= MAX_FRAMES and walk.step():
        frames += data[at : at + 4] == b"ANMF"
        (size,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + size + size % 2
    return Header("WEBP", width, height, max(1, frames))


def _bmp(data: bytes) -> Header:
    (head_bytes,) = struct.unpack_from("<I", data, 14)
    if head_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", width, abs(height))


_READERS: tuple[tuple[bytes, Callable[[bytes], Header]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"RIFF", _webp),
    (b"BM", _bmp),
)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except _DECODING_ERRORS:
        # Damaged EXIF says nothing about the pixels, which are fine.
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_wide(picture)
    if picture.mode == "F":
        raise InvalidRequest("floating-point pixels, whole numbers expected")
    transparent = picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info
    if not transparent:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _from_wide(picture: Image.Image) -> Image.Image:
    # Pillow would clip 16-bit samples at 255 instead of scaling them.
    samples = np.asarray(picture).astype(np.int64).clip(0, 65_535) >> 8
    return Image.fromarray(samples.astype(np.uint8)).convert("RGB")
