"""What every file is opened with."""

from __future__ import annotations

from services.encoders import films, sounds
from services.encoders.demuxing import opened, options_for


def test_no_file_opens_another_one() -> None:
    for options in (films._OPTIONS, sounds._OPTIONS):
        assert options["protocol_whitelist"] == "none"
        assert options["max_streams"] == "32"
    assert options_for(["aac", "mp3"])["codec_whitelist"] == "aac,mp3"


def test_a_matroska_is_read_forward_only() -> None:
    file = opened(b"abcdef", "matroska")
    assert [file.read(4), file.read(4), file.read(4)] == [b"abcd", b"ef", b""]
    assert not hasattr(file, "seek")
    assert opened(b"abcdef", "mov").seekable()
