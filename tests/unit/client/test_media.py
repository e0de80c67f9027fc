"""Media as parts: what bytes tell, what is refused."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from anyplex import Audio, Image, InvalidRequest, Medium, Video
from anyplex.media import sniff


@pytest.mark.parametrize(
    ("head", "mime_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"hello", ""),
        (b"", ""),
    ],
)
def test_sniff(head: bytes, mime_type: str) -> None:
    assert sniff(head) == mime_type


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "no_ending"
    PIL.Image.new("RGB", (4, 4)).save(path, format="JPEG")
    assert Image(path).mime_type == "image/jpeg"
    assert Image(str(path)).read() == path.read_bytes()
    assert Image(path.read_bytes()).mime_type == "image/jpeg"
    for mode in ("RGB", "RGBA", "L", "P", "CMYK", "1", "I;16"):
        assert Image(PIL.Image.new(mode, (4, 4))).mime_type == "image/png"
    assert Medium(b"anything", modality="depth").modality == "depth"
    assert Video(b"GIF89a...").mime_type == "image/gif"


def test_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    sound = tmp_path / "sound.png"
    sound.write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    for source, message in (
        (tmp_path / "nope.png", "nope.png: no such file"),
        (tmp_path, "a folder"),
        (empty, "empty"),
        (b"", "empty"),
        (sound, "is audio/wav, expected image"),
        (3, "not int"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            Image(source)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        Audio(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InvalidRequest, match="modality"):
        Medium(b"x")
