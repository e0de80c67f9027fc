"""The caps that the README documents are the defaults in force."""

from __future__ import annotations

import re
from pathlib import Path

from anyplex.requests import INLINE_MEDIA_BYTES
from graph.profile import GatewaySettings
from graph.spec import Limits
from services.encoders import film_headers, sounds
from services.encoders.images import MAX_PIXELS
from services.runtime.settings import RuntimeSettings

README = Path(__file__).resolve().parents[2] / "README.md"
UNITS = {"": 1, "MiB": 2**20, "s": 1, "pixels": 1}


def documented() -> dict[str, list[float]]:
    """Read the numbers of the table of limits, in bytes, seconds and pixels."""
    section = README.read_text(encoding="utf-8").partition("## Limits")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    found: dict[str, list[float]] = {}
    for what, cap, *_ in rows[2:]:
        pieces = re.findall(r"([\d,]*\d) ?(MiB|pixels|s\b)?", cap)
        found[what.strip()] = [float(number.replace(",", "")) * UNITS[unit] for number, unit in pieces]
    return found


def test_documented_caps_are_those_in_force() -> None:
    gateway, limits = GatewaySettings(), Limits()
    assert documented() == {
        "one medium inside a message": [gateway.inline_media_bytes],
        "one upload; all media of one request": [gateway.upload_bytes],
        "one picture, one frame of a film": [MAX_PIXELS],
        "one sound": [sounds.MAX_SECONDS, sounds.MAX_CHANNELS],
        "one film": [film_headers.MAX_SECONDS, film_headers.MAX_FRAMES],
        "messages, parts in a request": [limits.messages, limits.parts],
        "time for a request": [limits.deadline_s],
        "requests that wait": [],
    }
    assert gateway.inline_media_bytes == INLINE_MEDIA_BYTES, "the client uploads what is larger"
    assert RuntimeSettings().max_deadline_s == limits.deadline_s, "drains wait that long"
