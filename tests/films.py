"""Films whose frames tell which they are: frame i is gray of level 10 + 20·i."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

CODECS = {
    "mp4": "libx264", "mov": "libx264", "matroska": "libx264", "webm": "libvpx-vp9",
}  # fmt: skip
OPTIONS = {"libx264": {"crf": "10"}, "libvpx-vp9": {"crf": "10", "b": "0", "cpu-used": "8", "deadline": "realtime"}}


def level(index: int) -> int:
    """Gray level of a frame; after ten they begin again."""
    return 10 + 20 * (index % 12)


def frame_of(picture: Image.Image) -> int:
    """Which frame a picture is, judged by its middle."""
    red, green, blue = picture.getpixel((picture.width // 2, picture.height // 2))  # type: ignore[misc]
    assert max(red, green, blue) - min(red, green, blue) < 8
    return round((green - 10) / 20)


def grays(count: int, size: tuple[int, int] = (32, 32)) -> list[Image.Image]:
    """Frames."""
    return [Image.new("RGB", size, (level(index),) * 3) for index in range(count)]


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Run something on this thread without a change of its scheduling.

    libsvtav1 gives the thread that calls it real-time priority where it may, and leaves it so: whatever the thread
    starts then inherits it, and threads that wait for each other in loops never let each other go.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def film(
    pictures: Sequence[Image.Image],
    container: str = "mp4",
    codec: str = "",
    times_ms: Sequence[int] = (),
    rotation: int = 0,
    muxing: dict[str, str] | None = None,
    with_sound: bool = False,
    **options: str,
) -> bytes:
    """Encode frames, at four a second unless times are given."""
    import av

    codec = codec or CODECS[container]
    buffer = io.BytesIO()
    with _same_scheduling(), av.open(buffer, "w", format=container, options=muxing or {}) as out:
        stream: Any = out.add_stream(codec, rate=4, options={**OPTIONS.get(codec, {}), **options})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        sound: Any = (
            out.add_stream("aac" if container in ("mp4", "mov") else "libopus", rate=48_000) if with_sound else None
        )
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts = times_ms[index] if times_ms else 250 * index
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="flt", layout="mono")
            silence.sample_rate = 48_000
            out.mux(sound.encode(silence))
            out.mux(sound.encode(None))
    return turned(buffer.getvalue(), rotation) if rotation else buffer.getvalue()


def turned(mp4: bytes, degrees: int) -> bytes:
    """Write a rotation into the header of an MP4's track, as phones do: it stands 40 bytes into the box `tkhd`."""
    at = mp4.index(b"tkhd") + 4 + 40
    cosine, sine = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    one = 1 << 16
    matrix = struct.pack(">9i", cosine * one, -sine * one, 0, sine * one, cosine * one, 0, 0, 0, 1 << 30)
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


def claiming_less(mp4: bytes, side: int = 16) -> bytes:
    """Write a smaller size into what an MP4 says of its pictures."""
    at = mp4.index(b"stsd") + 44
    return mp4[:at] + struct.pack(">HH", side, side) + mp4[at + 4 :]


def growing(sides: Sequence[int]) -> bytes:
    """A film whose pictures change their size."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream: Any = out.add_stream("mjpeg", rate=4)
        stream.width = stream.height = sides[0]
        stream.pix_fmt = "yuvj420p"
        for index, side in enumerate(sides):
            photo = io.BytesIO()
            grays(index + 1, (side, side))[-1].save(photo, "JPEG", quality=95)
            packet = av.Packet(photo.getvalue())
            packet.stream, packet.pts, packet.dts = stream, 250 * index, 250 * index
            packet.time_base, packet.is_keyframe = Fraction(1, 1000), True
            out.mux(packet)
    return buffer.getvalue()


def sound_only(container: str) -> bytes:
    """A file of a film's format in which nothing is to be seen."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        sound: Any = out.add_stream("aac" if container == "mp4" else "libopus", rate=48_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4_800), np.float32), format="flt", layout="mono")
        silence.sample_rate = 48_000
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
    return buffer.getvalue()


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box of an MP4 file."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def claiming_mp4(
    samples: int = 8, side: int = 64, samples_a_chunk: int = 0, seconds: int = 2, handler: bytes = b"vide"
) -> bytes:
    """An MP4 file of 1.5 KB whose tables claim what they are told to."""
    entry = bytes(6) + struct.pack(">H16xHHIIIH32xHh", 1, side, side, 0x480000, 0x480000, 0, 1, 24, -1)
    tables = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), box(b"mp4v", entry)),
        box(b"stts", struct.pack(">IIII", 0, 1, samples, 512)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples_a_chunk or samples, 1)),
        box(b"stsz", struct.pack(">III", 0, 1, samples)),
        box(b"stco", struct.pack(">III", 0, 1, 40)),
    )
    clock = struct.pack(">IIIII", 0, 0, 0, 1000, 1000 * seconds)
    media = box(
        b"mdia",
        box(b"mdhd", clock, bytes(4)),
        box(b"hdlr", bytes(8) + handler + bytes(13)),
        box(b"minf", box(b"vmhd", bytes(12)), tables),
    )
    turn = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    track = box(b"tkhd", struct.pack(">IIIIII16x", 7, 0, 0, 1, 0, 0), turn, struct.pack(">II", side << 16, side << 16))
    moov = box(b"moov", box(b"mvhd", clock, bytes(80)), box(b"trak", track, media))
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"mdat", bytes(1000)) + moov


def compressed_mp4(mp4: bytes, shown: bytes = b"") -> bytes:
    """The same MP4 with its header packed by zlib, beside another file's header that is there for all to see."""
    at, size = _moov(mp4)
    packed = struct.pack(">I", size) + zlib.compress(mp4[at : at + size], 9)
    seen = b""
    if shown:
        begin, length = _moov(shown)
        seen = shown[begin + 8 : begin + length]
    return mp4[:at] + box(b"moov", seen, box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", packed))) + mp4[at + size :]


def _moov(mp4: bytes) -> tuple[int, int]:
    at = 0
    while mp4[at + 4 : at + 8] != b"moov":
        at += struct.unpack_from(">I", mp4, at)[0]
    return at, struct.unpack_from(">I", mp4, at)[0]


def element(kind: int, content: bytes) -> bytes:
    """An element of a Matroska file."""
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + (len(content) | 1 << 56).to_bytes(8, "big") + content


def claiming_webm(
    blocks: int = 8,
    side: int = 64,
    seconds: float = 2.0,
    lacing: int = 0,
    encodings: bytes = b"",
    lists: bytes = b"",
    codec_data: bytes = b"",
) -> bytes:
    """A WebM file whose header and blocks claim what they are told to."""
    video = element(0xE0, element(0xB0, side.to_bytes(4, "big")) + element(0xBA, side.to_bytes(4, "big")))
    track = element(0xD7, b"\1") + element(0x83, b"\1") + element(0x86, b"V_VP8") + video + encodings
    track += element(0x63A2, codec_data) if codec_data else b""
    block = element(0xA3, b"\x81\0\0\x80" if not lacing else b"\x81\0\0\x84" + bytes([lacing - 1]))
    info = element(0x1549A966, element(0x4489, struct.pack(">d", seconds * 1000)))
    cluster = element(0x1F43B675, element(0xE7, b"\0") + block * blocks)
    return element(0x1A45DFA3, element(0x4282, b"webm")) + element(
        0x18538067, info + element(0x1654AE6B, element(0xAE, track)) + lists + cluster
    )


def hidden_tracks(count: int, is_told: bool = True) -> bytes:
    """A Matroska file whose index leads to so many tracks within what is skipped; one is told, or comes too late."""
    info = element(0x1549A966, element(0x4489, struct.pack(">d", 2000)))
    seek = element(0x53AB, b"\x16\x54\xae\x6b") + element(0x53AC, (0).to_bytes(8, "big"))
    position = len(element(0x114D9B74, element(0x4DBB, seek))) + len(info) + 9
    seek = element(0x53AB, b"\x16\x54\xae\x6b") + element(0x53AC, position.to_bytes(8, "big"))
    hidden = element(0xEC, element(0x1654AE6B, b"\xae\x80" * count))
    cluster = element(0x1F43B675, element(0xE7, b"\0") + element(0xA3, b"\x81\0\0\x80x"))
    track = element(0x1654AE6B, element(0xAE, element(0xD7, b"\1") + element(0x83, b"\1") + element(0x86, b"V_VP8")))
    body = hidden + (track + cluster if is_told else cluster + track)
    return element(0x1A45DFA3, element(0x4282, b"webm")) + element(
        0x18538067, element(0x114D9B74, element(0x4DBB, seek)) + info + body
    )
