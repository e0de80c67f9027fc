"""Media as files: each is written when it is whole, under a name that nothing else has."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyplex import Event, MadeMedium

_MOST_NUMBERS: Final = 100_000
_PLAIN_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Saver:
    """Writes what is made, as soon as it is whole: what comes after it may fail.

    Args:
        folder: Where files go; made when there is something to write.
        say: Told a line for each file.

    Attributes:
        paths: Files by answer and number of the medium.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.paths: dict[tuple[int, int], Path] = {}
        self._folder = folder
        self._say = say
        self._begun: dict[tuple[int, int], tuple[str, str, list[bytes]]] = {}

    def take(self, event: Event) -> None:
        """Take in what happens."""
        from anyplex import MadeMedium, MediaChunk, MediaFailed, MediaProgress, MediaStarted

        match event:
            case MediaStarted():
                self._begun[event.choice, event.media_index] = (event.modality, event.mime_type, [])
            case MediaProgress() if event.preview:
                modality = self._begun.get((event.choice, event.media_index), ("medium", "", []))[0]
                preview = MadeMedium(f"{modality}_preview", "image/png", event.preview)
                self._say(f"step {event.step}: saved {self._save(preview)}")
            case MediaChunk():
                key = (event.choice, event.media_index)
                modality, mime_type, chunks = self._begun.setdefault(key, ("medium", "", []))
                chunks.append(event.data)
                if event.last:
                    del self._begun[key]
                    self.paths[key] = self._save(MadeMedium(modality, mime_type, b"".join(chunks)))
                    self._say(f"saved {self.paths[key]}")
            case MediaFailed():
                self._begun.pop((event.choice, event.media_index), None)

    def _save(self, medium: MadeMedium) -> Path:
        """Write a medium; where the folder cannot be written to, into a new one: nothing made gets lost."""
        try:
            return save_as_next(medium, self._folder)
        except OSError as error:
            self._say(f"{self._folder}: cannot be written to ({error.strerror})")
            self._folder = Path(tempfile.mkdtemp(prefix="anyplex-"))
            return save_as_next(medium, self._folder)


def save_as_next(medium: MadeMedium, folder: Path) -> Path:
    """Write a medium as `image-1.png`, or with the next number that is free; no file is ever written over.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = medium.modality if _PLAIN_WORD.fullmatch(medium.modality) else "medium"
    for number in range(1, _MOST_NUMBERS):
        path = folder / f"{name}-{number}{medium.suffix}"
        try:
            with path.open("xb") as file:
                file.write(medium.data)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{folder} holds {_MOST_NUMBERS} files named {name}-…")


def check_folder(folder: Path) -> None:
    """Make sure, before anything is asked, that a folder can be written to.

    Raises:
        click.UsageError: It cannot.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise click.UsageError(f"--out {folder}: cannot be written to")
