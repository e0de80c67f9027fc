"""Pictures from untrusted bytes: every one is an RGB picture or an InvalidRequest, bombs at once."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from graph.errors import InvalidRequest
from services.encoders import images
from services.encoders.images import MAX_FRAMES, Header, decode_frames, decode_image, pixel_hash, read_header
from tests.pictures import chunk, growing_gif, png_head, with_second_head

RED = (250, 10, 20)
GUARD = 10  # A tenfold guard against hanging; `make bench fault` judges the times.


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def noise(width: int = 13, height: int = 7, mode: str = "RGB") -> Image.Image:
    draw = random.Random(3)
    return Image.frombytes("RGB", (width, height), draw.randbytes(3 * width * height)).convert(mode)


def png_bomb(side: int = 40_000) -> bytes:
    squeezer = zlib.compressobj(9)
    rows = b"".join(squeezer.compress(bytes(side + 1)) for _ in range(200)) + squeezer.flush()
    return b"\x89PNG\r\n\x1a\n" + png_head(side) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif_bomb(frames: int = 100_000) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * frames + b"\x3b"


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_format_is_read(format_name: str) -> None:
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encoded(noise(), format_name, **options)
    assert read_header(data).format == format_name
    assert (read_header(data).width, read_header(data).height) == (13, 7)
    picture = decode_image(data)
    assert (picture.mode, picture.size) == ("RGB", (13, 7))
    if format_name in {"PNG", "BMP", "WEBP"}:
        assert picture.tobytes() == noise().tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_rgb(mode: str) -> None:
    image = noise().convert("L").convert(mode) if mode in {"I;16", "PA", "LA"} else noise(mode=mode)
    assert decode_image(encoded(image if mode != "PA" else image.convert("P"), "PNG")).mode == "RGB"


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode_image(encoded(red, "JPEG", quality=95)).getpixel((4, 4))[0] > 200  # type: ignore[index]


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(ramp), "PNG")))[..., 0].astype(int)
    assert np.abs(decoded - np.arange(256).reshape(16, 16)).max() <= 1


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (*RED, 0))
    assert decode_image(encoded(clear, "PNG")).getpixel((1, 1)) == (255, 255, 255)
    half = Image.new("LA", (4, 4), (0, 128))
    assert 120 < decode_image(encoded(half, "PNG")).getpixel((1, 1))[0] < 135  # type: ignore[index]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert decode_image(encoded(palette, "PNG", transparency=1)).getpixel((1, 1)) == (255, 255, 255)
    assert decode_image(encoded(palette, "PNG")).getpixel((1, 1)) == RED


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(noise(), "JPEG", exif=exif)).size == (7, 13)


def test_one_pixel_is_a_picture() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), RED), "PNG")).getpixel((0, 0)) == RED


def animation(count: int) -> bytes:
    frames = [Image.new("RGB", (9, 9), (20 * index, 0, 0)) for index in range(count)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=250)


def test_the_first_frame_is_the_picture_and_frames_are_spread() -> None:
    assert decode_image(animation(5)).getpixel((0, 0)) == (0, 0, 0)
    frames, times_s = decode_frames(animation(9), 3)
    assert [frame.getpixel((0, 0))[0] for frame in frames] == [0, 80, 160]  # type: ignore[index]
    assert times_s == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (png_bomb, "40000×40000 pixels, at most 16777216 in all"),
        (gif_bomb, f"more than {MAX_FRAMES} frames"),
        (lambda: b"\xff\xd8\xff" + b"\xd0\xff" * 5_000_000, "blocks|cut off"),
        (lambda: b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"\x21\xfe\x00" * 5_000_000, "blocks"),
        (lambda: b"RIFF\0\0\0\0WEBPVP8X" + bytes(10_000_000), "blocks"),
    ],
)
def test_bombs_are_refused_by_their_header(make: Callable[[], bytes], complaint: str) -> None:
    data = make()
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest, match=complaint):
        decode_image(data)
    took_ms = (time.perf_counter() - begin) * 1000
    tracemalloc.start()
    with pytest.raises(InvalidRequest):
        decode_image(data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"refused after {took_ms:.1f} ms with {peak_bytes / 2**20:.2f} MiB")
    assert took_ms < 100 * GUARD
    assert peak_bytes < 64 * 2**20


def test_a_frame_larger_than_its_canvas_is_measured() -> None:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x44\x01\x00"
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame + b"\x3b"
    with pytest.raises(InvalidRequest, match="pixels, at most"):
        decode_image(data)


@pytest.mark.parametrize("between", [b"", b"\0\0no block\0"])
def test_the_largest_frame_counts_wherever_it_is(between: bytes) -> None:
    data = growing_gif(3, 3000, between)
    header = read_header(data)
    assert (header.width, header.height, header.frames) == (3000, 3000, 4)
    assert decode_image(data).size == (1, 1)
    with pytest.raises(InvalidRequest, match="72000000 pixels in the frames wanted"):
        decode_frames(growing_gif(7, 3000, between), 8)


@pytest.mark.parametrize("extension", [b"\x21\xf9\0", b"\x21\xff\x0bNETSCAPE2.0\0"])
def test_nothing_hides_behind_an_extension_without_contents(extension: bytes) -> None:
    with pytest.raises(InvalidRequest, match="an empty extension"):
        read_header(growing_gif(7, 16, extension))
    assert read_header(growing_gif(7, 16, b"\x21\xfe\0")).frames == 8


@pytest.mark.parametrize(("side", "complaint"), [(3000, "in the frames wanted"), (2000, "up to the last frame wanted")])
def test_the_size_of_frames_is_a_claim_until_they_are_decoded(
    side: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 200
    monkeypatch.setattr(images, "read_header", lambda _: Header("GIF", 1, 1, frames))
    with pytest.raises(InvalidRequest, match=complaint):
        decode_frames(growing_gif(7, side), 8)


def test_a_png_has_one_header_and_begins_with_it() -> None:
    frames = [Image.new("L", (64, 64), 20 * index) for index in range(3)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert read_header(data).frames == 3
    for spoiled in (with_second_head(data, 1, is_first=True), with_second_head(data, 40_000), data[:-12] + data[8:]):
        with pytest.raises(InvalidRequest, match="a damaged PNG picture"):
            decode_frames(spoiled, 3)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated_pictures_are_refused_or_whole(format_name: str) -> None:
    data = encoded(noise(40, 30), format_name)
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            assert decode_image(data[:length]).mode == "RGB"
        except InvalidRequest:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12))
def test_damaged_pictures_are_refused_or_pictures(format_name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(noise(40, 30), format_name))
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(InvalidRequest):
        assert decode_image(bytes(data)).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg></svg>", b"II*\0" + bytes(100), b"%PDF-1.4", b"\x80\x04."])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="expected"):
        decode_image(data)


def test_the_hash_is_that_of_pixels_and_preprocessing() -> None:
    same = [decode_image(encoded(noise(), name)) for name in ("PNG", "BMP")]
    assert pixel_hash(same[0], "a") == pixel_hash(same[1], "a") != pixel_hash(same[0], "b")
    assert pixel_hash(noise(7, 13), "a") != pixel_hash(noise(13, 7), "a")
