"""Row 7, and row 8 for films: ten thousand frames, headers that lie, films that are small, odd, damaged, or none."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import grpc
import pytest
from PIL import Image as PillowImage

from anyplex import Client, Video
from tests import films
from tests.cluster import Cluster
from tests.fakes import tiny
from tests.fault.bombs import refuse, show, show_strange, spoiled
from tests.pictures import growing_gif

pytestmark = pytest.mark.cluster

MANY = 10_000
TINY = (16, 16)


def long_film(container: str) -> bytes:
    """A true film of ten thousand frames, four a second."""
    return films.film(films.grays(12, TINY) * (MANY // 12 + 1), container, "mpeg4")


def animated(form: str, count: int, **options: object) -> bytes:
    """An animated picture."""
    buffer = io.BytesIO()
    frames = films.grays(count, TINY)
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=250, **options)
    return buffer.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "10,000 frames in an MP4": lambda: long_film("mp4"),
    "10,000 frames in a Matroska": lambda: long_film("matroska"),
    "10,000 frames claimed by an MP4": lambda: films.claiming_mp4(MANY),
    "10,000 frames in a WebM": lambda: films.claiming_webm(MANY),
    "2^32 frames claimed by an MP4": lambda: films.claiming_mp4(2**32 - 1),
    "2^28 frames in a chunk of an MP4": lambda: films.claiming_mp4(8, samples_a_chunk=2**28),
    "256 frames in each of 10,000 blocks": lambda: films.claiming_webm(MANY, lacing=256),
    "40,000² in an MP4": lambda: films.claiming_mp4(8, side=40_000),
    "40,000² in a WebM": lambda: films.claiming_webm(8, side=40_000),
    "ten hours in an MP4": lambda: films.claiming_mp4(8, seconds=36_000),
    "ten hours in a WebM": lambda: films.claiming_webm(8, seconds=36_000),
    "a film without length": lambda: films.claiming_webm(8, seconds=float("nan")),
    "20,000,000 frames in a packed table beside a plain one": lambda: films.compressed_mp4(
        films.claiming_mp4(20_000_000), shown=films.film(films.grays(4))
    ),
    "a million tables of runs in an MP4": lambda: films.film(films.grays(4)) + films.box(b"free", b"stsc" * 1_000_000),
    "200,000 tracks in a WebM": lambda: films.claiming_webm(8, lists=films.element(0x1654AE6B, b"\xae\x80" * 200_000)),
    "1,000,000 chapters in a WebM": lambda: films.claiming_webm(
        8, lists=films.element(0x1043A770, films.element(0x45B9, b"\xb6\x80" * 10**6))
    ),
    "1,000,000 attachments in a WebM": lambda: films.claiming_webm(
        8, lists=films.element(0x1941A469, b"\x61\xa7\x80" * 10**6)
    ),
    "400,000 hidden tracks in a WebM": lambda: films.hidden_tracks(400_000),
    "10,000 frames in a GIF": lambda: animated_gif(MANY),
    "4,096² in a GIF that begins as 1×1": lambda: growing_gif(7, 4_096),
    "3,072² in an MP4 that says 16²": lambda: films.claiming_less(films.film(films.grays(6, (3_072, 3_072)))),
    "4,096² in an MP4 that says 16²": lambda: films.claiming_less(films.film(films.grays(3, (4_096, 4_096)))),
    "4,096² in a Matroska that begins as 16²": lambda: films.growing([16, 16, *[4_096] * 6]),
}


def animated_gif(count: int) -> bytes:
    """A GIF of so many frames of one pixel."""
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\x00"
    return b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame * count + b"\x3b"


def test_row_7_films_of_ten_thousand_frames(cluster: Cluster, channel: grpc.Channel) -> None:
    assert show(channel, "video", films.film(films.grays(8))).code is grpc.StatusCode.OK
    costs = refuse(cluster, channel, "watch", "video", BOMBS)
    print(f"figure: row 7: {costs}")
    costs.guard()


def strange_films() -> dict[str, bytes]:
    """Films that are small, odd, damaged, or none."""
    rng = random.Random(8)
    found: dict[str, bytes] = {}
    for container in films.CODECS:
        for count in (1, 2, 9):
            found[f"{count} frames in {container}"] = films.film(films.grays(count), container)
        found[f"2×2 in {container}"] = films.film(films.grays(3, (2, 2)), container)
        found[f"34×18 in {container}"] = films.film(films.grays(3, (34, 18)), container)
        found[f"{container} with sound"] = films.film(films.grays(4), container, with_sound=True)
    for codec in ("libvpx", "mpeg4", "mjpeg", "libx265", "libsvtav1", "ffv1"):
        found[codec] = films.film(films.grays(4, (64, 64)), "matroska", codec)
    found["frames of uneven length"] = films.film(films.grays(5), "matroska", times_ms=[0, 10, 20, 2_000, 9_000])
    found["turned"] = films.film(films.grays(4), rotation=90)
    found["fragments"] = films.film(films.grays(8), muxing={"movflags": "frag_keyframe+empty_moov"}, g="2")
    found["sound in an MP4"], found["sound in a WebM"] = films.sound_only("mp4"), films.sound_only("webm")
    for form in ("GIF", "WEBP", "PNG"):
        for count in (1, 2, 9):
            found[f"{count} frames in {form}"] = animated(form, count)
    for form in ("JPEG", "BMP", "TIFF"):
        buffer = io.BytesIO()
        PillowImage.new("RGB", (7, 7)).save(buffer, form)
        found[f"a picture in {form}"] = buffer.getvalue()
    for name in ("9 frames in mp4", "9 frames in webm", "9 frames in GIF", "9 frames in WEBP", "9 frames in PNG",
                 "fragments", "mp4 with sound"):  # fmt: skip
        data = found[name]
        found |= spoiled(name, data, rng)
    for size in (1, 8, 1000):
        found[f"{size} random bytes"] = rng.randbytes(size)
    found["text"] = b"this is no film"
    found["a list of files"] = b"#EXTM3U\nfile:///etc/passwd\n"
    return found


def test_row_8_strange_films(channel: grpc.Channel) -> None:
    codes = show_strange(channel, "video", strange_films())
    assert codes["OK"] >= 40


def test_films_beside_strange_ones_are_answered(client: Client) -> None:
    for container in films.CODECS:
        film = Video(films.film(films.grays(8), container))
        reply = client.generate(["what moves?", film], system=tiny.EVERYTHING.stem, max_tokens=2)
        assert reply.usage.media_tokens == 8
