"""The demo over a scripted gateway, and the programs that keep the repository true."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli import demo, memory
from services.deploy import status
from services.deploy.state import ClusterState
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


def test_the_demo_asks_about_every_picture(
    cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ClusterState("demo", os.getpid(), gateway.address)

    @contextlib.contextmanager
    def cluster(*_: object) -> Iterator[ClusterState]:
        yield state

    monkeypatch.setattr(demo, "temporary_cluster", cluster)
    monkeypatch.setattr(status, "component_stats", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["demo", "next-gpt"])
    assert demo.main() == 0
    shown = capsys.readouterr().out
    questions = demo.read_questions(demo.EXAMPLES / "questions.yaml")
    assert len({name for question in questions for name in question.pictures}) >= 4
    for question in questions:
        assert all((demo.EXAMPLES / name).exists() for name in question.pictures)
        assert question.question in shown
    assert len(gateway.requests) == len(questions)
    assert "see 10 ms, think 20 ms" in shown
    assert "processes hold" in shown


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
