"""``anyplex ask`` with media out: what is insisted on, where files go, what is said meanwhile."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from anyplex import MadeMedium
from anyplex.v1 import gateway_pb2
from services.cli.made import save_as_next
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.cli.conftest import Cli

Request = gateway_pb2.GenerateRequest


async def makes(request: Request, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
    """Say something with a picture, and with a sound."""
    yield fake.accepted(request)
    yield fake.text("here is a red circle")
    for event in fake.medium(0, "image", "image/png", b"picture", steps=3):
        yield event
    yield fake.text(" and two beeps")
    for event in fake.medium(1, "audio", "audio/wav", b"sound"):
        yield event
    yield fake.finished()


async def breaks(request: Request, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
    """Make a picture, and fail in the middle of a sound."""
    yield fake.accepted(request)
    for event in fake.medium(0, "image", "image/png", b"picture"):
        yield event
    yield next(fake.medium(1, "audio", "audio/wav", b"sound"))
    await fake.fail(context, grpc.StatusCode.DEADLINE_EXCEEDED, "too late", "deadline_exceeded")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_media_are_written_and_said_to_be(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.scripts = [makes]
    ran = cli("ask", "draw and play", "--address", gateway.address, "--out", str(tmp_path / "made" / "deep"))
    folder = tmp_path / "made" / "deep"
    assert ran.code == 0
    assert ran.out == "here is a red circle and two beeps\n"
    assert ran.err.splitlines() == [
        "making image …",
        f"saved {folder / 'image-1.png'}",
        "making audio …",
        f"saved {folder / 'audio-1.wav'}",
    ]
    assert (folder / "image-1.png").read_bytes() == b"picture"
    assert (folder / "audio-1.wav").read_bytes() == b"sound"


def test_without_a_folder_they_are_here_and_nothing_is_written_over(cli: Cli, gateway: FakeGateway, here: Path) -> None:
    (here / "image-1.png").write_bytes(b"mine")
    gateway.scripts = [makes, makes]
    for _ in range(2):
        ran = cli("ask", "draw", "--address", gateway.address)
    assert "saved image-3.png" in ran.err
    assert (here / "image-1.png").read_bytes() == b"mine"
    assert sorted(path.name for path in here.iterdir()) == [
        "audio-1.wav", "audio-2.wav", "image-1.png", "image-2.png", "image-3.png",
    ]  # fmt: skip


def test_json_has_the_files_and_stdout_nothing_else(cli: Cli, gateway: FakeGateway) -> None:
    gateway.scripts = [makes]
    ran = cli("ask", "draw", "--address", gateway.address, "--json")
    answer = json.loads(ran.out)
    assert answer["media"] == [
        {"modality": "image", "mime_type": "image/png", "size_bytes": 7, "path": "image-1.png"},
        {"modality": "audio", "mime_type": "audio/wav", "size_bytes": 5, "path": "audio-1.wav"},
    ]
    assert ran.err == ""


def test_what_was_whole_before_it_failed_is_kept(cli: Cli, gateway: FakeGateway, here: Path) -> None:
    gateway.scripts = [breaks, breaks]
    for options in ([], ["--json"]):
        ran = cli("ask", "draw", "--address", gateway.address, *options)
        assert ran.code == 7
        assert "saved image-" in ran.err
    assert sorted(path.name for path in here.iterdir()) == ["image-1.png", "image-2.png"]


def test_a_medium_that_did_not_come_is_told_and_the_exit_code_says_why(cli: Cli, gateway: FakeGateway) -> None:
    async def fails(request: Request, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        yield fake.text("here is a red circle")
        yield fake.failed_medium(0, "no replica of the generator")
        yield fake.finished()

    gateway.scripts = [fails, fails]
    ran = cli("ask", "draw", "--address", gateway.address)
    assert (ran.code, ran.out) == (4, "here is a red circle\n")
    assert ran.err == "image did not come: no replica of the generator\n"
    answer = json.loads(cli("ask", "draw", "--address", gateway.address, "--json").out)
    failure = {"modality": "image", "code": "unavailable", "error": "no replica of the generator"}
    assert answer["failures"] == [failure]


def test_what_is_wanted_and_how_arrives(cli: Cli, gateway: FakeGateway) -> None:
    options = ["--want", "image, Video,image", "--steps", "9", "--guidance", "2.5", "--size", "96x64", "--frames", "16"]
    ran = cli("ask", "draw", "--address", gateway.address, *options, "--gif", "--preview", "3", "--seed", "5")
    assert ran.code == 0
    request = gateway.requests[0]
    assert list(request.outputs) == ["image", "video"]
    image, video = (request.media_parameters[name] for name in ("image", "video"))
    assert (image.width, image.height, image.steps, image.guidance_scale, image.preview_every_steps) == (
        96,
        64,
        9,
        2.5,
        3,
    )
    assert (video.frames, video.mime_type, image.HasField("frames"), image.mime_type) == (16, "image/gif", False, "")
    assert request.sampling.seed == 5


def test_parameters_alone_hold_for_all_that_may_come(cli: Cli, gateway: FakeGateway) -> None:
    assert cli("ask", "play", "--address", gateway.address, "--steps", "9", "--seconds", "1.5").code == 0
    request = gateway.requests[0]
    assert list(request.outputs) == []
    assert {name: value.steps for name, value in request.media_parameters.items()} == dict.fromkeys(
        ("image", "audio", "video"), 9
    )
    assert request.media_parameters["audio"].seconds == 1.5


def test_nobody_is_asked_what_there_is_where_nothing_was_said(cli: Cli, gateway: FakeGateway) -> None:
    cli("ask", "hello", "--address", gateway.address)
    assert gateway.described == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--want", "imge"], 3, "--want 'imge': next-gpt does not make it (did you mean 'image'?)"),
        (["--want", "image", "-s", "llava-1.5"], 3, "llava-1.5 does not make it"),
        (["--want", "audio", "--size", "64"], 3, "--size: next-gpt makes audio, which it is not for"),
        (["--size", "big"], 2, "'big', width and height like 64x48 expected"),
        (["--size", "64x"], 2, "width and height like 64x48 expected"),
        (["--steps", "many"], 2, "'many' is not a valid integer"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_asked(
    cli: Cli, gateway: FakeGateway, options: list[str], code: int, message: str
) -> None:
    ran = cli("ask", "draw", "--address", gateway.address, *options)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert gateway.requests == []


def test_a_folder_that_cannot_be_is_told_before_anything_is_asked(
    cli: Cli, gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    ran = cli("ask", "draw", "--address", gateway.address, "--out", str(tmp_path / "file" / "made"))
    assert ran.code == 2
    assert "cannot be written to" in ran.err
    assert gateway.requests == []


def test_a_folder_that_went_away_loses_nothing(
    cli: Cli, gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = tmp_path / "made"

    async def spoils(request: Request, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        made.write_bytes(b"a file now")
        async for event in makes(request, context):
            yield event

    gateway.scripts = [spoils]
    ran = cli("ask", "draw", "--address", gateway.address, "--out", str(made))
    assert ran.code == 0
    saved = [Path(line.removeprefix("saved ")) for line in ran.err.splitlines() if line.startswith("saved ")]
    assert [path.read_bytes() for path in saved] == [b"picture", b"sound"]
    assert "cannot be written to" in ran.err


def test_names_come_from_nobody_else(tmp_path: Path) -> None:
    medium = MadeMedium("../../evil", "image/../x", b"x")
    assert save_as_next(medium, tmp_path / "made") == tmp_path / "made" / "medium-1.bin"


def test_previews_are_saved_where_they_were_asked_for(cli: Cli, gateway: FakeGateway, here: Path) -> None:
    async def previews(request: Request, context: fake.Context) -> AsyncIterator[gateway_pb2.Event]:
        yield fake.accepted(request)
        events = list(fake.medium(0, "image", "image/png", b"picture"))
        events[1].media_progress.preview = b"early"
        for event in events:
            yield event
        yield fake.finished()

    gateway.scripts = [previews]
    ran = cli("ask", "draw", "--address", gateway.address, "--preview", "1")
    assert "step 1: saved image_preview-1.png" in ran.err
    assert (here / "image_preview-1.png").read_bytes() == b"early"


def test_on_a_terminal_there_are_bars_that_go_away(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.scripts = [makes]
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "services.cli.main", "ask", "draw", "--address", gateway.address, "--out", "made"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "ANYPLEX_HOME": str(tmp_path / "home")}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env={**environment, "PYTHONPATH": os.getcwd()}
    )
    os.close(slave)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                return
            if not piece:
                return
            shown.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join(10)
    text = shown.decode(errors="replace")
    assert "here is a red circle" in text
    assert "making image" in text
    assert "\x1b[2K" in text, "bars are taken away again"
    assert "saved made/image-1.png" in text.replace("\r\n", "")
    os.close(master)
