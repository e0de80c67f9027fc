"""Films from untrusted bytes: the frames wanted, evenly spaced, or an InvalidRequest before anything is decoded."""

from __future__ import annotations

import contextlib
import io
import os
import random

import numpy as np
import pytest
from PIL import Image

from graph.errors import InvalidRequest
from services.encoders import films, images
from services.encoders.films import decode_film, read_film_header
from tests.films import CODECS, claiming_less, film, frame_of, grays, growing, sound_only

EIGHT = list(range(8))


def chosen(data: bytes, count: int) -> list[int]:
    return [frame_of(picture) for picture in decode_film(data, count)[0]]


@pytest.mark.parametrize("container", sorted(CODECS))
def test_every_format_is_read(container: str) -> None:
    pictures, times_s = decode_film(film(grays(8), container), 8)
    assert [frame_of(picture) for picture in pictures] == EIGHT
    assert times_s == pytest.approx([0.25 * index for index in range(8)])
    assert {(picture.mode, picture.size) for picture in pictures} == {("RGB", (32, 32))}


@pytest.mark.parametrize("codec", ["libvpx", "mpeg4", "mjpeg", "libx265", "libsvtav1"])
def test_every_codec_is_read(codec: str) -> None:
    size = (64, 64)
    scheduling = os.sched_getscheduler(0)
    assert chosen(film(grays(8, size), "matroska", codec), 8) == EIGHT
    assert os.sched_getscheduler(0) == scheduling


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("options", [{}, {"g": "3"}, {"g": "4", "bf": "0"}, {"g": "4", "x264-params": "open-gop=1"}])
def test_frames_are_evenly_spaced(count: int, options: dict[str, str]) -> None:
    wanted = [round(7 * index / max(1, count - 1) + 1e-6) for index in range(count)]
    assert chosen(film(grays(8), **options), count) == wanted


def test_a_frame_that_is_shown_for_long_comes_often() -> None:
    held = film(grays(4), "matroska", times_ms=[0, 250, 500, 1750])
    assert chosen(held, 8) == [0, 1, 2, 2, 2, 2, 2, 3]
    assert chosen(film(grays(2)), 4) == [0, 0, 1, 1]


def test_one_frame_is_a_film() -> None:
    pictures, times_s = decode_film(film(grays(1)), 4)
    assert [frame_of(picture) for picture in pictures] == [0] * 4
    assert times_s == (0, 0, 0, 0)


def test_fragments_are_read() -> None:
    fragmented = film(grays(8), muxing={"movflags": "frag_keyframe+empty_moov+default_base_moof"}, g="2")
    assert chosen(fragmented, 8) == EIGHT


def test_films_with_sound_are_read() -> None:
    assert chosen(film(grays(8), with_sound=True), 8) == EIGHT
    assert chosen(film(grays(8), "webm", with_sound=True), 8) == EIGHT


@pytest.mark.parametrize(("rotation", "corner"), [(90, (0, 31)), (180, (31, 31)), (270, (31, 0)), (-90, (31, 0))])
def test_pictures_stand_upright(rotation: int, corner: tuple[int, int]) -> None:
    """Turned counterclockwise, the top left corner goes down first."""
    marked = Image.new("RGB", (32, 32), (0, 0, 0))
    marked.paste((255, 255, 255), (0, 0, 12, 12))
    (picture,), _ = decode_film(film([marked], rotation=rotation), 1)
    assert sum(picture.getpixel(corner)) > 600  # type: ignore[arg-type]


def test_colors_stay() -> None:
    for rgb in ((220, 40, 40), (40, 170, 60), (40, 80, 220), (245, 245, 245), (15, 15, 15)):
        (picture,), _ = decode_film(film([Image.new("RGB", (64, 64), rgb)]), 1)
        assert np.abs(np.subtract(picture.getpixel((32, 32)), rgb)).max() <= 6  # type: ignore[arg-type]


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_animated_pictures_are_films(format_name: str) -> None:
    frames = grays(4)
    buffer = io.BytesIO()
    options = {"lossless": True} if format_name == "WEBP" else {}
    frames[0].save(
        buffer, format_name, save_all=True, append_images=frames[1:], duration=[250, 250, 1250, 250], **options
    )
    assert chosen(buffer.getvalue(), 8) == [0, 1, 2, 2, 2, 2, 2, 3]


def test_a_still_film_written_once_is_sampled_in_full() -> None:
    """Frames that are alike become one that lasts longer, when Pillow writes a GIF."""
    frames = [*grays(2)[:1], *[grays(2)[1]] * 7]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=250)
    pictures, times_s = decode_film(buffer.getvalue(), 8)
    assert [frame_of(picture) for picture in pictures] == [0, *[1] * 7]
    assert times_s == pytest.approx([0.25 * index for index in range(8)])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (sound_only("mp4"), "without moving pictures"),
        (sound_only("webm"), "without moving pictures"),
        (b"", "0 bytes"),
        (b"RIFF....AVI LIST", "not a picture of a known format"),
        (b"no film at all", "not a film of a known format"),
        (film(grays(2), "matroska", "ffv1"), "codec|one of h264"),
        (film(grays(2))[:-100], "truncated"),
        (film(grays(2), "webm")[:-20], "truncated"),
        (film(grays(8), muxing={"movflags": "frag_keyframe+empty_moov"})[:-300], "truncated"),
    ],
)
def test_what_is_no_film_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        decode_film(data, 8)


def test_work_is_bounded_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "MAX_DECODED_PIXELS", 32 * 32 * 7)
    assert chosen(film(grays(8), g="4"), 2) == [0, 7]
    with pytest.raises(InvalidRequest, match="pixels in the frames that must be decoded"):
        decode_film(film(grays(8), g="8"), 2)


def test_the_size_is_that_of_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the header says."""
    data = claiming_less(film(grays(6, (64, 64)), g="8"))
    header = read_film_header(data)
    assert header is not None
    assert (header.width, header.height) == (16, 16)
    assert chosen(data, 2) == [0, 5]
    monkeypatch.setattr(images, "MAX_KEPT_PIXELS", 64 * 64 * 4)
    with pytest.raises(InvalidRequest, match="32768 pixels in the frames wanted"):
        decode_film(data, 8)
    monkeypatch.setattr(films, "MAX_DECODED_PIXELS", 64 * 64 * 5)
    with pytest.raises(InvalidRequest, match="24576 pixels in the frames that must be decoded"):
        decode_film(data, 2)


def test_frames_that_grow_are_judged_by_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    data = growing([16, 16, 64, 32])
    assert [picture.width for picture in decode_film(data, 4)[0]] == [16, 16, 64, 32]
    monkeypatch.setattr(images, "MAX_KEPT_PIXELS", 64 * 64 * 3)
    with pytest.raises(InvalidRequest, match="16384 pixels in the frames wanted"):
        decode_film(data, 4)


def test_decoders_refuse_frames_that_are_much_too_large() -> None:
    """Before they have any memory for them."""
    with pytest.raises(InvalidRequest, match="damaged"):
        decode_film(growing([16, 16, 4096, 16]), 8)


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_damage_never_surprises(container: str) -> None:
    """Every file with bytes changed is frames, or an InvalidRequest."""
    whole = film(grays(8), container)
    draw = random.Random(7)
    answered = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3, 30])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with contextlib.suppress(InvalidRequest):
            answered += len(decode_film(bytes(damaged), 4)[0]) == 4
    assert answered
