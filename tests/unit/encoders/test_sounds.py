"""Sounds from untrusted bytes: every one is 16 kHz mono or an InvalidRequest, hour-long ones at once."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.errors import InvalidRequest
from services.artifacts.whisper_dims import SAMPLE_RATE_HZ
from services.encoders.sounds import MAX_SECONDS, decode_sound, sample_hash
from tests import films, oggs, sounds
from tests.sounds import Samples, encoded, forged_flac, muxed, noise, tone, wav

GUARD = 10  # A tenfold guard against hanging; `make bench fault` judges the times.
CD_HZ = 44_100

FORMATS: dict[str, Callable[[Samples, int], bytes]] = {
    "WAV": lambda samples, rate_hz: encoded(samples, "WAV", "PCM_16", rate_hz),
    "WAV of 8 bits": lambda samples, rate_hz: encoded(samples, "WAV", "PCM_U8", rate_hz),
    "WAV of 24 bits": lambda samples, rate_hz: encoded(samples, "WAV", "PCM_24", rate_hz),
    "WAV of 32 bits": lambda samples, rate_hz: encoded(samples, "WAV", "PCM_32", rate_hz),
    "WAV of floats": lambda samples, rate_hz: encoded(samples, "WAV", "FLOAT", rate_hz),
    "WAV of doubles": lambda samples, rate_hz: encoded(samples, "WAV", "DOUBLE", rate_hz),
    "WAV of A-law": lambda samples, rate_hz: encoded(samples, "WAV", "ALAW", rate_hz),
    "WAV, extensible": lambda samples, rate_hz: encoded(samples, "WAVEX", "PCM_16", rate_hz),
    "RF64": lambda samples, rate_hz: encoded(samples, "RF64", "PCM_16", rate_hz),
    "FLAC": lambda samples, rate_hz: encoded(samples, "FLAC", "PCM_16", rate_hz),
    "FLAC out of a pipe": lambda samples, rate_hz: muxed(samples, "flac", "flac", rate_hz),
    "MP3": lambda samples, rate_hz: encoded(samples, "MP3", "MPEG_LAYER_III", rate_hz),
    "Vorbis": lambda samples, rate_hz: encoded(samples, "OGG", "VORBIS", rate_hz),
    "Opus": lambda samples, rate_hz: encoded(samples, "OGG", "OPUS", rate_hz),
    "MP4 with AAC": lambda samples, rate_hz: muxed(samples, "mp4", "aac", rate_hz),
    "MP4 with ALAC": lambda samples, rate_hz: muxed(samples, "ipod", "alac", rate_hz),
    "WebM": lambda samples, rate_hz: muxed(samples, "webm", "libopus", rate_hz),
    "Matroska": lambda samples, rate_hz: muxed(samples, "matroska", "flac", rate_hz),
}
LOSSY = {"MP3", "Vorbis", "Opus", "MP4 with AAC", "WebM"}


def likeness(found: Samples, expected: Samples) -> float:
    """Correlation where both are, at the best shift: codecs delay."""
    length = min(len(found), len(expected)) - 1600
    middle = expected[800 : 800 + length]
    found = np.pad(found, (0, 4000))
    scores = [float(np.corrcoef(middle, found[shift : shift + length])[0, 1]) for shift in range(0, 3600)]
    return max(scores)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(name: str) -> None:
    found = decode_sound(FORMATS[name](tone(0.5, rate_hz=48_000), 48_000))
    assert (found.dtype, found.ndim) == (np.float32, 1)
    expected = tone(0.5)
    if name in LOSSY:
        assert 0 <= len(found) - len(expected) < 2_500
        assert likeness(found, expected) > 0.98
        return
    assert len(found) == len(expected)
    inner = slice(200, -200)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.02 if "8 bits" in name or "law" in name else 1e-4)


@pytest.mark.parametrize("rate_hz", [2_000, 8_000, 11_025, 22_050, 32_000, CD_HZ, 44_101, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("n_samples", [1, 2, 999, 70_001])
def test_every_rate_becomes_16_khz(rate_hz: int, n_samples: int) -> None:
    samples = tone(n_samples / rate_hz, 300.0, rate_hz)
    found = decode_sound(encoded(samples, "WAV", "FLOAT", rate_hz))
    assert len(found) == -(-n_samples * SAMPLE_RATE_HZ // rate_hz)
    if n_samples == 70_001:
        expected = tone(len(found) / SAMPLE_RATE_HZ, 300.0)
        np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.parametrize(("pitch_hz", "least_db", "most_db"), [
    (100, -0.1, 0.1), (3_000, -0.1, 0.1), (7_000, -0.1, 0.1), (7_400, -0.1, 0.1), (8_300, -200, -80),
    (9_000, -200, -80), (15_000, -200, -80), (21_000, -200, -80),
])  # fmt: skip
def test_what_16_khz_cannot_hold_is_taken_away(pitch_hz: float, least_db: float, most_db: float) -> None:
    found = decode_sound(encoded(tone(0.5, pitch_hz, CD_HZ), "WAV", "FLOAT", CD_HZ))[1000:-1000]
    level_db = 20 * np.log10(np.sqrt((found**2).mean()) * 2**0.5 / 0.5 + 1e-9)
    assert least_db < level_db < most_db


def test_samples_at_16_khz_stay_what_they_are() -> None:
    whole = np.random.default_rng(1).integers(-32_768, 32_768, 5_000).astype(np.int16)
    found = decode_sound(wav(whole.tobytes()))
    assert np.array_equal(found, whole.astype(np.float32) / 32_768)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_mixed_alike(channels: int) -> None:
    samples = noise(3_000, channels=channels)
    found = decode_sound(encoded(samples, "WAV", "FLOAT"))
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("stated_bytes", [0xFFFF_FFFF, 0xFFFF_FFFE, 0x7FFF_FFFF, 0x7FFF_F000, 6_400])
def test_lengths_that_a_pipe_left_open(stated_bytes: int) -> None:
    assert len(decode_sound(wav(bytes(6_400), stated_bytes=stated_bytes))) == 3_200


def test_one_sample_is_a_sound() -> None:
    assert len(decode_sound(wav(b"\0\x40"))) == 1
    for rate_hz in (8_000, CD_HZ, 192_000):
        assert len(decode_sound(encoded(np.ones(1, np.float32), rate_hz=rate_hz))) >= 1
    assert len(decode_sound(encoded(np.ones(1, np.float32), "FLAC"))) == 1


def test_loud_floats_are_clipped() -> None:
    samples = np.array([0.5, 3.0, -1e38, 3.4e38, 0.25], np.float32)
    assert decode_sound(encoded(samples, "WAV", "FLOAT")).tolist() == [0.5, 1.0, -1.0, 1.0, 0.25]
    stereo = np.full((4, 2), 3e38, np.float32)
    assert decode_sound(encoded(stereo, "WAV", "FLOAT")).tolist() == [1.0] * 4
    square = np.where(np.arange(40_000) // 50 % 2, 1.0, -1.0).astype(np.float32)
    assert np.abs(decode_sound(encoded(square, "WAV", "FLOAT", CD_HZ))).max() <= 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [SAMPLE_RATE_HZ, CD_HZ])
def test_samples_that_are_no_numbers_are_refused(bad: float, rate_hz: int) -> None:
    samples = tone(0.2, rate_hz=rate_hz)
    samples[7] = bad
    with pytest.raises(InvalidRequest, match="NaN or Inf"):
        decode_sound(encoded(samples, "WAV", "FLOAT", rate_hz))


def streamed_flac(seconds: float) -> bytes:
    """A FLAC of silence that does not say how long it is."""
    return forged_flac(seconds=seconds)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (sounds.opus_hour, "3600 s of sound, at most 120 s"),
        (lambda: forged_flac(rate_hz=655_350), "655350 samples a second, 2000 to 192000"),
        (lambda: forged_flac(rate_hz=1), "1 samples a second, 2000 to 192000"),
        (lambda: forged_flac(samples=2**36 - 1), "s of sound, at most 120 s"),
        (lambda: sounds.forged_mp4(2**32 - 1), "samples in the tables"),
        (lambda: muxed(tone(121, rate_hz=8_000), "mp4", "aac", 8_000), "121 s of sound, at most 120 s"),
        (lambda: muxed(tone(121, rate_hz=8_000), "webm", "libopus", 8_000), "121 s of sound, at most 120 s"),
        (lambda: muxed(tone(121, rate_hz=8_000), "mp3", "libmp3lame", 8_000), "121 s of sound, at most 120 s"),
        (lambda: streamed_flac(130), "more than 120 s of sound"),
        (lambda: wav(bytes(9 * 400), channels=9), "9 channels, 1 to 8"),
        (lambda: wav(bytes(400), rate_hz=2**31 - 1), "samples a second|damaged"),
        (lambda: wav(bytes(121 * 2_000), rate_hz=2_000, bits=8), "121 s of sound, at most 120 s"),
        (lambda: wav(bytes(121 * 2_000), rate_hz=2_000, bits=8, stated_bytes=2**32 - 1), "121 s of sound"),
        (lambda: wav(b""), "0 samples, at least 1"),
        (lambda: wav(bytes(400), stated_bytes=500), "truncated WAV: 400 bytes of sound, 500 stated"),
        (lambda: b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 2_000_000, "chunks"),
        (lambda: forged_flac()[:42], "0 samples|damaged"),
        (lambda: films.compressed_mp4(films.claiming_mp4(20_000_000, handler=b"soun")), "compressed header"),
        (lambda: films.hidden_tracks(400_000), "hidden tracks"),
        (lambda: films.hidden_tracks(400_000, is_told=False), "behind its first cluster"),
        (oggs.with_giant_codebook, "words in the codebooks"),
        (lambda: oggs.with_codebooks(256, 16_384, 14), "numbers in the codebooks"),
        (lambda: films.claiming_webm(codec_data=oggs.setup_of_books(256, 16_384, 14)), "numbers in the codebooks"),
        (lambda: muxed(tone(), "mp4", "aac") + films.box(b"free", oggs.setup_of_books(256, 16_384, 14)), "numbers in"),
        (lambda: oggs.vorbis(b"\x05vorbis" + bytes(40)), "damaged codebooks"),
        (lambda: oggs.with_comments(100_000), "more than 1000 comments"),
        (lambda: b"", "0 bytes, a sound expected"),
        (lambda: bytes(64 * 2**20 + 1), "67108865 bytes, at most 67108864"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_refused_at_once(make: Callable[[], bytes], complaint: str) -> None:
    data = make()
    decode_sound(forged_flac())  # imports are not what is measured
    tracemalloc.start()
    begin = time.process_time()  # of this process alone, however busy the machine is
    with pytest.raises(InvalidRequest, match=complaint):
        decode_sound(data)
    took_ms = (time.process_time() - begin) * 1000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"refused after {took_ms:.1f} ms with {peak_bytes / 2**20:.2f} MiB")
    assert took_ms < 100 * GUARD
    assert peak_bytes < 64 * 2**20


@pytest.mark.parametrize("make", [sounds.tagged_mp3, sounds.tagged_flac])
def test_names_and_covers_cost_nothing(make: Callable[[int], bytes]) -> None:
    data = make(50_000)
    begin = time.process_time()
    found = decode_sound(data)
    took_ms = (time.process_time() - begin) * 1000
    print(f"read after {took_ms:.1f} ms")
    assert took_ms < 100 * GUARD
    assert np.array_equal(found, decode_sound(make(0)))


def test_a_giant_codebook_leaves_the_process_alone() -> None:
    # In a process of its own: libvorbis ends the one that reads it.
    script = """
from graph.errors import InvalidRequest
from services.encoders.sounds import decode_sound
from tests.oggs import with_giant_codebook
try:
    decode_sound(with_giant_codebook())
except InvalidRequest as error:
    print(error.message)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, len(ended.stdout.splitlines())) == (0, 1), ended.stderr


def test_indices_and_names_of_a_matroska_are_read_over() -> None:
    data = sounds.muxed(tone(0.5), "matroska", "flac")
    assert b"\x11\x4d\x9b\x74" in data
    assert len(decode_sound(data)) == -(-8_000 // 3)


def test_a_quicktime_may_begin_without_saying_its_kind() -> None:
    data = sounds.muxed(tone(0.5, rate_hz=48_000), "mov", "aac")
    (first_bytes,) = struct.unpack_from(">I", data)
    assert data[4:8] == b"ftyp"
    # What follows keeps its place in the file, to which its tables point.
    older = struct.pack(">I4s", first_bytes, b"wide") + data[8:]
    assert np.array_equal(decode_sound(older), decode_sound(data))


def test_a_sound_ends_where_its_last_page_says() -> None:
    for subtype in ("OPUS", "VORBIS"):
        for samples in (500, 8_000, 48_000):
            assert len(decode_sound(encoded(noise(samples), "OGG", subtype))) == samples
    assert len(decode_sound(sounds.opus_hour(1.0))) <= SAMPLE_RATE_HZ


def test_two_streams_in_one_ogg_are_refused() -> None:
    data = encoded(noise(8_000), "OGG", "OPUS")
    other = bytearray(data)
    for at in (place for place in range(len(data)) if data.startswith(b"OggS", place)):
        struct.pack_into("<I", other, at + 14, 77)
    with pytest.raises(InvalidRequest, match="several streams"):
        decode_sound(data + bytes(other))


def test_the_longest_sound_is_read() -> None:
    assert len(decode_sound(wav(bytes(MAX_SECONDS * 2_000), rate_hz=2_000, bits=8))) == MAX_SECONDS * SAMPLE_RATE_HZ


def test_a_film_without_sound_is_refused() -> None:
    import io

    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 16
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    with pytest.raises(InvalidRequest, match="no sound"):
        decode_sound(buffer.getvalue())


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_sounds_are_refused_or_sounds(name: str) -> None:
    data = FORMATS[name](tone(0.4, rate_hz=CD_HZ if name not in {"Opus", "WebM"} else 48_000), 48_000)
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            assert_sound(decode_sound(data[:length]))
        except InvalidRequest:
            refused += 1
    assert refused >= 1
    if "WAV" in name:
        assert refused >= 40


def assert_sound(samples: Samples) -> None:
    assert 1 <= len(samples) <= MAX_SECONDS * SAMPLE_RATE_HZ
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1.0


CACHED = {name: FORMATS[name](noise(12_000)[:, 0], 48_000) for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12),
    reach=st.sampled_from([64, 400, 10**6]),
)
def test_damaged_sounds_are_refused_or_sounds(name: str, changes: list[tuple[int, int]], reach: int) -> None:
    data = bytearray(CACHED[name])
    for place, value in changes:
        data[place % min(reach, len(data))] = value
    with contextlib.suppress(InvalidRequest):
        assert_sound(decode_sound(bytes(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"hello", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"#EXTM3U\nfile:///etc/passwd", b"\x80\x04.",
        b"ffconcat version 1.0\nfile /etc/passwd", b"FORM\0\0\0\0AIFF", b"\xff\xf1\x50\x80" + bytes(100), b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not a sound of a known format"):
        decode_sound(data)


@pytest.mark.parametrize("head", [b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\0\0\0\x20ftyp", b"\x1aE\xdf\xa3", b"RIFF"])
def test_nonsense_behind_a_good_beginning_is_refused(head: bytes) -> None:
    rest = random.Random(5).randbytes(5_000)
    with pytest.raises(InvalidRequest, match="damaged|truncated|not a sound|known format"):
        decode_sound(head + rest)


def test_the_hash_is_that_of_samples_and_preprocessing() -> None:
    samples = (noise(2_000)[:, 0] * 32_767).astype(np.int16)
    same = [decode_sound(encoded(samples, form, "PCM_16")) for form in ("WAV", "FLAC")]
    assert sample_hash(same[0], "a") == sample_hash(same[1], "a") != sample_hash(same[0], "b")
    assert sample_hash(same[0], "a") != sample_hash(same[0][:-1], "a")
