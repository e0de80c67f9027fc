"""Media as parts: what bytes tell, what is refused."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import PIL.Image
import pytest

from anyplex import Audio, Image, InvalidRequest, Medium, Video
from anyplex.media import sniff


@pytest.mark.parametrize(
    ("head", "mime_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 25 + b"\0\0\0\x08acTL", "image/apng"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "audio/wav"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"FORM\0\0\0\0AIFF", "audio/aiff"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"ID3\4\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf3\x64\xc4", "audio/mpeg"),
        (b"\xff\xe3\x18\xc4", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xff\xff\xff", ""),
        (b"\xff", ""),
        (b"OggS" + b"\0" * 24 + b"OpusHead", "audio/ogg"),
        (b"OggS" + b"\0" * 24 + b"\x80theora", "video/ogg"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\1B\xf7\x81\1B\x82\x88matroska", "video/x-matroska"),
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
    buffer = io.BytesIO()
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(buffer, format="PNG", save_all=True, append_images=frames[1:])
    assert Video(buffer.getvalue()).mime_type == "image/apng"


@pytest.mark.parametrize(("made", "mime_type", "wrong"), [
    ("a.wav", "audio/wav", (Image, Video)), ("a.flac", "audio/flac", (Image, Video)),
    ("a.mp3", "audio/mpeg", (Image, Video)), ("a.ogg", "audio/ogg", (Image,)),
    ("a.mp4", "video/mp4", (Image,)), ("a.webm", "video/webm", (Image,)), ("a.gif", "image/gif", (Audio,)),
])  # fmt: skip
def test_files_of_another_program(tmp_path: Path, made: str, mime_type: str, wrong: tuple[type[Medium], ...]) -> None:
    path = tmp_path / made
    kind = Audio if mime_type.startswith("audio") else Video
    source = ["-f", "lavfi", "-i", "sine=d=0.3" if kind is Audio else "testsrc=d=0.3:s=32x32"]
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (Debian package ffmpeg)")
    subprocess.run(
        ["ffmpeg", "-v", "error", *source, *(["-c:a", "libopus"] if made == "a.ogg" else []), path], check=True
    )
    assert kind(path).mime_type == mime_type
    for other in wrong:
        with pytest.raises(InvalidRequest, match=f"{made}: is {mime_type}, expected {other.default_modality}"):
            other(path)


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
    for kind in (Audio, Video):
        with pytest.raises(InvalidRequest, match=f"{kind.__name__} takes a path or bytes, not Image"):
            kind(PIL.Image.new("RGB", (4, 4)))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidRequest, match="pipe: a pipe or device, expected a file"):
        Audio(pipe)
    with pytest.raises(InvalidRequest, match="modality"):
        Medium(b"x")
