"""The command and the client against a real cluster, as a person would use them."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import PIL.Image
import pytest

from anyplex import Accepted, Client, DeadlineExceeded, Image, InvalidRequest, NotFound
from tests.e2e.llava_reference import make_checkpoint

pytestmark = pytest.mark.cluster
EXAMPLE = "examples/three-shapes-on-gray.png"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def anyplex(*arguments: str, timeout_s: float = 280.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("command")
    make_checkpoint(folder / "checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYPLEX_HOME", str(folder / "home"))
        patch.delenv("ANYPLEX_ADDRESS", raising=False)
        patch.delenv("ANYPLEX_TOKEN", raising=False)
        port = _free_port()
        started = anyplex(
            "up", "llava-1.5", "--weights", str(folder / "checkpoint"), "--port", str(port), "--token", "secret", "-d"
        )
        print(started.stderr)
        assert started.returncode == 0, started.stderr
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stopped = anyplex("down")
            assert stopped.stdout == "stopped\n", stopped
            assert anyplex("down").stdout == "nothing runs here\n"


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, token="secret") as made:
        yield made


def test_ask_status_describe(address: str) -> None:
    ran = anyplex("ask", "what is this?", "--image", EXAMPLE, "--max-tokens", "6", "--seed", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["usage"]["media_tokens"] == 16
    assert [timing["node"] for timing in answer["timings"]] == ["see", "see_in", "think"]
    streamed = anyplex("ask", "what is this?", "--image", EXAMPLE, "--max-tokens", "6", "--seed", "1")
    assert streamed.stdout.rstrip("\n") == answer["text"].rstrip("\n")
    shown = json.loads(anyplex("status", "--json").stdout)
    assert shown["cluster"]["address"] == address
    assert {item["kind"] for item in shown["components"]} == {"encoder", "input_projector", "backbone"}
    for item in shown["components"]:
        assert item["replicas"][0]["finished"] >= 1
        assert item["replicas"][0]["resident_bytes"] > 50 << 20
    assert "think" in anyplex("status").stdout
    described = json.loads(anyplex("describe", "llava-1.5", "--json").stdout)
    assert described["versions"] == answer["versions"]


def test_failures_have_their_exit_codes(address: str) -> None:
    assert anyplex("up", "--detach").returncode == 9
    assert anyplex("ask", "x", "--system", "next-gpt").returncode == 5
    assert anyplex("ask", "x", "--temperature", "7").returncode == 3
    deaf = anyplex("ask", "--audio", "examples/two-high-beeps.wav", "what do you hear?")
    assert (deaf.returncode, "llava-1.5 does not read audio; it reads text, image" in deaf.stderr) == (3, True)
    assert anyplex("ask", "x", "--address", address).returncode == 8
    assert anyplex("ask", "x", "--address", address, "--token", "wrong").returncode == 8
    assert anyplex("ask", "x", "--deadline", "0.01", "--max-tokens", "500").returncode == 7


def test_ctrl_c_ends_the_request(client: Client) -> None:
    # the likeliest words of random weights go round and round and find no end
    endless = ["--max-tokens", "1500", "--temperature", "0"]
    command = [sys.executable, "-m", "services.cli.main", "ask", "tell me everything", *endless]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error.strip()) == (130, b"anyplex: interrupted")


def test_conversation_remembers_and_can_be_interrupted(client: Client) -> None:
    with client.converse(max_tokens=300, temperature=0.0) as talk:
        turn = talk.say(["what is this?", Image(EXAMPLE)])
        assert isinstance(next(turn), Accepted)
        next(turn)
        talk.interrupt()
        first = turn.reply()
        assert first.finish_reason == "interrupted"
        second = talk.say("and now?").reply()
        assert second.usage.media_tokens == 16
        assert second.usage.prompt_tokens > 16
        dropped = talk.say("one")
        assert isinstance(next(dropped), Accepted)
        assert talk.say("two").reply().finish_reason in {"stop", "length"}


def test_uploads(client: Client) -> None:
    noise = PIL.Image.effect_noise((1500, 1500), 100).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    assert len(buffer.getvalue()) > 4 << 20
    large = client.generate([Image(buffer.getvalue()), "hello"], max_tokens=4, seed=1)
    upload = client.upload(Image(buffer.getvalue()))
    assert client.generate([upload, "hello"], max_tokens=4, seed=1).text == large.text
    client.delete(upload)
    with pytest.raises(NotFound, match=r"parts\[0\]\.image"):
        client.generate([upload, "hello"])


def test_what_the_gateway_refuses_names_the_field(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.generate([Image(b"\x89PNG\r\n\x1a\nbroken"), "hello"])
    assert "request.messages[0].parts[0].image" in str(caught.value)
    with pytest.raises(InvalidRequest) as caught:
        client.generate("hello", n=99)
    assert [violation.field for violation in caught.value.violations] == ["request.sampling.n"]
    with pytest.raises(DeadlineExceeded):
        client.generate("hello", max_tokens=1500, deadline_s=0.05)
