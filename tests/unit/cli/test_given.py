"""Words and media of a command line reach the gateway in their order; what cannot be read is refused in one line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.cli.conftest import Cli

HEADS = {
    "a.png": b"\x89PNG\r\n\x1a\n",
    "b.jpg": b"\xff\xd8\xff\xe0",
    "beeps.wav": b"RIFF\0\0\0\0WAVEfmt ",
    "said.ogg": b"OggS" + b"\0" * 24 + b"OpusHead",
    "clip.mp4": b"\0\0\0\x20ftypisom",
    "clip.gif": b"GIF89a",
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with a file of every kind the working one; their sizes tell them apart."""
    for size, (name, head) in enumerate(HEADS.items(), start=100):
        (tmp_path / name).write_bytes(head.ljust(size, b"\0"))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)


def asked(cli: Cli, gateway: FakeGateway, *arguments: str) -> str:
    ran = cli("ask", "--address", gateway.address, *arguments)
    assert (ran.code, ran.err) == (0, "")
    return fake.said(gateway.requests[-1].messages[-1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["what", "is", "this?"], "what is this?"),
        (["what is this?", "--image", "a.png"], "what is this? <image:100>"),
        (["-i", "a.png", "what is this?"], "<image:100> what is this?"),
        (["-ia.png", "--image=b.jpg", "what", "changed?"], "<image:100> <image:101> what changed?"),
        (
            ["--video", "clip.mp4", "-i", "b.jpg", "--audio", "beeps.wav", "-i", "a.png", "--video", "clip.gif"],
            "<video:104> <image:101> <audio:102> <image:100> <video:105>",
        ),
        (["is", "this", "-i", "a.png", "like", "that", "-i", "b.jpg"], "is this <image:100> like that <image:101>"),
        (["--image", "clip.gif", "one frame"], "<image:105> one frame"),
        (["--speak", "said.ogg"], "<audio:103>"),
        (["--speak", "said.ogg", "-i", "a.png", "--audio", "beeps.wav"], "<image:100> <audio:102> <audio:103>"),
        (["--speak", "said.ogg", "write down what was said"], "write down what was said <audio:103>"),
        (["--seed", "3", "-i", "a.png", "--json", "what?", "--top-p=0.5"], "<image:100> what?"),
        (["-i", "a.png", "--", "--audio", "-i"], "<image:100> --audio -i"),
    ],
)
def test_order(cli: Cli, gateway: FakeGateway, arguments: list[str], said: str) -> None:
    assert asked(cli, gateway, *arguments) == said


def test_stdin(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    put(b"what is this?")
    assert asked(cli, gateway, "-i", "a.png", "-") == "<image:100> what is this?"
    put(HEADS["beeps.wav"])
    assert asked(cli, gateway, "--audio", "-", "how many?") == "<audio:16> how many?"
    put(HEADS["a.png"])
    assert "--audio audio: is image/png, expected audio" in cli("ask", "--audio", "-").err
    put(b"")
    assert cli("ask", "--image", "-").err == "anyplex: --image -: empty\n"
    put(HEADS["a.png"])
    ran = cli("ask", "-")
    assert (ran.code, ran.err) == (3, "anyplex: stdin is no text; give it with --image -, --audio - or --video -\n")
    assert "stdin (-) can be read once only" in cli("ask", "-", "--image", "-").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--audio", "a.png"], "--audio a.png: is image/png, expected audio; give it with --image"),
        (["--speak", "clip.gif"], "--speak clip.gif: is image/gif, expected audio; give it with --image"),
        (["--image", "beeps.wav"], "--image beeps.wav: is audio/wav, expected image; give it with --audio"),
        (["--video", "beeps.wav"], "--video beeps.wav: is audio/wav, expected video; give it with --audio"),
        (["--image", "clip.mp4"], "--image clip.mp4: is video/mp4, expected image; give it with --video"),
        (["--audio", "empty.wav"], "--audio empty.wav: empty, expected an encoded file"),
        (["--video", "folder"], "--video folder: a folder, expected a file"),
        (["--speak", "nothing.wav"], "--speak nothing.wav: no such file"),
    ],
)
def test_refused(cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli("ask", "what is this?", *arguments)
    assert (ran.code, ran.err) == (3, f"anyplex: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "file", "option"),
    [
        (["--audio", "beeps.wav", "said.ogg", "how many?"], "said.ogg", "--audio"),
        (["what?", "clip.mp4"], "clip.mp4", "--video"),
    ],
)
def test_files_without_an_option_are_no_words(cli: Cli, arguments: list[str], file: str, option: str) -> None:
    ran = cli("ask", *arguments)
    assert ran.code == 3
    assert ran.err == f"anyplex: {file}: a file where words are expected; give every file an option: {option}\n"


@pytest.mark.parametrize(
    "word", ["folder", "empty.wav", "notes.txt", "see not-there.wav", "long " * 1000, "is a.png red?"]
)
def test_other_words_are_words(cli: Cli, gateway: FakeGateway, word: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    assert asked(cli, gateway, word) == word


def test_a_word_that_looks_like_a_missing_file_is_noted(cli: Cli, gateway: FakeGateway) -> None:
    ran = cli("ask", "--address", gateway.address, "what?", "Not-There.WAV")
    assert (ran.code, ran.err) == (0, "note: Not-There.WAV is no file here, and is asked as a word\n")
    assert fake.said(gateway.requests[-1].messages[-1]) == "what? Not-There.WAV"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to ask: give a text, --image, --audio, --video or --speak"),
        (["  "], "nothing to ask"),
        (["--speak", "said.ogg", "--speak", "said.ogg"], "--speak was given twice"),
        (["--image"], "requires an argument"),
        (["--speak"], "see `anyplex ask --help`"),
    ],
)
def test_usage(cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli("ask", *arguments)
    assert ran.code == 2
    assert message in ran.err
