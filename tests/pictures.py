"""Pictures for tests that only need some."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image as PillowImage

from anyplex import Image


def encoded(seed: int = 0, size: int = 64, form: str = "PNG", mode: str = "RGB") -> bytes:
    """Return a file with a picture of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = PillowImage.fromarray(blocks).resize((size, size), PillowImage.Resampling.NEAREST).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(side: int) -> bytes:
    """Return the chunk of a PNG file that tells its size."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))


def with_second_head(png: bytes, side: int, is_first: bool = False) -> bytes:
    """Return a PNG with one more header behind its own, or with text that looks like one before it."""
    own = png[8:33]
    if is_first:
        return png[:8] + chunk(b"teXt", struct.pack(">II", side, side) + b"text") + png[8:]
    return png[:8] + own + png_head(side) + png[33:]


def growing_gif(frames: int, side: int, between: bytes = b"") -> bytes:
    """Return a GIF whose canvas and first frame are one pixel, and whose other frames are much larger."""
    buffer = io.BytesIO()
    PillowImage.new("P", (side, side)).save(buffer, "GIF")
    large = buffer.getvalue()
    frame = large[large.index(b"\x2c" + bytes(4)) : -1]
    small = b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\x00"
    return b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + small + between + frame * frames + b"\x3b"


def picture(seed: int = 0) -> Image:
    """Return a picture for the client."""
    return Image(encoded(seed))
