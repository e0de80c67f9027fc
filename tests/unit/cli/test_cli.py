"""The command line: what it prints, how it fails, which exit code says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from services.cli import main as main_module
from services.deploy import launch, state, status
from services.deploy.launch import UpOptions
from services.deploy.state import ClusterState, write_state
from services.deploy.status import ComponentStatus, ReplicaStatus
from tests.fakes import gateway as fake
from tests.fakes.gateway import FakeGateway
from tests.unit.cli.conftest import Cli

BROKEN = """\
system: broken
nodes:
  see: {kind: encoder, modality: image, type: clip_visoin}
  see_in: {kind: input_projector, type: linear, from: [see, think]}
  think: {kind: backbone, type: decoder, from: [see_in, hear_in]}
"""


def test_ask_streams(cli: Cli, gateway: FakeGateway, picture: str) -> None:
    ran = cli("ask", "What", "is", "this?", "--image", picture, "--address", gateway.address, "--timings")
    assert ran.code == 0
    assert ran.out == "What is this? <image:40> \n"
    assert "think" in ran.err
    assert gateway.requests[0].messages[0].parts[0].text == "What is this?"


def test_ask_as_json(cli: Cli, gateway: FakeGateway, picture: str) -> None:
    options = ["--system", "llava-1.5", "--seed", "3", "--max-tokens", "9", "--temperature", "0.5"]
    ran = cli("ask", "Hello", "-i", picture, "--address", gateway.address, "--json", *options)
    answer = json.loads(ran.out)
    assert answer["text"] == "Hello <image:40> "
    assert answer["versions"] == fake.VERSIONS
    assert answer["usage"] == {"prompt_tokens": 12, "completion_tokens": 3, "media_tokens": 9}
    assert answer["timings"][0] == {"node": "see", "start_s": 0.0, "first_s": 0.01, "end_s": 0.01}
    sampling = gateway.requests[0].sampling
    assert (sampling.seed, sampling.max_tokens, sampling.temperature) == (3, 9, 0.5)
    assert gateway.requests[0].system == "llava-1.5"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "invalid_request", 3),
        (grpc.StatusCode.NOT_FOUND, "not_found", 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "exhausted", 6),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded", 7),
        (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated", 8),
        (grpc.StatusCode.FAILED_PRECONDITION, "failed_precondition", 9),
        (grpc.StatusCode.INTERNAL, "internal", 1),
    ],
)
def test_exit_codes(cli: Cli, gateway: FakeGateway, status: grpc.StatusCode, code: str, exit_code: int) -> None:
    gateway.scripts = [fake.failing(status, "this is why", code)]
    ran = cli("ask", "x", "--address", gateway.address)
    assert (ran.code, ran.out, ran.err) == (exit_code, "", "anyplex: this is why\n")


@pytest.mark.parametrize("command", [["ask", "x"], ["eval", "pictures"]])
def test_unreachable_in_one_line(cli: Cli, command: list[str]) -> None:
    ran = cli(*command, "--address", "127.0.0.1:1")
    message = "anyplex: nothing answers at 127.0.0.1:1; start a cluster: anyplex up --detach\n"
    assert (ran.code, ran.err) == (4, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["ask"], "nothing to ask"),
        (["ask", "x", "--imgae", "y"], "No such option"),
        (["ask", "x", "--seed", "-1"], "seed"),
        (["check"], "FILE"),
        (["train", "run", "nope.yaml"], "nope.yaml"),
        (["component", "serve"], "--kind"),
        (["eval", "--system", "llava-1.5"], "which suite?"),
    ],
)
def test_usage(cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_missing_picture(cli: Cli) -> None:
    ran = cli("ask", "x", "--image", "nope.png")
    assert (ran.code, ran.err) == (3, "anyplex: --image nope.png: no such file\n")


def test_debug_shows_where(cli: Cli) -> None:
    ran = cli("ask", "x", "--image", "nope.png", "--debug")
    assert "Traceback" in ran.err
    assert ran.code == 3


def test_the_unforeseen_is_one_line_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(main_module.cli, "main", breaks)
    ran = cli("systems")
    assert (ran.code, ran.err) == (1, "anyplex: ZeroDivisionError: oh no (--debug shows where)\n")


def test_check(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    ran = cli("check", str(path))
    assert ran.code == 3
    for line, word in ((3, "clip_visoin"), (4, "cycle"), (5, "hear_in")):
        assert any(f"{path}:{line}" in text and word in text for text in ran.out.splitlines()), (line, word, ran.out)
    problems = json.loads(cli("check", "--json", str(path)).out)
    assert {problem["line"] for problem in problems} >= {3, 5}
    good = sorted(str(file) for file in Path("graph/systems").glob("*.yaml"))
    assert cli("check", *good).code == 0
    assert cli("check", str(tmp_path / "nope.yaml")).code == 3


def test_check_entries_of_profiles(cli: Cli, tmp_path: Path) -> None:
    profile, system = tmp_path / "p.yaml", tmp_path / "mine.yaml"
    profile.write_text(
        "profile: p\ncomponents:\n  thinkk: {cpus: 1}\n  next-gpt.sea: {cpus: 1}\n  mine.mull: {cpus: 1}\n"
        "  mine.mul: {cpus: 1}\nweights: {next-gtp: /a}\n"
    )
    system.write_text("system: mine\nnodes:\n  mull: {kind: backbone, type: decoder}\n")
    ran = cli("check", str(profile))
    assert (ran.code, len(ran.out.splitlines())) == (3, 3), ran.out
    for line, hint in ((3, "'think'"), (4, "'next-gpt.see'"), (7, "'next-gpt'")):
        assert any(text.startswith(f"{profile}:{line}: ") and hint in text for text in ran.out.splitlines()), ran.out
    ran = cli("check", str(profile), str(system))
    assert f"{profile}:6: components: nothing is called 'mine.mul' (did you mean 'mine.mull'?)" in ran.out
    assert len(ran.out.splitlines()) == 4
    assert cli("check", *sorted(str(file) for file in Path("graph/profiles").glob("*.yaml"))).code == 0


def test_a_recipe_that_is_none(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("stage: vision\n")
    ran = cli("train", "run", str(path))
    assert ran.code == 3, ran.err
    assert f"{path}: budget: Field required" in ran.err
    assert "pydantic" not in ran.err


def test_systems_without_a_cluster(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyplex.connection.DEFAULT_ADDRESS", "127.0.0.1:1")
    listed = json.loads(cli("systems", "--json").out)
    assert {item["name"]: item["state"] for item in listed}["next-gpt"] == "not running"
    assert "see_in" in cli("describe", "next-gpt").out
    ran = cli("describe", "next-gtp")
    assert ran.code == 5
    assert "did you mean 'next-gpt'?" in ran.err


def test_what_a_system_of_a_file_takes(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyplex.connection.DEFAULT_ADDRESS", "127.0.0.1:1")
    path = tmp_path / "any.yaml"
    path.write_text(
        "system: any\nnodes:\n"
        "  watch: {kind: encoder, modality: video, type: clip_vision, frames: 8}\n"
        "  hear: {kind: encoder, modality: audio, type: whisper}\n"
        "  watch_in: {kind: input_projector, type: linear, from: watch}\n"
        "  hear_in: {kind: input_projector, type: linear, from: hear}\n"
        "  think: {kind: backbone, type: decoder, from: [watch_in, hear_in]}\n"
    )
    assert "takes text, video, audio; makes text" in cli("describe", str(path)).out
    assert json.loads(cli("describe", str(path), "--json").out)["takes"] == ["text", "video", "audio"]


def test_systems_of_a_gateway(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYPLEX_ADDRESS", gateway.address)
    listed = {item["name"]: item["state"] for item in json.loads(cli("systems", "--json").out)}
    assert listed["next-gpt"] == "ready (default)"
    described = json.loads(cli("describe", "next-gpt", "--json").out)
    assert [node["component"] for node in described["nodes"]] == ["encoder-1", "projector-1", "backbone-1"]
    ran = cli("describe", "next-gtp")
    assert ran.code == 5
    assert "did you mean" in ran.err


def test_status_of_nothing(cli: Cli) -> None:
    assert cli("status").code == 4
    assert json.loads(cli("status", "--json").out)["cluster"] is None
    assert cli("down").out == "nothing runs here\n"


def _running(gateway: FakeGateway) -> ClusterState:
    return ClusterState(
        "default", os.getpid(), gateway.address, systems=("next-gpt",), profile="local", phase="ready",
        components={"encoder-1": ["encoder", "clip_vision", "next-gpt.see"], "sleeper": ["backbone", "decoder"]},
    )  # fmt: skip


def test_status(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(_running(gateway))
    stats = [
        ComponentStatus(
            "encoder-1", "encoder", "clip_vision", ("next-gpt.see",),
            (ReplicaStatus("127.0.0.1:5", ("v1",), 1, 2, 3, 4, 300 << 20, 60.0, 2.5),),
        ),
        ComponentStatus("sleeper", "backbone", "decoder", (), ()),
    ]  # fmt: skip
    monkeypatch.setattr(status, "component_stats", lambda _: stats)
    ran = cli("status")
    assert ran.code == 0
    assert "next-gpt (default)  ready" in ran.out
    row = next(line for line in ran.out.splitlines() if "127.0.0.1:5" in line)
    assert row.split()[:5] == ["encoder-1", "127.0.0.1:5", "1", "2", "3"]
    assert row.split()[5:] == ["4", "300", "MiB", "60", "2.5", "v1", "next-gpt.see"]
    shown = json.loads(cli("status", "--json").out)
    assert shown["components"][0]["replicas"][0]["resident_bytes"] == 300 << 20
    assert shown["systems"][0]["name"] == "next-gpt"


def test_the_cluster_started_here_is_found(cli: Cli, gateway: FakeGateway) -> None:
    write_state(_running(gateway))
    assert cli("ask", "hello").out == "hello \n"


def test_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[UpOptions] = []

    def foreground(options: UpOptions, report: Callable[[str], None]) -> None:
        seen.append(options)
        report("ready at 127.0.0.1:1")

    def detached(options: UpOptions, report: Callable[[str], None]) -> ClusterState:
        seen.append(options)
        return ClusterState(options.name, 1, "127.0.0.1:7", systems=options.systems, log_path="x.log")

    monkeypatch.setattr(launch, "run_foreground", foreground)
    monkeypatch.setattr(launch, "start_detached", detached)
    ran = cli("up", "next-gpt", "llava-1.5", "--profile", "elastic", "--port", "6000")
    assert ran.code == 0
    assert "press Ctrl-C" in ran.err
    assert seen[0] == UpOptions(systems=("next-gpt", "llava-1.5"), profile="elastic", port=6000)
    ran = cli("up", "--detach", "--token", "t", "--host", "0.0.0.0", "--name", "two", "--weights", "w")  # noqa: S104
    assert seen[1] == UpOptions(token="t", host="0.0.0.0", name="two", weights="w")  # noqa: S104
    assert "next-gpt at 127.0.0.1:7" in ran.out
    assert "anyplex down --name two" in ran.out


SUITE = """\
suite: tiny
rows:
  caption/test: {source: pictures, split: test, kind: caption, count: 4, seed: 1, at_least: 0.5}
"""


def test_eval(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SUITE)
    options = ["--address", gateway.address, "--out", str(tmp_path / "runs")]
    ran = cli("eval", str(suite), *options, "--json")
    assert ran.code == 10
    assert json.loads(ran.out)[0]["rows"]["caption/test"]["count"] == 4
    assert "caption/test: share 0.0 %, asked: ≥ 50.0 %" in ran.err
    ran = cli("eval", str(suite), *options, "--system", "next-gtp")
    assert ran.code == 5
    assert "did you mean 'next-gpt'?" in ran.err
    ran = cli("eval", str(suite), *options, "--limit", "2", "--system", "llava-1.5")
    assert ran.code == 0
    assert "caption/test" in ran.out
    assert "NOT JUDGED: only the first 2 cases of a row were asked" in ran.err
    (first,) = (tmp_path / "runs").glob("tiny-next-gpt-????????")
    ran = cli("eval", str(suite), *options, "--compare", first.name)
    assert f"against {first.name}" in ran.out
    ran = cli("eval", str(suite), *options, "--compare", "nope")
    assert (ran.code, ran.err) == (5, "anyplex: no answers of a run at nope; they stay on the machine that asked\n")
    assert "pictures" in cli("eval").out


def test_eval_does_not_ask_for_what_a_system_does_not_make(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.outputs["next-gpt"] = ["text", "image"]
    gateway.inputs["next-gpt"] = ["text", "image", "video"]
    ran = cli("eval", "any-to-any", "--address", gateway.address, "--out", str(tmp_path))
    assert ran.code == 9
    assert "next-gpt reads no audio, makes no audio, makes no video" in ran.err
    assert gateway.requests == []


def test_bench_corrects(cli: Cli) -> None:
    # Without a name it runs all of them, which is no matter of a unit test.
    assert cli("bench", "--help").code == 0
    assert cli("bench", "no-such-benchmark").code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["check", "graph/systems/next-gpt.yaml"], ["--version"]])
def test_starts_fast(arguments: list[str]) -> None:
    """No torch, ray or grpc for what needs none; the time is a guard of many times what it takes."""
    script = (
        "import sys\nfrom services.cli.main import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'ray', 'grpc', 'transformers', 'rich', 'numpy'} & set(sys.modules)\n"
        "sys.exit(code or (f'imports {heavy}' if heavy else 0))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    took_s = time.monotonic() - started
    print(f"anyplex {' '.join(arguments)}: {took_s:.2f} s")
    assert done.returncode == 0, done.stderr
    assert took_s < 7


def test_state_folder_is_private(cli: Cli, gateway: FakeGateway) -> None:
    write_state(_running(gateway))
    path = state.home() / "clusters" / "default.json"
    assert path.stat().st_mode & 0o077 == 0
