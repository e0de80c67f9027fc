"""Row 6, and row 8 for sounds: hours in small files, headers that lie, sounds that are small, odd, damaged, or none."""

from __future__ import annotations

import random
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from anyplex import Audio, Client
from tests import films, oggs
from tests.cluster import Cluster
from tests.fakes import tiny
from tests.fault.bombs import refuse, show, show_strange, spoiled
from tests.sounds import encoded, forged_flac, forged_mp4, muxed, noise, opus_hour, tone, wav

pytestmark = pytest.mark.cluster

BOMBS: dict[str, Callable[[], bytes]] = {
    "an hour of Opus": opus_hour,
    "FLAC, 655,350 a second": lambda: forged_flac(rate_hz=655_350),
    "FLAC, 1 a second": lambda: forged_flac(rate_hz=1),
    "FLAC, 2^36 samples": lambda: forged_flac(samples=2**36 - 1),
    "FLAC that does not say how long it is": lambda: forged_flac(seconds=130),
    "MP4, 2^32 samples in its table": lambda: forged_mp4(2**32 - 1),
    "WAV of 9 channels": lambda: wav(bytes(18_000), channels=9),
    "WAV of 2^31 a second": lambda: wav(bytes(400), rate_hz=2**31 - 1),
    "WAV that was a stream, of two minutes and a second": lambda: wav(
        bytes(121 * 2_000), rate_hz=2_000, bits=8, stated_bytes=2**32 - 1
    ),
    "20,000 empty chunks": lambda: b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 20_000,
    "MP4, 20,000,000 samples in a packed table": lambda: films.compressed_mp4(
        films.claiming_mp4(20_000_000, handler=b"soun")
    ),
    "WebM, 400,000 hidden tracks": lambda: films.hidden_tracks(400_000),
    "WebM, 400,000 hidden tracks and one behind": lambda: films.hidden_tracks(400_000, is_told=False),
    "Vorbis with a codebook of 2^22 words": oggs.with_giant_codebook,
    "Vorbis with 256 codebooks of 16,384 words": lambda: oggs.with_codebooks(256, 16_384, 14),
    "Vorbis with 100,000 comments": lambda: oggs.with_comments(100_000),
}  # fmt: skip


def test_row_6_hours_in_small_files(cluster: Cluster, channel: grpc.Channel) -> None:
    assert show(channel, "audio", encoded(tone())).code is grpc.StatusCode.OK
    costs = refuse(cluster, channel, "hear", "audio", BOMBS)
    print(f"figure: row 6: {costs}")
    costs.guard()


def strange_sounds() -> dict[str, bytes]:
    """Sounds that are small, odd, damaged, or none."""
    rng = random.Random(8)
    found: dict[str, bytes] = {}
    for count in (0, 1, 2, 159, 161, 16_001):
        found[f"{count} samples in a WAV"] = wav(bytes(2 * count))
        if count:
            found[f"{count} samples in a FLAC"] = encoded(noise(count), "FLAC")
            found[f"{count} samples in Vorbis"] = encoded(noise(count), "OGG", "VORBIS")
    for form, subtype in (
        ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW"),
        ("WAV", "ALAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_S8"),
        ("FLAC", "PCM_24"), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
    ):  # fmt: skip
        for channels in (1, 2):
            found[f"{form} {subtype} of {channels} channels"] = encoded(noise(8_000, 1, channels), form, subtype)
    for rate_hz in (100, 1_999, 2_000, 8_000, 44_100, 192_000, 192_001, 2**31 - 1, 0):
        found[f"{rate_hz} a second"] = wav(bytes(2_000), rate_hz=rate_hz)
    for channels in (0, 3, 8, 9, 65_535):
        found[f"{channels} channels"] = wav(bytes(8 * 9 * 100), channels=channels)
    for value in (np.nan, np.inf, 3e38):
        found[f"{value} in a WAV"] = encoded(np.full(500, value, np.float32), "WAV", "FLOAT")
    for stated in (0xFFFF_FFFF, 0x7FFF_F000, 0, 401, 400):
        found[f"WAV of 400 bytes that states {stated}"] = wav(bytes(400), stated_bytes=stated)
    found["MP4"] = muxed(tone(rate_hz=48_000), "mp4", "aac")
    found["WebM"] = muxed(tone(rate_hz=48_000), "webm", "libopus")
    found["FLAC out of a pipe"] = muxed(tone(rate_hz=48_000), "flac", "flac")
    for name in ("WAV PCM_24 of 2 channels", "FLAC PCM_24 of 2 channels", "OGG OPUS of 1 channels", "MP4", "WebM",
                 "OGG VORBIS of 2 channels", "MP3 MPEG_LAYER_III of 1 channels"):  # fmt: skip
        data = found[name]
        found |= spoiled(name, data, rng, head=200)
    for size in (1, 8, 1000):
        found[f"{size} random bytes"] = rng.randbytes(size)
    found["text"] = b"this is no sound"
    found["a list of files"] = b"#EXTM3U\nfile:///etc/passwd\n"
    found["an hour of Opus that states a second"] = opus_hour(1.0)
    return found


def test_row_8_strange_sounds(channel: grpc.Channel) -> None:
    codes = show_strange(channel, "audio", strange_sounds())
    assert codes["OK"] >= 60


def test_sounds_beside_strange_ones_are_answered(client: Client) -> None:
    for seconds in (0.1, 1.0, 4.2):
        reply = client.generate(
            ["what is this?", Audio(encoded(tone(seconds)))], system=tiny.EVERYTHING.stem, max_tokens=2
        )
        assert reply.usage.media_tokens == round(10 * seconds)
