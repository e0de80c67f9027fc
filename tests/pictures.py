"""Pictures for tests that only need some."""

from __future__ import annotations

import io

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


def picture(seed: int = 0) -> Image:
    """Return a picture for the client."""
    return Image(encoded(seed))
