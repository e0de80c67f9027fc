"""What the headers of films say, read without decoding and without the demuxer, which trusts them.

A table of an MP4 file may claim more samples than its bytes could ever hold, and a demuxer fills memory with what the
table claims: 1.5 KB of file cost 700 MB. So what is claimed is counted here, before anything else sees the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from graph.errors import InvalidRequest

MAX_FRAMES = 4_096
MAX_SECONDS = 600.0


@dataclass(frozen=True)
class FilmHeader:
    """What a film claims to be.

    Attributes:
        demuxer: Name of what reads it.
        format: Name of the format, for people.
        width: Of the largest picture track.
        height: Of the largest picture track.
        seconds: How long it claims to last; 0: not told.
    """

    demuxer: str
    format: str
    width: int
    height: int
    seconds: float


def check_seconds(seconds: float) -> None:
    """Refuse what is too long.

    Raises:
        InvalidRequest: It is, or its length is no number.
    """
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidRequest(f"{seconds:.6g} seconds, at most {MAX_SECONDS:g} allowed")


def damaged() -> InvalidRequest:
    """Make the error of a header that makes no sense."""
    return InvalidRequest("a film with a damaged header")


def cut_off() -> InvalidRequest:
    """Make the error of a film that is longer than its bytes."""
    return InvalidRequest("a truncated film: its header promises more bytes than there are")
