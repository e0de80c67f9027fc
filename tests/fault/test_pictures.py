"""Row 5, and row 8 for pictures: bombs, and pictures that are small, odd, damaged, or none."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from PIL import Image as PillowImage

from anyplex import Client, Image
from tests.cluster import Cluster
from tests.fault.bombs import refuse, show_strange, spoiled
from tests.pictures import chunk, encoded, growing_gif, png_head, with_second_head

pytestmark = pytest.mark.cluster


SIDE = 40_000


def png(side: int, frames: int = 0) -> bytes:
    """A PNG of so many black pixels a side, as far as its first rows; animated if it has frames."""
    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(side + 1)) for _ in range(200)) + squeezer.flush()
    moving = chunk(b"acTL", struct.pack(">II", frames, 0)) if frames else b""
    return b"\x89PNG\r\n\x1a\n" + png_head(side) + moving + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(frames: int, side: int = 1) -> bytes:
    """A GIF of so many frames of one pixel on a canvas of such a side."""
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6) + frame * frames + b"\x3b"


def large_by_header(form: str, place: int, size: bytes) -> bytes:
    """A small picture whose header says that it is large."""
    data = bytearray(encoded(1, 64, form))
    data[place : place + len(size)] = size
    return bytes(data)


def jpeg() -> bytes:
    """A JPEG that says it is as large as one can be."""
    data = encoded(1, 64, "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]


def apng(side: int) -> bytes:
    """An animated PNG of eight frames."""
    buffer = io.BytesIO()
    frames = [PillowImage.new("L", (side, side), 20 * index) for index in range(8)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=250)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "40,000² in a PNG": lambda: png(SIDE),
    "2^31 squared in a PNG": lambda: large_by_header("PNG", 16, b"\x7f\xff\xff\xff" * 2),
    "100,000 frames in a PNG": lambda: png(64, 100_000),
    "100,000 frames in a GIF": lambda: gif(100_000),
    "65,535² in a GIF": lambda: gif(1, 65_535),
    "65,535² in a JPEG": jpeg,
    "40,000² in a BMP": lambda: large_by_header("BMP", 18, struct.pack("<ii", SIDE, SIDE)),
    "2^24 squared in a WebP": lambda: b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
    "4,096² in a PNG that seems to say 1×1": lambda: with_second_head(apng(4_096), 1, is_first=True),
    "64² and then 40,000² in a PNG": lambda: with_second_head(apng(64), SIDE),
    "4,096² behind an empty extension of a GIF": lambda: growing_gif(7, 4_096, b"\x21\xf9\0"),
    "200,000 empty blocks in a GIF": lambda: b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\x00" * 200_000,
}


@pytest.mark.parametrize(("node", "modality"), [("see", "image"), ("watch", "video")])
def test_row_5_pictures_far_larger_than_their_files(
    cluster: Cluster, channel: grpc.Channel, node: str, modality: str
) -> None:
    costs = refuse(cluster, channel, node, modality, BOMBS)
    print(f"figure: row 5: as {modality}: {costs}")
    costs.guard()


def strange_pictures() -> dict[str, bytes]:
    """Pictures that are small, odd, damaged, or none."""
    rng = random.Random(8)
    found: dict[str, bytes] = {}
    for mode, form in (
        ("RGB", "PNG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG"),
        ("L", "JPEG"), ("RGB", "GIF"), ("RGB", "BMP"), ("RGB", "WEBP"), ("CMYK", "TIFF"), ("P", "GIF"),
        ("YCbCr", "JPEG"),
    ):  # fmt: skip
        for size in (1, 2, 7, 64):
            found[f"{size}×{size} {mode} {form}"] = encoded(size, size, form, mode)
    deep = PillowImage.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    for name, picture in (("16-bit", deep), ("32-bit", deep.convert("I")), ("float", deep.convert("F"))):
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF" if name != "16-bit" else "PNG")
        found[f"{name} gray"] = buffer.getvalue()
    for shape in ((1, 4000), (4000, 1)):
        buffer = io.BytesIO()
        PillowImage.new("RGB", shape).save(buffer, "PNG")
        found[f"{shape[0]}×{shape[1]}"] = buffer.getvalue()
    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        data = encoded(3, 64, form)
        found |= spoiled(form, data, rng)
    for form in ("PNG", "GIF", "WEBP"):
        buffer = io.BytesIO()
        frames = [PillowImage.new("RGB", (9, 9), (20 * index, 0, 0)) for index in range(5)]
        frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=100)
        found[f"{form} that moves"] = buffer.getvalue()
    clear = PillowImage.new("P", (9, 9), 1)
    clear.putpalette([0, 0, 0, 250, 10, 20])
    for form in ("PNG", "GIF"):
        buffer = io.BytesIO()
        clear.save(buffer, form, transparency=1)
        found[f"{form} of a palette with a hole"] = buffer.getvalue()
    for size in (1, 8, 1000):
        found[f"{size} random bytes"] = rng.randbytes(size)
    found["text"] = b"this is no picture"
    found["svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    return found


def test_row_8_strange_pictures(channel: grpc.Channel) -> None:
    codes = show_strange(channel, "image", strange_pictures())
    assert codes["OK"] >= 30


def test_pictures_beside_strange_ones_are_answered(client: Client) -> None:
    assert client.generate(["what is this?", Image(encoded(1))], max_tokens=2).usage.media_tokens > 0
