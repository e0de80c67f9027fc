"""How much one file of any kind may hold."""

from __future__ import annotations

from graph.errors import InvalidRequest

MAX_FILE_BYTES = 64 * 2**20
MAX_STREAMS = 32
MAX_BLOCKS = 100_000
"""Most samples or blocks of all tracks, and most boxes, elements, pages or chunks, in one file."""

MAX_TAGS = 1_000
"""FFmpeg compares every name that a file brings along with all those before it."""


def check_file_bytes(data: bytes) -> None:
    """Refuse a file that is too large.

    Raises:
        InvalidRequest: It is.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{len(data)} bytes, at most {MAX_FILE_BYTES} allowed")


class Counter:
    """Counts towards a cap."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self.count = 0

    def add(self, count: int = 1) -> None:
        """Count on.

        Raises:
            InvalidRequest: Past the cap.
        """
        self.count += count
        if self.count > self._most:
            raise InvalidRequest(f"more than {self._most} {self._what}, at most {self._most} allowed")
