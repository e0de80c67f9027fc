"""Codebooks of Vorbis: a few bytes each, however many numbers the decoder makes of one.

Source: the Vorbis I specification, sections 3.2.1 and 4.2.4.
"""

from __future__ import annotations

from graph.errors import InvalidRequest
from services.encoders.caps import MAX_BLOCKS, MAX_STREAMS, Counter

MAX_NUMBERS = 2**20
"""In all codebooks, words times dimensions: encoders come to a sixteenth of it."""

MAX_SETUP_BYTES = 2**16
_MAGIC = b"\x05vorbis"
_SYNC = 0x564342


def check_codebooks(content: bytes) -> int:
    """Refuse codebooks that are too large, in whatever setup headers there are.

    Args:
        content: The file, or the part of it that holds the headers.

    Returns:
        How many setup headers there are.

    Raises:
        InvalidRequest: The codebooks are too large or damaged, or the headers too many.
    """
    setups = Counter("setup headers of Vorbis in one file", MAX_STREAMS)
    at = content.find(_MAGIC)
    while at >= 0:
        setups.add()
        at += len(_MAGIC)
        try:
            _Setup(content[at : at + MAX_SETUP_BYTES]).check()
        except ValueError as error:
            raise InvalidRequest("a sound with damaged codebooks") from error
        at = content.find(_MAGIC, at)
    return setups.count


class _Setup:
    def __init__(self, setup: bytes) -> None:
        # The least bit of a byte comes first.
        self._bits = f"{int.from_bytes(setup, 'little'):0{8 * len(setup)}b}"[::-1]
        self._at = 0
        self._words = Counter("words in the codebooks of one sound", MAX_BLOCKS)
        self._numbers = Counter("numbers in the codebooks of one sound", MAX_NUMBERS)

    def check(self) -> None:
        for _ in range(self._take(8) + 1):
            if self._take(24) != _SYNC:
                raise ValueError("no codebook where one is expected")
            dimensions, words = self._take(16), self._take(24)
            self._words.add(words)
            self._numbers.add(dimensions * words)
            self._skip_lengths(words)
            self._skip_values(dimensions, words)

    def _take(self, count: int) -> int:
        field = self._bits[self._at : self._at + count]
        if len(field) < count:
            raise ValueError("the setup header ends too early")
        self._at += count
        return int(field[::-1] or "0", 2)

    def _skip_lengths(self, words: int) -> None:
        if self._take(1):
            self._take(5)
            found = 0
            while found < words:
                found += self._take((words - found).bit_length())
        elif not self._take(1):
            self._at += 5 * words
        else:
            for _ in range(words):
                if self._take(1):
                    self._at += 5

    def _skip_values(self, dimensions: int, words: int) -> None:
        kind = self._take(4)
        if not kind:
            return
        if kind > 2 or not dimensions:
            raise ValueError("a codebook of an unknown kind")
        self._at += 64
        bits = self._take(4) + 1
        self._take(1)
        self._at += bits * (_root(words, dimensions) if kind == 1 else words * dimensions)


def _root(words: int, dimensions: int) -> int:
    """Return the largest whole number that is at most so many words, taken to the power of the dimensions."""
    root = int(words ** (1 / dimensions)) + 1
    while root**dimensions > words:
        root -= 1
    return root
