"""Sounds from untrusted bytes: measured by their header first, decoded in blocks, and never further than the caps.

Every outcome is 16 kHz mono or an ``InvalidRequest``; nothing here trusts a length that a file states.
libsndfile reads WAV and FLAC, FFmpeg the sound of MP4 and WebM; and Ogg and MP3, where the decoders that libsndfile
brings along read beyond their tables, and tell the process's standard error about every damaged frame.
"""

# T samples, C channels

from __future__ import annotations

import hashlib
import io
import math
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graph.errors import InvalidRequest
from services.artifacts.whisper_dims import SAMPLE_RATE_HZ
from services.encoders.caps import check_file_bytes
from services.encoders.demuxing import opened, options_for
from services.encoders.matroska_header import MAGIC, read_matroska_header
from services.encoders.mp4_header import FIRST_BOXES, read_mp4_header
from services.encoders.ogg_header import read_ogg_header
from services.encoders.tags import without_flac_blocks, without_id3

if TYPE_CHECKING:
    import av
    import soundfile
    from av.container import InputContainer

Samples = NDArray[np.float32]

MAX_SECONDS = 120
MAX_CHANNELS = 8
MIN_RATE_HZ = 2_000
MAX_RATE_HZ = 192_000
MAX_CHUNKS = 10_000
BLOCK_SAMPLES = 65_536
FORMATS = ("WAV", "FLAC", "MP3", "OGG", "MP4", "WEBM")

# What libsndfile calls the formats above.
_SNDFILE_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "FLAC"})
_DEMUXERS = {"FLAC": "flac", "MP3": "mp3", "OGG": "ogg", "MP4": "mov", "WEBM": "matroska"}
# No codec is given a try that does not belong in these containers.
_CODECS = ("aac", "alac", "flac", "mp3", "mp3float", "opus", "vorbis")
_OPTIONS = options_for(_CODECS)
# libsndfile's word for a length that the header leaves open.
_UNKNOWN_SAMPLES = 2**62
# Programs that write into a pipe state about 2 or 4 GiB, whatever comes.
_STREAMED_BYTES = 0x7FFF_0000
# libswresample at 100 dB from 8.2 kHz on, flat to 7.5 kHz; its ends want that much silence behind the sound.
_RESAMPLER = f"{SAMPLE_RATE_HZ}:filter_size=128:cutoff=0.975"
_TAIL_S = 0.1


def decode_sound(data: bytes) -> Samples:
    """Decode a sound into 16 kHz mono between -1 and 1, all channels mixed alike.

    Raises:
        InvalidRequest: Too long, too many channels, an odd rate, no samples, damaged, or no format we read.
    """
    found = sniff_sound(data)
    if found == "WAV":
        _check_whole(data)
    elif found == "MP4":
        read_mp4_header(data, is_sound_enough=True)
    elif found == "WEBM":
        read_matroska_header(data, is_sound_enough=True)
    elif found == "MP3":
        data = without_id3(data)
    if found == "OGG":
        samples_T = _decode_ogg(data)
    else:
        samples_T = _decode_file(data, found) if found in {"WAV", "FLAC"} else _decode_packets(data, found)
    if not len(samples_T):
        raise InvalidRequest("0 samples, at least 1 expected")
    return samples_T


def sample_hash(samples_T: Samples, preprocessing: str) -> str:
    """Return the content hash of a decoded sound and of what is done to it before the encoder."""
    digest = hashlib.sha256(f"mono:{len(samples_T)}:{preprocessing}:".encode())
    digest.update(np.ascontiguousarray(samples_T).tobytes())
    return digest.hexdigest()


def sniff_sound(data: bytes) -> str:
    """Return the format that the first bytes of a file tell.

    Raises:
        InvalidRequest: No sound of a format we read, or more bytes than allowed.
    """
    if not data:
        raise InvalidRequest("0 bytes, a sound expected")
    check_file_bytes(data)
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "WAV"
    for magic, found in ((b"fLaC", "FLAC"), (b"OggS", "OGG"), (b"ID3", "MP3"), (MAGIC, "WEBM")):
        if data.startswith(magic):
            return found
    if data[4:8] in FIRST_BOXES:
        return "MP4"
    # A frame of MPEG audio: eleven bits set, and one of the three layers.
    if len(data) > 3 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06:
        return "MP3"
    raise InvalidRequest(f"not a sound of a known format, one of {', '.join(FORMATS)} expected")


def check_header(rate_hz: int, channels: int, seconds: float) -> None:
    """Refuse what a header says before anything is decoded.

    Raises:
        InvalidRequest: A number is beyond its cap.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidRequest(f"{rate_hz} samples a second, {MIN_RATE_HZ} to {MAX_RATE_HZ} expected")
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidRequest(f"{channels} channels, 1 to {MAX_CHANNELS} expected")
    if seconds > MAX_SECONDS:
        raise InvalidRequest(f"{seconds:.0f} s of sound, at most {MAX_SECONDS} s allowed")


class _Mono:
    """Takes a sound block by block and makes 16 kHz mono of it."""

    def __init__(self, rate_hz: int, most: int | None = None) -> None:
        self._rate_hz = rate_hz
        self._most = most
        self._taken = 0
        self._blocks: list[Samples] = []
        self._resampler = _Resampler(rate_hz) if rate_hz != SAMPLE_RATE_HZ else None

    @property
    def is_full(self) -> bool:
        """Whether there is as much as the header stated, where that is told."""
        return self._most is not None and self._taken >= self._most

    def add(self, block_TC: Samples) -> None:
        """Take the next block, and of it no more than the header stated.

        Raises:
            InvalidRequest: The sound is longer than its header said and than allowed, or has samples that are none.
        """
        if self._most is not None:
            block_TC = block_TC[: max(0, self._most - self._taken)]
        self._taken += len(block_TC)
        if self._taken > MAX_SECONDS * self._rate_hz:
            raise InvalidRequest(f"more than {MAX_SECONDS} s of sound, at most {MAX_SECONDS} s allowed")
        if not np.isfinite(block_TC).all():
            raise InvalidRequest("NaN or Inf among the samples, numbers expected")
        mono_T = block_TC.clip(-1.0, 1.0).mean(axis=1, dtype=np.float32)
        self._blocks += [mono_T] if self._resampler is None else self._resampler.feed(mono_T)

    def result(self) -> Samples:
        """Return the whole sound."""
        if self._resampler is not None and self._taken:
            self._blocks += self._resampler.finish()
        length = math.ceil(self._taken * SAMPLE_RATE_HZ / self._rate_hz)
        # Filters overshoot where a sound jumps.
        return np.concatenate([np.zeros(0, np.float32), *self._blocks])[:length].clip(-1.0, 1.0)


class _Resampler:
    """Brings one channel to 16 kHz, block by block."""

    def __init__(self, rate_hz: int) -> None:
        from fractions import Fraction

        from av.filter import Graph

        self._rate_hz = rate_hz
        self._time_base = Fraction(1, rate_hz)
        self._at = 0
        self._graph = Graph()
        self._graph.threads = 1
        steps = [
            self._graph.add_abuffer(format="flt", sample_rate=rate_hz, layout="mono", time_base=self._time_base),
            self._graph.add("aresample", _RESAMPLER),
            self._graph.add("aformat", f"sample_fmts=flt:channel_layouts=mono:sample_rates={SAMPLE_RATE_HZ}"),
            self._graph.add("abuffersink"),
        ]
        for source, target in zip(steps, steps[1:], strict=False):
            source.link_to(target)
        self._graph.configure()

    def feed(self, mono_T: Samples) -> list[Samples]:
        """Push a block; return what comes out by now."""
        import av

        if not len(mono_T):
            return []
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono_T[None]), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate_hz, self._at, self._time_base
        self._at += len(mono_T)
        self._graph.push(frame)
        return self._drain()

    def finish(self) -> list[Samples]:
        """End the sound; return the rest of it, with some silence behind."""
        tail = self.feed(np.zeros(max(1, int(_TAIL_S * self._rate_hz)), np.float32))
        self._graph.push(None)
        return tail + self._drain()

    def _drain(self) -> list[Samples]:
        import av

        found: list[Samples] = []
        while True:
            try:
                frame = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return found
            found.append(frame.to_ndarray()[0])


def _check_whole(data: bytes) -> None:
    """Refuse a WAV whose samples end before its header says.

    Raises:
        InvalidRequest: They do, or its chunks never end.
    """
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"data":
            if len(data) - at < size < _STREAMED_BYTES:
                raise InvalidRequest(f"a truncated WAV: {len(data) - at} bytes of sound, {size} stated")
            return
        at += size + size % 2
    raise InvalidRequest(f"more than {MAX_CHUNKS} chunks in one WAV")


def _decode_file(data: bytes, found: str) -> Samples:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _SNDFILE_FORMATS:
                raise InvalidRequest(f"not a sound of a known format, one of {', '.join(FORMATS)} expected")
            unknown = file.frames >= _UNKNOWN_SAMPLES
            check_header(file.samplerate, file.channels, 0 if unknown else file.frames / max(1, file.samplerate))
            if not unknown:
                return _read_blocks(file)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise InvalidRequest(f"a damaged or truncated {found} sound") from error
    # libsndfile cannot read what states no length, such as FLAC out of a pipe.
    return _decode_packets(without_flac_blocks(data) if found == "FLAC" else data, found)


def _read_blocks(file: soundfile.SoundFile) -> Samples:
    mono = _Mono(file.samplerate)
    while len(block_TC := file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        mono.add(block_TC)
    return mono.result()


def _decode_ogg(data: bytes) -> Samples:
    header = read_ogg_header(data)
    check_header(header.rate_hz, header.channels, header.samples / max(1, header.rate_hz))
    return _decode_packets(data, "OGG", header.samples)


def _decode_packets(data: bytes, found: str, most: int | None = None) -> Samples:
    import av
    from av.codec.context import Flags2

    if found not in _DEMUXERS:
        raise InvalidRequest(f"a damaged or truncated {found} sound")
    try:
        with av.open(opened(data, _DEMUXERS[found]), "r", format=_DEMUXERS[found], options=_OPTIONS) as container:
            if not container.streams.audio:
                raise InvalidRequest(f"no sound in this {found} file")
            stream = container.streams.audio[0]
            context = stream.codec_context
            if context is None or context.name not in _CODECS:
                raise InvalidRequest(
                    f"a {found} file whose sound is of no known codec, one of {', '.join(_CODECS)} expected"
                )
            check_header(context.sample_rate, context.channels, (container.duration or 0) / av.time_base)
            if context.name == "vorbis":
                # What the demuxer would cut off, it counts from the first packet, which only prepares the second.
                context.flags2 |= Flags2.skip_manual
            return _join_frames(_frames(container, stream, found), found, most)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InvalidRequest(f"a damaged or truncated {found} sound") from error


def _frames(container: InputContainer, stream: av.AudioStream, found: str) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        if packet.has_sidedata("new_extradata"):
            raise InvalidRequest(f"a damaged {found} sound: its codec's settings change on the way")
        yield from packet.decode()


def _join_frames(frames: Iterator[av.AudioFrame], found: str, most: int | None) -> Samples:
    import av

    # Packets hold few samples: whoever reads them one by one spends the time between them.
    joiner = av.AudioResampler(format="fltp", frame_size=BLOCK_SAMPLES)
    mono: _Mono | None = None
    first: av.AudioFrame | None = None
    for frame in frames:
        if first is None or mono is None:
            check_header(frame.sample_rate, frame.layout.nb_channels, 0)
            first, mono = frame, _Mono(frame.sample_rate, most)
        if (frame.sample_rate, frame.layout.name) != (first.sample_rate, first.layout.name):
            raise InvalidRequest(f"a damaged {found} sound: its rate or its channels change on the way")
        for block in joiner.resample(frame):
            mono.add(_samples_of(block))
        if mono.is_full:
            break
    if mono is None:
        return np.zeros(0, np.float32)
    for block in joiner.resample(None):
        mono.add(_samples_of(block))
    return mono.result()


def _samples_of(block: av.AudioFrame) -> Samples:
    return block.to_ndarray().astype(np.float32, copy=False).T
