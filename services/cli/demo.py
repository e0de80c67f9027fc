"""``make demo``: starts a system, asks it about the pictures in ``examples/``, says what it took, stops it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from services.cli.main import guarded
from services.cli.memory import resident_tree
from services.cli.output import Progress, mebibytes, table
from services.cli.temporary import temporary_cluster

if TYPE_CHECKING:
    from anyplex import Client, Reply
    from services.deploy.state import ClusterState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Question:
    """One question of the demo: pictures, words, and what a person would answer."""

    pictures: tuple[str, ...]
    question: str
    answer: str


def read_questions(path: Path) -> list[Question]:
    """Read what to ask."""
    return [
        Question(tuple(item["pictures"]), item["question"], item["answer"])
        for item in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def main() -> int:
    """Run the demo for the systems that the command line names."""
    started = time.monotonic()
    systems = tuple(sys.argv[1:]) or ("next-gpt",)
    questions = read_questions(EXAMPLES / "questions.yaml")
    click.echo(f"starting {', '.join(systems)}: every component is a process of its own")
    with temporary_cluster(
        systems, "demo", lambda line: click.echo(f"[{time.monotonic() - started:5.1f} s] {line}")
    ) as state:
        first_s = _ask_all(state, systems, questions, started)
        _show_cluster(state)
    click.echo(f"\nfirst answer after {first_s:.1f} s, everything after {time.monotonic() - started:.1f} s")
    click.echo('next: anyplex up, then: anyplex ask "what is this?" --image examples/three-shapes-on-gray.png')
    return 0


def _ask_all(state: ClusterState, systems: tuple[str, ...], questions: list[Question], started: float) -> float:
    """Ask everything, print it, return when the first answer was there."""
    from anyplex import Client

    first_s = 0.0
    asked = as_expected = 0
    with Client(state.address, token=state.token) as client:
        for system in systems:
            click.echo(f"\n=== {system}")
            for question in questions:
                reply = _ask(client, system, question)
                first_s = first_s or time.monotonic() - started
                asked += 1
                as_expected += reply.text.strip() == question.answer
                _show(question, reply)
    click.echo(f"\n{as_expected} of {asked} answers are, word for word, what a person would say")
    return first_s


def _ask(client: Client, system: str, question: Question) -> Reply:
    from anyplex import Image

    pictures = [Image(EXAMPLES / name) for name in question.pictures]
    with Progress(f"asking {system}"):
        return client.generate([*pictures, question.question], system=system, seed=1)


def _show(question: Question, reply: Reply) -> None:
    text = reply.text.strip()
    expected = "" if text == question.answer else f"   (expected: {question.answer})"
    by_node = ", ".join(f"{timing.node} {1000 * (timing.end_s - timing.start_s):.0f} ms" for timing in reply.timings)
    click.echo(f"\n{' '.join(f'[{name}]' for name in question.pictures)} {question.question}")
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
    click.echo(f"{len(processes)} processes hold {total / 2**30:.2f} GiB together (Ray's and this one included)")


if __name__ == "__main__":
    sys.exit(guarded(main))
