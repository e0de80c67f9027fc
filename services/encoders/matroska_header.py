"""Headers of WebM and Matroska films.

Source: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import struct

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, MAX_STREAMS, MAX_TAGS, Counter
from services.encoders.film_headers import MAX_FRAMES, FilmHeader, check_seconds, cut_off, damaged
from services.encoders.vorbis_setup import check_codebooks

MAGIC = b"\x1a\x45\xdf\xa3"
PICTURES = 1
MAX_LISTED = 32_768

_SEGMENT, _CLUSTER, _INFO, _TRACKS = 0x18538067, 0x1F43B675, 0x1549A966, 0x1654AE6B
_TRACK, _VIDEO, _BLOCK_GROUP = 0xAE, 0xE0, 0xA0
_SEEK_HEAD, _CUES, _ATTACHMENTS, _CHAPTERS, _TAGS = 0x114D9B74, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367
_SIMPLE_TAG, _SEEK_ID, _CODEC_PRIVATE = 0x67C8, 0x53AB, 0x63A2
# The demuxer keeps every child of these, an empty one of two bytes too, so they are counted like the others.
_LISTS = frozenset((
    _SEEK_HEAD, 0x4DBB, _CUES, 0xBB, 0xB7, _ATTACHMENTS, 0x61A7, _CHAPTERS, 0x45B9, 0xB6, 0x80, _TAGS, 0x7373,
    _SIMPLE_TAG, 0x63C0, 0xE2, 0xE3, 0xE4, 0x41E4, 0x75A1, 0xA6,
))  # fmt: skip
_ENTERED = _LISTS | {_SEGMENT, _CLUSTER, _INFO, _TRACKS, _TRACK, _VIDEO, _BLOCK_GROUP}
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_TRACK_NUMBER, _TRACK_TYPE, _WIDTH, _HEIGHT, _ENCODINGS = 0xD7, 0x83, 0xB0, 0xBA, 0x6D80
_BLOCKS = (0xA3, 0xA1)
_NS = 1_000_000_000


def read_matroska_header(data: bytes, is_sound_enough: bool = False) -> FilmHeader:
    """Read the header of a WebM or Matroska film; blocks are counted, not read.

    Args:
        data: The file.
        is_sound_enough: Take one without pictures, too.

    Raises:
        InvalidRequest: It is cut off or damaged, shows nothing, or claims more than is allowed.
    """
    try:
        return _Matroska(data).read(is_sound_enough)
    except (struct.error, IndexError, OverflowError) as error:
        raise damaged() from error


class _Matroska:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.elements = Counter("elements in one film", 2 * MAX_BLOCKS)
        self.blocks = Counter("blocks in one film", MAX_BLOCKS)
        self.frames = Counter("frames", MAX_FRAMES)
        self.tracks = Counter("tracks in one film", MAX_STREAMS)
        self.listed = Counter("elements in the lists of one film", MAX_LISTED)
        self.tags = Counter("tags in one film", MAX_TAGS)
        self.n_track_lists = 0
        self.scale_ns = 1_000_000
        self.duration = 0.0
        self.width = self.height = 0
        self.track = (0, 0)
        self.films: set[int] = set()

    def read(self, is_sound_enough: bool) -> FilmHeader:
        """Walk the elements in their order: those that are entered need no stack, however deep or unended they are."""
        at, end = 0, len(self.data)
        while at < end:
            self.elements.add()
            kind, at = self._vint(at, keep_marker=True)
            size, at = self._vint(at)
            is_unended = size < 0
            if at + max(0, size) > end:
                raise cut_off()
            if kind in _ENTERED:
                self._enter(kind)
                continue
            if is_unended:
                raise damaged()
            if kind in _BLOCKS:
                self._count_block(at, at + size)
            else:
                self._read(kind, at, size)
            at += size
        if not self.films and not is_sound_enough:
            raise InvalidRequest("a Matroska file without moving pictures, a film expected")
        self._check_hidden()
        seconds = self.duration * self.scale_ns / _NS
        check_seconds(seconds)
        return FilmHeader("matroska", "WebM", self.width, self.height, seconds)

    def _enter(self, kind: int) -> None:
        if kind in _LISTS:
            self.listed.add()
        if kind == _TRACK:
            self.tracks.add()
            self.track = (0, 0)
        elif kind == _TRACKS:
            self.n_track_lists += 1
        elif kind == _SIMPLE_TAG:
            self.tags.add()
        elif kind == _CLUSTER and not self.tracks.count:
            raise InvalidRequest("a Matroska file whose tracks are told behind its first cluster, before it expected")

    def _check_hidden(self) -> None:
        """Refuse tracks within what is skipped: at a damaged place the demuxer looks for the next bytes that fit."""
        if self.data.count(_TRACKS.to_bytes(4, "big")) > self.n_track_lists:
            raise InvalidRequest("a Matroska file with hidden tracks, all of them where they belong expected")

    def _vint(self, at: int, keep_marker: bool = False) -> tuple[int, int]:
        """Read a number of variable length; -1 where it stands for "until the end"."""
        first = self.data[at]
        length = 9 - first.bit_length()
        if length > (4 if keep_marker else 8):
            raise damaged()
        value = int.from_bytes(self.data[at : at + length], "big")
        if at + length > len(self.data):
            raise cut_off()
        if keep_marker:
            return value, at + length
        most = (1 << 7 * length) - 1
        value &= most
        return (-1 if value == most else value), at + length

    def _count_block(self, at: int, end: int) -> None:
        number, at = self._vint(at)
        # Behind the track's number: two bytes of time, one of flags, and with lacing how many frames, less one.
        flags = self.data[at + 2]
        count = self.data[at + 3] + 1 if flags & 6 else 1
        if at + 3 > end:
            raise damaged()
        self.blocks.add(count)
        if number in self.films:
            self.frames.add(count)

    def _read(self, kind: int, at: int, size: int) -> None:
        if kind == _TIMESTAMP_SCALE:
            self.scale_ns = self._whole(at, size)
        elif kind == _DURATION:
            if size not in (4, 8):
                raise damaged()
            (self.duration,) = struct.unpack_from(">f" if size == 4 else ">d", self.data, at)
        elif kind in (_TRACK_NUMBER, _TRACK_TYPE):
            number, type = self.track
            value = self._whole(at, size)
            self.track = (value, type) if kind == _TRACK_NUMBER else (number, value)
            if self.track[0] and self.track[1] == PICTURES:
                self.films.add(self.track[0])
        elif kind == _CODEC_PRIVATE:
            check_codebooks(self.data[at : at + size])
        elif kind == _SEEK_ID:
            self.n_track_lists += self._whole(at, size) == _TRACKS
        elif kind == _WIDTH:
            self.width = max(self.width, self._whole(at, size))
        elif kind == _HEIGHT:
            self.height = max(self.height, self._whole(at, size))
        elif kind == _ENCODINGS:
            # What a packed block becomes is bounded by nothing that stands in the file.
            raise InvalidRequest("a Matroska film with compressed or encrypted tracks, plain ones expected")

    def _whole(self, at: int, size: int) -> int:
        if size > 8:
            raise damaged()
        return int.from_bytes(self.data[at : at + size], "big")
