"""Headers of Ogg sounds: what they hold, and how long they claim to last.

Source: RFC 3533 (Ogg), RFC 7845 (Opus in it), the Vorbis I specification, section 4.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, MAX_TAGS, Counter
from services.encoders.vorbis_setup import check_codebooks

OPUS_RATE_HZ = 48_000
_PAGE_BYTES = 27
_UNKNOWN_POSITION = -1
_COMMENTS = (b"\x03vorbis", b"OpusTags")


@dataclass(frozen=True)
class OggHeader:
    """What an Ogg sound claims to be.

    Attributes:
        rate_hz: Samples a second of one channel.
        channels: How many there are.
        samples: How many of each channel its last page states.
    """

    rate_hz: int
    channels: int
    samples: int


def read_ogg_header(data: bytes) -> OggHeader:
    """Read the header of an Ogg sound; what is coded is not read.

    Raises:
        InvalidRequest: It is cut off or damaged, no single stream of Vorbis or Opus, or has too many comments.
    """
    try:
        content, samples = _join_pages(data)
        _count_comments(content)
        if content.startswith(b"OpusHead"):
            channels, skipped = struct.unpack_from("<BH", content, 9)
            return OggHeader(OPUS_RATE_HZ, channels, max(0, samples - skipped))
        if content.startswith(b"\x01vorbis"):
            if check_codebooks(content) != 1:
                raise InvalidRequest("an OGG sound of Vorbis without a setup header, or with several, one expected")
            channels, rate_hz = struct.unpack_from("<BI", content, 11)
            return OggHeader(rate_hz, channels, samples)
    except (struct.error, IndexError) as error:
        raise InvalidRequest("a damaged or truncated OGG sound") from error
    raise InvalidRequest("an OGG file with something else than Vorbis or Opus, one of them expected")


def _join_pages(data: bytes) -> tuple[bytes, int]:
    """Return what the pages of the only stream hold, and the last position that one of them states."""
    pages = Counter("pages in one OGG sound", MAX_BLOCKS)
    found: list[bytes] = []
    at, position, stream = 0, 0, None
    while at < len(data):
        pages.add()
        magic, here, serial = struct.unpack_from("<4s2xqI", data, at)
        n_segments = data[at + _PAGE_BYTES - 1]
        content = at + _PAGE_BYTES + n_segments
        if magic != b"OggS" or content > len(data):
            raise InvalidRequest("a damaged or truncated OGG sound")
        if stream not in (None, serial):
            raise InvalidRequest("an OGG file of several streams, one expected")
        stream = serial
        end = content + sum(data[at + _PAGE_BYTES : content])
        if end > len(data):
            raise InvalidRequest("a damaged or truncated OGG sound")
        found.append(data[content:end])
        position = position if here == _UNKNOWN_POSITION else here
        at = end
    return b"".join(found), position


def _count_comments(content: bytes) -> None:
    comments = Counter("comments in one OGG sound", MAX_TAGS)
    for magic in _COMMENTS:
        at = content.find(magic)
        while at >= 0:
            at += len(magic)
            (vendor_bytes,) = struct.unpack_from("<I", content, at)
            (count,) = struct.unpack_from("<I", content, at + 4 + vendor_bytes)
            comments.add(count)
            at = content.find(magic, at)
