from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.playroom.foreign import programs
from services.playroom.foreign.programs import ForeignError, missing, path_of, run

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A machine with no programs but those that are installed by name and script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    programs.path_of.cache_clear()

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)

    yield add
    programs.path_of.cache_clear()


def test_a_convert_that_is_not_imagemagick_is_not_taken_for_it(install: Install) -> None:
    install("convert", "echo converts units")
    install("sox", "echo 'sox:      SoX v14.4.2'")
    assert path_of("ImageMagick") is None
    assert missing() == ["ImageMagick (Debian package imagemagick)", "ffmpeg (Debian package ffmpeg)"]


def test_the_newer_name_of_imagemagick_goes_first(install: Install) -> None:
    for name in ("convert", "magick"):
        install(name, "echo Version: ImageMagick 7")
    found = path_of("ImageMagick")
    assert found is not None
    assert found.endswith("/magick")


def test_a_missing_program_is_told_with_its_package(install: Install, tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="ffmpeg is not installed; on Debian: apt-get install ffmpeg"):
        run("ffmpeg", [], tmp_path)


def test_what_a_program_says_about_a_failure_is_passed_on(install: Install, tmp_path: Path) -> None:
    install("sox", 'if [ "$1" = --version ]; then echo SoX; else echo no such effect >&2; exit 2; fi')
    with pytest.raises(ForeignError, match="sox synth 1 tuba: no such effect"):
        run("sox", ["synth", "1", "tuba"], tmp_path)


def test_programs_run_in_the_folder_they_are_given(install: Install, tmp_path: Path) -> None:
    install("sox", 'if [ "$1" = --version ]; then echo SoX; else echo "$PWD"; fi')
    assert run("sox", ["here"], tmp_path).decode().strip() == str(tmp_path)
