"""``make demo``: starts a system, asks it about what lies in ``examples/``, says what it took, stops it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from services.cli.main import guarded
from services.cli.memory import resident_tree
from services.cli.output import Progress, mebibytes, table
from services.cli.temporary import temporary_cluster

if TYPE_CHECKING:
    from anyplex import Client, Medium, Reply
    from services.deploy.state import ClusterState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


MODALITIES = {
    ".png": "image", ".jpg": "image", ".wav": "audio", ".flac": "audio", ".mp3": "audio", ".ogg": "audio",
    ".mp4": "video", ".webm": "video", ".gif": "video",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One question of the demo.

    Attributes:
        answer: What a person would answer.
        question: The words; empty where they are spoken.
        media: Files, in the order in which they are handed in, before the words.
        speech: File in which the words are spoken.
        says: What is said in it.
        then: Next question of the same conversation.
    """

    answer: str
    question: str = ""
    media: tuple[str, ...] = ()
    speech: str = ""
    says: str = ""
    then: Question | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All files it hands in, in order."""
        return (*self.media, self.speech) if self.speech else self.media

    def modalities(self) -> set[str]:
        """Return what a system must take to be asked this."""
        return {"text", *(modality_of(name) for name in self.files)} | (self.then.modalities() if self.then else set())

    def parts(self) -> list[str | Medium]:
        """Return what is sent."""
        from anyplex import Medium

        media = [Medium(EXAMPLES / name, modality=modality_of(name)) for name in self.files]
        return [*media, self.question] if self.question else [*media]

    def __str__(self) -> str:
        shown = [f"[{name}]" for name in self.media]
        return " ".join([*shown, f'[{self.speech}, says "{self.says}"]' if self.speech else self.question])


def modality_of(name: str) -> str:
    """Return what a file of the examples is, by its ending."""
    return MODALITIES[Path(name).suffix]


def read_questions(path: Path) -> list[Question]:
    """Read what to ask."""
    return [_question(item) for item in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _question(item: dict[str, Any]) -> Question:
    then = _question(item["then"]) if "then" in item else None
    return Question(**{**item, "media": tuple(item.get("media", ())), "then": then})


def main() -> int:
    """Run the demo for the systems that the command line names."""
    started = time.monotonic()
    systems = tuple(sys.argv[1:]) or ("next-gpt",)
    questions = read_questions(EXAMPLES / "questions.yaml")
    click.echo(f"starting {', '.join(systems)}: every component is a process of its own")
    with temporary_cluster(
        systems, "demo", lambda line: click.echo(f"[{time.monotonic() - started:5.1f} s] {line}")
    ) as state:
        first_s = ask_all(state, systems, questions, started)
        _show_cluster(state)
    click.echo(f"\nfirst answer after {first_s:.1f} s, everything after {time.monotonic() - started:.1f} s")
    click.echo('next: anyplex up, then: anyplex ask "what is this?" --image examples/three-shapes-on-gray.png')
    return 0


def ask_all(state: ClusterState, systems: tuple[str, ...], questions: list[Question], started: float) -> float:
    """Ask everything, print it, return when the first answer was there."""
    from anyplex import Client

    first_s = 0.0
    asked = as_expected = 0
    with Client(state.address, token=state.token) as client:
        for system in systems:
            takes = client.describe(system).system.inputs
            click.echo(f"\n=== {system} (takes {', '.join(takes)})")
            fitting = [question for question in questions if question.modalities() <= set(takes)]
            for question in fitting:
                for step, reply in _answers(client, system, question):
                    first_s = first_s or time.monotonic() - started
                    asked += 1
                    as_expected += reply.text.strip() == step.answer
                    _show(step, reply)
            if len(fitting) < len(questions):
                click.echo(f"\n{len(questions) - len(fitting)} more questions are about what {system} does not take")
    click.echo(f"\n{as_expected} of {asked} answers are, word for word, what a person would say")
    return first_s


def _answers(client: Client, system: str, question: Question) -> Iterator[tuple[Question, Reply]]:
    """Ask a question and those that follow it; yield each with its answer."""
    from anyplex import Message

    history: list[Message] = []
    step: Question | None = question
    while step is not None:
        parts = step.parts()
        with Progress(f"asking {system}"):
            reply = client.generate(parts, system=system, history=history, seed=1)
        yield step, reply
        history += [Message("user", parts), Message("assistant", reply.text)]
        step = step.then


def _show(question: Question, reply: Reply) -> None:
    text = reply.text.strip()
    expected = "" if text == question.answer else f"   (expected: {question.answer})"
    by_node = ", ".join(f"{timing.node} {1000 * (timing.end_s - timing.start_s):.0f} ms" for timing in reply.timings)
    click.echo(f"\n{question}")
    click.echo(f"  → {text}{expected}")
    click.echo(f"    {1000 * reply.elapsed_s:.0f} ms in all: {by_node}")


def _show_cluster(state: ClusterState) -> None:
    """Print components and what everything together holds in memory."""
    from services.deploy.status import component_stats

    rows = [
        (item.component, replica.address, mebibytes(replica.resident_bytes), round(replica.cold_start_s, 1))
        for item in component_stats(state)
        for replica in item.replicas
    ]
    click.echo("\n" + table("", ("component", "replica", "memory", "start s"), rows))
    processes = [*resident_tree(state.pid), *[own for own in resident_tree(os.getpid()) if own.pid == os.getpid()]]
    total = sum({process.pid: process.resident_bytes for process in processes}.values())
    click.echo(f"{len(processes)} processes hold {total / 1e9:.2f} GB together (Ray's and this one included)")


if __name__ == "__main__":
    sys.exit(guarded(main))
