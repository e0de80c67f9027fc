"""Row 33: every status message that any test got is read."""

from __future__ import annotations

import pytest

from tests.statuses import SEEN, leaks


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("cannot open /home/me/weights/x.bin", "a path"),
        ("no module named services.runtime in server.py", "a path"),
        ("failed to connect to 10.0.0.7:50103", "an address"),
        ("ipv4:127.0.0.1:5", "an address"),
        ("replica with pid 123 died", "a process"),
        ("Traceback (most recent call last)", "a traceback"),
        ("ZeroDivisionError: division by zero", "a traceback"),
        ("<class 'ValueError'>", "a traceback"),
    ],
)
def test_the_scan_finds(message: str, what: str) -> None:
    assert what in leaks(message)


@pytest.mark.parametrize(
    "message",
    [
        "request.messages[0].parts[2].image: 40000×40000 pixels, at most 16777216 in all",
        "no system 'x' runs here; there are: llava-1.5, next-gpt",
        "'a b', a media type like image/png expected",
        "no such slot; there are: see, see_in, think, think/lora",
        "corners (0.0, 0.5, nan, 1.0), x1 ≤ x2 and y1 ≤ y2 from 0 to 1 expected",
        "node think: the replica that served it is gone",
    ],
)
def test_the_scan_leaves_alone(message: str) -> None:
    assert leaks(message) == []


def test_no_status_message_tells_what_is_nobodys_business() -> None:
    found = {message: what for message in SEEN if (what := leaks(message))}
    print(f"figure: row 33: {len(found)} of {len(SEEN)} different status messages tell too much")
    assert found == {}
