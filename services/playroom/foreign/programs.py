"""The programs that make foreign media: finding and running them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

_TIMEOUT_S = 300.0
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "MAGICK_THREAD_LIMIT": "1"}
"""Several processes run at a time; threads of their own would only get in each other's way."""
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "ImageMagick": ("magick", "convert"),
    "sox": ("sox",),
    "ffmpeg": ("ffmpeg",),
}
_SAYS: Final = {
    "ImageMagick": ("-version", "ImageMagick"),
    "sox": ("--version", "SoX"),
    "ffmpeg": ("-version", "ffmpeg"),
}
_PACKAGE: Final = {"ImageMagick": "imagemagick", "sox": "sox", "ffmpeg": "ffmpeg"}


class ForeignError(RuntimeError):
    """A program that makes foreign media is missing or failed; says why, and what to do about it."""


@lru_cache(maxsize=8)
def path_of(program: str) -> str | None:
    """Path of a program that says it is what it should be (others are named `convert`, too); None without one."""
    flag, word = _SAYS[program]
    for name in _NAMES[program]:
        found = shutil.which(name)
        if found is None:
            continue
        # the program is a path that was just found
        said = subprocess.run([found, flag], capture_output=True, check=False, timeout=_TIMEOUT_S)  # noqa: S603
        if word in said.stdout.decode(errors="replace"):
            return found
    return None


def missing() -> list[str]:
    """The programs that are not installed, with the packages they come in."""
    return [f"{name} (Debian package {_PACKAGE[name]})" for name in _NAMES if path_of(name) is None]


def run(program: str, arguments: Sequence[str], folder: Path) -> bytes:
    """Runs a program in a folder; returns what it writes to its standard output.

    Raises:
        ForeignError: It is missing, takes too long or fails.
    """
    found = path_of(program)
    if found is None:
        raise ForeignError(f"{program} is not installed; on Debian: apt-get install {_PACKAGE[program]}")
    try:
        # arguments are numbers, words of this package and names of files in a folder of its own
        done = subprocess.run(  # noqa: S603
            [found, *arguments],
            cwd=folder,
            env={**os.environ, **_ONE_THREAD},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise ForeignError(f"{program} could not be run: {failed}") from failed
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise ForeignError(f"{program} {' '.join(arguments)[:300]}: {said}")
    return done.stdout
