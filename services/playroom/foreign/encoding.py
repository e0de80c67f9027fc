"""Sounds and films encoded by FFmpeg, several by one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.playroom.films import FRAME_RATE_HZ
from services.playroom.foreign.programs import run

SOUND_RATE_HZ: Final = 44_100
_QUIET = ("-hide_banner", "-loglevel", "error", "-nostdin", "-y")
# the same bytes every time: no dates, versions or random ids
_EXACT = ("-fflags", "+bitexact", "-flags", "+bitexact", "-map_metadata", "-1", "-threads", "1")

SOUND_TYPES: Final = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "opus": "audio/ogg"}
_SOUND_OPTIONS: Final = {
    "wav": ("-c:a", "pcm_s16le", "-ar", str(SOUND_RATE_HZ)),
    "flac": ("-c:a", "flac", "-ar", str(SOUND_RATE_HZ)),
    "mp3": ("-c:a", "libmp3lame", "-b:a", "96k", "-ar", str(SOUND_RATE_HZ)),
    "opus": ("-c:a", "libopus", "-b:a", "64k", "-f", "ogg"),
}
FILM_TYPES: Final = {"gif": "image/gif", "mp4": "video/mp4", "webm": "video/webm"}
_FILM_OPTIONS: Final = {
    "gif": ("-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse"),
    "mp4": ("-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p"),
    "webm": ("-c:v", "libvpx-vp9", "-crf", "15", "-b:v", "0", "-cpu-used", "5", "-pix_fmt", "yuv420p"),
}


def encode_sounds(paths: Sequence[Path], endings: Sequence[str], folder: Path) -> list[bytes]:
    """Encodes WAV files as stereo files with those endings (`mp3`, `opus`, …).

    Raises:
        ForeignError: FFmpeg is missing or fails.
    """
    inputs = [argument for path in paths for argument in ("-i", str(path))]
    outputs: list[str] = []
    for index, ending in enumerate(endings):
        outputs += ["-map", f"{index}:a", "-ac", "2", *_SOUND_OPTIONS[ending], *_EXACT, f"encoded-{index}.{ending}"]
    run("ffmpeg", [*_QUIET, *inputs, *outputs], folder)
    return [(folder / f"encoded-{index}.{ending}").read_bytes() for index, ending in enumerate(endings)]


def encode_films(frames: Sequence[tuple[Path, int]], endings: Sequence[str], folder: Path) -> list[bytes]:
    """Encodes files of raw frames of a side in px as films with those endings (`gif`, `mp4`, `webm`).

    Raises:
        ForeignError: FFmpeg is missing or fails.
    """
    inputs: list[str] = []
    for path, side_px in frames:
        layout = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{side_px}x{side_px}", "-r", str(FRAME_RATE_HZ))
        inputs += [*layout, "-i", str(path)]
    outputs: list[str] = []
    for index, ending in enumerate(endings):
        outputs += ["-map", f"{index}:v", *_FILM_OPTIONS[ending], *_EXACT, f"encoded-{index}.{ending}"]
    run("ffmpeg", [*_QUIET, *inputs, *outputs], folder)
    return [(folder / f"encoded-{index}.{ending}").read_bytes() for index, ending in enumerate(endings)]
