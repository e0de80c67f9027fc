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
from itertools import accumulate

import numpy as np
from PIL import Image, ImageOps

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, check_file_bytes
from services.encoders.film_headers import MAX_FRAMES, check_seconds
from services.encoders.frame_times import choose_frames

MAX_PIXELS = 16_777_216
MAX_KEPT_PIXELS = 4 * MAX_PIXELS
"""In all frames that are handed on."""
MAX_WALKED_PIXELS = 32 * MAX_PIXELS
"""In all frames up to the last one handed on."""
# What browsers make of frames that say no time, or none to speak of.
DEFAULT_SHOWN_MS = 100
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
    shown_ms: tuple[int, ...] = ()
    """How long each frame is shown, as far as told."""

    def starts_s(self) -> tuple[list[float], float]:
        """Return when each frame appears, and how long the last one is shown."""
        shown_ms = [ms or DEFAULT_SHOWN_MS for ms in self.shown_ms[: self.frames]]
        shown_ms += [DEFAULT_SHOWN_MS] * (self.frames - len(shown_ms))
        return [sum_ms / 1000 for sum_ms in accumulate(shown_ms[:-1], initial=0)], shown_ms[-1] / 1000


def decode_image(data: bytes) -> Image.Image:
    """Decode a picture into RGB: first frame, upright, transparency on white, 16 bits scaled to 8.

    Raises:
        InvalidRequest: Too large, too many frames, damaged, or no format we read.
    """
    pictures, _ = decode_frames(data, 1)
    return pictures[0]


def decode_frames(data: bytes, count: int) -> tuple[list[Image.Image], tuple[float, ...]]:
    """Decode ``count`` frames of an animated picture, evenly spaced in time from the first to the last.

    A frame that is shown for long comes as often as a moment falls into it.

    Returns:
        The frames, each as ``decode_image`` gives it, and the moments they were taken at, in seconds.

    Raises:
        InvalidRequest: As ``decode_image``.
    """
    header = read_header(data)
    check_size(header.width, header.height)
    if header.frames > MAX_FRAMES:
        raise InvalidRequest(f"more than {MAX_FRAMES} frames, at most {MAX_FRAMES} allowed")
    starts_s, last_s = header.starts_s()
    if count > 1:
        check_seconds(starts_s[-1])
    indices, moments_s = choose_frames(starts_s, last_s, count)
    wanted = set(indices)
    _check_work(header.width, header.height, wanted)
    pictures: dict[int, Image.Image] = {}
    try:
        with Image.open(io.BytesIO(data), formats=[header.format]) as file:
            for index in range(max(wanted) + 1):
                if index:
                    file.seek(index)
                # What the header states is a claim, and a canvas may grow: then all is judged as if it were as large.
                _check_work(*file.size, wanted)
                if index in wanted:
                    file.load()
                    pictures[index] = _to_rgb(_upright(file))
    except InvalidRequest:
        raise
    except _DECODING_ERRORS as error:
        raise InvalidRequest(f"a damaged or truncated {header.format} picture") from error
    return [pictures[index] for index in indices], tuple(moments_s)


def check_kept(width: int, height: int, count: int) -> None:
    """Refuse pictures of no or too many pixels, each or together, if so many of them are kept.

    Raises:
        InvalidRequest: They are.
    """
    check_size(width, height)
    check_total(width * height * count, "in the frames wanted", MAX_KEPT_PIXELS)


def check_total(pixels: int, which: str, limit: int) -> None:
    """Refuse too many pixels in several frames.

    Raises:
        InvalidRequest: They are.
    """
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


def _check_work(width: int, height: int, wanted: set[int]) -> None:
    check_kept(width, height, len(wanted))
    check_total(width * height * (max(wanted) + 1), "up to the last frame wanted", MAX_WALKED_PIXELS)


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
    check_file_bytes(data)
    for magic, reader in _READERS:
        if data.startswith(magic):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise InvalidRequest("a picture whose header is cut off") from error
    raise InvalidRequest(f"not a picture of a known format, one of {', '.join(FORMATS)} expected")


def is_picture(data: bytes) -> bool:
    """Whether the bytes begin as a picture of a format we read."""
    return any(data.startswith(magic) for magic, _ in _READERS)


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
    if data[12:16] != b"IHDR":
        raise InvalidRequest("a damaged PNG picture: it does not begin with its header")
    width, height = struct.unpack_from(">II", data, 16)
    frames, at, walk = 1, 8, _Walk()
    shown_ms: list[int] = []
    while at + 12 <= len(data) and len(shown_ms) <= MAX_FRAMES and walk.step():
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR" and at > 8:
            raise InvalidRequest("a damaged PNG picture: it has two headers")
        if kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, at + 8)
        elif kind == b"fcTL":
            share, whole = struct.unpack_from(">HH", data, at + 28)
            shown_ms.append(1000 * share // (whole or 100))
        elif kind == b"IDAT" and (frames == 1 or frames > MAX_FRAMES):
            # An animated PNG states its frames in a chunk that must come before the first pixels.
            break
        at += 12 + size
    return Header("PNG", width, height, max(1, frames), tuple(shown_ms))


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
    """Read blocks as Pillow does, which takes unknown bytes between them for nothing."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames, walk = 13 + _palette_bytes(flags), 0, _Walk()
    shown_ms: list[int] = []
    delay_ms = 0
    while at < len(data) and data[at] != 0x3B and frames <= MAX_FRAMES and walk.step():
        block = data[at]
        if block == 0x2C:
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, at + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            shown_ms.append(delay_ms)
            delay_ms = 0
            at = _skip_blocks(data, walk, at + 11 + _palette_bytes(data[at + 9]))
        elif block == 0x21:
            if data[at + 1] == 0xF9:
                delay_ms = 10 * struct.unpack_from("<H", data, at + 4)[0]
            _check_extension(data, at + 1)
            at = _skip_blocks(data, walk, at + 2)
        else:
            at += 1
    return Header("GIF", width, height, max(1, frames), tuple(shown_ms))


def _check_extension(data: bytes, at: int) -> None:
    """Refuse an extension without contents, after which Pillow would go on elsewhere than at its end."""
    label, begins = data[at], at + 1
    if label == 0xFF and data.startswith(b"NETSCAPE2.0", begins + 1):
        begins += 1 + data[begins]
    if label != 0xFE and not data[begins]:
        raise InvalidRequest("a damaged GIF picture: it has an empty extension")


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
    at, walk = 12, _Walk()
    shown_ms: list[int] = []
    while at + 8 <= len(data) and len(shown_ms) <= MAX_FRAMES and walk.step():
        if data[at : at + 4] == b"ANMF":
            shown_ms.append(int.from_bytes(data[at + 20 : at + 23], "little"))
        (size,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + size + size % 2
    return Header("WEBP", width, height, max(1, len(shown_ms)), tuple(shown_ms))


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
