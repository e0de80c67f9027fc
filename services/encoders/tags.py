"""Names and covers that sounds bring along: taken off before FFmpeg compares every one with all those before it.

Source: ID3v2.4, section 3.1; RFC 9639 (FLAC), section 8.
"""

from __future__ import annotations

_ID3_HEAD_BYTES = 10
_FLAC_MAGIC = b"fLaC"
# What the first block of a FLAC says: rate, channels, length.
_FLAC_INFO_END = 42


def without_id3(data: bytes) -> bytes:
    """Return an MP3 without the tags before its first frame."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + _ID3_HEAD_BYTES <= len(data):
        flags, *sizes = data[at + 5 : at + _ID3_HEAD_BYTES]
        has_foot = bool(flags & 0x10)
        at += _ID3_HEAD_BYTES * (1 + has_foot) + sum(
            (size & 0x7F) << shift for size, shift in zip(sizes, (21, 14, 7, 0), strict=True)
        )
    return data[at:]


def without_flac_blocks(data: bytes) -> bytes:
    """Return a FLAC without the blocks between its first one and its first frame."""
    at, is_last = _FLAC_INFO_END, bool(data[len(_FLAC_MAGIC) : len(_FLAC_MAGIC) + 1] > b"\x7f")
    while not is_last and at + 4 <= len(data):
        is_last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return _FLAC_MAGIC + b"\x80" + data[len(_FLAC_MAGIC) + 1 : _FLAC_INFO_END] + data[at:]
