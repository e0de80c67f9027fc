"""Sounds for tests that only need some: tones in any format, and files that lie."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tests.oggs import crc

Samples = NDArray[np.float32]

RATE_HZ = 16_000


def tone(seconds: float = 0.5, pitch_hz: float = 440.0, rate_hz: int = RATE_HZ, peak: float = 0.5) -> Samples:
    """Return a sine."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * pitch_hz * times_s)).astype(np.float32)


def noise(samples: int, seed: int = 0, channels: int = 1) -> Samples:
    """Return noise, (samples, channels)."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def encoded(
    samples: Samples | NDArray[np.int16], form: str = "WAV", subtype: str | None = None, rate_hz: int = RATE_HZ
) -> bytes:
    """Return a file of libsndfile's."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


def muxed(samples: Samples, container: str, codec: str, rate_hz: int = 48_000) -> bytes:
    """Return a file of FFmpeg's with one or two channels of sound: ("mp4", "aac"), ("webm", "libopus"), …."""
    import av

    samples_CT = np.ascontiguousarray(samples.reshape(len(samples), -1).T)
    layout = "mono" if len(samples_CT) == 1 else "stereo"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples_CT, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        wanted = stream.codec_context.format.name
        resampler = av.AudioResampler(wanted, layout, rate_hz, stream.codec_context.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def wav(data: bytes, *, rate_hz: int = RATE_HZ, channels: int = 1, bits: int = 16, stated_bytes: int = -1) -> bytes:
    """Return a WAV with any header over any bytes."""
    stated = len(data) if stated_bytes < 0 else stated_bytes
    frame_bytes = channels * bits // 8
    head = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame_bytes & 0xFFFF_FFFF, frame_bytes & 0xFFFF, bits)
    whole = min(0xFFFF_FFFF, 36 + stated)
    return (
        b"RIFF" + struct.pack("<I", whole) + b"WAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", stated) + data
    )


def forged_flac(*, rate_hz: int = RATE_HZ, channels: int = 1, samples: int = 0, seconds: float = 1.0) -> bytes:
    """Return a FLAC of silence whose header states another rate, number of channels and length (0: unknown)."""
    data = bytearray(encoded(np.zeros(round(seconds * RATE_HZ), np.float32), "FLAC", "PCM_16"))
    # 20 bits rate, 3 bits channels - 1, 5 bits depth - 1, 36 bits length: bytes 10 to 17 of the first block.
    packed = rate_hz << 44 | (channels - 1) << 41 | 15 << 36 | samples
    data[18:26] = packed.to_bytes(8, "big")
    return bytes(data)


def forged_mp4(samples: int) -> bytes:
    """Return an MP4 whose table of sizes claims so many samples of one byte."""
    data = bytearray(muxed(tone(0.2, rate_hz=48_000), "mp4", "aac"))
    struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, samples)
    return bytes(data)


def opus_hour(stated_s: float = 3600.0) -> bytes:
    """Return an hour of Opus in a small file, one packet of silence again and again; its end states any length."""
    page = _pages(encoded(np.zeros(2 * 48_000, np.float32), "OGG", "OPUS", 48_000))
    head, body = page[:2], page[2:]
    packets = _packets(body)
    silent = packets[len(packets) // 2]
    pages, per_page = list(head), 250
    serial = struct.unpack_from("<I", head[0], 14)[0]
    total = 3600 * 50
    for number, start in enumerate(range(0, total, per_page)):
        count = min(per_page, total - start)
        last = start + count == total
        position = round(stated_s * 48_000) if last else (start + count) * 960
        pages.append(_page([silent] * count, position, serial, number + 2, last))
    return b"".join(pages)


def _pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        found.append(data[at : at + size])
        at += size
    return found


def _packets(pages: list[bytes]) -> list[bytes]:
    found, packet = [], b""
    for page in pages:
        segments = page[26]
        at = 27 + segments
        for size in page[27 : 27 + segments]:
            packet += page[at : at + size]
            at += size
            if size < 255:
                found.append(packet)
                packet = b""
    return found


def _page(packets: list[bytes], granule: int, serial: int, number: int, last: bool) -> bytes:
    assert all(len(packet) < 255 for packet in packets), "a packet of silence fits into one segment"
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 4 if last else 0, granule, serial, number, 0, len(packets))
    page = bytearray(head + bytes(len(packet) for packet in packets) + b"".join(packets))
    page[22:26] = struct.pack("<I", crc(page))
    return bytes(page)


def tagged_mp3(count: int) -> bytes:
    """Return an MP3 with so many names and values before it, no two of one name."""
    frames = b"".join(b"TXXX" + struct.pack(">IH", 9, 0) + b"\0%06x\0v" % index for index in range(count))
    sizes = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + sizes + frames + encoded(tone(0.2), "MP3", "MPEG_LAYER_III")


def tagged_flac(count: int) -> bytes:
    """Return a FLAC that does not say how long it is, with so many comments."""
    listed = b"".join(struct.pack("<I", 8) + b"%06x=v" % index for index in range(count))
    block = struct.pack("<II", 0, count) + listed
    data = forged_flac(seconds=0.2)
    return data[:4] + b"\0" + data[5:42] + b"\4" + len(block).to_bytes(3, "big") + block + data[42:]
