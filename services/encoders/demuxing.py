"""How FFmpeg may open a file: in little memory, and nothing but the bytes it is given."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO, cast

from services.encoders.caps import MAX_STREAMS


def options_for(codecs: Sequence[str]) -> dict[str, str]:
    """Return the settings of a demuxer; no codec is given a try that is not among these."""
    return {
        "codec_whitelist": ",".join(codecs),
        # Nothing in a file may open another file.
        "protocol_whitelist": "none",
        "threads": "1",
        "max_streams": str(MAX_STREAMS),
        # Bounds what the demuxer reads ahead to find out what a track is.
        "probesize": str(2**20),
        "analyzeduration": "1000000",
        # Every edit of a list may name every packet again: memory for the product of both.
        "advanced_editlist": "0",
    }


def opened(data: bytes, demuxer: str) -> BinaryIO:
    """Return bytes as the file that a demuxer gets."""
    return cast("BinaryIO", _Forward(data)) if demuxer == "matroska" else io.BytesIO(data)


class _Forward:
    """A file that is read from its first byte to its last: no index leads to what was not walked through here."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int) -> bytes:
        """Read on."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found
