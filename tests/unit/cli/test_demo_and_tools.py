"""The demo over a scripted gateway, and the programs that keep the repository true."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from anyplex.v1 import gateway_pb2
from services.cli import demo, memory
from services.deploy import status
from services.deploy.state import ClusterState
from services.playroom.drawing import encode_picture, picture_of
from services.playroom.scenes import Scene, SceneObject
from services.playroom.sounds import Sound, SoundFacts
from services.playroom.synthesis import encode_wav, render_sounds
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.tools import readme
from tests.unit.cli.conftest import Cli

GOOD = """\
# Page

[a file](README.md) and [elsewhere](https://example.org)

```sh
make demo
anyplex ask "what is this?" --image cat.png   # a comment
ANYPLEX_TOKEN=x anyplex status --json | head
ls -l
```

```python
from anyplex import Client
```
"""


@pytest.fixture
def shown(
    cli: Cli,
    gateway: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> str:
    """Return what the demo prints of the systems that are its parameter."""
    state = ClusterState("demo", os.getpid(), gateway.address)

    @contextlib.contextmanager
    def cluster(*_: object) -> Iterator[ClusterState]:
        yield state

    monkeypatch.setattr(demo, "temporary_cluster", cluster)
    monkeypatch.setattr(status, "component_stats", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["demo", *request.param])
    assert demo.main() == 0
    return capsys.readouterr().out


QUESTIONS = demo.read_questions(demo.EXAMPLES / "questions.yaml")


@pytest.mark.parametrize("shown", [["next-gpt"]], indirect=True)
def test_the_demo_asks_about_everything(shown: str, gateway: FakeGateway) -> None:
    steps = [*QUESTIONS, *(question.then for question in QUESTIONS if question.then)]
    handed_back = [step for step in steps if step.hands_back]
    assert len(gateway.requests) == len(steps) - len(handed_back)
    assert shown.count("not asked: nothing was made to hand back") == len(handed_back) == 1
    assert all((step.question or step.says) in shown for step in steps)
    said = {fake.said(request.messages[-1]).partition(":")[0] for request in gateway.requests}
    assert {"<image", "<audio", "<video"} < said
    assert any(len(request.messages) == 3 for request in gateway.requests), "one question follows another"
    assert "next-gpt (takes text, image, audio, video; makes text, image, audio, video)" in shown
    assert "see 10 ms, think 20 ms" in shown
    assert "processes hold" in shown
    assert "does not take" not in shown


@pytest.mark.parametrize("shown", [["llava-1.5"]], indirect=True)
def test_the_demo_asks_what_a_system_takes(shown: str, gateway: FakeGateway) -> None:
    assert {part.media.modality for request in gateway.requests for part in request.messages[-1].parts} <= {"", "image"}
    assert len(gateway.requests) >= 6
    assert "more questions are about what llava-1.5 does not take or make" in shown


def test_the_demo_hands_back_what_was_made(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = Scene((SceneObject("square", "blue", "large", 4),), "white")
    buzz = Sound(SoundFacts("buzz", "low", 1))

    def makes(said: str, modality: str, mime_type: str, data: bytes) -> fake.Script:
        async def script(
            request: gateway_pb2.GenerateRequest, context: fake.Context
        ) -> AsyncIterator[gateway_pb2.Event]:
            yield fake.accepted(request)
            yield fake.text(said)
            for event in fake.medium(0, modality, mime_type, data):
                yield event
            yield fake.finished()

        return script

    drawn, played = encode_picture(picture_of(square)), encode_wav(render_sounds([buzz])[0])
    gateway.scripts = [
        makes("here is a large blue square", "image", "image/png", drawn),
        makes("here is one low buzz", "audio", "audio/wav", played),
    ]
    monkeypatch.chdir(tmp_path)
    (question,) = [each for each in QUESTIONS if each.then is not None and each.then.hands_back]
    demo.ask_all(ClusterState("demo", os.getpid(), gateway.address), ("next-gpt",), [question], 0.0)
    shown = capsys.readouterr().out
    assert "2 of 2 answers are what a person would say, word for word, and make" in shown
    assert "image-1.png: a large blue square at the center, on a white background" in shown
    assert "audio-1.wav: one low buzz" in shown
    assert len(gateway.requests[1].messages) == 1, "the picture begins anew"
    assert gateway.requests[1].messages[0].parts[0].media.inline == drawn
    assert (tmp_path / demo.MADE / "image-1.png").read_bytes() == drawn


def test_the_demo_covers_all_media() -> None:
    files = {name for question in QUESTIONS for name in question.files}
    assert {Path(name).suffix for name in files} == set(demo.MODALITIES)
    assert all((demo.EXAMPLES / name).stat().st_size <= 50_000 for name in files)
    assert any(question.speech and question.media for question in QUESTIONS), "by voice, about a picture"
    assert {modality for question in QUESTIONS for modality in question.outputs()} == {
        "text",
        "image",
        "audio",
        "video",
    }
    assert all(bool(question.question) != bool(question.speech) for question in QUESTIONS)


def test_memory_of_a_tree() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        while len(found := memory.resident_tree(process.pid)) < 2:
            assert process.poll() is None
        assert found[0].pid == process.pid
        assert found[1].parent == process.pid
        assert found[0].resident_bytes > 1 << 20
    finally:
        process.communicate(b"\n", timeout=20)
    mine = {item.pid: item for item in memory._from_ps()}
    assert not mine or mine[os.getpid()].resident_bytes > 1 << 20


def test_the_readme_is_true() -> None:
    assert readme.problems(readme.ROOT / "README.md") == []


@pytest.mark.parametrize(
    ("false", "true", "message"),
    [
        ("make dmeo", "make demo", "6: no target dmeo"),
        ("anyplex ask --imgae", "anyplex ask", "7: No such option"),
        ("anyplex aks", "anyplex ask", "7: no such command: aks"),
        ("import Cleint", "import Client", "13: anyplex has no Cleint"),
        ("](nope.md)", "](README.md)", "3: no file nope.md"),
    ],
)
def test_what_is_not_true_is_found(tmp_path: Path, false: str, true: str, message: str) -> None:
    page = tmp_path / "README.md"
    page.write_text(GOOD)
    assert readme.problems(page) == []
    page.write_text(GOOD.replace(true, false))
    found = readme.problems(page)
    assert found
    assert any(message in problem for problem in found), found
