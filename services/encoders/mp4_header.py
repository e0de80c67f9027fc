"""Headers of MP4 and QuickTime films.

Source: ISO/IEC 14496-12; Apple's QuickTime File Format, which it grew from.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, MAX_STREAMS, MAX_TAGS, Counter
from services.encoders.film_headers import MAX_FRAMES, FilmHeader, check_seconds, cut_off, damaged
from services.encoders.vorbis_setup import check_codebooks

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
UNKNOWN_DURATIONS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
RAW_SAMPLES_TOGETHER = 1_024
"""So many samples of raw sound the demuxer makes one packet of."""

NAMED_VALUES = (b"mdta", b"----")
"""What stands beside every name that a file chose itself."""

COMPRESSED_BOXES = (b"cmov", b"cmvd")
"""A header packed by zlib: whatever stands in it is hidden from what is counted here."""


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    end: int


@dataclass
class _Track:
    width: int = 0
    height: int = 0
    track_id: int = 0
    is_film: bool = False


def read_mp4_header(data: bytes, is_sound_enough: bool = False) -> FilmHeader:
    """Read the header of an MP4 or QuickTime film.

    Args:
        data: The file.
        is_sound_enough: Take one without pictures, too.

    Raises:
        InvalidRequest: It is cut off or damaged, shows nothing, or claims more than is allowed.
    """
    try:
        return _Mp4(data).read(is_sound_enough)
    except (struct.error, IndexError, OverflowError) as error:
        raise damaged() from error


class _Mp4:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.boxes = Counter("boxes in one film", MAX_BLOCKS)
        self.tables = Counter("tables in one film", MAX_BLOCKS)
        self.run_tables = Counter("tables of runs of chunks in one film", MAX_STREAMS)
        self.runs = Counter("runs of chunks in one film", MAX_BLOCKS)
        self.samples = Counter("samples in the tables of one film", MAX_BLOCKS)
        self.names = Counter("names of values in one film", MAX_TAGS)
        self.frames = Counter("frames", MAX_FRAMES)

    def read(self, is_sound_enough: bool) -> FilmHeader:
        top = list(self._inside(0, len(self.data), cut_off()))
        tracks = [self._track(box) for moov in _of(top, b"moov") for box in _of(self._children(moov), b"trak")]
        films = [track for track in tracks if track.is_film]
        if not films and not is_sound_enough:
            raise InvalidRequest("an MP4 file without moving pictures, a film expected")
        for moof in _of(top, b"moof"):
            for traf in _of(self._children(moof), b"traf"):
                self._count_fragment(list(self._children(traf)), {track.track_id for track in films})
        for box in top:
            if box.kind != b"mdat":
                self._check_plain(box)
                self._check_tables(box)
        clocks = [box for moov in _of(top, b"moov") for box in _of(self._children(moov), b"mvhd")]
        seconds = max(map(self._seconds, clocks), default=0.0)
        check_seconds(seconds)
        largest = max(films, key=lambda track: track.width * track.height, default=_Track())
        return FilmHeader("mp4", "MP4", largest.width, largest.height, seconds)

    def _inside(self, start: int, end: int, too_long: InvalidRequest) -> Iterator[_Box]:
        at = start
        while at + 8 <= end:
            self.boxes.add()
            size, kind = struct.unpack_from(">I4s", self.data, at)
            head = 8
            if size == 1:
                (size,), head = struct.unpack_from(">Q", self.data, at + 8), 16
            elif size == 0:
                size = end - at
            if size < head:
                raise damaged()
            if size > end - at:
                raise too_long
            yield _Box(kind, at + head, at + size)
            at += size

    def _children(self, box: _Box) -> Iterator[_Box]:
        return self._inside(box.start, box.end, damaged())

    def _track(self, trak: _Box) -> _Track:
        track = _Track()
        for box in self._children(trak):
            if box.kind == b"tkhd":
                version = self.data[box.start]
                track.track_id = self._number(box.start + (20 if version else 12))
            elif box.kind == b"mdia":
                self._read_media(list(self._children(box)), track)
        return track

    def _read_media(self, boxes: list[_Box], track: _Track) -> None:
        track.is_film = any(self.data[box.start + 8 : box.start + 12] == b"vide" for box in _of(boxes, b"hdlr"))
        if not track.is_film:
            return
        tables = [
            table
            for minf in _of(boxes, b"minf")
            for stbl in _of(self._children(minf), b"stbl")
            for table in self._children(stbl)
        ]
        for table in tables:
            if table.kind == b"stsd":
                for entry in self._inside(table.start + 8, table.end, damaged()):
                    width, height = struct.unpack_from(">HH", self.data, entry.start + 24)
                    track.width, track.height = max(track.width, width), max(track.height, height)
            elif table.kind in (b"stsz", b"stz2"):
                self.frames.add(self._number(table.start + 8))

    def _count_fragment(self, boxes: list[_Box], films: set[int]) -> None:
        if any(self._number(box.start + 4) in films for box in _of(boxes, b"tfhd")):
            for box in _of(boxes, b"trun"):
                self.frames.add(self._number(box.start + 4))

    def _check_plain(self, box: _Box) -> None:
        if any(self.data.find(kind, box.start, box.end) >= 0 for kind in COMPRESSED_BOXES):
            raise InvalidRequest("an MP4 file with a compressed header, a plain one expected")
        check_codebooks(self.data[box.start : box.end])

    def _check_tables(self, box: _Box) -> None:
        """Count what tables claim, wherever they hide: the demuxer descends into boxes of many kinds."""
        for kind, count_at in ((b"stsz", 8), (b"stz2", 8), (b"trun", 4)):
            for at in self._places(box, kind):
                self.samples.add(self._number(at + count_at))
        for kind in NAMED_VALUES:
            self.names.add(self.data.count(kind, box.start, box.end))
        n_chunks = sum(self._number(at + 4) for kind in (b"stco", b"co64") for at in self._places(box, kind))
        most = 1
        for at in self._places(box, b"stsc"):
            self.run_tables.add()
            n_entries = min(self._number(at + 4), (box.end - at - 8) // 12)
            if n_entries > 0:
                self.runs.add(n_entries)
                entries_N3 = np.frombuffer(self.data, ">u4", 3 * n_entries, at + 8).reshape(-1, 3)
                most = max(most, int(entries_N3[:, 1].max()))
        self.samples.add(max(0, n_chunks * most // RAW_SAMPLES_TOGETHER - self.samples.count))

    def _places(self, box: _Box, kind: bytes) -> Iterator[int]:
        at = self.data.find(kind, box.start, box.end)
        while at >= 0:
            self.tables.add()
            if at + 16 <= box.end:
                yield at + 4
            at = self.data.find(kind, at + 4, box.end)

    def _seconds(self, box: _Box) -> float:
        if self.data[box.start]:
            scale, duration = struct.unpack_from(">IQ", self.data, box.start + 20)
        else:
            scale, duration = struct.unpack_from(">II", self.data, box.start + 12)
        return 0.0 if duration in UNKNOWN_DURATIONS or not scale else float(duration / scale)

    def _number(self, at: int) -> int:
        return int(struct.unpack_from(">I", self.data, at)[0])


def _of(boxes: Iterator[_Box] | list[_Box], kind: bytes) -> list[_Box]:
    return [box for box in boxes if box.kind == kind]
