"""Films from untrusted bytes: measured by their header first, then by their packets, decoded only as far as wanted.

Animated pictures (GIF, WebP, PNG) are films too; they go through `images`. Every outcome is frames or an
``InvalidRequest``.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from PIL import Image

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, Counter, check_file_bytes
from services.encoders.demuxing import opened, options_for
from services.encoders.film_headers import MAX_FRAMES, FilmHeader, check_seconds
from services.encoders.frame_times import choose_frames
from services.encoders.images import (
    MAX_KEPT_PIXELS,
    MAX_PIXELS,
    check_kept,
    check_total,
    decode_frames,
    is_picture,
)
from services.encoders.matroska_header import MAGIC, read_matroska_header
from services.encoders.mp4_header import FIRST_BOXES, read_mp4_header

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = ("MP4", "MOV", "WebM", "Matroska", "GIF", "WebP", "PNG")
CODECS = ("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mjpeg")
MAX_DECODED_PIXELS = 256 * MAX_PIXELS
OPENING_S = 20.0
_OPTIONS = {**options_for(CODECS), "max_pixels": str(MAX_PIXELS)}


def decode_film(data: bytes, count: int) -> tuple[list[Image.Image], tuple[float, ...]]:
    """Decode ``count`` frames of a film, evenly spaced in time from the first to the last.

    A frame that is shown for long comes as often as a moment falls into it.

    Returns:
        The frames in RGB, upright, and the moments they were taken at, in seconds from the first.

    Raises:
        InvalidRequest: Too large, too long, too many frames, damaged, without pictures, or no format we read.
    """
    check_file_bytes(data)
    header = read_film_header(data)
    if header is None:
        return decode_frames(data, count)
    check_kept(header.width, header.height, count)
    return _decode(data, header, count)


def read_film_header(data: bytes) -> FilmHeader | None:
    """Read the header of a film; None for an animated picture.

    Raises:
        InvalidRequest: No film of a format we read, or what its header claims is not allowed.
    """
    if data[4:8] in FIRST_BOXES:
        return read_mp4_header(data)
    if data.startswith(MAGIC):
        return read_matroska_header(data)
    if data and not is_picture(data):
        raise InvalidRequest(f"not a film of a known format, one of {', '.join(FORMATS)} expected")
    return None


def _most_pixels(count: int) -> dict[str, str]:
    """Keep decoders from frames larger than so many of them may be; they count in whole blocks, which is a bit more."""
    return {"max_pixels": str(min(MAX_PIXELS, MAX_KEPT_PIXELS // count) * 9 // 8)}


def _decode(data: bytes, header: FilmHeader, count: int) -> tuple[list[Image.Image], tuple[float, ...]]:
    import av

    options = {**_OPTIONS, **_most_pixels(count)}
    try:
        with av.open(
            opened(data, header.demuxer), "r", header.demuxer, options, metadata_errors="ignore", timeout=OPENING_S
        ) as container:
            stream = _track(container, count)
            packets = _packets(container, stream, len(data))
            starts = sorted({_start(packet) for packet in packets})
            check_seconds(float((starts[-1] - starts[0]) * (stream.time_base or 0)))
            ticks_s = float(stream.time_base or 1)
            last = max(packets, key=_start)
            indices, moments_s = choose_frames(
                [start * ticks_s for start in starts], (last.duration or 0) * ticks_s, count
            )
            wanted = [starts[index] for index in indices]
            film = _Decoder(stream.codec_context, packets, count)
            found = film.pictures(sorted(set(wanted)))
            return [found[start] for start in wanted], tuple(moments_s)
    except InvalidRequest:
        raise
    except (av.FFmpegError, ValueError, OSError, MemoryError, OverflowError, RuntimeError) as error:
        raise InvalidRequest(f"a damaged or truncated {header.format} film") from error


def _track(container: InputContainer, count: int) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        # A cover of a record is a track of pictures too.
        if stream.disposition & Disposition.attached_pic:
            continue
        context = stream.codec_context
        if context is None or context.name not in CODECS:
            codec = "an unknown codec" if context is None else context.name
            raise InvalidRequest(f"pictures in {codec}, one of {', '.join(CODECS)} expected")
        # What the first packets say of the size: the header's word is only a claim.
        check_kept(context.width, context.height, count)
        context.options = _most_pixels(count)
        context.thread_count = 1
        return stream
    raise InvalidRequest("a file without moving pictures, a film expected")


def _packets(container: InputContainer, stream: VideoStream, most_bytes: int) -> list[Packet[VideoStream]]:
    """Read the packets of a track, in the order of decoding.

    Several samples of a table may be the same bytes of the file, so what they come to is counted.
    """
    frames, blocks = Counter("frames", MAX_FRAMES), Counter("blocks in one film", MAX_BLOCKS)
    held = Counter("bytes in the samples of a film of that size", most_bytes)
    packets: list[Packet[VideoStream]] = []
    for packet in container.demux():
        blocks.add()
        if packet.stream_index != stream.index or not packet.size:
            continue
        frames.add()
        held.add(packet.size)
        if packet.is_corrupt:
            raise InvalidRequest("a truncated film")
        if packet.pts is not None or packet.dts is not None:
            packets.append(cast("Packet[VideoStream]", packet))
    if not packets:
        raise InvalidRequest("a film without frames, at least one expected")
    return packets


def _start(packet: Packet[VideoStream]) -> int:
    return int(packet.pts if packet.pts is not None else packet.dts or 0)


class _Decoder:
    """Decodes the frames wanted, from the key frame before each; what lies between them is skipped."""

    def __init__(self, context: VideoCodecContext, packets: Sequence[Packet[VideoStream]], count: int) -> None:
        self._context = context
        self._packets = packets
        self._starts = [_start(packet) for packet in packets]
        self._keys = [index for index, packet in enumerate(packets) if packet.is_keyframe] or [0]
        self._place = {start: index for index, start in enumerate(self._starts)}
        self._next = 0
        self._decoded = Counter("pixels in the frames that must be decoded", MAX_DECODED_PIXELS)
        self._count = count
        self._wanted: Sequence[int] = ()
        self._pixels = context.width * context.height

    def pictures(self, wanted: Sequence[int]) -> dict[int, Image.Image]:
        """Decode the frames that start at these times, given in order.

        Raises:
            InvalidRequest: A frame is too large, too much must be decoded, or nothing comes out.
        """
        self._wanted = wanted
        self._check_work()
        found: dict[int, Image.Image] = {}
        frames = self._frames()
        before: VideoFrame | None = None
        frame: VideoFrame | None = None
        for start in wanted:
            if self._skip_to(start):
                frames, before, frame = self._frames(), None, None
            while frame is None or _time(frame) < start:
                following = next(frames, None)
                if following is None:
                    break
                before, frame = frame, following
            # A packet need not give a frame of its own: then the one nearest in time is it.
            near = [one for one in (before, frame) if one is not None]
            if not near:
                raise InvalidRequest("a film none of whose frames can be decoded")
            found[start] = upright(min(near, key=lambda one: abs(_time(one) - start)))
        return found

    def _check_work(self) -> None:
        """Refuse a film whose decoding would take too long, before it starts."""
        at, n_packets = 0, 0
        for start in self._wanted:
            at = max(at, self._key_before(start))
            n_packets += max(0, self._place[start] + 1 - at)
            at = max(at, self._place[start] + 1)
        check_total(n_packets * self._pixels, "in the frames that must be decoded", MAX_DECODED_PIXELS)

    def _key_before(self, start: int) -> int:
        """Return the packet from which a frame can be decoded.

        A frame may follow a key frame in the file and precede it in time: then it leans on the one before.
        """
        place = bisect.bisect_right(self._keys, self._place[start]) - 1
        while place > 0 and self._starts[self._keys[place]] > start:
            place -= 1
        return self._keys[place] if place >= 0 else 0

    def _skip_to(self, start: int) -> bool:
        key = self._key_before(start)
        if key <= self._next:
            return False
        self._next = key
        self._context.flush_buffers()
        return True

    def _frames(self) -> Iterator[VideoFrame]:
        while self._next < len(self._packets):
            packet = self._packets[self._next]
            self._next += 1
            yield from self._checked(self._context.decode(packet))
        yield from self._checked(self._context.decode(None))

    def _checked(self, frames: Sequence[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            # Frames may become larger on their way: then everything is judged as if all were.
            if frame.width * frame.height > self._pixels:
                check_kept(frame.width, frame.height, self._count)
                self._pixels = frame.width * frame.height
                self._check_work()
            self._decoded.add(frame.width * frame.height)
            yield frame


def _time(frame: VideoFrame) -> int:
    return int(frame.pts if frame.pts is not None else frame.dts or 0)


def upright(frame: VideoFrame) -> Image.Image:
    """Turn a frame into RGB, turned as the film says it is to be shown."""
    picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(round(frame.rotation / 90) * 90 % 360)
    return picture if turn is None else picture.transpose(turn)
