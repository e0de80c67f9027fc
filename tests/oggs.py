"""Ogg sounds whose header alone would kill or stall whoever reads it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

RATE_HZ = 16_000
_ENTRIES = 2**22


def pages(packets: Sequence[bytes], flag: int, position: int, number: int) -> bytes:
    """Write whole packets, on as many pages as they need: flag 2 for the beginning of a stream, 4 for its end."""
    content = b"".join(packets)
    segments = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    found, at = b"", 0
    for start in range(0, len(segments), 255):
        here = segments[start : start + 255]
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, flag | bool(start), position, 1, number, 0, len(here))
        page = bytearray(head + here + content[at : at + sum(here)])
        page[22:26] = struct.pack("<I", crc(page))
        found, at, number = found + page, at + sum(here), number + 1
    return found


def vorbis(setup: bytes, comments: Sequence[bytes] = ()) -> bytes:
    """Vorbis of half a second, as its last page states, with such a setup header."""
    identity = b"\x01vorbis" + struct.pack("<IBIIIIBB", 0, 1, RATE_HZ, 0, 0, 0, 0xB8, 1)
    listed = b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    comment = b"\x03vorbis" + struct.pack("<II", 0, len(comments)) + listed + b"\1"
    return (
        pages([identity], 2, 0, 0)
        + pages([comment, setup], 0, 0, 1)
        + pages([b"\0" * 20] * 20, 4, RATE_HZ // 2, 100_000)
    )


def with_comments(count: int) -> bytes:
    """Vorbis with so many comments, no two of one name."""
    return vorbis(setup_of_one_book(2), [b"k%06x=v" % index for index in range(count)])


def with_giant_codebook() -> bytes:
    """Vorbis whose only codebook has 2^22 entries: libvorbis sorts them on its stack, which is smaller."""
    return vorbis(setup_of_one_book(_ENTRIES))


def with_codebooks(count: int, words: int, dimensions: int) -> bytes:
    """Vorbis with so many codebooks, each of so many words: 20 bytes a book, and 4 of memory a word and dimension."""
    return vorbis(setup_of_books(count, words, dimensions))


def setup_of_one_book(words: int) -> bytes:
    """Return the smallest setup header there can be: one of everything, all words of the codebook equally long."""
    return setup_of_books(1, words, 0)


def setup_of_books(count: int, words: int, dimensions: int) -> bytes:
    """Return a setup header with one of everything, and so many codebooks, with values if with dimensions."""
    width = words.bit_length()
    book = [(0x564342, 24), (max(1, dimensions), 16), (words, 24), (1, 1), (width - 2, 5), (words, width)]
    if dimensions:
        values = next(root for root in range(words, 0, -1) if root**dimensions <= words)
        book += [(1, 4), (0, 32), (0, 32), (0, 4), (0, 1), (0, values)]
    else:
        book += [(0, 4)]
    fields = [
        (count - 1, 8), *book * count,
        (0, 6), (0, 16),  # time
        (0, 6), (1, 16), (0, 5), (0, 2), (4, 4),  # floor
        (0, 6), (0, 16), (0, 24), (0, 24), (0, 24), (0, 6), (0, 8), (0, 4),  # residue
        (0, 6), (0, 16), (0, 1), (0, 1), (0, 2), (0, 24),  # mapping
        (0, 6), (0, 1), (0, 16), (0, 16), (0, 8), (1, 1),  # mode, and the end
    ]  # fmt: skip
    value = at = 0
    for field, bits in fields:
        value, at = value | field << at, at + bits
    return b"\x05vorbis" + value.to_bytes((at + 7) // 8, "little")


def crc(data: bytes | bytearray) -> int:
    """Return the checksum of a page."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF_FFFF) ^ _CRC_TABLE[(value >> 24) ^ byte]
    return value


def _crc_entry(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ 0x04C1_1DB7 if value & 0x8000_0000 else value << 1) & 0xFFFF_FFFF
    return value


_CRC_TABLE = [_crc_entry(index) for index in range(256)]
